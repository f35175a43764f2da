"""Muon for the matrices, AdamW for embeddings and norms: what lets a tiny model learn within a minute of one core.

Muon steps along the nearest orthogonal matrix of the momentum (Jordan et al., 2024). At this size it needs far fewer
tokens than AdamW for the same loss (2.14 nats after 0.4 M tokens against 2.22 after 2.3 M, Swahili, one run each);
torch has one of its own, but it works in bfloat16, about three times slower on a CPU without such instructions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

ADAMW_SHARE = 1 / 3
"""AdamW's learning rate as a share of Muon's."""
MOMENTUM = 0.95
BETAS = (0.9, 0.98)
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ROUNDS = 5


def muon_for(model: torch.nn.Module, learning_rate: float, weight_decay: float) -> Muon:
    """The optimizer of all parameters of `model`; `learning_rate` is Muon's, about 0.02."""
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    inner = [parameter for name, parameter in named if parameter.ndim == 2 and not _at_the_rim(name)]
    matrices = {id(parameter) for parameter in inner}
    rest = [parameter for _, parameter in named if id(parameter) not in matrices]
    return Muon([
        {"params": inner, "lr": learning_rate, "weight_decay": weight_decay, "orthogonal": True},
        {"params": rest, "lr": learning_rate * ADAMW_SHARE, "weight_decay": 0.0, "orthogonal": False},
    ])


class Muon(torch.optim.Optimizer):
    """Groups with "orthogonal" True get Muon's step, the others AdamW's."""

    def __init__(self, groups: Iterable[dict[str, Any]]) -> None:
        super().__init__(groups, {"lr": 0.02, "weight_decay": 0.0, "orthogonal": False})

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def step(self, closure: Callable[[], float] | None = None) -> None:
        """One step for every parameter that has a gradient. A closure is not called: nobody here passes one."""
        for group in self.param_groups:
            moved = [parameter for parameter in group["params"] if parameter.grad is not None]
            if group["orthogonal"]:
                self._step_matrices(moved, group)
            else:
                for parameter in moved:
                    self._step_adamw(parameter, group)

    def _step_matrices(self, moved: list[torch.Tensor], group: dict[str, Any]) -> None:
        shapes: dict[torch.Size, list[torch.Tensor]] = {}
        for parameter in moved:
            shapes.setdefault(parameter.shape, []).append(parameter)
        for shape, alike in shapes.items():
            steps = orthogonal(torch.stack([self._momentum(parameter) for parameter in alike]))
            scale = max(1.0, shape[0] / shape[1]) ** 0.5
            for parameter, step in zip(alike, steps, strict=True):
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(step, alpha=-group["lr"] * scale)

    def _momentum(self, parameter: torch.Tensor) -> torch.Tensor:
        assert parameter.grad is not None
        kept = self.state[parameter].setdefault("momentum", torch.zeros_like(parameter))
        kept.lerp_(parameter.grad, 1 - MOMENTUM)
        return parameter.grad.lerp(kept, MOMENTUM)

    def _step_adamw(self, parameter: torch.Tensor, group: dict[str, Any]) -> None:
        assert parameter.grad is not None
        state = self.state[parameter]
        if not state:
            state.update(step=0, first=torch.zeros_like(parameter), second=torch.zeros_like(parameter))
        state["step"] += 1
        state["first"].lerp_(parameter.grad, 1 - BETAS[0])
        state["second"].lerp_(parameter.grad.square(), 1 - BETAS[1])
        first = state["first"] / (1 - BETAS[0] ** state["step"])
        second = state["second"] / (1 - BETAS[1] ** state["step"])
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.addcdiv_(first, second.sqrt() + 1e-8, value=-group["lr"])


def orthogonal(matrices: torch.Tensor) -> torch.Tensor:
    """(n, rows, columns) → about the nearest matrices with equal singular values, by five Newton-Schulz rounds.

    A round is x ← p x with p = a + b s + c s², s = x xᵀ. All p are polynomials of the first s, so they commute: the
    next s is p s p, and the rounds need the short side only. In a matrix of 512 × 128 that is 2.5 times as fast.
    """
    wide = matrices.shape[-2] <= matrices.shape[-1]
    x = matrices if wide else matrices.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    square = x @ x.mT
    product = factor = _polynomial(square)
    for _ in range(_ROUNDS - 1):
        square = factor @ square @ factor
        factor = _polynomial(square)
        product = factor @ product
    x = product @ x
    return x if wide else x.mT


def _polynomial(square: torch.Tensor) -> torch.Tensor:
    a, b, c = _COEFFICIENTS
    value = torch.baddbmm(square, square, square, beta=b, alpha=c)
    value.diagonal(dim1=-2, dim2=-1).add_(a)
    return value


def _at_the_rim(name: str) -> bool:
    return "embed" in name or "lm_head" in name
