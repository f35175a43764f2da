"""URLs and hosts in the one form that names a page: what the frontier stores and what a takedown is compared with."""

from __future__ import annotations

import posixpath
import re
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

from xinstruct.spine.errors import Invalid, require

URL_CHARS_MAX = 2_000
ROW_MARK = "#row="
"""Between a URL and the number of a text file's row: of rows that name no URL, or one that another row named before."""
_DEFAULT_PORTS = {"http": 80, "https": 443}


def canonical_url(url: str, base: str = "") -> str:
    """`url`, resolved against `base`, in the one form that names its page: lower-case scheme and host, no default port,
    no fragment, no dot segments, percent signs in upper case. Invalid when it is no absolute http(s) URL within bounds.
    """
    try:
        parts = urlsplit(urljoin(base, url.strip()) if base else url.strip())
        port, host = parts.port, parts.hostname or ""
        path, query = _normal_path(parts.path), quote(parts.query, safe="%/?:@!$&'()*+,;=-._~[]")
    except ValueError as error:  # a lone surrogate, which JSON can spell, is one
        raise Invalid(f"not a URL: {str(error)!a}") from error
    require(parts.scheme in _DEFAULT_PORTS, f"a page's URL begins with http:// or https://, not {url[:80]!r}")
    require(bool(host) and parts.username is None, "a page's URL names a host and no user")
    shown = "" if port in (None, _DEFAULT_PORTS[parts.scheme]) else f":{port}"
    netloc = _ascii_host(host) + shown
    found = urlunsplit((parts.scheme, netloc, path, query, ""))
    require(len(found) <= URL_CHARS_MAX, f"a URL of {len(found)} characters, {URL_CHARS_MAX} at most")
    return found


def host_of(url: str) -> str:
    """Host of an absolute URL, with its port where that is not the scheme's own; "" for URLs without one."""
    return urlsplit(url).netloc


def origin_of(url: str) -> str:
    """Scheme, host and port of an absolute URL, "https://host": the authority that one robots.txt speaks for."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def normal_host(host: str) -> str:
    """A listed "host" or "host:port" in the form of host_of; Invalid when it is neither."""
    return host_of(canonical_url(host if "://" in host else f"http://{host}/"))


def _ascii_host(host: str) -> str:
    try:
        name = (host if host.isascii() else host.encode("idna").decode("ascii")).rstrip(".").lower()
    except UnicodeError as error:
        raise Invalid("the host of the URL is no domain name") from error
    require(bool(re.fullmatch(r"[a-z0-9._\-:\[\]%]+", name)), "the host of the URL is no domain name")
    return f"[{name}]" if ":" in name else name


def _normal_path(path: str) -> str:
    quoted = quote(path or "/", safe="%/:@!$&'()*+,;=-._~")
    quoted = re.sub(r"%[0-9a-fA-F]{2}", lambda match: match.group().upper(), quoted)
    if "/." not in quoted and "//" not in quoted:
        return quoted
    # normpath also removes the last slash, which names another resource.
    normal = posixpath.normpath(re.sub(r"/{2,}", "/", quoted))
    return normal + ("/" if quoted.endswith(("/", "/.", "/..")) and normal != "/" else "")
