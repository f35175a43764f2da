"""Parameters and answers of Text Generation Inference's own routes: what we send, and how an answer is read. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xinstruct.inference.labels import label_masses, shares
from xinstruct.inference.whole_text import whole
from xinstruct.spine.inference import Classified, Decoding, FinishReason, Generated, Refused

TOP_TOKENS = (20, 5)
"""How many of the likeliest tokens are asked for, at best: a server gives 5 unless --max-top-n-tokens says more."""
VOTE_TOKENS_MAX = 8
SHARE_UNSEEN_MAX = 0.001
"""Share that a label outside the likeliest tokens may have at most and be counted as 0."""
TOKENS_PER_S_MIN = 4.0
"""A server that writes slower than this counts as slow."""
DETAIL_CHARS_MAX = 200
_TOO_LONG = ("`inputs` tokens + `max_new_tokens`", "`inputs` must have less", "length limit exceeded")


@dataclass(frozen=True, slots=True)
class Served:
    """What a server says of itself, and how many of the likeliest tokens it was found to give (0: none)."""

    model: str
    stops_max: int
    top_tokens: int = 0


def served_of(info: Mapping[str, Any]) -> Served:
    """From the answer of /info; KeyError, TypeError or ValueError when it is another server's."""
    return Served(whole(str(info["model_id"])), int(info["max_stop_sequences"]))


def generation_parameters(decoding: Decoding, served: Served) -> dict[str, Any]:
    """Of a generation. Beyond what the server takes, stop strings are looked for in the answer only."""
    asked: dict[str, Any] = {"max_new_tokens": decoding.tokens_max, "do_sample": False, "return_full_text": False}
    if decoding.stop:
        asked["stop"] = list(decoding.stop[: served.stops_max])
    return asked | (_sampling(decoding.temperature, decoding.top_p, decoding.seed) if decoding.temperature else {})


def label_parameters(top_tokens: int) -> dict[str, Any]:
    """Of a question whose one next token is looked at."""
    return {"max_new_tokens": 1, "do_sample": False, "return_full_text": False, "top_n_tokens": top_tokens}


def vote_parameters(seed: int) -> dict[str, Any]:
    """Of one sampled vote."""
    return {"max_new_tokens": VOTE_TOKENS_MAX, "return_full_text": False} | _sampling(1.0, 1.0, seed)


def is_streamed(decoding: Decoding, deadline_s: float) -> bool:
    """Whether a slow server could be silent for longer than `deadline_s` while it writes an answer in one piece."""
    return decoding.tokens_max > TOKENS_PER_S_MIN * deadline_s


def generated_of(output: Mapping[str, Any], decoding: Decoding, *, prompt_tokens: int) -> Generated:
    """A generation's answer. Here and below: LookupError, TypeError or ValueError when it is something else."""
    details = output["details"]
    return _generated(str(output["generated_text"]), details, details["tokens"], decoding, prompt_tokens)


def streamed_of(events: Sequence[Mapping[str, Any]], decoding: Decoding) -> Generated:
    """The same of a stream's events; also an error when it broke off."""
    last = events[-1]
    tokens, prompt_tokens = [event["token"] for event in events], int(last["details"]["input_length"])
    return _generated(str(last["generated_text"]), last["details"], tokens, decoding, prompt_tokens)


def top_tokens_of(output: Mapping[str, Any]) -> list[tuple[str, float]]:
    """(token, log-probability) of the likeliest first tokens; [] where the server sent none."""
    tops = (output.get("details") or {}).get("top_tokens") or [[]]
    return [(str(token["text"]), float(token["logprob"])) for token in tops[0] if token["logprob"] is not None]


def label_probabilities(likeliest: Sequence[tuple[str, float]], labels: Sequence[str]) -> Classified | Refused:
    """Probabilities of the labels, normalised over them; Refused where one that matters may be outside `likeliest`."""
    masses = label_masses(likeliest, labels)
    unseen = masses.count(0.0) * math.exp(min((score for _, score in likeliest), default=0.0))
    if unseen > SHARE_UNSEEN_MAX * sum(masses):
        missing = [label for label, mass in zip(labels, masses, strict=True) if mass == 0.0]
        return Refused("no_label", f"labels {missing} are not among the {len(likeliest)} likeliest next tokens")
    return shares(masses)


def refusal_of(message: str) -> Refused:
    """The server's no, in our words; its own message is cut, for it may quote the prompt."""
    reason = "too_long" if any(part in message for part in _TOO_LONG) else "malformed"
    return Refused(reason, whole(message[:DETAIL_CHARS_MAX]))


def _sampling(temperature: float, top_p: float, seed: int) -> dict[str, Any]:
    # The published schema takes a seed above 0 only, and a top_p below 1.
    asked = {"do_sample": True, "temperature": temperature, "seed": seed + 1}
    return asked | ({"top_p": top_p} if top_p < 1.0 else {})


def _generated(
    text: str, details: Mapping[str, Any], tokens: Iterable[Mapping[str, Any]], decoding: Decoding, prompt_tokens: int
) -> Generated:
    scores = [float(token["logprob"]) for token in tokens if token["logprob"] is not None]
    mean = min(0.0, sum(scores) / len(scores)) if scores else math.nan
    ended, stop = details["finish_reason"], _stop_at(text, decoding.stop)
    finish: FinishReason = "length" if ended == "length" and stop is None else "stop"
    # The end's own token is no part of the answer; a stop string is none either, and comes along.
    count = int(details["generated_tokens"]) - (ended == "eos_token")
    return Generated(whole(text[:stop].strip()), finish, mean, prompt_tokens, count)


def _stop_at(text: str, stops: Sequence[str]) -> int | None:
    return min((place for stop in stops if (place := text.find(stop)) >= 0), default=None)
