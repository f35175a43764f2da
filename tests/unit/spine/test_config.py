"""Configuration files: what is read, and what is said about each mistake."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field

from xinstruct.spine.config import Settings, load, parse
from xinstruct.spine.errors import Invalid


class Endpoint(Settings):
    url: str
    timeout_s: float = Field(default=30.0, gt=0, description="Seconds.")


class Example(Settings):
    languages: tuple[str, ...]
    workers_count: int = Field(default=1, ge=1, le=64, description="Workers.")
    endpoints: dict[str, Endpoint] = Field(default_factory=dict)


def check(text: str, expected: Example) -> None:
    assert parse(text, Example) == expected


def check_mistakes(text: str, *expected: str) -> None:
    """Each expected string is the start of one line of the message, in order, and there is no other line."""
    with pytest.raises(Invalid) as caught:
        parse(text, Example, name="x.yaml")
    lines = caught.value.message.splitlines()
    assert len(lines) == len(expected), lines
    for line, start in zip(lines, expected, strict=True):
        assert line.startswith(start), lines


def test_keys_that_are_absent_take_their_defaults() -> None:
    check("languages: [sw, ur]", Example(languages=("sw", "ur"), workers_count=1))


def test_nested_keys_reach_their_model() -> None:
    check(
        "languages: [fi]\nendpoints:\n  generator:\n    url: http://localhost:8000\n    timeout_s: 5\n",
        Example(languages=("fi",), endpoints={"generator": Endpoint(url="http://localhost:8000", timeout_s=5)}),
    )


def test_every_mistake_is_reported_at_once_with_its_line() -> None:
    check_mistakes(
        "languages: [sw]\n"
        "workers_count: 0\n"
        "colour: blue\n"
        "endpoints:\n"
        "  generator:\n"
        "    url: http://localhost\n"
        "    timeout_s: fast\n",
        "x.yaml:2: workers_count: Input should be greater than or equal to 1, found '0'",
        "x.yaml:7: endpoints.generator.timeout_s: Input should be a valid number",
        "x.yaml:3: colour: no such key; `xinstruct config schema` lists the keys",
    )


def test_a_missing_key_is_named_with_the_line_of_what_lacks_it() -> None:
    check_mistakes(
        "languages: [sw]\nendpoints:\n  judge:\n    timeout_s: 3\n",
        "x.yaml:3: endpoints.judge.url: missing, and it has no default",
    )


def test_a_file_of_the_wrong_shape_is_one_mistake() -> None:
    check_mistakes("- sw\n- ur\n", "x.yaml:1: expected keys and values, found ")


def test_an_empty_file_lacks_what_has_no_default() -> None:
    check_mistakes("", "x.yaml:1: languages: missing, and it has no default")


def test_a_key_that_stands_twice_is_a_mistake() -> None:
    check_mistakes("languages: [sw]\nlanguages: [ur]\n", "x.yaml:2: not YAML:")


def test_text_that_is_no_yaml_names_the_line_that_breaks_it() -> None:
    check_mistakes("languages: [sw]\nendpoints: {a: [\n", "x.yaml:3: not YAML:")


def test_a_tag_that_asks_for_a_python_object_only_marks_plain_values() -> None:
    check("languages: !!python/object/apply:os._exit [sw]\n", Example(languages=("sw",)))


def test_a_list_that_contains_itself_is_invalid() -> None:
    with pytest.raises(Invalid):
        parse("languages: &a [*a]\n", Example)


def test_a_file_that_is_not_there_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="xinstruct init"):
        load(tmp_path / "absent.yaml", Example)


def test_a_file_that_is_no_utf_8_is_invalid(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"languages: [\xe4]\n")

    with pytest.raises(Invalid, match=r"latin\.yaml"):
        load(path, Example)


def test_a_loaded_model_cannot_be_changed() -> None:
    settings = parse("languages: [sw]", Example)

    with pytest.raises(ValueError, match="frozen"):
        settings.workers_count = 2  # type: ignore[misc]
