"""Bodies and answers of the OpenAI routes: what we send, and how an answer is read. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from xinstruct.inference.labels import label_masses, shares
from xinstruct.spine.errors import Unavailable
from xinstruct.spine.inference import Classified, Decoding, FinishReason, Generated, Refused

TOP_LOG_PROBABILITIES = {"chat": 20, "completions": 5}
"""Most that common servers give: 20 on the chat route, 5 on the older one."""
VOTE_TOKENS_MAX = 8
DETAIL_CHARS_MAX = 200
_TOO_LONG = ("context length", "context window", "too long", "maximum length", "max_model_len", "exceed", "too many")


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one server is spoken to: found by trying, richest first."""

    api: Literal["chat", "completions"]
    model: str
    log_probabilities: bool
    seed: bool
    tokens_field: str


def dialects(api: Literal["chat", "completions"], model: str) -> Iterator[Dialect]:
    """What to try, richest first."""
    for log_probabilities in (True, False):
        for tokens_field in ("max_tokens", "max_completion_tokens") if api == "chat" else ("max_tokens",):
            for seed in (True, False):
                yield Dialect(api, model, log_probabilities, seed, tokens_field)


def path_of(dialect: Dialect) -> str:
    """The route below /v1."""
    return "/chat/completions" if dialect.api == "chat" else "/completions"


def generation_body(dialect: Dialect, model: str, prompt: str, decoding: Decoding) -> dict[str, Any]:
    """Body of a generation."""
    body = _body(dialect, model, prompt, tokens_max=decoding.tokens_max, temperature=decoding.temperature)
    body["top_p"] = decoding.top_p
    if decoding.stop:
        body["stop"] = list(decoding.stop)
    if dialect.seed:
        body["seed"] = decoding.seed
    if dialect.log_probabilities:
        body["logprobs"] = True if dialect.api == "chat" else 1
    return body


def label_body(dialect: Dialect, model: str, prompt: str) -> dict[str, Any]:
    """Body of a question whose one next token is looked at."""
    body = _body(dialect, model, prompt, tokens_max=1, temperature=0.0)
    if dialect.seed:
        body["seed"] = 0
    if dialect.log_probabilities and dialect.api == "chat":
        body |= {"logprobs": True, "top_logprobs": TOP_LOG_PROBABILITIES["chat"]}
    elif dialect.log_probabilities:
        body["logprobs"] = TOP_LOG_PROBABILITIES["completions"]
    return body


def vote_body(dialect: Dialect, model: str, prompt: str, seed: int) -> dict[str, Any]:
    """Body of one sampled vote."""
    body = _body(dialect, model, prompt, tokens_max=VOTE_TOKENS_MAX, temperature=1.0)
    return body | ({"seed": seed} if dialect.seed else {})


def generated_of(dialect: Dialect, reply: dict[str, Any]) -> Generated:
    """A generation's answer; Unavailable when the server sent something else."""
    choice = _choice(reply)
    text = _text(dialect, choice)
    usage = reply.get("usage") or {}
    finish: FinishReason = "length" if choice.get("finish_reason") == "length" else "stop"
    scores = _log_probabilities(dialect, choice)
    mean = min(0.0, sum(scores) / len(scores)) if scores else math.nan
    return Generated(
        text.strip(), finish, mean, int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)
    )


def has_log_probabilities(dialect: Dialect, reply: dict[str, Any]) -> bool:
    """Whether the server really sent what was asked for; some accept the field and ignore it."""
    return len(_top(dialect, _choice(reply))) > 1


def label_probabilities(dialect: Dialect, reply: dict[str, Any], labels: Sequence[str]) -> Classified | Refused:
    """Probabilities of the labels among the likeliest next tokens, normalised over the labels."""
    return shares(label_masses(_top(dialect, _choice(reply)), labels))


def text_of(dialect: Dialect, reply: dict[str, Any]) -> str:
    """The text of an answer, as it came."""
    return _text(dialect, _choice(reply))


def embedding_of(reply: dict[str, Any]) -> tuple[float, ...]:
    """The unit vector; Unavailable when the server sent something else."""
    try:
        vector = [float(value) for value in reply["data"][0]["embedding"]]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise Unavailable("the endpoint sent no embedding where one was promised") from error
    norm = math.sqrt(sum(value * value for value in vector)) or 1.0
    return tuple(value / norm for value in vector)


def refusal_of(reply: dict[str, Any]) -> Refused:
    """The server's no, in our words; its own message is cut, for it may quote the prompt."""
    error = reply.get("error")
    nested = error.get("message") if isinstance(error, dict) else error
    message = str(nested or reply.get("message") or reply.get("detail") or "")[:DETAIL_CHARS_MAX]
    lower = message.lower()
    if any(part in lower for part in _TOO_LONG):
        return Refused("too_long", message)
    if "model" in lower and ("not found" in lower or "does not exist" in lower or "not exist" in lower):
        return Refused("unknown_model", message)
    return Refused("malformed", message)


def _body(dialect: Dialect, model: str, prompt: str, *, tokens_max: int, temperature: float) -> dict[str, Any]:
    asked: dict[str, Any] = (
        {"messages": [{"role": "user", "content": prompt}]} if dialect.api == "chat" else {"prompt": prompt}
    )
    return asked | {"model": model, dialect.tokens_field: tokens_max, "temperature": temperature, "stream": False}


def _choice(reply: dict[str, Any]) -> dict[str, Any]:
    choices = reply.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise Unavailable("the endpoint sent an answer without choices")
    return choices[0]


def _text(dialect: Dialect, choice: dict[str, Any]) -> str:
    if dialect.api == "chat":
        return str((choice.get("message") or {}).get("content") or "")
    return str(choice.get("text") or "")


def _log_probabilities(dialect: Dialect, choice: dict[str, Any]) -> list[float]:
    found = choice.get("logprobs") or {}
    if dialect.api == "chat":
        return [float(item["logprob"]) for item in found.get("content") or ()]
    return [float(value) for value in found.get("token_logprobs") or () if value is not None]


def _top(dialect: Dialect, choice: dict[str, Any]) -> list[tuple[str, float]]:
    """(token, log-probability) of the likeliest first tokens."""
    found = choice.get("logprobs") or {}
    if dialect.api == "chat":
        content = found.get("content") or [{}]
        return [(str(item["token"]), float(item["logprob"])) for item in content[0].get("top_logprobs") or ()]
    tops = found.get("top_logprobs") or [{}]
    return [(str(token), float(score)) for token, score in (tops[0] or {}).items()]
