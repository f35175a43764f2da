"""`python -m xinstruct.predictor --role evaluator|encoder`: load one model, run a first batch, serve it by its digest.

No port is open before the first batch has run: whoever can connect gets answers. Nothing is downloaded.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from xinstruct.inference.local import LocalInference
from xinstruct.inference.model_folder import model_digest
from xinstruct.inference.v2_tensors import INPUTS, ROWS_MAX
from xinstruct.predictor.metrics import Meter
from xinstruct.spine import telemetry
from xinstruct.spine.errors import Conflict, Invalid, XinstructError
from xinstruct.spine.inference import Classify, Embed, Refused
from xinstruct.spine.signals import leave_at_sigterm

SWITCH_S = 0.0005
"""Seconds after which a thread that computes gives way to one that waits: see serve()."""
EXIT_OK, EXIT_CRASHED, EXIT_REFUSED = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM; 0 after a drain, 2 with a sentence when the model cannot be served."""
    options = _parser().parse_args(arguments)
    try:
        serve(options)
    except XinstructError as error:
        print(error.message, file=sys.stderr)  # noqa: T201 - the last word of a process that could not start
        return EXIT_REFUSED
    return EXIT_OK


def serve(options: argparse.Namespace) -> None:
    """Load, warm, serve, drain. NotFound, Invalid or Conflict when the folder is not what was asked for.

    SIGTERM before it serves leaves at once: nobody waits for an answer.
    """
    leave_at_sigterm()
    telemetry.start(telemetry.TelemetrySettings(log_level=options.log_level), f"predictor-{options.role}")
    begin_s = time.monotonic()
    folder = Path(options.model_dir)
    # KServe mounts an empty folder where an InferenceService names no model: it expects several then.
    if options.await_model and not (folder.is_dir() and any(folder.iterdir())):
        await_end(folder)
        return
    digest = checked_digest(folder, options.model_digest)
    telemetry.logger().info("loading", model_digest=digest, batch_rows=options.batch_rows)
    # Libraries are told before they are imported: a folder is all that there is, and argv is not theirs to read.
    os.environ["HF_HUB_OFFLINE"] = "1"
    sys.argv = sys.argv[:1]
    threading.excepthook = _end
    # torch takes the interpreter's lock back after each of its many small steps, which protocols hold meanwhile: with
    # Python's 5 ms it waits as long each time (0.80 of the throughput in process, measured; 1.00 with half of one).
    sys.setswitchinterval(SWITCH_S)
    meter = Meter(options.role)
    inference = LocalInference(
        lambda _role, _digest: folder, batch_rows=options.batch_rows, threads_count=options.threads,
        batch_wait_s=options.batch_wait_ms / 1000, observe=meter.batch,
    )
    warm_up(inference, options.role, digest)
    telemetry.logger().info("warm", model_digest=digest, seconds=round(time.monotonic() - begin_s, 1))
    meter.start(inference.waiting)

    from xinstruct.predictor.model import Predictor
    from xinstruct.predictor.server import run

    model = Predictor(options.role, digest, inference, meter=meter, waiting_rows_max=options.waiting_rows_max)
    telemetry.logger().info("serving", http_port=options.http_port, grpc_port=options.grpc_port)
    run(model, http_port=options.http_port, grpc_port=options.grpc_port, drain_s=options.drain_s)
    inference.close()
    telemetry.logger().info("drained")


def await_end(folder: Path) -> None:
    """Wait for SIGTERM: nobody has named a model yet, and whoever does has a process with it take this one's place."""
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    telemetry.logger().warning("model_awaited", waits_for="a process with one in its place", folder=str(folder))
    ended.wait()


def checked_digest(folder: Path, wanted: str) -> str:
    """The folder's digest, as the registry computes it; Conflict when it is not `wanted` ("": any will do)."""
    found = model_digest(folder)
    if wanted and found != wanted:
        raise Conflict(
            f"{folder} holds {found}, and --model-digest asks for {wanted}: mount that model's folder, whole and "
            "unchanged, or ask for the one that is there"
        )
    return found


def warm_up(inference: LocalInference, role: str, digest: str) -> None:
    """Load the model and run a first batch. Invalid when it cannot be loaded as `role`, Unavailable without torch."""
    inference.probe()
    evaluates = role == "evaluator"
    first = Classify(role, digest, "Warm.", (" a",)) if evaluates else Embed(role, digest, "Warm.")
    answer = inference.submit(first).result()
    if isinstance(answer, Refused):
        raise Invalid(f"the model cannot be served as {role}: {answer.detail}")


def _end(failure: threading.ExceptHookArgs) -> None:
    """A bug on the model's thread: nobody would be answered again, so the process ends and is started anew."""
    telemetry.logger().error("crashed", exc_info=failure.exc_value)
    sys.stderr.flush()
    os._exit(EXIT_CRASHED)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m xinstruct.predictor", formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        description="Serve one model for one role by KServe's ModelServer: Open Inference Protocol v2, REST and gRPC. "
        "It answers to its digest and to the role's name; GET /v2/health/ready answers once the first batch has run.",
    )
    add = parser.add_argument
    add("--role", required=True, choices=sorted(INPUTS), help="what the model does")
    add("--model-dir", default="/mnt/models", help="its folder: config, tokenizer and safetensors weights")
    add("--model-digest", default="", help="digest that the folder must have, sha256:…; empty: whatever it has")
    add("--await-model", action="store_true",
        help="without such a folder, or while it is empty, wait for SIGTERM and serve nothing, instead of failing")
    add("--batch-rows", type=_count(1, 512), default=16,
        help="rows of every batch, filled up; as inference.local_batch_rows, which other digits of a score depend on")
    add("--batch-wait-ms", type=_count(0, 10_000), default=5,
        help="milliseconds that a batch which is not full waits for more rows, from its oldest row's arrival")
    add("--threads", type=_count(1, 256), default=1,
        help="torch's threads; above 1, a score's last bits depend on what else is in its batch")
    add("--waiting-rows-max", type=_count(ROWS_MAX, 1_000_000), default=4096,
        help="rows that may wait; a call beyond is refused with 429, RESOURCE_EXHAUSTED over gRPC")
    add("--http-port", type=_count(1, 65_535), default=8080, help="port of REST and of /metrics")
    add("--grpc-port", type=_count(0, 65_535), default=8081,
        help="port of gRPC, which has no TLS and no health service; 0: none")
    add("--drain-s", type=_count(1, 3_600), default=8,
        help="seconds after SIGTERM in which calls in flight are answered, for each protocol")
    add("--log-level", default="INFO", choices=("DEBUG", "INFO", "WARNING", "ERROR"), help="what is logged, as JSON")
    return parser


def _count(least: int, most: int) -> type[int]:
    """An argparse type: a whole number within bounds."""

    def parse(text: str) -> int:
        value = int(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{value} is not between {least} and {most}")
        return value

    parse.__name__ = "int"
    return parse  # type: ignore[return-value]


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # drained: torch's and grpc's threads would keep the interpreter for seconds
