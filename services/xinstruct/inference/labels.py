"""Which label a server's next token or sampled answer names, and their probabilities. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from xinstruct.spine.errors import Invalid
from xinstruct.spine.inference import Classified, Classify, Refused


def check_labels(request: Classify) -> None:
    """Invalid when two labels may share a first token: a server's tokenizer is its own."""
    firsts = {label.strip().casefold()[:1] for label in request.labels}
    if len(firsts) < len(request.labels):
        raise Invalid(f"labels {request.labels} share a first token; choose labels that start differently")


def label_masses(likeliest: Iterable[tuple[str, float]], labels: Sequence[str]) -> list[float]:
    """Probability of each label among (token, log-probability) of the likeliest next tokens; 0 for one that is not."""
    masses = [0.0] * len(labels)
    for token, log_probability in likeliest:
        index = label_of(token, labels)
        if index is not None:
            masses[index] += math.exp(log_probability)
    return masses


def shares(masses: Sequence[float]) -> Classified | Refused:
    """`masses` normalised over the labels."""
    total = sum(masses)
    if total <= 0.0:
        return Refused("no_label", "no label is among the likeliest next tokens")
    return Classified(tuple(mass / total for mass in masses))


def label_of(token: str, labels: Sequence[str]) -> int | None:
    """The label that `token` starts, or is; the labels' first letters differ."""
    word = token.strip(" \t\n\r.,:;*\"'`▁ĠĊ").casefold()
    matches = [i for i, label in enumerate(labels) if word and label.strip().casefold().startswith(word)]
    exact = [i for i, label in enumerate(labels) if word == label.strip().casefold()]
    if len(matches) > 1:
        return None
    return exact[0] if exact else matches[0] if matches else None


def vote_of(text: str, labels: Sequence[str]) -> int | None:
    """Index of the label that a sampled answer starts with; None when it names none."""
    words = text.split()
    return label_of(words[0], labels) if words else None


def count_votes(texts: Sequence[str], labels: Sequence[str]) -> Classified | Refused:
    """Shares of the sampled answers; one that names no label counts for none."""
    votes = [vote_of(text, labels) for text in texts]
    counts = [votes.count(index) for index in range(len(labels))]
    if sum(counts) == 0:
        return Refused("no_label", f"none of {len(texts)} sampled answers names a label")
    return Classified(tuple(count / sum(counts) for count in counts), votes_count=len(texts))
