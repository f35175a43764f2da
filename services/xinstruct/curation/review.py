"""What reviewers read and send back: files out, files in with every mistake named, and how far two raters agree."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

from xinstruct.spine.errors import Invalid, require
from xinstruct.spine.messages import ReviewedPair
from xinstruct.spine.record import slot_id

LABELS = ("best", "reasonable", "worst")
FORMATS = ("csv", "jsonl")
COLUMNS = ("pair_id", "language", "instruction", "response", "url", "label", "tags")
FILE_BYTES_MAX = 15 * 1024 * 1024
TAGS_MAX = 20
_REVIEWER = re.compile(r"[a-z0-9_-]{1,40}")
_TAG = re.compile(r"[a-z][a-z0-9_]{0,39}")
_PAIR_ID = re.compile(r"\S{1,100}")
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def parse_file(
    content: bytes, file_format: str, *, reviewer: str, review_time_ms: int,
    known: Callable[[Collection[str]], Collection[str]],
) -> list[ReviewedPair]:
    """The labels in a reviewer's file, in its order; rows without a label are not read yet and left out.

    `known` says which of some pair ids exist. Invalid names every mistake at once, one a line with its line number;
    nothing of such a file is taken.
    """
    require(file_format in FORMATS, f"format {file_format!r}: one of {', '.join(FORMATS)}")
    require(len(content) <= FILE_BYTES_MAX, f"{len(content)} bytes, more than {FILE_BYTES_MAX}")
    require(is_pseudonym(reviewer), reviewer_rule(reviewer))
    try:
        # Halves of a surrogate pair pass here: as a mistake of their line they are named with all others.
        text = content.decode("utf-8-sig", "surrogatepass")
    except UnicodeDecodeError as error:
        raise Invalid(f"not UTF-8 at byte {error.start}: save the file as UTF-8") from error
    mistakes: list[str] = []
    reviews: list[ReviewedPair] = []
    first_line: dict[str, int] = {}
    rows = list(_storable(_rows(text, file_format, mistakes), mistakes))
    there = set(known({str(row.get("pair_id", "")) for _, row in rows}))
    for line, row in rows:
        found = mistakes_of(row)
        pair_id = str(row.get("pair_id", ""))
        if not found and pair_id not in there:
            found = [f"no pair {pair_id[:100]!r} in the catalog"]
        if pair_id in first_line and not found:
            found = [f"pair {pair_id} stands on line {first_line[pair_id]} already"]
        first_line.setdefault(pair_id, line)
        mistakes += [f"line {line}: {mistake}" for mistake in found]
        if not found and row["label"]:
            reviews.append(review_of(row, reviewer=reviewer, review_time_ms=review_time_ms))
    if mistakes:
        raise Invalid("\n".join(sorted(mistakes, key=_line_of)))
    return reviews


def review_of(row: Mapping[str, Any], *, reviewer: str, review_time_ms: int) -> ReviewedPair:
    """The review in a row without mistakes. A second one of the same pair and reviewer has the same id."""
    review_id = slot_id("review", "1", f"{row['pair_id']} {reviewer}", 0)
    return ReviewedPair(review_id, row["pair_id"], reviewer, row["label"], tuple(_tags(row)), review_time_ms)


def mistakes_of(row: Mapping[str, Any]) -> list[str]:
    """What is wrong with a row of COLUMNS, a sentence each; an empty label is nothing wrong."""
    found: list[str] = []
    if _PAIR_ID.fullmatch(str(row.get("pair_id", ""))) is None:
        found.append("no pair_id, or one with blanks")
    label = row.get("label", "")
    if label not in ("", *LABELS):
        found.append(f"label {str(label)[:40]!r}: one of {', '.join(LABELS)}, or empty")
    tags = row.get("tags", "")
    if not isinstance(tags, str) and not (isinstance(tags, list) and all(isinstance(tag, str) for tag in tags)):
        return [*found, "tags: words with blanks between them, or a list of words"]
    words = _tags(row)
    found += [f"tag {tag[:40]!r}: lower-case letters, digits and _" for tag in words if not _TAG.fullmatch(tag)]
    if len(words) > TAGS_MAX:
        found.append(f"{len(words)} tags, more than {TAGS_MAX}")
    return found


def is_pseudonym(reviewer: str) -> bool:
    """Whether `reviewer` has the form of one."""
    return _REVIEWER.fullmatch(reviewer) is not None


def reviewer_rule(reviewer: str) -> str:
    """What a pseudonym has to look like."""
    return f"reviewer {reviewer[:60]!r}: a pseudonym of 1–40 characters a–z, 0–9, '-' and '_', never a name or address"


def render_file(rows: Sequence[Mapping[str, Any]], file_format: str) -> bytes:
    """A file for reviewers of `rows` (COLUMNS without label and tags), which are left empty. Invalid: unknown format.

    CSV starts with a byte-order mark, so that spreadsheets read its scripts, and text that they would run as a formula
    starts with an apostrophe: instruction and response are for reading only and never come back.
    """
    require(file_format in FORMATS, f"format {file_format!r}: one of {', '.join(FORMATS)}")
    blank = {"label": "", "tags": ""}
    if file_format == "jsonl":
        lines = [json.dumps({name: (dict(row) | blank)[name] for name in COLUMNS}, ensure_ascii=False) for row in rows]
        return "".join(f"{line}\n" for line in lines).encode()
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, extrasaction="ignore", lineterminator="\r\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _cell(str(value)) for name, value in row.items()} | blank)
    return out.getvalue().encode("utf-8-sig")


def summary(reviews: Iterable[ReviewedPair], language_of: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Language → rows reviewed, readers, labels and the agreement of every two raters who share rows.

    `language_of`: pair id → language; reviews of other pairs do not count. Pseudonyms are left out.
    """
    by_language: dict[str, list[ReviewedPair]] = defaultdict(list)
    for review in reviews:
        if review.pair_id in language_of:
            by_language[language_of[review.pair_id]].append(review)
    return {language: _language_summary(found) for language, found in sorted(by_language.items())}


def cohens_kappa(pairs: Sequence[tuple[str, str]]) -> float | None:
    """Cohen's kappa of two raters' labels of the same items: (p_o − p_e) / (1 − p_e).

    p_o is the share of equal labels, p_e the share expected if both drew from their own label frequencies at random
    (J. Cohen, "A Coefficient of Agreement for Nominal Scales", Educational and Psychological Measurement 20, 1960,
    37–46). None without items, and where both raters gave one and the same label throughout: p_e is 1 then.
    """
    if not pairs:
        return None
    first, second = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    expected = sum(first[label] * second[label] for label in first) / len(pairs) ** 2
    return None if expected == 1 else (raw_agreement(pairs) - expected) / (1 - expected)


def raw_agreement(pairs: Sequence[tuple[str, str]]) -> float:
    """Share of items on which both raters agree, 0–1; `pairs` is not empty."""
    return sum(a == b for a, b in pairs) / len(pairs)


def _language_summary(reviews: Sequence[ReviewedPair]) -> dict[str, Any]:
    labels: dict[str, dict[str, str]] = defaultdict(dict)
    for review in reviews:
        labels[review.reviewer][review.pair_id] = review.label
    agreement = []
    for one, other in combinations(sorted(labels), 2):
        shared = sorted(labels[one].keys() & labels[other].keys())
        pairs = [(labels[one][pair_id], labels[other][pair_id]) for pair_id in shared]
        if pairs:
            kappa = cohens_kappa(pairs)
            rounded = None if kappa is None else round(kappa, 6)
            agreement.append({"rows": len(pairs), "raw": round(raw_agreement(pairs), 6), "kappa": rounded})
    return {
        "rows_reviewed": len({review.pair_id for review in reviews}),
        "reviewers": len(labels),
        "labels": dict(sorted(Counter(review.label for review in reviews).items())),
        "agreement": agreement,
    }


def _storable(
    rows: Iterable[tuple[int, dict[str, Any]]], mistakes: list[str]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows without half a surrogate pair, which neither SQL nor a message can hold; the others go to `mistakes`."""
    for line, row in rows:
        if any("\ud800" <= character <= "\udfff" for character in json.dumps(row, ensure_ascii=False)):
            mistakes.append(f"line {line}: half of a surrogate pair, which is no character: correct or leave it out")
        else:
            yield line, row


def _rows(text: str, file_format: str, mistakes: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, row); what is no row goes to `mistakes`."""
    if file_format == "csv":
        yield from _csv_rows(text, mistakes)
        return
    for line, raw in enumerate(text.split("\n"), start=1):
        if not raw.strip():
            continue
        try:
            row = json.loads(raw)
        except ValueError as error:
            mistakes.append(f"line {line}: not JSON: {error}")
            continue
        if isinstance(row, dict):
            yield line, row | {"label": row.get("label") or ""}
        else:
            mistakes.append(f"line {line}: expected an object")


def _csv_rows(text: str, mistakes: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), restkey="_more", strict=True)
    try:
        missing = [name for name in ("pair_id", "label") if name not in (reader.fieldnames or ())]
        if missing:
            mistakes.append(f"line 1: no column {' and '.join(missing)}; expected {', '.join(COLUMNS)}")
            return
        before = reader.line_num
        for row in reader:
            line, before = before + 1, reader.line_num
            if "_more" in row:
                mistakes.append(f"line {line}: more cells than columns")
            else:
                yield line, {name: (value or "").strip() for name, value in row.items()}
    except csv.Error as error:
        mistakes.append(f"line {reader.line_num}: not CSV: {error}")


def _line_of(mistake: str) -> int:
    return int(mistake.partition(":")[0].removeprefix("line "))


def _tags(row: Mapping[str, Any]) -> list[str]:
    tags = row.get("tags", "")
    return list(tags) if isinstance(tags, list) else re.split(r"[\s,;]+", tags.strip()) if str(tags).strip() else []


def _cell(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text
