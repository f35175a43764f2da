"""Within a minor version the SQL schema only grows: whoever has the code before can go on with the database."""

from __future__ import annotations

import ast
import re
from itertools import pairwise

import pytest

from architecture.source import CODE
from xinstruct.spine.migrations import MINOR, minor_of

FILES = sorted((CODE / "spine" / "migrations" / "versions").glob("[0-9]*.py"))
WITHOUT_MINOR = ("0001", "0002", "0003", "0004", "0005", "0006")
"""Ids from before they said which minor version they came with; databases hold them."""
HARMLESS = ("op.create_table", "op.create_index", "op.add_column", "op.execute", "op.f")
FILLS = re.compile(r"UPDATE (?P<table>\w+) SET (?P<column>\w+) = ")


def test_revisions_after_the_first_only_add_unless_they_begin_a_minor_version() -> None:
    wrong = []
    for before, path in pairwise(FILES):
        if minor_of(revision(path.read_text("utf-8"))) == minor_of(revision(before.read_text("utf-8"))):
            wrong += [f"{path.name}: {fault}" for fault in faults(path.read_text("utf-8"))]
    assert not wrong, "\n".join(wrong)


def test_a_revision_says_the_minor_version_that_it_came_with() -> None:
    ids = [revision(path.read_text("utf-8")) for path in FILES]
    assert tuple(ids[: len(WITHOUT_MINOR)]) == WITHOUT_MINOR
    assert not [item for item in ids[len(WITHOUT_MINOR) :] if not re.fullmatch(r"\d{4}_of_\d+\.\d+", item)]
    minors = [tuple(map(int, minor_of(item).split("."))) for item in [*ids, f"_of_{MINOR}"]]
    assert minors == sorted(minors)


@pytest.mark.parametrize(("statement", "wrong"), [
    ("op.add_column('pages', sa.Column('x', sa.Text()))", False),
    ("op.add_column('pages', sa.Column('x', sa.Text(), nullable=True))", False),
    ("op.add_column('pages', sa.Column('x', sa.Text(), server_default='', nullable=False))", False),
    ("op.add_column('pages', sa.Column('x', sa.Text(), nullable=False))", True),
    ("op.add_column('pages', sa.Column('x', sa.Text(), sa.ForeignKey('models.name')))", True),
    ("op.create_table('new', sa.Column('x', sa.Text(), nullable=False))", False),
    ("op.create_table('new', sa.ForeignKeyConstraint(['x'], ['pages.page_id']))", True),
    ("op.create_index(op.f('ix_pages_x'), 'pages', ['x'], unique=False)", False),
    ("op.create_index('ix_pages_x', 'pages', ['x'], unique=True)", True),
    ("op.execute('UPDATE pages SET url = NULL')", True),
    ("op.execute('DROP TABLE pages')", True),
    ("op.drop_column('pages', 'url')", True),
    ("op.drop_index('ix_pages_url')", True),
    ("op.alter_column('pages', 'url', nullable=False)", True),
    ("op.rename_table('pages', 'sheets')", True),
    ("op.create_unique_constraint('uq', 'pages', ['url'])", True),
    ("op.get_bind().execute(sa.text('DROP TABLE pages'))", True),
])
def test_what_older_code_cannot_bear_is_found(statement: str, wrong: bool) -> None:
    assert bool(faults(f"def upgrade() -> None:\n    {statement}\n")) is wrong


def faults(source: str) -> list[str]:
    """What a revision does that code without it cannot bear."""
    (upgrade,) = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    calls = [node for node in ast.walk(upgrade) if isinstance(node, ast.Call)]
    added = {
        (ast.literal_eval(call.args[0]), ast.literal_eval(column.args[0]))
        for call in calls if ast.unparse(call.func) == "op.add_column" and isinstance(column := call.args[1], ast.Call)
    }
    return [fault for call in calls if (fault := _fault(call, added))]


def _fault(call: ast.Call, added: set[tuple[str, str]]) -> str:
    name, text = ast.unparse(call.func), ast.unparse(call)
    if name.startswith("sa.") and name != "sa.text":
        return f"{text}: refuses what older code deletes" if "ForeignKey" in name else ""
    if name not in HARMLESS:
        return f"{text}: does not only add"
    if name == "op.create_index" and _keyword(call, "unique") is True:
        return f"{text}: refuses rows that older code writes"
    if name == "op.add_column":
        (column,) = [item for item in call.args if isinstance(item, ast.Call)]
        if _keyword(column, "nullable") is False and not any(item.arg == "server_default" for item in column.keywords):
            return f"{text}: older code gives it no value"
    if name == "op.execute":
        filled = FILLS.match(str(ast.literal_eval(call.args[0])))
        if not filled or (filled["table"], filled["column"]) not in added:
            return f"{text}: only a column that is added here may be filled"
    return ""


def _keyword(call: ast.Call, name: str) -> object:
    """The value of a keyword, if it is written out."""
    return next((ast.literal_eval(item.value) for item in call.keywords if item.arg == name), None)


def revision(source: str) -> str:
    """The id that a revision's file gives itself."""
    (found,) = re.findall(r"^revision = ['\"](.+)['\"]$", source, re.MULTILINE)
    return str(found)
