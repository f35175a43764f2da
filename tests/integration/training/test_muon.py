"""The step of Muon: the same directions, all of about one size."""

from __future__ import annotations

import pytest
import torch

from xinstruct.training.muon import orthogonal


@pytest.mark.parametrize("shape", [(3, 32, 32), (3, 96, 32), (2, 32, 128), (1, 1, 8)])
def test_a_step_has_the_directions_of_the_momentum_and_singular_values_near_one(shape: tuple[int, int, int]) -> None:
    matrices = torch.randn(*shape, generator=torch.Generator().manual_seed(3))
    left, sizes, right = torch.linalg.svd(matrices, full_matrices=False)
    stretched = left @ torch.diag_embed(sizes**2) @ right  # sizes far apart, the directions as they were
    step = orthogonal(stretched)
    found = left.mT @ step @ right.mT
    size = found.diagonal(dim1=-2, dim2=-1)
    assert torch.allclose(found, torch.diag_embed(size), atol=1e-3)
    assert (size[sizes > 0.3 * sizes.amax(-1, keepdim=True)] - 0.95).abs().max() < 0.35


def test_a_step_is_the_plain_iteration_of_newton_and_schulz() -> None:
    matrices = torch.randn(2, 48, 16, generator=torch.Generator().manual_seed(4))
    x = matrices / matrices.norm(dim=(-2, -1), keepdim=True)
    for _ in range(5):
        square = x @ x.mT
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    assert torch.allclose(orthogonal(matrices), x, atol=1e-4)


def test_no_momentum_is_no_step() -> None:
    assert torch.equal(orthogonal(torch.zeros(1, 4, 4)), torch.zeros(1, 4, 4))
