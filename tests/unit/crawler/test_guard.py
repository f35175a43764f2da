"""No address inside a private network is ever connected to."""

from __future__ import annotations

import pytest

from xinstruct.crawler.guard import address_refused, is_address, names_private


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "127.8.8.8", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "100.64.0.1",
     "224.0.0.1", "240.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1",
     "168.63.129.16", "::ffff:168.63.129.16", "192.0.0.9", "192.0.0.192",
     "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "ff02::1", "2001:db8::1",
     "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1", "2002:7f00:1::", "2002:a00:1::1",
     "2001:0:4136:e378:8000:63bf:80ff:fffe", "not an address"],
)
def test_a_private_address_is_refused_in_every_disguise(address):
    assert address_refused(address)


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "168.63.129.17", "192.0.1.1", "93.184.216.34", "2606:4700:4700::1111", "::ffff:8.8.8.8"],
)
def test_a_public_address_is_not_refused(address):
    assert address_refused(address) == ""


def test_hosts_written_as_addresses_are_recognised():
    assert is_address("127.0.0.1") and is_address("[::1]") and is_address("::1")
    assert not is_address("example.org") and not is_address("127.1")


@pytest.mark.parametrize("host", ["localhost", "localhost.", "a.localhost", "127.0.0.1", "[::1]", "10.0.0.1"])
def test_a_host_that_is_written_as_private_needs_no_dns(host):
    assert names_private(host)


@pytest.mark.parametrize("host", ["example.org", "localhost.example.org", "notlocalhost", "8.8.8.8"])
def test_other_hosts_may_be_public(host):
    assert not names_private(host)
