"""Payloads as rows of the catalog."""

from __future__ import annotations

import builders
from xinstruct.curation import tables
from xinstruct.spine.record import Record


def test_every_payload_comes_back_from_its_row() -> None:
    record = Record("t", "k", "i", b"", partition=1, offset=2)
    page = builders.page(opt_outs=(builders.opt_out(),))
    for payload in (page, builders.drop(), builders.review(), builders.score()):
        assert tables.payload_of(type(payload), tables.row_of(payload, record)) == payload
