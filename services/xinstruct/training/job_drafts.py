"""What a generator writes for the rows of an evaluator's job, and what those drafts say about reading the evaluator.

Two things tell a wrong draft: the evaluator, and the generator's own log-probability. They see different mistakes, so
both together tell more than either (figures: DECISIONS.md, "The tiny models"). How much each weighs is fitted on drafts
of rows that neither model has learned from.

Only for the tiny family, whose instructions follow from the text alone: of a large generator a draft that differs from
the seed's instruction is no mistake.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from xinstruct.inference.local import LocalInference
from xinstruct.inference.model_folder import model_digest
from xinstruct.spine.inference import Classified, Classify, Decoding, Generate, Generated
from xinstruct.spine.prompts import LABELS, evaluator_prompt, generator_prompt
from xinstruct.training.config import Recipe
from xinstruct.training.data import is_right, name_of
from xinstruct.training.domain import PairRow

DRAFT_TOKENS_MAX = 96
CALIBRATION_DRAFTS_MIN = 5
"""Right ones and wrong ones, of each: from fewer nothing is learned."""
_BATCH_ROWS = 32
_PROBABILITY_MIN = 1e-6
"""As PROBABILITY_MIN of scoring/domain.py, which applies what is fitted here."""

Drafts = Mapping[str, Generated]
"""Row id → what the generator wrote for its response."""


def drafts(generator: str, recipe: Recipe, rows: Sequence[PairRow], *, temperature: float) -> Drafts:
    """Drafts of `rows` by the model folder `generator`; none when there is no such model, or of empty answers."""
    if not generator or recipe.prompt_family != "tiny" or not rows:
        return {}
    decoding = Decoding(DRAFT_TOKENS_MAX, temperature=temperature, seed=recipe.seed, stop=("\n",))
    # Named by digest: what is sampled follows from the request, and may not change with the folder a run lies in.
    digest = model_digest(Path(generator))
    prompts = [generator_prompt(row.response, name_of(row.language), recipe.prompt_family) for row in rows]
    answers = _answers(generator, [Generate("generator", digest, prompt, decoding) for prompt in prompts])
    return {
        row.id: answer for row, answer in zip(rows, answers, strict=True)
        if isinstance(answer, Generated) and answer.text
    }


def calibration(evaluator: Path, recipe: Recipe, rows: Sequence[PairRow], found: Drafts) -> str:
    """JSON of scoring's Calibration for the finished model `evaluator`, from its reading of drafts of `rows` held out.

    "" when nothing can be learned from them.
    """
    drafted = [row for row in rows if row.id in found]
    prompts = [
        evaluator_prompt(found[row.id].text, row.response, name_of(row.language), recipe.prompt_family)
        for row in drafted
    ]
    answers = _answers(str(evaluator), [Classify("evaluator", "", prompt, LABELS) for prompt in prompts])
    return fit([
        (answer.probabilities[0], found[row.id].mean_log_probability, is_right(found[row.id].text, row.instruction))
        for row, answer in zip(drafted, answers, strict=True) if isinstance(answer, Classified)
    ])


def fit(judged: Sequence[tuple[float, float, bool]]) -> str:
    """What (P(best), mean log-probability a token, whether the draft is right) of drafts give as a calibration.

    Logistic regression with scikit-learn's own regularisation on standardised inputs; right and wrong drafts weigh the
    same in all, as they do in the evaluator's examples, so that P(best) keeps its meaning. "" when there are too few of
    either kind, or when one of the two inputs would count against itself: chance, then.
    """
    right = [draft_is_right for _, _, draft_is_right in judged]
    if min(sum(right), len(right) - sum(right)) < CALIBRATION_DRAFTS_MIN:
        return ""
    import numpy as np
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    best = np.clip([read for read, _, _ in judged], _PROBABILITY_MIN, 1 - _PROBABILITY_MIN)
    inputs = np.column_stack([np.log(best / (1 - best)), [log_probability for _, log_probability, _ in judged]])
    scaler = StandardScaler().fit(inputs)
    fitted = LogisticRegression(class_weight="balanced").fit(scaler.transform(inputs), right)
    weights = fitted.coef_[0] / scaler.scale_
    if (weights < 0).any():
        return ""
    bias = float(fitted.intercept_[0] - weights @ scaler.mean_)
    values = {"bias": bias, "log_odds": float(weights[0]), "log_probability": float(weights[1])}
    return json.dumps({name: round(value, 6) for name, value in values.items()}, sort_keys=True) + "\n"


def _answers(folder: str, requests: Sequence[Generate] | Sequence[Classify]) -> list[object]:
    # One thread: with more, a row's last bits, and so what is sampled, depend on its place in the batch.
    model = LocalInference(lambda _role, _digest: Path(folder), batch_rows=_BATCH_ROWS, threads_count=1)
    try:
        futures = [model.submit(request) for request in requests]
        return [future.result() for future in futures]
    finally:
        model.close()
