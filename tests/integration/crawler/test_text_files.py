"""JSONL and Parquet files as sources of texts."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterator

import aiohttp
import fsspec
import huggingface_hub
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from aiohttp import web
from botocore.exceptions import ClientError, EndpointConnectionError

from failing_store import fail_with
from integration.crawler.loopback import Site, response
from xinstruct.crawler.texts import ROWS_TOLD_MAX
from xinstruct.spine.messages import SourceKind
from xinstruct.spine.topics import PAGE_FETCHED

PLAIN = (
    "Kylän vanhin talo on rakennettu hirsistä. Sen pihalla kasvaa koivu, jonka alla lapset leikkivät kesäisin.\n\n"
    "Talossa on kolme huonetta ja suuri tupa. Tuvan uuni lämmitetään joka aamu, ja sen vieressä nukkuu kissa."
)

MALAY = (
    "Setiap orang, tanpa sebarang pembezaan, adalah berhak kepada penggajian yang sama bagi kerja yang sama.\n\n"
    "Setiap orang yang bekerja adalah berhak kepada pembayaran saraan yang adil dan berfaedah baginya yang mana "
    "mempastikan buat diri dan keluarganya suatu kehidupan sesuai dengan kemuliaan manusia, dan yang mana ditambah, "
    "jika pertu, oleh cara-cara perlindungan sosial yang lainnya."
)


def test_a_jsonl_file_becomes_documents(crawl, tmp_path):
    path = tmp_path / "texts.jsonl"
    lines = [
        json.dumps({"text": PLAIN, "url": "https://example.org/a"}), "broken", json.dumps({"text": PLAIN + " Lisää."}),
        json.dumps({"text": PLAIN + " Vielä.", "url": "https://example.org/a"}),
    ]
    path.write_text("\n".join(lines) + "\n")
    source = crawl.add(SourceKind.JSONL, str(path))
    crawl.run()
    assert {item.url: item.text for item in crawl.documents()} == {
        "https://example.org/a": PLAIN, f"{path}#row=2": f"{PLAIN} Lisää.",
        "https://example.org/a#row=3": f"{PLAIN} Vielä.",
    }
    row = crawl.row("crawler_sources", source_id=source)
    assert (row.rows_done, row.pages_failed, row.last_error) == (4, 1, "row 1: not JSON")


def test_every_bad_row_is_a_record_with_its_reason_and_none_of_its_text(crawl, tmp_path):
    path = tmp_path / "texts.jsonl"
    lines = ['{"salaisuus": 1', json.dumps({"body": "salaisuus"}), json.dumps({"text": PLAIN}), '["salaisuus"]']
    path.write_text("\n".join(lines) + "\n")
    crawl.add(SourceKind.JSONL, str(path))
    crawl.run()
    assert {(item.url, item.reason, item.evidence["detail"]) for item in crawl.drops()} == {
        (f"{path}#row=0", "malformed_row", "not JSON"), (f"{path}#row=1", "malformed_row", "no text in 'text'"),
        (f"{path}#row=3", "malformed_row", "not an object"),
    }
    assert not any(b"salaisuus" in (record.value or b"") for record in crawl.deps.log.read(PAGE_FETCHED, {}))
    assert len(crawl.documents()) == 1


def test_a_file_of_bad_rows_has_a_bounded_number_of_records_and_says_so(crawl, tmp_path):
    path = tmp_path / "texts.jsonl"
    path.write_text("broken\n" * (ROWS_TOLD_MAX + 450) + json.dumps({"text": PLAIN}) + "\n")
    source = crawl.add(SourceKind.JSONL, str(path))
    crawl.fetch()
    found = Counter((item.failure, item.detail) for item in crawl.pages())
    cut = "more than 1000 rows without a text; from row 1000 on they are only counted"
    assert found == {("malformed_row", "not JSON"): ROWS_TOLD_MAX, ("malformed_listing", cut): 1, ("", ""): 1}
    row = crawl.row("crawler_sources", source_id=source)
    assert (row.rows_done, row.pages_failed, row.last_error) == (1451, 1450, "row 1449: not JSON")


def test_a_file_s_declared_language_drops_what_looks_like_its_neighbour_but_not_clearly(crawl, tmp_path):
    # From the Malay text of the Universal Declaration; alone it is taken for Indonesian, with 0.61.
    row = json.dumps({"text": MALAY}) + "\n"
    for name, declared in (("plain", ""), ("declared", "ms")):
        (tmp_path / f"{name}.jsonl").write_text(row)
        crawl.add(SourceKind.JSONL, str(tmp_path / f"{name}.jsonl"), declared_language=declared)
    crawl.run()
    assert [(item.url, item.language) for item in crawl.documents()] == [(f"{tmp_path}/plain.jsonl#row=0", "id")]
    assert [(item.url, item.reason) for item in crawl.drops()] == [
        (f"{tmp_path}/declared.jsonl#row=0", "language_uncertain")
    ]


def test_a_long_jsonl_file_is_read_to_its_end(crawl, tmp_path):
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": f"rivi {number}"}) + "\n" for number in range(501)))
    crawl.add(SourceKind.JSONL, str(path))
    crawl.fetch()
    assert len({item.page_id for item in crawl.pages()}) == 501


def test_a_parquet_without_the_named_column_is_a_reason_and_harms_nobody(crawl, tmp_path):
    pq.write_table(pa.table({"body": ["x"]}), tmp_path / "bad.parquet")
    pq.write_table(pa.table({"text": [PLAIN]}), tmp_path / "good.parquet")
    bad = crawl.add(SourceKind.PARQUET, str(tmp_path / "bad.parquet"))
    crawl.add(SourceKind.PARQUET, str(tmp_path / "good.parquet"))
    crawl.run()
    assert len(crawl.documents()) == 1
    assert crawl.row("crawler_sources", source_id=bad).last_error == "no column 'text'; there are body"
    assert [item.reason for item in crawl.drops()] == ["malformed_listing"]
    assert crawl.drops()[0].evidence["detail"] == "no column 'text'; there are body"


@pytest.mark.parametrize("name, content", [
    ("no.jsonl.gz", b"no gzip"), ("cut.jsonl.gz", gzip.compress(json.dumps({"text": PLAIN}).encode() * 9)[:-40]),
    ("no.parquet", b"PAR1" + b"\xff" * 40 + (40).to_bytes(4, "little") + b"PAR1"), ("empty.parquet", b""),
])
def test_a_damaged_file_is_a_reason_and_harms_nobody(crawl, tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    (tmp_path / "good.jsonl").write_text(json.dumps({"text": PLAIN}) + "\n")
    kind = SourceKind.PARQUET if name.endswith("parquet") else SourceKind.JSONL
    bad = crawl.add(kind, str(tmp_path / name))
    crawl.add(SourceKind.JSONL, str(tmp_path / "good.jsonl"))
    crawl.fetch()
    assert crawl.row("crawler_sources", source_id=bad).last_error
    assert sorted(item.failure for item in crawl.pages()) == ["", "malformed_listing"]


def test_rows_that_are_no_unicode_text_are_reasons_and_harm_nobody(crawl, tmp_path):
    rows = [{"text": "puoli \ud800 paria"}, {"text": PLAIN, "url": "https://example.org/\ud800"}]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = crawl.add(SourceKind.JSONL, str(tmp_path / "texts.jsonl"))
    crawl.fetch()
    assert {item.url: item.failure for item in crawl.pages()} == {
        f"{tmp_path}/texts.jsonl#row=0": "malformed_row", f"{tmp_path}/texts.jsonl#row=1": "",
    }
    assert crawl.row("crawler_sources", source_id=source).last_error == "row 0: no Unicode text in 'text'"


@pytest.mark.parametrize("location", [
    "/absent.jsonl", "http://169.254.169.254/x.jsonl", "simplecache::http://169.254.169.254/x.jsonl",
    "webhdfs://169.254.169.254/x.jsonl", "http://[", "s3x://[",
])
def test_a_file_that_cannot_be_read_is_a_reason(crawl, location):
    source = crawl.add(SourceKind.JSONL, location)
    crawl.fetch()
    assert crawl.row("crawler_sources", source_id=source).last_error
    assert location.startswith("/") or crawl.pages()[0].failure == "malformed_listing"
    assert not any(loop.pending() for loop in crawl.app.loops)


@pytest.mark.parametrize("kind", [SourceKind.JSONL, SourceKind.PARQUET])
@pytest.mark.parametrize(("error", "said", "again_ms"), [
    (EndpointConnectionError(endpoint_url="http://store.example"), "EndpointConnectionError", 60_000),
    (ClientError({"Error": {"Code": "SlowDown"}}, "GetObject"), "SlowDown", 60_000),
    (aiohttp.ClientPayloadError("cut short"), "cut short", 60_000),
    (TimeoutError("no answer"), "no answer", 60_000),
    (ClientError({"Error": {"Code": "NoSuchKey"}}, "GetObject"), "no file", None),
    (aiohttp.ClientResponseError(None, (), status=404), "no file", None),
])
def test_an_object_store_s_error_is_a_reason_and_harms_nobody(
    crawl, tmp_path, monkeypatch, kind, error, said, again_ms
):
    fail_with(error, monkeypatch)
    (tmp_path / "good.jsonl").write_text(json.dumps({"text": PLAIN}) + "\n")
    bad = crawl.add(kind, "s3://bucket/texts")
    crawl.add(SourceKind.JSONL, str(tmp_path / "good.jsonl"))
    crawl.fetch()
    row = crawl.row("crawler_sources", source_id=bad)
    assert said in row.last_error
    assert row.due_time_ms == (crawl.clock.now_ms + again_ms if again_ms else -1)
    assert sorted(item.failure for item in crawl.pages()) == ["", "malformed_listing"]


@pytest.fixture
def hub(site, monkeypatch) -> Iterator[Site]:
    """The Hugging Face hub is on loopback; it has one file, rows.jsonl of owner/name."""
    def sent(request: web.Request) -> web.Response:
        wanted = request.http_range
        return web.Response(body=body[wanted.start or 0:wanted.stop], status=206 if wanted.stop else 200)

    body = "".join(json.dumps({"text": f"{PLAIN} {number}"}) + "\n" for number in range(3)).encode()
    about = {"type": "file", "path": "rows.jsonl", "size": len(body), "oid": "0" * 40}
    site.answers |= {
        "/api/datasets/owner/name": response(text=json.dumps({"id": "owner/name", "sha": "0" * 40}),
                                             content_type="application/json"),
        "/api/datasets/owner/name/tree/main": response(text=json.dumps([about]), content_type="application/json"),
        "/datasets/owner/name/resolve/main/rows.jsonl": sent,
    }
    site.answers["/api/datasets/owner/name/revision/main"] = site.answers["/api/datasets/owner/name"]
    monkeypatch.setitem(fsspec.config.conf, "hf", {"endpoint": site.url("")})
    huggingface_hub.HfFileSystem.clear_instance_cache()
    yield site
    huggingface_hub.HfFileSystem.clear_instance_cache()


def test_a_file_of_the_hub_is_read(crawl, hub):
    source = crawl.add(SourceKind.JSONL, "hf://datasets/owner/name/rows.jsonl")
    crawl.fetch()
    row = crawl.row("crawler_sources", source_id=source)
    assert (row.last_error, row.rows_done) == ("", 3)
    assert sorted(item.url for item in crawl.pages()) == [
        f"hf://datasets/owner/name/rows.jsonl#row={number}" for number in range(3)
    ]


def test_a_hub_that_does_not_answer_is_asked_again_and_harms_nobody(crawl, hub, tmp_path, monkeypatch):
    monkeypatch.setitem(fsspec.config.conf, "hf", {"endpoint": "http://127.0.0.1:9"})
    source = crawl.add(SourceKind.JSONL, "hf://datasets/owner/name/rows.jsonl")
    crawl.fetch()
    row = crawl.row("crawler_sources", source_id=source)
    assert "Connection refused" in row.last_error
    assert row.due_time_ms == crawl.clock.now_ms + 60_000


def test_an_error_of_our_own_is_no_store_s_error(crawl, monkeypatch):
    fail_with(RuntimeError("a bug"), monkeypatch)
    crawl.add(SourceKind.JSONL, "s3://bucket/texts")
    with pytest.raises(RuntimeError, match="a bug"):
        crawl.fetch()
