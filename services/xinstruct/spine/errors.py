"""The five errors that code outside an adapter raises. Anything else is a bug and crashes.

    XinstructError
    ├── Invalid        the caller's or the record's fault; retrying is useless
    ├── NotFound       the named thing is not there
    ├── Conflict       it is there already, or in a state that forbids the act
    ├── Unavailable    the world's fault: try again later
    └── Fenced         somebody else owns what we meant to write

spine/rpc.py maps them to gRPC status codes and back; the CLI maps them to exit codes.
"""

from __future__ import annotations


class XinstructError(Exception):
    """Base of the tree. `details` are machine-readable facts for a client: short strings, no text of the web."""

    def __init__(self, message: str, **details: str) -> None:
        super().__init__(message)
        self.message = message
        self.details = details


class Invalid(XinstructError):
    """Malformed or out of bounds."""


class NotFound(XinstructError):
    """No such thing."""


class Conflict(XinstructError):
    """The act contradicts the present state."""


class Unavailable(XinstructError):
    """A dependency does not answer; `retry_after_s` may say when to come back."""

    def __init__(self, message: str, retry_after_s: float | None = None, **details: str) -> None:
        super().__init__(message, **details)
        self.retry_after_s = retry_after_s


class Fenced(XinstructError):
    """A partition, lease or lock belongs to another process now."""

    def __init__(self, message: str, partitions: frozenset[int] = frozenset(), **details: str) -> None:
        super().__init__(message, **details)
        self.partitions = partitions


def require(condition: bool, message: str) -> None:
    """Raise Invalid with `message` unless `condition` holds."""
    if not condition:
        raise Invalid(message)
