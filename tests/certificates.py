"""Real certificates by openssl, for tests of TLS, and a folder in which they are renewed as the kubelet does it."""

from __future__ import annotations

import itertools
import subprocess
from dataclasses import dataclass
from pathlib import Path

from xinstruct.spine.certificates import Tls

NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as files."""

    certificate: Path
    key: Path

    def as_server(self) -> dict[str, str]:
        """The settings of a server that serves it."""
        return {"tls_certificate_file": str(self.certificate), "tls_key_file": str(self.key)}

    def as_caller(self, authorities: Path) -> Tls:
        """What a caller with it brings."""
        return Tls(authorities.read_bytes(), self.certificate.read_bytes(), self.key.read_bytes())


@dataclass(frozen=True)
class Authority:
    """One that signs certificates, in a folder of its own."""

    own: Pair

    def signed(self, name: str, *more_names: str) -> Pair:
        """A new certificate for these names and localhost, of services and callers alike."""
        folder = self.own.certificate.parent
        pair = Pair(folder / f"{name}.pem", folder / f"{name}.key")
        names = ",".join(f"DNS:{one}" for one in (name, *more_names, "localhost"))
        extensions = folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName={names}\nextendedKeyUsage=serverAuth,clientAuth\n", "utf-8")
        request = _openssl("req", *NEW_KEY, "-subj", f"/CN={name}", "-keyout", str(pair.key))
        pair.certificate.write_bytes(_openssl(
            "x509", "-req", "-CA", str(self.own.certificate), "-CAkey", str(self.own.key), "-CAcreateserial",
            "-days", "1", "-extfile", str(extensions), given=request,
        ))
        return pair


class Mounted:
    """A Secret with tls.crt, tls.key and ca.crt as the kubelet mounts it: links into a folder that is swapped whole."""

    def __init__(self, folder: Path, pair: Pair, authorities: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._versions = itertools.count()
        self.write(pair, authorities)
        for name in ("tls.crt", "tls.key", "ca.crt"):
            (folder / name).symlink_to(f"..data/{name}")

    def write(self, pair: Pair, authorities: Path) -> None:
        """Another content, at one moment."""
        made = self._folder / f"..{next(self._versions)}"
        made.mkdir()
        for name, source in (("tls.crt", pair.certificate), ("tls.key", pair.key), ("ca.crt", authorities)):
            (made / name).write_bytes(source.read_bytes())
        link = self._folder / "..data_tmp"
        link.symlink_to(made.name)
        link.replace(self._folder / "..data")

    def settings(self) -> dict[str, str]:
        """Those of a process with mutual TLS, which serves and calls."""
        certificate, key, authorities = (str(self._folder / name) for name in ("tls.crt", "tls.key", "ca.crt"))
        return {
            "tls_certificate_file": certificate, "tls_key_file": key,
            "tls_client_ca_file": authorities, "tls_ca_file": authorities,
        }


def authority(folder: Path) -> Authority:
    """A new authority."""
    folder.mkdir()
    return Authority(self_signed(folder, "authority"))


def self_signed(folder: Path, name: str, *extensions: str) -> Pair:
    """A new certificate that nobody else has signed."""
    pair = Pair(folder / f"{name}.pem", folder / f"{name}.key")
    added = [word for extension in extensions for word in ("-addext", extension)]
    request = ("req", "-x509", *NEW_KEY, "-days", "1", "-subj", f"/CN={name}", *added, "-keyout", str(pair.key))
    pair.certificate.write_bytes(_openssl(*request))
    return pair


def _openssl(*arguments: str, given: bytes = b"") -> bytes:
    return subprocess.run(["openssl", *arguments], input=given, check=True, capture_output=True).stdout
