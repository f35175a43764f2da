"""Where a text file may be read from, and what is said where it may not."""

from __future__ import annotations

import pytest

from xinstruct.crawler import locations
from xinstruct.crawler.locations import check_location
from xinstruct.spine.errors import Invalid


@pytest.mark.parametrize("location", [
    "/data/rows.jsonl", "rows.parquet", "file:///data/rows.jsonl", "s3://bucket/rows.jsonl.gz",
    "hf://datasets/owner/name/rows.parquet", "hf://datasets/owner/name@main/data/rows.parquet",
])
def test_disk_and_stores_whose_package_is_there_are_read(location):
    check_location(location)


@pytest.mark.parametrize(("location", "said"), [
    ("http://a.example/rows.jsonl", "download it first"), ("HTTPS://a.example/rows.parquet", "download it first"),
    ("simplecache::http://a.example/rows.jsonl", "chain"), ("filecache::s3://bucket/rows.jsonl", "chain"),
    ("webhdfs://169.254.169.254/rows.jsonl", "not read from webhdfs://"), ("S3://bucket/x", "not read from S3://"),
    ("ftp://a.example/rows.jsonl", "not read from ftp://"), ("://x", "not read from ://"),
])
def test_what_is_not_read_is_refused_with_what_is_possible(location, said):
    with pytest.raises(Invalid, match=said) as error:
        check_location(location)
    assert "a path, file://, local://, memory://, s3://" in error.value.message


def test_a_hub_s_file_is_named_whole():
    with pytest.raises(Invalid, match="hf://datasets/OWNER/NAME/FILE"):
        check_location("hf://datasets/rows.parquet")


def test_a_store_without_its_package_is_refused_with_the_package_s_name(monkeypatch):
    monkeypatch.setitem(locations._PACKAGES, "gs", "no_such_package")
    with pytest.raises(Invalid, match="gs:// needs the Python package no_such_package") as error:
        check_location("gs://bucket/rows.jsonl")
    assert "gs://" not in error.value.message.partition("read from")[2]
