"""KServe's ModelServer with one model, and what it leaves open put right: unloading, metadata, overload, logs."""

from __future__ import annotations

import logging
import warnings
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse
from grpc_interceptor.exceptions import ResourceExhausted
from kserve import ModelRepository, ModelServer
from kserve.errors import InvalidInput, ModelNotFound
from kserve.model_server import app
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.model_repository_extension import ModelRepositoryExtension

from xinstruct.predictor.model import Predictor


def run(model: Predictor, *, http_port: int, grpc_port: int, drain_s: int) -> None:
    """Serve until SIGTERM or SIGINT, then answer what is in flight, `drain_s` seconds at most a protocol.

    The model answers to its digest and to its role. grpc_port 0: REST only.
    """
    _quieten()
    app.add_exception_handler(ResourceExhausted, _overloaded)
    models = OneModel()
    server = ModelServer(
        http_port=http_port, grpc_port=grpc_port, workers=1, enable_grpc=grpc_port > 0, registered_models=models,
        enable_latency_logging=False, grace_period=drain_s,
    )
    server.dataplane = Plane(model_registry=models)
    server.model_repository_extension = Fixed(model_registry=models)
    server.register_model(model, model.role)
    server.start([model])


class OneModel(ModelRepository):
    """Keeps its model to the end: KServe unloads at SIGTERM, before the calls in flight have been answered."""

    def unload(self, name: str) -> None:
        """Do nothing."""


class Fixed(ModelRepositoryExtension):
    """Refuses to load and unload: anybody who reaches the port may ask for it."""

    async def load(self, model_name: str) -> None:
        """InvalidInput."""
        raise InvalidInput("malformed: a predictor serves one model, from its start to its end")

    async def unload(self, model_name: str) -> None:
        """InvalidInput."""
        await self.load(model_name)


class Plane(DataPlane):
    """Metadata that names the model by its digest, whichever of its names was asked for."""

    async def model_metadata(self, model_name: str) -> dict[str, Any]:
        """See DataPlane."""
        described: dict[str, Any] = await super().model_metadata(model_name)
        model = self.get_model_from_registry(model_name)
        return {**described, "name": model.name, "platform": f"xinstruct_{model.role}"}


class ForeignFaults(logging.Filter):
    """Drops what a caller got an answer for: KServe logs each wrong call with a stack, and bugs the same way."""

    def filter(self, record: logging.LogRecord) -> bool:
        """See Filter."""
        error = record.exc_info[1] if record.exc_info else None
        return not isinstance(error, InvalidInput | ModelNotFound | ResourceExhausted)


def _quieten() -> None:
    # The root logger has a handler already (spine/telemetry.py), so KServe adds none of its own.
    for name in ("kserve", "uvicorn"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("kserve").addFilter(ForeignFaults())
    warnings.filterwarnings("ignore", message="ORJSONResponse is deprecated")  # KServe's choice, said at each start


async def _overloaded(_: Request, error: Any) -> JSONResponse:
    return JSONResponse({"error": error.details}, status_code=429, headers={"Retry-After": "1"})
