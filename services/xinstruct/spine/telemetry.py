"""JSON logs, the closed list of metrics, and traces carried in record headers.

Nothing leaves the machine unless it is configured.
Logs hold stage, record id and outcome, never text of the web. Metric labels come from closed sets only.
"""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import structlog
from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from prometheus_client import Counter, Gauge, start_http_server

from xinstruct.spine.config import Settings
from xinstruct.spine.errors import Unavailable

OUTCOMES = Counter("xinstruct_outcomes", "Outcomes of records.", ["stage", "outcome", "reason"])
COMMITTED = Counter("xinstruct_committed_records", "Input records committed.", ["stage"])
RETRIES = Counter("xinstruct_retries", "Records asked again because the port did not answer.", ["stage"])
IN_FLIGHT = Gauge("xinstruct_in_flight_records", "Records between poll and commit.", ["stage"])
LAG = Gauge("xinstruct_lag_records", "Offsets between the committed position and the end.", ["stage"])

_PROPAGATOR = TraceContextTextMapPropagator()
_TRACER = trace.get_tracer("xinstruct")


class TelemetrySettings(Settings):
    """Where logs, metrics and traces go. Empty and zero mean: nowhere."""

    log_level: str = "INFO"
    """DEBUG, INFO, WARNING or ERROR. Text of the web is never logged above DEBUG."""
    metrics_port: int = 0
    """Port of the Prometheus endpoint; 0: none."""
    metrics_host: str = "127.0.0.1"
    """Address the Prometheus endpoint listens on."""
    traces_endpoint: str = ""
    """OTLP gRPC endpoint for traces; empty: none."""


def start(settings: TelemetrySettings, service: str) -> None:
    """Configure logging, and the exporters that the settings name. Call once a process."""
    logging.basicConfig(stream=sys.stderr, format="%(message)s", level=settings.log_level)
    logging.getLogger("alembic").setLevel(logging.WARNING)  # says at each first start which of its plugins it has
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(settings.log_level)),
        # Looked up at every event: who replaces sys.stderr (a test, a daemon) must not leave a closed one behind.
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
    )
    structlog.contextvars.bind_contextvars(service=service)
    if settings.metrics_port:
        start_http_server(settings.metrics_port, addr=settings.metrics_host)
    if settings.traces_endpoint:
        _export_traces(settings.traces_endpoint, service)


def logger() -> structlog.typing.FilteringBoundLogger:
    """The process's event logger: logger().info("event_name", stage=…, record_id=…)."""
    return structlog.get_logger()  # type: ignore[no-any-return]


def watch(stage: str, in_flight: Callable[[], int], lag: Callable[[], int]) -> None:
    """Have every scrape ask these two, in its own thread: the lag of the log, for a subscription is its runner's alone.

    A lag that cannot be told because the log does not answer is NaN.
    """

    def lag_or_nan() -> float:
        try:
            return lag()
        except Unavailable:
            return math.nan

    IN_FLIGHT.labels(stage).set_function(in_flight)
    LAG.labels(stage).set_function(lag_or_nan)


def unwatch(stage: str) -> None:
    """Show no gauge of a stage that has ended."""
    IN_FLIGHT.remove(stage)
    LAG.remove(stage)


def carry(headers: Mapping[str, str]) -> dict[str, str]:
    """The trace context among `headers`, for the records that follow from the one that carried them."""
    return {name: headers[name] for name in ("traceparent", "tracestate") if name in headers}


@contextmanager
def span(name: str, headers: Mapping[str, str] | None = None) -> Iterator[dict[str, str]]:
    """A span under the trace in `headers` (a new trace without one); yields headers that continue it."""
    context = _PROPAGATOR.extract(dict(headers or {}))
    with _TRACER.start_as_current_span(name, context=context):
        onward: dict[str, str] = {}
        _PROPAGATOR.inject(onward)
        yield onward


def _export_traces(endpoint: str, service: str) -> None:
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": f"xinstruct-{service}"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
    trace.set_tracer_provider(provider)
