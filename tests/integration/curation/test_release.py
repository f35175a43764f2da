"""Releases: what is published, its files, that they are the same again, and that nothing is half-published."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import builders
from curation_house import EVALUATOR, GENERATOR, House, published_ids, releases
from xinstruct.curation import card, export, folder, tables
from xinstruct.curation.card import _sources, licence_of
from xinstruct.curation.config import CurationSettings, DiversifySettings
from xinstruct.spine import registry
from xinstruct.spine.blobs import digest_of
from xinstruct.spine.errors import Conflict, Invalid, NotFound
from xinstruct.spine.messages import AdmittedDocument, LabelReading
from xinstruct.spine.sql import transaction
from xinstruct.spine.topics import DOCUMENT_ADMITTED, PAIR_DRAFTED, PAIR_SCORED, RELEASE_PUBLISHED
from xinstruct.training import slots

GOLDEN = Path(__file__).parents[2] / "golden"
"""Its manifest was published before cards said how P(best) was read and what reviewers left out."""


def files(location: str) -> dict[str, bytes]:
    root = Path(location)
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def stocked(house: House) -> House:
    """A house with two languages worth publishing."""
    house.promote()
    house.publishable(30)
    house.publishable(20, language="ur")
    house.publishable(5, first=100, p_best=0.3)
    return house


def test_the_same_request_twice_at_once_is_one_whole_release(stocked: House) -> None:
    with ThreadPoolExecutor(3) as callers:
        answers = [callers.submit(releases(stocked).publish, "r1") for _ in range(3)]
    made = {answer.result() for answer in answers}
    assert len(made) == 1
    release = made.pop()
    assert folder.problems(release.location, release.manifest_digest)[0] == []


def test_a_release_holds_what_selection_keeps(stocked: House) -> None:
    release = releases(stocked).publish("r1")
    assert (release.pairs_count, release.generator_digest, release.evaluator_digest) == (50, GENERATOR, EVALUATOR)
    assert set(files(release.location)) == {
        "README.md", "manifest.json", "data/sw/train-00000-of-00001.parquet", "data/ur/train-00000-of-00001.parquet",
    }
    assert published_ids(release.location) == [f"pair-sw{i:04d}" for i in range(30)]
    row = next(folder.read_rows(release.location, "ur"))
    assert row["evaluator"] == EVALUATOR and row["host"] == builders.HOST and row["licence"] == "CC-BY-4.0"
    assert row["fetch_time"].timestamp() * 1000 == builders.NOW_MS
    assert list(row) == [
        "id", "instruction", "response", "language", "language_script", "url", "host", "fetch_time", "licence",
        "document_id", "cluster", "p_best", "generator", "evaluator",
    ]


def test_a_manifest_names_the_encoder_that_embedded_and_not_one_that_is_promoted_only(stocked: House) -> None:
    registry.register(stocked.database, registry.Model(builders.digest("9"), "encoder", "models/encoder"))
    registry.promote(stocked.database, "encoder", builders.digest("9"), now_ms=1)
    _, manifest = folder.read_manifest(releases(stocked).publish("r1").location)
    assert manifest["recipe"]["encoder_model"] == "ngram-384-v1"


def test_the_name_is_the_date_and_a_counter(stocked: House) -> None:
    names = [releases(stocked).publish(request).name for request in ("r1", "r2")]
    assert names == ["2026-09-21.1", "2026-09-21.2"]


def test_a_repeated_request_is_the_same_release(stocked: House) -> None:
    first = releases(stocked).publish("r1", "mine")
    stocked.publishable(5, first=50)
    assert releases(stocked).publish("r1") == first
    assert len(releases(stocked).newest_first()) == 1


def test_a_name_is_taken_once(stocked: House) -> None:
    releases(stocked).publish("r1", "mine")
    with pytest.raises(Conflict, match="'mine' already"):
        releases(stocked).publish("r2", "mine")


@pytest.mark.parametrize("name", ["../up", ".hidden", "a/b", "x" * 81])
def test_a_name_cannot_leave_the_folder(stocked: House, name: str) -> None:
    with pytest.raises(Invalid, match="letters, digits"):
        releases(stocked).publish("r1", name)


def test_a_release_is_announced_in_the_log_once(stocked: House) -> None:
    release = releases(stocked).publish("r1")
    stocked.settle()
    records = list(stocked.log.read(RELEASE_PUBLISHED, {}))
    assert [record.id for record in records] == [release.name]
    assert stocked.rows(tables.RELEASES)[0]["log_offset"] >= 0


def test_without_a_promoted_evaluator_nothing_is_published(house: House) -> None:
    house.publishable(3)
    with pytest.raises(Conflict, match="no evaluator is promoted"):
        releases(house).publish("r1")


def test_an_evaluator_that_has_not_caught_up_refuses_the_release(stocked: House) -> None:
    stocked.write(PAIR_DRAFTED, builders.pair(pair_id="unscored", document_id="document-sw0000"))
    (place,) = [r for r in stocked.log.read(PAIR_DRAFTED, {}) if r.key == "unscored"]
    slots.assign(stocked.database, EVALUATOR, json.dumps({str(place.partition): place.offset + 1}))
    with pytest.raises(Conflict, match="1 pairs wait"):
        releases(stocked).publish("r1")


def test_nothing_kept_is_nothing_published(house: House) -> None:
    house.promote()
    house.publishable(3, p_best=0.2)
    with pytest.raises(Conflict, match=r"keeps no pair; .*xinstruct dlq list"):
        releases(house).publish("r1")
    assert not (house.home / "releases").exists()


def test_a_pair_without_its_document_is_not_published(stocked: House) -> None:
    stocked.bury(DOCUMENT_ADMITTED, "document-sw0003")
    assert "pair-sw0003" not in published_ids(releases(stocked).publish("r1").location)


def test_pairs_of_an_older_generator_stay_out(stocked: House) -> None:
    other = builders.digest("8")
    stocked.write(PAIR_DRAFTED, builders.pair(pair_id="other", document_id="document-sw0000", generator_digest=other))
    stocked.write(PAIR_SCORED, builders.score(score_id="other", pair_id="other", p_best=0.99, p_reasonable=0.01))
    location = releases(stocked).publish("r1").location
    assert "other" not in published_ids(location) and "pair-sw0000" in published_ids(location)


def test_the_first_draft_of_a_new_generator_does_not_empty_the_release(stocked: House) -> None:
    newer = builders.digest("8")
    stocked.promote(generator=newer)
    for number in range(28):
        name = f"newer-{number}"
        stocked.write(PAIR_DRAFTED, builders.pair(
            pair_id=name, document_id=f"document-sw{number:04d}", generator_digest=newer, instruction=f"About {name}."))
        stocked.write(PAIR_SCORED, builders.score(score_id=name, pair_id=name, document_id=f"document-sw{number:04d}"))
        if number in (0, 27):
            stocked.settle()
            release = releases(stocked).publish(f"r{number}")
            wanted = (GENERATOR, 50) if number == 0 else (newer, 28)
            assert (release.generator_digest, release.pairs_count) == wanted


def test_of_mirrored_documents_one_is_published_and_the_other_is_explained(stocked: House) -> None:
    (twin,) = [row for row in _project(stocked) if row["document_id"] == "document-sw0000"]
    document = tables.payload_of(AdmittedDocument, twin)
    stocked.write(DOCUMENT_ADMITTED, replace(document, document_id="twin", page_id="twin-page"))
    stocked.write(PAIR_DRAFTED, builders.pair(
        pair_id="twin-pair", document_id="twin", instruction="Something else.", generator_digest=GENERATOR))
    stocked.write(PAIR_SCORED, builders.score(score_id="twin", pair_id="twin-pair", document_id="twin"))
    location = releases(stocked).publish("r1").location
    assert "twin-pair" not in published_ids(location) and "pair-sw0000" in published_ids(location)
    (row,) = [row for row in stocked.rows(tables.RELEASE_ROWS) if row["pair_id"] == "twin-pair"]
    assert (row["outcome"], row["detail"]) == ("duplicate", "pair-sw0000")


def _project(house: House) -> list[dict[str, Any]]:
    house.settle()
    return house.rows(tables.DOCUMENTS)


def test_a_rebuild_writes_the_same_bytes(stocked: House) -> None:
    release = releases(stocked).publish("r1")
    original = files(release.location)
    stocked.publishable(10, first=200)
    stocked.settle()
    folder.remove(release.location)
    stocked.clock.now_ms += 86_400_000
    releases(stocked).rebuild(release.name)
    assert files(release.location) == original
    copy = str(stocked.home / "copy")
    releases(stocked).rebuild(release.name, copy)
    assert files(copy) == original


def test_a_rebuild_of_what_the_catalog_has_lost_is_refused(stocked: House) -> None:
    release = releases(stocked).publish("r1")
    stocked.bury(DOCUMENT_ADMITTED, "document-sw0003")
    stocked.settle()
    with pytest.raises(Conflict, match=r"1 of 50 rows of .*pair-sw0003"):
        releases(stocked).rebuild(release.name, str(stocked.home / "copy"))
    assert not (stocked.home / "copy").exists()


def test_two_catalogs_of_one_log_publish_the_same_rows(stocked: House) -> None:
    first = releases(stocked).publish("r1", "same")
    before = list(folder.read_rows(first.location, "sw"))
    folder.remove(first.location)
    with transaction(stocked.database) as connection:
        for table in tables.METADATA.tables.values():
            if table not in (registry.MODELS, registry.PROMOTIONS):
                connection.execute(table.delete())
    again = releases(stocked).publish("r1", "same")
    assert list(folder.read_rows(again.location, "sw")) == before and again.pairs_count == first.pairs_count


def test_rows_known_only_from_the_log_are_read_from_the_files(stocked: House) -> None:
    release = releases(stocked).publish("r1")
    stocked.settle()
    with transaction(stocked.database) as connection:
        connection.execute(tables.RELEASE_ROWS.delete())
    stocked.settle()
    assert len(stocked.rows(tables.RELEASE_ROWS)) == release.pairs_count


def test_verification_finds_every_kind_of_damage(stocked: House) -> None:
    release = releases(stocked).publish("r1")
    assert folder.problems(release.location, release.manifest_digest) == ([], 4)
    root = Path(release.location)
    (root / "README.md").write_text("other")
    (root / "data/ur/train-00000-of-00001.parquet").unlink()
    (root / "data/sw/train-00000-of-00001.parquet").write_bytes(b"no parquet")
    (root / "extra.txt").write_text("x")
    (root / "manifest.json").write_text((root / "manifest.json").read_text() + " ")
    found = "\n".join(folder.problems(release.location, release.manifest_digest)[0])
    for sentence in (
        "README.md has other content", "data/ur/train-00000-of-00001.parquet is missing", "cannot be read",
        "extra.txt does not belong", "manifest.json is not the one",
    ):
        assert sentence in found


def test_a_release_that_is_not_there_is_said_so(house: House) -> None:
    with pytest.raises(NotFound, match="no release 'x'"):
        releases(house).get("x")
    with pytest.raises(NotFound, match=r"manifest\.json is not there"):
        folder.read_manifest(str(house.home / "nowhere"))


def test_the_difference_of_two_releases_names_rows(stocked: House) -> None:
    older = releases(stocked).publish("r1")
    stocked.bury(DOCUMENT_ADMITTED, "document-sw0003")
    stocked.publishable(1, first=40)
    newer = releases(stocked).publish("r2")
    sw, ur = export.compare(newer.location, older.location)
    assert (sw.added_ids, sw.removed_ids, ur.added_ids, ur.removed_ids) == (("pair-sw0040",), ("pair-sw0003",), (), ())
    assert sw.same_count + len(sw.changed_ids) == 29


def exported(house: House, export_format: str, language: str = "") -> bytes:
    release = releases(house).publish("r1")
    return b"".join(export.export_rows(release.location, export_format, language=language))


def test_every_format_holds_every_row(stocked: House) -> None:
    lines = [json.loads(line) for line in exported(stocked, "jsonl").splitlines()]
    assert len(lines) == 50 and lines[0]["fetch_time"].endswith("+00:00")
    array = json.loads(exported(stocked, "alpaca"))
    assert len(array) == 50 and array[0]["output"] == lines[0]["response"] and array[0]["input"] == ""
    talks = [json.loads(line) for line in exported(stocked, "sharegpt", "ur").splitlines()]
    assert len(talks) == 20 and [turn["from"] for turn in talks[0]["conversations"]] == ["human", "gpt"]
    chats = [json.loads(line) for line in exported(stocked, "chat").splitlines()]
    assert [turn["role"] for turn in chats[0]["messages"]] == ["user", "assistant"]


def test_an_unknown_format_or_language_is_refused(stocked: House) -> None:
    with pytest.raises(Invalid, match="one of jsonl, alpaca"):
        exported(stocked, "xml")
    with pytest.raises(NotFound, match="no rows in 'fi'"):
        exported(stocked, "jsonl", "fi")


def test_the_card_says_what_the_rows_say(stocked: House) -> None:
    stocked.publishable(1, language="ta", host="other.example")
    text = (Path(releases(stocked).publish("r1").location) / "README.md").read_text()
    for words in (
        "license: cc-by-4.0", '- config_name: "sw"', "**Not reviewed by speakers**: sw, ta, ur.",
        "**Not screened for safety**", f"- {builders.HOST} (50)", "- other.example (1)",
        "| ta | Tamil | 1 | 1 | 1 | 0 |",
        "no contact was configured",
    ):
        assert words in text


def test_manifest_and_card_say_how_p_best_was_read(stocked: House) -> None:
    for number in range(3):
        stocked.write(PAIR_SCORED, builders.score(
            score_id=f"score-sw000{number}", pair_id=f"pair-sw000{number}", document_id=f"document-sw000{number}",
            reading=LabelReading.VOTE, votes_count=5))
    location = releases(stocked).publish("r1").location
    assert folder.read_manifest(location)[1]["readings"] == {"log_probability": 47, "vote": 3}
    text = (Path(location) / "README.md").read_text()
    assert "the evaluator's share for its best\nlabel (see below)" in text
    assert "- `p_best` is the label's probability (47 rows); a vote: the share of sampled answers" in text


def test_the_card_of_an_older_release_stays_as_it_was_published() -> None:
    manifest = json.loads((GOLDEN / "release-manifest.json").read_bytes())
    assert digest_of(card.render(manifest).encode()) == manifest["files"]["README.md"]["digest"]


def test_the_card_licence_is_other_when_rows_differ() -> None:
    assert licence_of({"CC-BY-4.0": 3}) == "cc-by-4.0"
    assert licence_of({"CC-BY-4.0": 3, "": 1}) == "other"
    assert licence_of({"": 4}) == "other" and licence_of({}) == "other"
    assert licence_of({"https://example.org/licence": 1}) == "other"
    assert licence_of({"LICENSE.txt": 1}) == "other"


@pytest.mark.parametrize(
    ("named", "hub"),
    [
        ("https://creativecommons.org/licenses/by-sa/4.0/", "cc-by-sa-4.0"),
        ("http://creativecommons.org/licenses/by/3.0/deed.fi", "cc-by-3.0"),
        ("https://creativecommons.org/publicdomain/zero/1.0/", "cc0-1.0"),
        ("https://creativecommons.org/licenses/by/9.9/", "other"),
        ("https://creativecommons.org.example/licenses/by/4.0/", "other"),
    ],
)
def test_the_card_reads_links_to_creative_commons(named: str, hub: str) -> None:
    assert licence_of({named: 2}) == hub


def test_a_licence_in_the_card_is_no_markdown_and_no_html() -> None:
    manifest = {"hosts": {"a.example": 1}, "licences": {"x\n\n## Removal\n\n<img src=y> `z`": 1}}
    lines = _sources(manifest).split("\n")
    assert lines[-1] == "- `x ## Removal <img src=y> 'z'` (1)"


def test_the_manifest_is_the_root_of_trust(stocked: House) -> None:
    release = releases(stocked).publish("r1")
    content, described = folder.read_manifest(release.location)
    assert digest_of(content) == release.manifest_digest
    assert described["recipe"]["best_thresholds"] == {"sw": 0.5, "ur": 0.5}
    assert described["funnel"] == {"sw": {"published": 30, "not_best": 5}, "ur": {"published": 20}}
    assert described["lineage"]["offsets"]["pair-drafted-v1"]
    for name, facts in described["files"].items():
        assert digest_of((Path(release.location) / name).read_bytes()) == facts["digest"]


def test_datasets_reads_it(stocked: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    location = releases(stocked).publish("r1").location
    cache = str(stocked.home / "cache")
    everything = datasets.load_dataset(location, split="train", cache_dir=cache)
    assert len(everything) == 50
    urdu = datasets.load_dataset(location, "ur", split="train", cache_dir=cache)
    assert set(urdu["language"]) == {"ur"} and len(urdu) == 20


def test_thresholds_per_language_are_obeyed(tmp_path: Path) -> None:
    house = House(tmp_path, CurationSettings(best_thresholds={"ur": 0.95}))
    house.promote()
    house.publishable(3)
    house.publishable(3, language="ur")
    assert releases(house).publish("r1").pairs_count == 3
    house.close()


def test_a_limit_a_language_is_exact(tmp_path: Path) -> None:
    house = House(tmp_path, CurationSettings(diversify=DiversifySettings(rows_per_language_max=7)))
    house.promote()
    house.publishable(40)
    assert releases(house).publish("r1").pairs_count == 7
    outcomes = [row["outcome"] for row in house.rows(tables.RELEASE_ROWS)]
    assert outcomes.count("published") == 7 and len(outcomes) == 40
    house.close()


def test_equal_rows_give_equal_bytes_in_another_process(stocked: House) -> None:
    location = releases(stocked).publish("r1").location
    path = Path(location) / folder.data_path("sw")
    code = (
        "import sys; from pathlib import Path; from xinstruct.curation import parquet;"
        "rows = list(parquet.read_rows(Path(sys.argv[1])));"
        "parquet.write_rows(Path(sys.argv[2]), list(reversed(rows)))"
    )
    copy = stocked.home / "copy.parquet"
    subprocess.run([sys.executable, "-c", code, str(path), str(copy)], check=True)
    assert copy.read_bytes() == path.read_bytes()
    assert pq.ParquetFile(copy).metadata.num_rows == 30
