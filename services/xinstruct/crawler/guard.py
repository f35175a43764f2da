"""Which addresses the crawler may connect to: no request is ever forged into a private network.

`address_refused` is asked by fetch.py for the very addresses that a connection uses, after DNS and for every redirect.
Not covered: a public address behind which a site itself forwards to a private one.
"""

from __future__ import annotations

import ipaddress

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_LOCAL_NAT64 = ipaddress.ip_network("64:ff9b:1::/48")
_NO_SITES = (ipaddress.ip_network("168.63.129.16/32"), ipaddress.ip_network("192.0.0.0/24"))
"""Azure's WireServer, which answers its own virtual machines only and looks public, and what protocols keep for
themselves, some of which `is_global` takes for public."""


def address_refused(address: str) -> str:
    """Why no connection to the IP address `address` is made, "" when one may be: only global unicast addresses."""
    try:
        ip = ipaddress.ip_address(address.split("%", 1)[0])
    except ValueError:
        return "not an IP address"
    inner = _embedded(ip)
    if inner is not None:
        return address_refused(str(inner))
    if ip.is_multicast or ip.is_unspecified or ip.is_reserved or not ip.is_global or any(ip in no for no in _NO_SITES):
        return "not a public address"
    return ""


def is_address(host: str) -> bool:
    """Whether `host` is written as an IP address, in brackets or not."""
    try:
        ipaddress.ip_address(host.strip("[]").split("%", 1)[0])
    except ValueError:
        return False
    return True


def names_private(host: str) -> bool:
    """Whether `host` as written, before any DNS, is an address that is refused, or this machine's own name."""
    name = host.strip("[]").rstrip(".")
    return bool(address_refused(name)) if is_address(name) else name == "localhost" or name.endswith(".localhost")


def _embedded(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 one stands for: a tunnel must not lead where the plain address may not."""
    if isinstance(ip, ipaddress.IPv4Address):
        return None
    if ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    if ip.sixtofour is not None:
        return ip.sixtofour
    if ip.teredo is not None:
        return ip.teredo[1]
    if ip in _NAT64 or ip in _LOCAL_NAT64:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return None
