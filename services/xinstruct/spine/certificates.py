"""Certificates in mounted files, which whoever signed them renews while a process runs.

Kubernetes replaces all files of a Secret at once, by swapping a symbolic link; other writers replace one after the
other. Either way a key is taken only with the certificate that it belongs to: what does not fit together is waited for.

Not covered: connections that are open, which go on with what they were opened with, and a renewal that never comes.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path

from xinstruct.spine.errors import Invalid
from xinstruct.spine.telemetry import logger

READS_MAX = 3
"""Looks at files that are swapped in between: one swap spoils one look, and the next comes weeks later."""


@dataclass(frozen=True)
class Files:
    """Where one side of TLS has its part; "" is a file that it has not."""

    authorities: str
    """PEM certificates of who may have signed the other side's."""
    certificate: str = ""
    """PEM chain that is shown."""
    key: str = ""
    """PEM private key of the certificate, without a password."""


@dataclass(frozen=True)
class Tls:
    """What one side of TLS shows and whom it believes, in PEM."""

    authorities: bytes
    """Certificates of who may have signed the other side's; empty: a server asks callers for none."""
    certificate: bytes = b""
    """The chain that is shown; empty: a caller shows none."""
    key: bytes = field(default=b"", repr=False)
    """Private key of the certificate."""


def read(files: Files) -> Tls:
    """What the files hold at one moment. Invalid when one cannot be read or they do not fit together."""
    failure: OSError = FileNotFoundError("the files change while they are read")
    for _ in range(READS_MAX):
        try:
            found = _content(files)
            _require_fit(files)
            if found == _content(files):
                return found
        except OSError as error:  # ssl.SSLError is one
            failure = error
    named = ", ".join(filter(None, (files.authorities, files.certificate, files.key)))
    raise Invalid(f"TLS cannot use these files together: {named}: {failure}; see rpc.tls_…_file") from failure


class Renewed:
    """The files of a server, to look at before each connection. Not for several threads at once."""

    def __init__(self, files: Files) -> None:
        """Invalid as for `read`."""
        self._files = files
        self._refused = ""
        self.tls = read(files)
        """What is served now."""

    def look(self) -> Tls | None:
        """What is to be served from now on, when that is new; None: what was served before.

        That is also kept while the files cannot be used, which is logged once, not for each connection.
        """
        try:
            found = _content(self._files)
            changed = found != self.tls
            if changed:
                self.tls = read(self._files)
        except (OSError, Invalid) as error:
            if str(error) != self._refused:
                logger().error("certificate_not_renewed", reason=str(error))
            self._refused = str(error)
            return None
        self._refused = ""  # the next fault is another one, also in the same words
        if not changed:
            return None
        logger().info("certificate_renewed", file=self._files.certificate)
        return self.tls


def _content(files: Files) -> Tls:
    named = (files.authorities, files.certificate, files.key)
    return Tls(*(Path(file).read_bytes() if file else b"" for file in named))


def _require_fit(files: Files) -> None:
    """An OSError when a file holds no PEM of its kind, or the key is another certificate's."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if files.authorities:
        context.load_verify_locations(files.authorities)
    if files.certificate or files.key:
        # Without a word given, OpenSSL would ask a terminal for that of a protected key, which gRPC cannot use anyway.
        context.load_cert_chain(files.certificate, files.key, password="")
