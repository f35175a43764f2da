"""Which pairs a job trains on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from builders import pair, score, training_request
from xinstruct.spine.blobs import Blobs
from xinstruct.spine.errors import Invalid, NotFound
from xinstruct.spine.log.sqlite import SqliteLog
from xinstruct.spine.messages import DraftedPair
from xinstruct.spine.record import Record
from xinstruct.spine.topics import PAIR_DRAFTED, PAIR_SCORED
from xinstruct.training.snapshot import build_snapshot, is_kept, kept_pairs, read_seeds, seeds_digest

EVALUATOR = "sha256:" + "e" * 64


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SqliteLog]:
    made = SqliteLog(tmp_path / "log.sqlite", clock=lambda: 1)
    yield made
    made.close()


def seeds(folder: Path, *rows: object, name: str = "seeds.jsonl") -> str:
    path = folder / name
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return str(path)


def seed(number: int, language: str = "sw") -> dict[str, str]:
    return {"instruction": f"Describe {number}.", "response": f"Maelezo {number}.", "language": language}


def put(log: SqliteLog, pair_id: str, p_best: float, evaluator: str = EVALUATOR) -> None:
    log.append([pair(pair_id=pair_id, instruction=f"Describe {pair_id}.").record(PAIR_DRAFTED.name)])
    label = score(score_id=f"{evaluator[-1]}{pair_id}", pair_id=pair_id, p_best=p_best, p_reasonable=1 - p_best,
                  p_worst=0.0, evaluator_digest=evaluator)
    log.append([label.record(PAIR_SCORED.name)])


def rows_of(digest: str, blobs: Blobs) -> list[dict[str, str]]:
    return [json.loads(line) for line in blobs.get(digest).decode().splitlines()]


def test_round_zero_is_the_seeds_sorted_by_id(tmp_path: Path, log: SqliteLog) -> None:
    blobs = Blobs(str(tmp_path / "blobs"))
    put(log, "p1", 0.9)
    location = seeds(tmp_path, seed(2), seed(1), "", seed(3))
    rows = rows_of(build_snapshot(training_request(round=0, seeds_location=location, languages=()), log, blobs), blobs)
    assert [row["id"] for row in rows] == sorted(row["id"] for row in rows)
    assert {row["source"] for row in rows} == {"seed"} and len(rows) == 3


def test_the_order_of_the_file_does_not_change_the_snapshot(tmp_path: Path, log: SqliteLog) -> None:
    blobs = Blobs(str(tmp_path / "blobs"))
    locations = (seeds(tmp_path, seed(1), seed(2), name="a.jsonl"), seeds(tmp_path, seed(2), seed(1), name="b.jsonl"))
    requests = [training_request(round=0, languages=(), seeds_location=location) for location in locations]
    digests = {build_snapshot(request, log, blobs) for request in requests}
    assert len(digests) == 1


def test_later_rounds_add_what_the_evaluator_kept(tmp_path: Path, log: SqliteLog) -> None:
    put(log, "kept", 0.8)
    put(log, "unkept", 0.3)
    put(log, "other", 0.9, evaluator="sha256:" + "f" * 64)
    assert [row.id for row in kept_pairs(log, EVALUATOR)] == ["kept"]
    request = training_request(
        round=1, evaluator_digest=EVALUATOR, seeds_location=seeds(tmp_path, seed(1)), languages=("sw",))
    blobs = Blobs(str(tmp_path / "blobs"))
    assert {row["source"] for row in rows_of(build_snapshot(request, log, blobs), blobs)} == {"seed", "kept"}


def test_a_pair_that_was_taken_down_is_in_no_later_snapshot(log: SqliteLog) -> None:
    put(log, "gone", 0.9)
    log.append([Record(PAIR_DRAFTED.name, "gone", "gone", None)])
    assert list(kept_pairs(log, EVALUATOR)) == []


def test_only_the_wanted_languages_are_in_it(tmp_path: Path, log: SqliteLog) -> None:
    blobs = Blobs(str(tmp_path / "blobs"))
    location = seeds(tmp_path, seed(1, "sw"), seed(2, "ur"))
    request = training_request(round=0, seeds_location=location, languages=("ur",))
    assert [row["language"] for row in rows_of(build_snapshot(request, log, blobs), blobs)] == ["ur"]


def test_a_snapshot_without_rows_is_refused(tmp_path: Path, log: SqliteLog) -> None:
    request = training_request(round=0, seeds_location=seeds(tmp_path, seed(1)), languages=("fi",))
    with pytest.raises(Invalid, match="no pair in fi"):
        build_snapshot(request, log, Blobs(str(tmp_path / "blobs")))


def test_every_mistake_of_a_seed_file_is_named_with_its_line(tmp_path: Path) -> None:
    location = seeds(tmp_path, seed(1), {"instruction": "x", "response": "y"}, seed(3, "xx"), ["no"])
    with pytest.raises(Invalid) as caught:
        read_seeds(location)
    lines = caught.value.message.splitlines()
    assert [line.split(":")[1] for line in lines] == ["2", "3", "4"]
    assert "language" in lines[0] and "xx" in lines[1]


def test_a_line_that_is_no_json_is_named(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"seeds.jsonl:2: not JSON"):
        read_seeds(seeds(tmp_path, seed(1), "{oops"))


def test_a_seed_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"absent\.jsonl"):
        seeds_digest(str(tmp_path / "absent.jsonl"))


def test_seeds_may_be_parquet(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([seed(1), seed(2)]), tmp_path / "seeds.parquet")
    assert [row.instruction for row in read_seeds(str(tmp_path / "seeds.parquet"))] == ["Describe 1.", "Describe 2."]


def test_a_damaged_parquet_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "seeds.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(Invalid, match="no Parquet file"):
        read_seeds(str(tmp_path / "seeds.parquet"))


@pytest.mark.parametrize(("best", "reasonable", "kept"), [(0.5, 0.5, True), (0.49, 0.3, False), (0.51, 0.49, True)])
def test_a_pair_is_kept_when_best_is_likeliest_and_at_least_half(best: float, reasonable: float, kept: bool) -> None:
    assert is_kept(score(p_best=best, p_reasonable=reasonable, p_worst=1 - best - reasonable)) is kept


def test_only_drafted_pairs_of_the_log_count(log: SqliteLog) -> None:
    label = score(score_id="s", pair_id="unknown", p_best=0.9, evaluator_digest=EVALUATOR)
    log.append([label.record(PAIR_SCORED.name)])
    assert list(kept_pairs(log, EVALUATOR)) == []
    assert DraftedPair.__name__ == PAIR_DRAFTED.payload
