"""Open Inference Protocol v2 over gRPC: kserve_v2.py's other transport.

Without TLS, as KServe's model server speaks it. Calls are grpc's own futures, awaited on the adapter's loop: grpc.aio
shares one poller among the loops of a process, and ours has one a role.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import grpc

from xinstruct.inference.kserve_v2 import Reply, Served
from xinstruct.inference.loop_thread import CONNECTION_S, Renewed
from xinstruct.inference.v2_tensors import Tensor
from xinstruct.v1 import open_inference_pb2 as pb

SERVICE = "/inference.GRPCInferenceService/"
ANSWER_BYTES_MAX = 16 * 1024 * 1024
METADATA_WAIT_S = 30.0
CHANNEL = [
    ("grpc.max_receive_message_length", ANSWER_BYTES_MAX),
    # Each address of the name in turn: a channel asks the first alone, if nobody says otherwise.
    ("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})),
    # A channel looks its name up again when a connection breaks, not when there are pods more: a new one does. Its
    # connections have to be new, too: by default it would have those of the old channel to the same address.
    ("grpc.use_local_subchannel_pool", 1),
    # A server that was away is found again within a second, not after the two minutes that the pauses grow to.
    ("grpc.initial_reconnect_backoff_ms", 250),
    ("grpc.max_reconnect_backoff_ms", 1_000),
]
CONTENTS = {"FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents"}
STATUS_OF = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.INTERNAL: 500,
    grpc.StatusCode.UNKNOWN: 500,
    grpc.StatusCode.UNIMPLEMENTED: 501,
}
"""gRPC status → the HTTP status that means the same; every other one is no answer."""


class GrpcTransport:
    """The protocol over channels to `target`, one after the other: host:port, or with gRPC's own scheme before it."""

    def __init__(
        self, target: str, *, api_key: str, deadline_s: float, connection_s: float = CONNECTION_S
    ) -> None:
        self._channels = Renewed(lambda: _Channel(target), _Channel.close, life_s=connection_s)
        self._headers = (("authorization", f"Bearer {api_key}"),) if api_key else ()
        self._deadline_s = deadline_s

    async def infer(self, model: str, tensors: Sequence[Tensor]) -> Reply:
        """See Transport."""
        message = pb.InferRequest(model_name=model, inputs=[_input(tensor) for tensor in tensors])
        try:
            async with self._channels.lent() as to:
                answer = await _answer(to.infer.future(message, timeout=self._deadline_s, metadata=self._headers))
            return Reply(200, answer.model_name, [_tensor(output) for output in answer.outputs])
        except grpc.RpcError as error:
            return Reply(_status(error), error=str(error.details() or ""))

    async def served(self, name: str) -> Served:
        """See Transport."""
        message, timeout_s = pb.ModelMetadataRequest(name=name), min(self._deadline_s, METADATA_WAIT_S)
        try:
            async with self._channels.lent() as to:
                answer = await _answer(to.metadata.future(message, timeout=timeout_s, metadata=self._headers))
            return Served(200, answer.name, frozenset(item.name for item in answer.inputs))
        except grpc.RpcError as error:
            return Served(_status(error))

    async def close(self) -> None:
        """See Transport."""
        await self._channels.close()


class _Channel:
    """One channel, and the calls that it is for."""

    def __init__(self, target: str) -> None:
        self._channel = grpc.insecure_channel(target, CHANNEL)
        self.infer = self._channel.unary_unary(
            f"{SERVICE}ModelInfer", pb.InferRequest.SerializeToString, pb.InferResponse.FromString
        )
        self.metadata = self._channel.unary_unary(
            f"{SERVICE}ModelMetadata", pb.ModelMetadataRequest.SerializeToString, pb.ModelMetadataResponse.FromString
        )

    async def close(self) -> None:
        self._channel.close()


async def _answer(call: Any) -> Any:
    """What `call` brings, or its RpcError; cancelled with its waiter."""
    loop = asyncio.get_running_loop()
    done = asyncio.Event()

    def wake(_call: Any) -> None:
        with suppress(RuntimeError):  # the loop was closed: nobody waits
            loop.call_soon_threadsafe(done.set)

    call.add_done_callback(wake)
    try:
        await done.wait()
    except asyncio.CancelledError:
        call.cancel()
        raise
    return call.result()


def _status(error: Any) -> int:
    return STATUS_OF.get(error.code(), 0)


def _input(tensor: Tensor) -> pb.InferInputTensor:
    contents = pb.InferTensorContents(bytes_contents=[str(value).encode() for value in tensor.data])
    return pb.InferInputTensor(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape, contents=contents)


def _tensor(output: pb.InferOutputTensor) -> Tensor:
    field = CONTENTS.get(output.datatype)
    values: list[Any] = list(getattr(output.contents, field)) if field else []
    if output.datatype == "BYTES":
        values = [value.decode("utf-8", "replace") for value in values]
    return Tensor(output.name, output.datatype, tuple(output.shape), values)
