"""KServe's Model around models in this process: tensors in, tensors out. torch stays on LocalInference's thread.

Importing this imports kserve, which reads sys.argv: __main__.py clears it first, and nobody else imports this module.
"""

from __future__ import annotations

import asyncio
import struct
from typing import Any, NoReturn

from grpc_interceptor.exceptions import ResourceExhausted
from kserve import InferInput, InferOutput, InferRequest, InferResponse, Model
from kserve.errors import InvalidInput

from xinstruct.inference.local import LocalInference
from xinstruct.inference.v2_tensors import INPUTS, LABELS_ALIKE, MALFORMED, OUTPUTS, Spec, Tensor, answered, asked
from xinstruct.predictor.metrics import Meter
from xinstruct.spine.errors import Invalid


class Predictor(Model):
    """One role's model, named after its digest. It is ready as soon as it exists: it has run a batch before."""

    def __init__(
        self, role: str, digest: str, inference: LocalInference, *, meter: Meter, waiting_rows_max: int
    ) -> None:
        super().__init__(digest)
        self.ready = True
        self.role = role
        self._inference = inference
        self._meter = meter
        self._waiting_rows_max = waiting_rows_max

    async def predict(
        self, payload: Any, headers: dict[str, str] | None = None, response_headers: dict[str, str] | None = None
    ) -> InferResponse:
        """An answer for each row. InvalidInput when the call is not of the role's tensors, or its labels are alike;
        ResourceExhausted (429 over REST) when too much waits.
        """
        try:
            requests = asked(self.role, self.name, _tensors(payload))
        except Invalid as error:
            self._refuse(MALFORMED, error, 1)
        if self._inference.waiting() + len(requests) > self._waiting_rows_max:
            self._meter.refused("overloaded", len(requests))
            raise ResourceExhausted(f"{self._inference.waiting()} rows wait, {self._waiting_rows_max} may")
        futures = [asyncio.wrap_future(self._inference.submit(request)) for request in requests]
        try:
            answers = await asyncio.gather(*futures)
        except Invalid as error:
            self._refuse(LABELS_ALIKE, error, len(requests))
        self._meter.answers(answers)
        outputs = [InferOutput(t.name, list(t.shape), t.datatype, t.data) for t in answered(self.role, answers)]
        return InferResponse(
            payload.id or "", self.name, outputs, use_binary_outputs=payload.use_binary_outputs,
            requested_outputs=payload.request_outputs,
        )

    def load(self) -> bool:
        """Whether it is ready: KServe asks a model that is not to load itself, and then believes it."""
        return bool(self.ready)

    def get_input_types(self) -> list[dict[str, Any]]:
        """What metadata says of the inputs."""
        return [_described(spec) for spec in INPUTS[self.role]]

    def get_output_types(self) -> list[dict[str, Any]]:
        """What metadata says of the outputs."""
        return [_described(spec) for spec in OUTPUTS[self.role]]

    def _refuse(self, reason: str, error: Invalid, rows: int) -> NoReturn:
        self._meter.refused(reason, rows)
        raise InvalidInput(f"{reason}: {error.message}") from error


def _tensors(payload: Any) -> list[Tensor]:
    if not isinstance(payload, InferRequest):
        raise Invalid("this server speaks the Open Inference Protocol v2: ask /v2/models/<name>/infer")
    return [_tensor(given) for given in payload.inputs]


def _tensor(given: InferInput) -> Tensor:
    """Its values, whichever of the protocol's encodings they came in; Invalid when they are not what it says."""
    shape, datatype = tuple(given.shape), given.datatype
    if datatype != "BYTES":
        raise Invalid(f"{given.name} is {datatype}: BYTES fits")
    try:
        values = given.as_numpy().reshape(-1).tolist()
    except (ValueError, TypeError, struct.error) as error:
        raise Invalid(f"{given.name} does not hold the values of its shape {list(shape)}") from error
    return Tensor(given.name, datatype, shape, values)


def _described(spec: Spec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}
