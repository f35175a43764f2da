"""How a model of this process writes one answer: token by token, from scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from xinstruct.spine.inference import Generate, Generated, request_digest

if TYPE_CHECKING:
    import torch


class Writer:
    """One row's answer while it grows."""

    def __init__(self, request: Generate, tokenizer: Any, ends: frozenset[int]) -> None:
        import torch

        self._decoding = request.decoding
        self._tokenizer = tokenizer
        self._ends = ends
        self._tokens: list[int] = []
        self._log_probabilities: list[float] = []
        self.finish = ""
        # A stream of its own for each row: a sampled answer does not depend on the rows beside it either.
        self._draw = torch.Generator().manual_seed(int(request_digest(request)[7:22], 16))

    def next(self, scores: torch.Tensor) -> int:
        """Choose and note the next token; a finished row goes on for the shape's sake, unnoted."""
        token = int(scores.argmax()) if self._decoding.temperature == 0 else self._sample(scores)
        if self.finish:
            return token
        self._log_probabilities.append(float(scores[token]))
        if token in self._ends:
            self.finish = "stop"
        else:
            self._tokens.append(token)
            if self._stopped_at() is not None:
                self.finish = "stop"
        return token

    def answer(self, prompt_tokens: int) -> Generated:
        """What was written, up to the first stop sequence."""
        text = self._tokenizer.decode(self._tokens, skip_special_tokens=True)
        stop = self._stopped_at()
        text = text if stop is None else text[:stop]
        mean = sum(self._log_probabilities) / max(1, len(self._log_probabilities))
        finish = "stop" if self.finish else "length"
        return Generated(text.strip(), finish, min(0.0, mean), prompt_tokens, len(self._tokens))  # type: ignore[arg-type]

    def _stopped_at(self) -> int | None:
        if not self._decoding.stop:
            return None
        text = self._tokenizer.decode(self._tokens, skip_special_tokens=True)
        places = [place for stop in self._decoding.stop if (place := text.find(stop)) >= 0]
        return min(places, default=None)

    def _sample(self, scores: torch.Tensor) -> int:
        import torch

        shares = torch.softmax(scores / self._decoding.temperature, dim=-1)
        ordered, order = shares.sort(descending=True, stable=True)
        kept = ordered.cumsum(0) - ordered < self._decoding.top_p
        return int(order[torch.multinomial(ordered * kept, 1, generator=self._draw)])
