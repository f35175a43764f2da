"""Where text files may be read from: disk, and stores that fsspec reaches through a package of their own.

Not from the web: fsspec connects by itself, past the guard of fetch.py, and follows redirects and chains
("simplecache::http://…") to private addresses. Not covered: a store's own client that is configured to ask elsewhere.
"""

from __future__ import annotations

from importlib.util import find_spec

from xinstruct.spine.errors import Invalid, require

_PACKAGES = {
    "file": "", "local": "", "memory": "", "s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs",
    "abfs": "adlfs", "abfss": "adlfs", "hf": "huggingface_hub",
}
"""Scheme → the package that fsspec reads it with, "" for none."""


def check_location(location: str) -> None:
    """Invalid when a text file's location is none that this process reads; the message says what is possible."""
    require("::" not in location, f"a chain of file systems is not followed; text files are read from {_possible()}")
    scheme, mark, address = location.partition("://")
    if not mark:
        return
    if scheme.lower() in ("http", "https"):
        raise Invalid("text files are not read over the web: download it first and add the file, or add it as a page; "
                      f"text files are read from {_possible()}")
    require(scheme in _PACKAGES, f"text files are not read from {scheme[:20]}://, but from {_possible()}")
    require(_installed(scheme), f"{scheme}:// needs the Python package {_PACKAGES[scheme]}, which is not installed; "
                                f"text files are read from {_possible()}")
    whole = scheme != "hf" or address.count("/") >= 2
    require(whole, "a file of the Hugging Face hub is hf://datasets/OWNER/NAME/FILE; NAME@REVISION if need be")


def _possible() -> str:
    return ", ".join(("a path", *(f"{scheme}://" for scheme in _PACKAGES if _installed(scheme))))


def _installed(scheme: str) -> bool:
    package = _PACKAGES[scheme]
    return not package or find_spec(package) is not None
