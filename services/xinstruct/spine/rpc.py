"""gRPC for people, control and "do one now": a server with health and reflection, and a channel that raises our errors.

One interceptor maps the five errors to status codes with google.rpc details, and a client-side wrapper maps them back.
Every call must carry a deadline; streams named Watch… need none, and hold half of the threads at most. Tokens and TLS
come from mounted files: a token is read at the start, certificates again for each connection that comes. Probes that
speak no TLS have a port of their own, where health is all that is served.

A client that retries as documented makes at most 3 attempts in 10 s (RETRY_RESTS_S), each at the next address of the
service's name, and only of calls that no service has answered: Unavailable, raised by a service, is an answer.
"""

from __future__ import annotations

import base64
import hmac
import json
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from grpc_status import rpc_status
from pydantic import Field

from xinstruct.spine.app import Servicer
from xinstruct.spine.certificates import Files, Renewed, Tls, read
from xinstruct.spine.config import Settings
from xinstruct.spine.errors import Conflict, Fenced, Invalid, NotFound, Unavailable, XinstructError
from xinstruct.spine.telemetry import logger

ERROR_DOMAIN = "xinstruct"

RETRY_RESTS_S = (2, 6)
"""Rests before the second and the third attempt, each up to a fifth more or less: a pod is replaced in that time."""

_CODES: dict[type[XinstructError], grpc.StatusCode] = {
    Invalid: grpc.StatusCode.INVALID_ARGUMENT,
    NotFound: grpc.StatusCode.NOT_FOUND,
    Conflict: grpc.StatusCode.FAILED_PRECONDITION,
    Unavailable: grpc.StatusCode.UNAVAILABLE,
    Fenced: grpc.StatusCode.ABORTED,
}
_ERRORS: dict[grpc.StatusCode, type[XinstructError]] = {code: error for error, code in _CODES.items()} | {
    grpc.StatusCode.DEADLINE_EXCEEDED: Unavailable,
    grpc.StatusCode.UNAUTHENTICATED: Invalid,
    grpc.StatusCode.PERMISSION_DENIED: Invalid,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Invalid,
    grpc.StatusCode.UNIMPLEMENTED: Invalid,
}

_REASONS = {error.__name__.upper(): error for error in _CODES}
"""Reason in ErrorInfo → error: a status that several errors share is told apart by it."""

_ANSWERED = ("grpc-retry-pushback-ms", "-1")

_OPEN_METHODS = ("/grpc.health.v1.Health/", "/grpc.reflection.v1alpha.ServerReflection/")
"""Need neither deadline nor token: probes and reflection."""

_HEALTH_THREADS = 2


class RpcSettings(Settings):
    """The gRPC port of a process."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = 7700
    """Port to listen on; 0: a free one."""
    health_port: int = 0
    """Port with the health service alone, without TLS or token, for probes that speak no TLS; 0: none."""
    threads_max: int = Field(16, ge=2, description="Calls served at once; watches take half of them at most.")
    message_bytes_max: int = 16 * 1024 * 1024
    """Largest message taken or sent."""
    deadline_s_max: float = 300.0
    """Longest deadline of a call that is no watch; a longer one is refused."""
    token_file: str = ""
    """File with the bearer token that callers must send; empty: no token asked (loopback only)."""
    tls_certificate_file: str = ""
    """PEM certificate chain; empty: no TLS."""
    tls_key_file: str = ""
    """PEM private key of the certificate."""
    tls_client_ca_file: str = ""
    """PEM certificates of callers' authorities (mutual TLS); empty: callers need no certificate."""
    tls_ca_file: str = ""
    """PEM certificates of the authorities of services that are called; empty: the own certificate alone is trusted."""


class Server:
    """A started gRPC server; health of every service is NOT_SERVING until `set_health` says otherwise."""

    def __init__(self, settings: RpcSettings, servicers: Sequence[Servicer]) -> None:
        _refuse_open_door(settings)
        size = settings.message_bytes_max
        self._server = grpc.server(
            ThreadPoolExecutor(settings.threads_max, thread_name_prefix="rpc"),
            interceptors=[_Guard(settings)],
            options=[
                ("grpc.max_receive_message_length", size), ("grpc.max_send_message_length", size),
                ("grpc.so_reuseport", 0),  # a second server on the port must fail, not share its calls
            ],
        )
        self._health = health.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self.names = [servicer.name for servicer in servicers]
        for servicer in servicers:
            servicer.register(servicer.servicer, self._server)
        for name in ("", *self.names):
            self.set_health(name, "not started yet")
        reflection.enable_server_reflection([*self.names, health.SERVICE_NAME, reflection.SERVICE_NAME], self._server)
        self.port = _bind(self._server, settings.host, settings.port, _server_credentials(settings))
        self._probed = self._health_alone(settings) if settings.health_port else None
        self._server.start()

    def set_health(self, name: str, why_not: str) -> None:
        """Health of service `name` ("" = the whole process): SERVING when `why_not` is empty."""
        serving = health_pb2.HealthCheckResponse.SERVING
        not_serving = health_pb2.HealthCheckResponse.NOT_SERVING
        self._health.set(name, not_serving if why_not else serving)

    def stop(self, grace_s: float) -> None:
        """Turn health to NOT_SERVING, refuse new calls, let running ones end within `grace_s`."""
        self._health.enter_graceful_shutdown()
        self._server.stop(grace_s).wait(grace_s + 1)
        if self._probed is not None:
            self._probed.stop(0).wait(1)  # with None it waits by itself, for ever

    def _health_alone(self, settings: RpcSettings) -> grpc.Server:
        """A started server of the same states; whoever asks it for anything else gets UNIMPLEMENTED."""
        server = grpc.server(
            ThreadPoolExecutor(_HEALTH_THREADS, thread_name_prefix="health"), options=[("grpc.so_reuseport", 0)]
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        _bind(server, settings.host, settings.health_port, None)
        server.start()
        return server


def _bind(server: grpc.Server, host: str, port: int, credentials: grpc.ServerCredentials | None) -> int:
    """The port that the server listens on, with TLS where there are credentials. Unavailable when it cannot."""
    address = f"{host}:{port}"
    try:
        if credentials is not None:
            return server.add_secure_port(address, credentials)
        return server.add_insecure_port(address)
    except RuntimeError as error:
        raise Unavailable(f"cannot listen on {address}: the port is taken or the address is not ours") from error


class _Guard(grpc.ServerInterceptor):
    """Asks for token and deadline, counts watchers, maps errors to rich status."""

    def __init__(self, settings: RpcSettings) -> None:
        self._settings = settings
        self._token = Path(settings.token_file).read_text("utf-8").strip() if settings.token_file else ""
        # A watcher holds its thread for as long as it likes: the other half is for calls that end.
        self._watchers_max = settings.threads_max // 2
        self._watchers = BoundedSemaphore(self._watchers_max)

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        handler = continuation(details)
        if handler is None or details.method.startswith(_OPEN_METHODS):
            return handler
        watches = handler.response_streaming and details.method.rpartition("/")[2].startswith("Watch")

        def unary(request: Any, context: Any) -> Any:
            with self._admitted(context, watches=False):
                return handler.unary_unary(request, context)

        def stream(request: Any, context: Any) -> Iterator[Any]:
            with self._admitted(context, watches=watches):
                yield from handler.unary_stream(request, context)

        coding = handler.request_deserializer, handler.response_serializer
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(stream, *coding)
        return grpc.unary_unary_rpc_method_handler(unary, *coding)

    @contextmanager
    def _admitted(self, context: Any, *, watches: bool) -> Iterator[None]:
        """Around one call: refuses it, or ends it with the status of the error that it raises."""
        sent = dict(context.invocation_metadata()).get("authorization", "")
        if self._token and not hmac.compare_digest(sent, f"Bearer {self._token}"):
            _abort(context, Invalid("no valid bearer token; see rpc.token_file"), grpc.StatusCode.UNAUTHENTICATED)
        remaining_s, limit_s = context.time_remaining(), self._settings.deadline_s_max
        # Without a deadline gRPC reports a time in the far future, or None.
        if not watches and (remaining_s is None or remaining_s > limit_s):
            _abort(context, Invalid(f"a deadline of at most {limit_s:g} s is required"))
        if watches and not self._watchers.acquire(blocking=False):
            full = f"{self._watchers_max} watches are open, half of rpc.threads_max: end one, ask by Get…, or raise it"
            _abort(context, Unavailable(full), grpc.StatusCode.RESOURCE_EXHAUSTED)
        try:
            yield
        except XinstructError as error:
            _abort(context, error)
        finally:
            if watches:
                self._watchers.release()


def _abort(context: Any, error: XinstructError, code: grpc.StatusCode | None = None) -> None:
    """End the call with the status of `error`: code, message, ErrorInfo and, where there is one, RetryInfo."""
    code = code or _CODES.get(type(error), grpc.StatusCode.UNKNOWN)
    logger().info("call_refused", code=code.name, message=error.message)
    status = status_pb2.Status(code=code_pb2.Code.Value(code.name), message=error.message)
    info = error_details_pb2.ErrorInfo(reason=type(error).__name__.upper(), domain=ERROR_DOMAIN, metadata=error.details)
    _pack(status, info)
    if isinstance(error, Unavailable) and error.retry_after_s:
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(int(error.retry_after_s * 1e9))
        _pack(status, error_details_pb2.RetryInfo(retry_delay=delay))
    answer: Any = rpc_status.to_status(status)
    # gRPC's word for "do not try again by yourself": the service has answered, the caller decides.
    context.abort_with_status(answer._replace(trailing_metadata=(*answer.trailing_metadata, _ANSWERED)))


def _pack(status: Any, detail: Any) -> None:
    packed = any_pb2.Any()
    packed.Pack(detail)
    status.details.append(packed)


def error_of(call_error: grpc.RpcError) -> XinstructError:
    """The error that a failed call stands for, on the caller's side."""
    status: Any = call_error
    code, message = status.code(), status.details() or "the call failed"
    rich = rpc_status.from_call(status)
    error, metadata = _ERRORS.get(code), dict[str, str]()
    for detail in rich.details if rich is not None else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Is(info.DESCRIPTOR) and detail.Unpack(info):
            error, metadata = _REASONS.get(info.reason, error), dict(info.metadata)
    if error is None:
        return Unavailable(f"the service failed ({code.name}): {message}")
    return error(message, **metadata)


def page_token(*values: str | int) -> str:
    """Where a page or an event of a watch stands, for `page_values`; callers look at it as opaque."""
    return base64.urlsafe_b64encode(json.dumps(values).encode()).decode()


def page_values(token: str, *first: str | int) -> Sequence[Any]:
    """The values in a page token, `first` for an empty one. Invalid when number or types differ from its."""
    if not token:
        return first
    try:
        values = json.loads(base64.b64decode(token, b"-_", validate=True))
        json.dumps(values, ensure_ascii=False).encode()  # half a surrogate pair is no text to ask a database for
    except (ValueError, RecursionError):
        values = None
    kinds = [type(value) for value in values] if isinstance(values, list) else None
    if kinds != [type(value) for value in first] or any(isinstance(x, int) and abs(x) >= 2**63 for x in values):
        raise Invalid("page_token: not one that this call gave; send the last page's or event's own")
    return list(values)


def tls_of(settings: RpcSettings) -> Tls | None:
    """What `settings` say a caller brings, as its files stand now: its own certificate where it has a key to it; None
    without TLS. Invalid when the files cannot be used."""
    trusted = settings.tls_ca_file or settings.tls_certificate_file
    if not trusted:
        return None
    own = (settings.tls_certificate_file, settings.tls_key_file) if settings.tls_key_file else ()
    return read(Files(trusted, *own))


def channel(address: str, *, token: str = "", tls: Tls | None = None) -> grpc.Channel:
    """A channel to `address`: "host:port", or a target with gRPC's own scheme ("ipv4:…").

    Calls go to all addresses of the name in turn, and are tried again as the head of this module says.
    """
    target = address if re.match(r"(dns|ipv4|ipv6|unix):", address) else f"dns:///{address}"
    if tls is None:
        plain = grpc.insecure_channel(target, options=_CLIENT)
    else:
        credentials = grpc.ssl_channel_credentials(tls.authorities, tls.key or None, tls.certificate or None)
        plain = grpc.secure_channel(target, credentials, options=_CLIENT)
    return grpc.intercept_channel(plain, _BearerToken(token)) if token else plain


_POLICY = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [{
        "name": [{}],
        "retryPolicy": {
            "maxAttempts": 1 + len(RETRY_RESTS_S), "initialBackoff": f"{RETRY_RESTS_S[0]}s",
            "maxBackoff": f"{RETRY_RESTS_S[1]}s", "backoffMultiplier": RETRY_RESTS_S[1] / RETRY_RESTS_S[0],
            # gRPC's server cancels a call that comes in as it stops; a caller's own cancelling is none of these.
            "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
        },
    }],
}
_CLIENT = [
    ("grpc.service_config", json.dumps(_POLICY)),
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
    # A pod that is replaced comes back at another address: by the defaults a client would ask for it again after 30 s,
    # wait 20 s for the old one, and rest for up to two minutes between attempts.
    ("grpc.dns_min_time_between_resolutions_ms", 1_000),
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.initial_reconnect_backoff_ms", 250),
    ("grpc.max_reconnect_backoff_ms", 1_000),
]


class _BearerToken(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    def __init__(self, token: str) -> None:
        self._header = ("authorization", f"Bearer {token}")

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        return continuation(self._with_token(details), request)

    def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        return continuation(self._with_token(details), request)

    def _with_token(self, details: Any) -> Any:
        return details._replace(metadata=[*(details.metadata or ()), self._header])


def _server_credentials(settings: RpcSettings) -> grpc.ServerCredentials | None:
    """What each new connection is served with: the files as they stand when it comes. None without TLS."""
    if not settings.tls_certificate_file:
        return None
    files = Renewed(Files(settings.tls_client_ca_file, settings.tls_certificate_file, settings.tls_key_file))

    def renewed() -> grpc.ServerCertificateConfiguration | None:
        found = files.look()
        return None if found is None else _served(found)

    return grpc.dynamic_ssl_server_credentials(
        _served(files.tls), renewed,  # type: ignore[arg-type]  # None is "no change", which the stubs leave out
        require_client_authentication=bool(settings.tls_client_ca_file),
    )


def _served(tls: Tls) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(tls.key, tls.certificate)], tls.authorities or None)


def _refuse_open_door(settings: RpcSettings) -> None:
    if settings.tls_client_ca_file and not settings.tls_certificate_file:
        raise Invalid("rpc.tls_client_ca_file asks callers for certificates, over TLS: set rpc.tls_certificate_file")
    if settings.host not in ("127.0.0.1", "localhost", "::1", "[::1]") and not settings.token_file:
        raise Invalid(f"rpc.host is {settings.host}, open to others: set rpc.token_file, or listen on 127.0.0.1")
