"""One valid payload of each kind; a test names only the fields that it is about: `document(language="ur")`.

What is not named is plausible and constant. Ids, digests and times are made up and mean nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from xinstruct.spine.messages import (
    AdmittedDocument,
    CrawlAction,
    CrawlRequested,
    DeadLetter,
    DraftedPair,
    DroppedRecord,
    FetchedPage,
    LabelReading,
    ModelTrained,
    OptOut,
    ReleasePublished,
    ReviewedPair,
    ScoredPair,
    SourceKind,
    TakedownKind,
    TakedownRequested,
    TrainingRequested,
)

NOW_MS = 1_790_000_000_000
URL = "http://nyumbani.example/makala/ziwa"
HOST = "nyumbani.example"
TEXT = (
    "Ziwa Mbasi liko kaskazini mwa mji wa Tolemba, kwenye nyanda za juu. Maji yake ni baridi mwaka mzima, na wavuvi "
    "hulifikia kwa mitumbwi midogo kabla ya jua kuchomoza.\n\n"
    "Kila mwezi wa saba watu wa vijiji jirani hukusanyika ufukweni kwa tamasha la nyavu. Wazee hueleza jinsi ziwa "
    "lilivyopata jina lake, na watoto hushindana kuogelea hadi kisiwa kilicho karibu."
)
INSTRUCTION = "Describe Lake Mbasi and the festival that is held on its shore."


def digest(letter: str) -> str:
    """A made-up digest that is easy to recognise: one hex digit, 64 times."""
    return "sha256:" + letter * 64


def crawl_request(**changes: Any) -> CrawlRequested:
    """A command that adds a site by one of its pages."""
    return replace(
        CrawlRequested(
            request_id="request-1", action=CrawlAction.ADD, kind=SourceKind.URL, source_id="5" * 32, location=URL,
            hosts=(HOST,), pages_max=500, depth_max=3, text_field="text", url_field="url", licence="CC-BY-4.0",
            declared_language="sw", poll_interval_s=3600, request_time_ms=NOW_MS,
        ),
        **changes,
    )


def opt_out(**changes: Any) -> OptOut:
    """A page's refusal in its own markup."""
    return replace(OptOut(signal="robots_meta", directive="noai", evidence="meta", denies=True), **changes)


def page(**changes: Any) -> FetchedPage:
    """A page that was fetched well and allows its use."""
    return replace(
        FetchedPage(
            fetch_id="f" * 32, page_id="a" * 32, url=URL, host=HOST, source_id="5" * 32, fetch_number=1, status=200,
            content_type="text/html; charset=utf-8", body_digest=digest("b"), body_bytes=14_321,
            fetch_time_ms=NOW_MS, policy_version="1", declared_language="sw", licence="CC-BY-4.0",
        ),
        **changes,
    )


def document(**changes: Any) -> AdmittedDocument:
    """A Swahili passage of that page."""
    return replace(
        AdmittedDocument(
            document_id="d" * 32, page_id="a" * 32, body_digest=digest("b"), ordinal=0, url=URL, host=HOST, text=TEXT,
            language="sw", language_script="swh_Latn", language_confidence_ratio=0.96875, licence="CC-BY-4.0",
            signature=b"".join(value.to_bytes(8, "little") for value in range(112)), text_digest=digest("7"),
            fetch_time_ms=NOW_MS, masked_count=0, title="Ziwa Mbasi", source_id="5" * 32,
        ),
        **changes,
    )


def pair(**changes: Any) -> DraftedPair:
    """A right instruction for that passage."""
    return replace(
        DraftedPair(
            pair_id="c" * 32, document_id="d" * 32, page_id="a" * 32, url=URL, host=HOST, instruction=INSTRUCTION,
            response=TEXT, language="sw", language_script="swh_Latn", licence="CC-BY-4.0", generator_digest=digest("1"),
            prompt_version="1", decoding='{"seed":0,"stop":[],"temperature":0.0,"tokens_max":128,"top_p":1.0}',
            mean_log_probability=-0.25, fetch_time_ms=NOW_MS, ordinal=0,
        ),
        **changes,
    )


def score(**changes: Any) -> ScoredPair:
    """That pair labelled "best" from log-probabilities."""
    return replace(
        ScoredPair(
            score_id="e" * 32, pair_id="c" * 32, document_id="d" * 32, p_best=0.75, p_reasonable=0.1875,
            p_worst=0.0625, evaluator_digest=digest("2"), reading=LabelReading.LOG_PROBABILITY, votes_count=0,
            prompt_version="1", language="sw",
        ),
        **changes,
    )


def review(**changes: Any) -> ReviewedPair:
    """One reviewer's label of that pair."""
    return replace(
        ReviewedPair(
            review_id="9" * 32, pair_id="c" * 32, reviewer="reviewer-1", label="best", tags=("fluent", "dialect"),
            review_time_ms=NOW_MS,
        ),
        **changes,
    )


def drop(**changes: Any) -> DroppedRecord:
    """A passage that was too short."""
    return replace(
        DroppedRecord(
            drop_id="8" * 32, stage="admit", stage_version="1+0123456789ab", subject_id="a" * 32, reason="too_short",
            evidence={"text_chars": "120", "text_chars_min": "200"}, url=URL, language="sw", ordinal=2,
        ),
        **changes,
    )


def takedown(**changes: Any) -> TakedownRequested:
    """A request to erase that page."""
    return replace(
        TakedownRequested(
            request_id="takedown-1", kind=TakedownKind.URL, target=URL, reason="asked by the author",
            request_time_ms=NOW_MS,
        ),
        **changes,
    )


def release(**changes: Any) -> ReleasePublished:
    """A published dataset."""
    return replace(
        ReleasePublished(
            name="2026-09-21.1", manifest_digest=digest("3"), location="releases/2026-09-21.1", pairs_count=640,
            generator_digest=digest("1"), evaluator_digest=digest("2"), publish_time_ms=NOW_MS,
            request_id="release-1",
        ),
        **changes,
    )


def training_request(**changes: Any) -> TrainingRequested:
    """The second round of the evaluator."""
    return replace(
        TrainingRequested(
            request_id="training-1", job_name="evaluator-0123456789ab", role="evaluator", base_model="models/tiny-base",
            seeds_location="seeds.jsonl", round=1, evaluator_digest=digest("2"), generator_digest=digest("1"),
            recipe='{"epochs":2}', languages=("sw", "ur"), promote_when_done=True, request_time_ms=NOW_MS,
        ),
        **changes,
    )


def trained_model(**changes: Any) -> ModelTrained:
    """The good end of that job."""
    return replace(
        ModelTrained(
            job_name="evaluator-0123456789ab", role="evaluator", model_digest=digest("4"), base_digest=digest("0"),
            licence="Apache-2.0", metrics='{"loss":0.5}', snapshot_digest=digest("6"), round=1,
            finish_time_ms=NOW_MS + 60_000, promote_when_done=True,
        ),
        **changes,
    )


def dead_letter(**changes: Any) -> DeadLetter:
    """A record that no attempt could answer."""
    return replace(
        DeadLetter(
            dead_letter_id="0" * 32, stage="backgen", stage_version="1+0123456789ab",
            input_topic="document-admitted-v1", input_id="d" * 32, input_key="d" * 32, reason="unanswerable",
            detail="refused 5 times while others were answered", attempts_count=5, input_digest=digest("a"),
            input_partition=3, input_offset=41,
        ),
        **changes,
    )
