"""Transactions, upserts and the registry mean the same on SQLite and PostgreSQL."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
import sqlalchemy as sa

from xinstruct.spine import registry
from xinstruct.spine.errors import Conflict, Invalid, NotFound, Unavailable
from xinstruct.spine.registry import Model
from xinstruct.spine.sql import IN_VALUES_MAX, chunks, create_schema, insert_new, transaction, upsert
from xinstruct.training import slots

TABLE = sa.Table(
    "contract", sa.MetaData(), sa.Column("id", sa.Text, primary_key=True), sa.Column("value", sa.Text),
    sa.Column("source_offset", sa.BigInteger),
)
FIRST, SECOND = "sha256:" + "ab" * 32, "sha256:" + "ac" * 32


@pytest.fixture
def table(engine: sa.Engine) -> sa.Engine:
    TABLE.create(engine)
    return engine


def put(engine: sa.Engine, value: str, offset: int, *, only_if_newer: str | None = None) -> None:
    with transaction(engine) as connection:
        row = {"id": "a", "value": value, "source_offset": offset}
        upsert(connection, TABLE, [row], key=("id",), only_if_newer=only_if_newer)


def rows(engine: sa.Engine) -> list[tuple[str, str, int]]:
    with transaction(engine) as connection:
        return [tuple(row) for row in connection.execute(sa.select(TABLE).order_by(TABLE.c.id))]


def test_an_upsert_replaces_the_row_of_its_key(table: sa.Engine) -> None:
    put(table, "old", 5)
    put(table, "new", 3)
    assert rows(table) == [("a", "new", 3)]


def test_an_upsert_that_must_be_newer_leaves_a_newer_row(table: sa.Engine) -> None:
    put(table, "newer", 5, only_if_newer="source_offset")
    put(table, "older", 3, only_if_newer="source_offset")
    put(table, "same", 5, only_if_newer="source_offset")
    assert rows(table) == [("a", "newer", 5)]
    put(table, "newest", 6, only_if_newer="source_offset")
    assert rows(table) == [("a", "newest", 6)]


def test_inserting_what_is_there_changes_nothing(table: sa.Engine) -> None:
    put(table, "first", 1)
    with transaction(table) as connection:
        insert_new(connection, TABLE, [{"id": "a", "value": "x", "source_offset": 9},
                                       {"id": "b", "value": "y", "source_offset": 2}], key=("id",))
    assert rows(table) == [("a", "first", 1), ("b", "y", 2)]


def test_parts_of_many_values_find_every_row_once(table: sa.Engine) -> None:
    names = [f"{number:05}" for number in range(2 * IN_VALUES_MAX + 1)]
    with transaction(table) as connection:
        insert_new(connection, TABLE, [{"id": name, "value": "", "source_offset": 0} for name in names], key=("id",))
        found = [
            list(connection.execute(sa.select(TABLE.c.id).where(TABLE.c.id.in_(part)).order_by(TABLE.c.id)).scalars())
            for part in chunks([*reversed(names), *names])
        ]
    assert [len(part) for part in found] == [IN_VALUES_MAX, IN_VALUES_MAX, 1]
    assert [name for part in found for name in part] == names
    assert list(chunks([])) == []


def test_no_rows_are_no_statement(table: sa.Engine) -> None:
    with transaction(table) as connection:
        upsert(connection, TABLE, [], key=("id",))
        insert_new(connection, TABLE, [], key=("id",))
    assert rows(table) == []


def test_a_block_that_raises_leaves_nothing(table: sa.Engine) -> None:
    with pytest.raises(ZeroDivisionError), transaction(table) as connection:
        connection.execute(sa.insert(TABLE), [{"id": "a", "value": "x", "source_offset": 1}])
        raise ZeroDivisionError
    assert rows(table) == []


def test_two_writers_of_one_row_wait_for_each_other(table: sa.Engine) -> None:
    put(table, "0", 0)

    def add() -> None:
        for _ in range(20):
            with transaction(table) as connection:
                connection.execute(sa.update(TABLE).values(source_offset=TABLE.c.source_offset + 1))

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert rows(table) == [("a", "0", 80)]


def test_two_that_insert_one_key_at_once_are_told_to_try_again(table: sa.Engine) -> None:
    if table.dialect.name == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    with pytest.raises(Unavailable, match="same row"), transaction(table) as late:
        assert late.execute(sa.select(TABLE)).all() == []
        put(table, "faster", 1)
        late.execute(sa.insert(TABLE), [{"id": "a", "value": "slower", "source_offset": 2}])
    assert rows(table) == [("a", "faster", 1)]


def test_a_database_that_became_a_standby_is_waited_for(table: sa.Engine) -> None:
    if table.dialect.name == "sqlite":
        pytest.skip("SQLite has no standby")
    with pytest.raises(Unavailable, match="read-only transaction"), transaction(table) as connection:
        connection.exec_driver_sql("SET TRANSACTION READ ONLY")  # what every transaction on a standby is
        connection.execute(sa.insert(TABLE), [{"id": "a", "value": "x", "source_offset": 1}])
    put(table, "x", 1)
    assert rows(table) == [("a", "x", 1)]


def test_a_database_that_ends_a_transaction_which_stood_still_is_asked_again(table: sa.Engine) -> None:
    if table.dialect.name == "sqlite":
        pytest.skip("SQLite ends no transaction of its own accord")
    with pytest.raises(Unavailable, match="the database"), transaction(table) as connection:
        connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 50")
        with transaction(table) as other:
            other.exec_driver_sql("SELECT pg_sleep(0.3)")
        connection.execute(sa.insert(TABLE), [{"id": "a", "value": "x", "source_offset": 1}])
    put(table, "x", 1)
    assert rows(table) == [("a", "x", 1)]


def test_a_text_with_a_nul_is_stored(table: sa.Engine) -> None:
    put(table, "a\0b", 1)
    assert rows(table)[0][1].replace("\ufffd", "\0") == "a\0b"


@pytest.fixture
def models(engine: sa.Engine) -> sa.Engine:
    create_schema(engine)
    for digest in (FIRST, SECOND):
        for role in ("generator", "evaluator"):
            registry.register(engine, Model(digest, role, f"/models/{digest}", create_time_ms=int(digest[8], 16)))
    return engine


def test_a_role_has_no_model_before_the_first_promotion(models: sa.Engine) -> None:
    assert registry.promoted(models, "generator") is None


def test_a_promotion_replaces_the_one_before_and_touches_no_other_role(models: sa.Engine) -> None:
    registry.promote(models, "generator", FIRST, now_ms=1)
    registry.promote(models, "generator", SECOND, now_ms=2)
    current = registry.promoted(models, "generator")
    assert current is not None and current.model_digest == SECOND
    assert registry.promoted(models, "evaluator") is None


def test_a_model_is_found_by_enough_of_its_digest(models: sa.Engine) -> None:
    assert registry.get(models, "generator", FIRST).model_digest == FIRST
    assert registry.get(models, "generator", "ab" * 4).model_digest == FIRST
    with pytest.raises(Invalid, match="more digits"):
        registry.get(models, "generator", "a")
    with pytest.raises(NotFound, match="models list"):
        registry.get(models, "generator", "ff" * 8)
    with pytest.raises(NotFound):
        registry.promote(models, "generator", "ff" * 8, now_ms=1)


def test_registering_a_model_again_changes_only_where_it_lies(models: sa.Engine) -> None:
    trained = Model("sha256:" + "0" * 64, "evaluator", "/here", "sha256:b", "apache-2.0", "evaluator-0", 3, 50, "{}")
    assert registry.register(models, trained) == trained
    by_hand = Model(trained.model_digest, "evaluator", "/moved", licence="mit", create_time_ms=99)
    by_a_job = replace(by_hand, base_digest="sha256:c", job_name="another", round=4, calibration="[]")
    moved = replace(trained, location="/moved")
    for again in (by_hand, by_a_job):
        assert registry.register(models, again) == registry.get(models, "evaluator", trained.model_digest) == moved
    assert len(registry.models(models, "evaluator")) == 3


def test_what_was_not_known_of_a_model_is_taken_when_it_is_registered_again(models: sa.Engine) -> None:
    told = Model(FIRST, "generator", "/m", "sha256:b", "apache-2.0", "generator-0", 3, 50, "{}")
    known = replace(told, create_time_ms=11)  # when it was registered first
    assert registry.register(models, told) == registry.get(models, "generator", FIRST) == known


def test_models_are_listed_newest_first(models: sa.Engine) -> None:
    registry.register(models, Model("sha256:" + "0" * 64, "generator", "/m", create_time_ms=99))
    assert registry.models(models, "generator")[0].create_time_ms == 99


def test_two_evaluators_have_two_slots_and_a_third_has_none(models: sa.Engine) -> None:
    assert slots.assign(models, FIRST, "{}") == "a"
    assert slots.assign(models, SECOND, "{}") == "b"
    assert slots.assign(models, FIRST, '{"0": 5}') == "a"
    with pytest.raises(Conflict, match="slots"):
        slots.assign(models, "sha256:" + "0" * 64, "{}")
    slots.rest(models, "a")
    assert set(registry.slots(models)) == {"b"}


def test_an_endpoints_model_needs_no_digest_but_a_folder_does(models: sa.Engine) -> None:
    registry.register(models, Model("endpoint:qwen", "generator", "endpoint:qwen"))
    assert registry.get(models, "generator", "endpoint:qwen").location == "endpoint:qwen"
    with pytest.raises(Invalid, match="digest"):
        registry.register(models, Model("qwen", "generator", "/folder"))
