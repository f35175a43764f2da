"""BackgenService: decode, call, encode."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from xinstruct.backgen.config import BackgenSettings
from xinstruct.backgen.stage import outcome_of, questions, version_of
from xinstruct.spine.errors import Invalid, Unavailable, require
from xinstruct.spine.inference import Inference
from xinstruct.spine.languages import language
from xinstruct.spine.messages import AdmittedDocument, DraftedPair
from xinstruct.spine.stage import Drop, Emit
from xinstruct.v1 import backgen_service_pb2, backgen_service_pb2_grpc

TEXT_CHARS_MAX = 20_000


class BackgenServicer(backgen_service_pb2_grpc.BackgenServiceServicer):
    """Drafts for one text at a time; `generator` tells the promoted generator's digest, empty when there is none."""

    def __init__(self, config: BackgenSettings, inference: Inference, generator: Callable[[], str]) -> None:
        self._config = config
        self._inference = inference
        self._generator = generator

    def DraftInstruction(
        self, message: backgen_service_pb2.DraftInstructionRequest, context: Any
    ) -> backgen_service_pb2.DraftInstructionResponse:
        """See backgen_service.proto."""
        require(0 < len(message.text) <= TEXT_CHARS_MAX, f"text must have 1–{TEXT_CHARS_MAX} characters")
        document = _document(message.text, message.language)
        digest = self._generator()
        if not digest:
            raise Unavailable("no generator is promoted yet; see `xinstruct models list`")
        asked = [self._inference.submit(question) for question in questions(document, self._config, digest)]
        answers = [future.result(context.time_remaining()) for future in asked]
        version = version_of(self._config, digest)
        outcome = outcome_of(document, answers, self._config, version=version, generator_digest=digest)
        response = backgen_service_pb2.DraftInstructionResponse(generator_digest=digest)
        if isinstance(outcome, Emit):
            assert isinstance(outcome.payload, DraftedPair)
            response.instruction = outcome.payload.instruction
            response.prompt_version = outcome.payload.prompt_version
            response.mean_log_probability = outcome.payload.mean_log_probability
        elif isinstance(outcome, Drop):
            response.dropped_reason = outcome.reason.value
        else:
            raise Invalid(f"the model refused the text: {outcome.detail or outcome.reason.value}")
        return response


def _document(text: str, tag: str) -> AdmittedDocument:
    known = language(tag)
    return AdmittedDocument(
        "", "", "", 0, "", "", text, known.code, known.language_script, 1.0, "", b"", "", 0,
    )
