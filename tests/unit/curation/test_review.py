"""Reviewers' files and the agreement of raters."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Collection

import pytest

import builders
from xinstruct.curation.review import cohens_kappa, parse_file, raw_agreement, render_file, summary
from xinstruct.spine.errors import Invalid
from xinstruct.spine.messages import ReviewedPair

ROWS = [
    {"pair_id": "a", "language": "ur", "instruction": "=SUM(A1)", "response": "پہلا جملہ،\nدوسرا “جملہ”۔", "url": "http://x/1"},
    {"pair_id": "b", "language": "ta", "instruction": "Explain, \"well\".", "response": "தமிழ்", "url": "http://x/2"},
]


def everything(ids: Collection[str]) -> Collection[str]:
    return ids


def parse(text: str | bytes, file_format: str = "csv", reviewer: str = "r-1") -> list[ReviewedPair]:
    content = text if isinstance(text, bytes) else text.encode()
    return parse_file(content, file_format, reviewer=reviewer, review_time_ms=7, known=everything)


def mistakes(text: str | bytes, file_format: str = "csv", known: str = "abc") -> list[str]:
    content = text if isinstance(text, bytes) else text.encode()
    with pytest.raises(Invalid) as caught:
        parse_file(content, file_format, reviewer="r-1", review_time_ms=7, known=lambda ids: set(ids) & set(known))
    return caught.value.message.split("\n")


def test_a_csv_goes_out_and_comes_back_in_its_own_script() -> None:
    out = render_file(ROWS, "csv").decode("utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["response"] for row in rows] == [row["response"] for row in ROWS]
    rows[1] |= {"label": "best", "tags": "fluent, dialect"}
    back = io.StringIO()
    writer = csv.DictWriter(back, rows[0].keys())
    writer.writeheader()
    writer.writerows(rows)
    (review,) = parse(back.getvalue())
    assert (review.pair_id, review.reviewer, review.label, review.tags) == ("b", "r-1", "best", ("fluent", "dialect"))


def test_jsonl_goes_out_and_comes_back() -> None:
    lines = [json.loads(line) for line in render_file(ROWS, "jsonl").decode().splitlines()]
    assert [line["instruction"] for line in lines] == [row["instruction"] for row in ROWS]
    lines[0] |= {"label": "worst", "tags": ["boilerplate"]}
    (review,) = parse("\n".join(json.dumps(line) for line in lines), "jsonl")
    assert (review.pair_id, review.label, review.tags) == ("a", "worst", ("boilerplate",))


def test_a_text_that_a_spreadsheet_would_run_is_disarmed() -> None:
    rows = list(csv.DictReader(io.StringIO(render_file(ROWS, "csv").decode("utf-8-sig"))))
    assert rows[0]["instruction"] == "'=SUM(A1)"


def test_a_second_label_of_the_same_reviewer_has_the_same_id() -> None:
    (one,), (two,), (other,) = (parse(f"pair_id,label\na,{label}\n", reviewer=reviewer) for label, reviewer in (
        ("best", "r-1"), ("worst", "r-1"), ("best", "r-2")))
    assert one.review_id == two.review_id != other.review_id


def test_every_mistake_is_named_at_once_with_its_line() -> None:
    text = "pair_id,label,tags\na,good,\nb,best,Not_Lower\n,best,\nz,best,\na,best,\nb,,\n"
    assert mistakes(text) == [
        "line 2: label 'good': one of best, reasonable, worst, or empty",
        "line 3: tag 'Not_Lower': lower-case letters, digits and _",
        "line 4: no pair_id, or one with blanks",
        "line 5: no pair 'z' in the catalog",
        "line 6: pair a stands on line 2 already",
        "line 7: pair b stands on line 3 already",
    ]


def test_a_line_number_counts_line_ends_within_cells() -> None:
    assert mistakes('pair_id,response,label\na,"x\ny\nz",best\nb,x,good\n') == [
        "line 5: label 'good': one of best, reasonable, worst, or empty"
    ]


@pytest.mark.parametrize(
    ("text", "file_format", "expected"),
    [
        ("id,label\na,best\n", "csv", "line 1: no column pair_id"),
        ("pair_id,label\na,best,1,2\n", "csv", "line 2: more cells than columns"),
        ('{"pair_id": "a", "label": "best"}\n{oops\n[1]\n', "jsonl", "line 2: not JSON"),
        ('[1]\n', "jsonl", "line 1: expected an object"),
        ('{"pair_id": "a", "label": "best", "tags": 7}\n', "jsonl", "line 1: tags: words"),
        (b"pair_id,label\na,\xff\n", "csv", "not UTF-8 at byte 16"),
    ],
)
def test_a_malformed_file_is_refused_with_a_reason(text: str | bytes, file_format: str, expected: str) -> None:
    assert mistakes(text, file_format)[0].startswith(expected)


@pytest.mark.parametrize(("content", "file_format", "expected"), [
    (b'{"pair_id": "a"}\n{"pair_id": "\\ud83d", "label": "best"}\n', "jsonl", "line 2: half of a surrogate pair"),
    (b'{"tags": ["\\uDE00x"]}\n', "jsonl", "line 1: half of a surrogate pair"),
    (b"pair_id,label\r\na,best\r\n\xed\xa0\xbd,best\r\n", "csv", "line 3: half of a surrogate pair"),
    (b'{"pair_id": "\xed\xb8\x80"}\n', "jsonl", "line 1: half of a surrogate pair"),
])  # fmt: skip
def test_half_a_surrogate_pair_is_refused_with_its_line_and_never_looked_for(
    content: bytes, file_format: str, expected: str
) -> None:
    def asked(ids: Collection[str]) -> Collection[str]:
        assert ids == {word for word in ids if word.encode()}
        return ids

    with pytest.raises(Invalid) as caught:
        parse_file(content, file_format, reviewer="r-1", review_time_ms=7, known=asked)
    assert caught.value.message.startswith(expected) and "\n" not in caught.value.message


def test_halves_of_surrogate_pairs_are_named_with_every_other_mistake() -> None:
    assert [mistake[:10] for mistake in mistakes(
        b'{"pair_id": "\\ud83d"}\n{"pair_id": "\\ud83d\\ude00"}\nno JSON \\ud83d\n', "jsonl", known="\U0001f600"
    )] == ["line 1: ha", "line 3: no"]


def test_whole_surrogate_pairs_are_characters() -> None:
    whole = '{"pair_id": "\\ud83d\\ude00", "label": "best"}\n'
    assert [review.pair_id for review in parse(whole, "jsonl")] == ["\U0001f600"]
    assert parse(b"pair_id,label\n\\ud83d,best\n\xf0\x9f\x98\x80,worst\n")[0].pair_id == "\\ud83d"
    assert mistakes(b"pair_id,label\n\xff,best\n") == ["not UTF-8 at byte 14: save the file as UTF-8"]


@pytest.mark.parametrize("reviewer", ["Ann Smith", "ann@example.org", "", "x" * 41])
def test_a_reviewer_is_a_pseudonym(reviewer: str) -> None:
    with pytest.raises(Invalid, match="pseudonym"):
        parse("pair_id,label\na,best\n", reviewer=reviewer)


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(Invalid, match="one of csv, jsonl"):
        render_file(ROWS, "xlsx")


def test_kappa_of_a_published_example() -> None:
    # 2×2 table 20, 5, 10, 15: p_o = 0.7, p_e = 0.5, kappa = 0.4 (worked example of the statistic's usual introduction).
    pairs = [("yes", "yes")] * 20 + [("yes", "no")] * 5 + [("no", "yes")] * 10 + [("no", "no")] * 15
    assert raw_agreement(pairs) == pytest.approx(0.7)
    assert cohens_kappa(pairs) == pytest.approx(0.4)


def test_kappa_is_not_defined_where_chance_explains_all() -> None:
    assert cohens_kappa([("best", "best")] * 9) is None
    assert cohens_kappa([]) is None
    assert cohens_kappa([("best", "worst"), ("worst", "best")]) == pytest.approx(-1)


def review(pair_id: str, reviewer: str, label: str) -> ReviewedPair:
    return builders.review(review_id=f"{pair_id}/{reviewer}", pair_id=pair_id, reviewer=reviewer, label=label)


def test_the_summary_counts_per_language_and_names_nobody() -> None:
    reviews = [
        review("a", "ann", "best"), review("a", "ben", "best"), review("b", "ann", "worst"), review("b", "ben", "best"),
        review("c", "ann", "best"), review("elsewhere", "ann", "best"),
    ]
    found = summary(reviews, {"a": "sw", "b": "sw", "c": "ur"})
    assert found == {
        "sw": {
            "rows_reviewed": 2, "reviewers": 2, "labels": {"best": 3, "worst": 1},
            "agreement": [{"rows": 2, "raw": 0.5, "kappa": 0.0}],
        },
        "ur": {"rows_reviewed": 1, "reviewers": 1, "labels": {"best": 1}, "agreement": []},
    }
    assert "ann" not in json.dumps(found)
