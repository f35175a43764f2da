"""Recomputes the figures of a demo run from scratch: python tests/e2e/recompute.py OUT --seed N --languages sw,ur

Reads the truth (from `xinstruct microworld truth`), the release's Parquet files, the catalog (a SQLite file) and the
site's access log. It shares no code with the report, the microworld's rules or the services: what it says twice, it
says on purpose. One JSON line a figure: name, value, bound, whether it holds. Exit code 1 when one does not.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import subprocess
import sys
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[2]
F1_GOOD = 0.9
P_BEST_MIN = 0.5
FEW_WRONG_DRAFTS = 30
BEFORE_SAMPLE_PER_LANGUAGE = 20
PUBLISHED_PER_LANGUAGE_MIN = 60


@dataclass(frozen=True)
class Figure:
    """A measured value and what it has to be: `relation` is ">=", "<=" or "==" `bound`."""

    name: str
    value: float
    relation: str
    bound: float

    @property
    def holds(self) -> bool:
        """Whether the value keeps its bound; a value that could not be measured does not."""
        return {
            ">=": self.value >= self.bound, "<=": self.value <= self.bound, "==": self.value == self.bound,
        }[self.relation]  # fmt: skip


@dataclass(frozen=True)
class Pair:
    """A drafted pair as the catalog has it, with the label of the release's evaluator."""

    pair_id: str
    document_id: str
    url: str
    language: str
    instruction: str
    response: str
    log_probability: float
    kept: bool


@dataclass(frozen=True)
class Run:
    """Everything that a run left behind."""

    languages: Sequence[str]
    truth: Mapping[str, Mapping[str, Any]]
    documents: Sequence[Mapping[str, Any]]
    pairs: Sequence[Pair]
    published: Sequence[Mapping[str, Any]]
    fetched_paths: Sequence[str]
    cache: dict[tuple[str, str], bool] = field(default_factory=dict)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print every figure; 0 when all hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder that `xinstruct demo --out` wrote")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--languages", required=True, help="comma list of BCP 47 tags")
    parser.add_argument("--database", type=Path, help="catalog; default: OUT/home/database.sqlite")
    parser.add_argument("--without-before", action="store_true", help="leave out the untuned base, which needs torch")
    options = parser.parse_args(arguments)
    languages = [code.strip() for code in options.languages.split(",")]
    run = read_run(options.out, options.database, seed=options.seed, languages=languages)
    figures = list(compute(run))
    if not options.without_before:
        figures.append(Figure("draft_right_before", right_before(run, options.out), "<=", 0.10))
    for figure in figures:
        print(json.dumps({
            "figure": figure.name, "value": round(figure.value, 5), "bound": f"{figure.relation} {figure.bound}",
            "holds": figure.holds,
        }))  # fmt: skip
    return 0 if all(figure.holds for figure in figures) else 1


def compute(run: Run) -> Iterator[Figure]:
    """Every figure of "Done when" but the one that needs the base model.

    Where a bar's denominator is not the widest one, the figure over the widest stands beside it, without a bar (>= 0).
    """
    admissible = {url for url, page in run.truth.items() if page["admissible"]}
    extracted = extraction_f1s(run)
    yield Figure("extraction_f1", sum(extracted) / max(len(extracted), 1), ">=", 0.95)
    yield Figure("extraction_f1_over_all_admissible", sum(extracted) / max(len(admissible), 1), ">=", 0)
    admitted = {document["url"] for document in run.documents}
    yield Figure("admitted_recall", share(url in admitted for url in admissible), ">=", 0.90)
    right_language = (run.truth.get(d["url"], {}).get("language") == d["language"] for d in run.documents)
    yield Figure("language_accuracy", share(right_language), ">=", 0.98)
    yield Figure("policy_violations", policy_violations(run), "==", 0)
    yield Figure("pii_leaked", pii_leaked(run), "==", 0)
    yield from duplicates(run)
    right = {pair.document_id for pair in run.pairs if is_right(run, pair)}
    yield Figure("draft_right", share(document["document_id"] in right for document in run.documents), ">=", 0.80)
    yield from curation(run)
    count = Counter(row["language"] for row in run.published)
    yield Figure("published_least", min(count[code] for code in run.languages), ">=", PUBLISHED_PER_LANGUAGE_MIN)


def curation(run: Run) -> Iterator[Figure]:
    """Precision and recall of the kept pairs, and their error against the two baselines."""
    good = {pair.pair_id for pair in run.pairs if is_good(run, pair)}
    kept = [pair for pair in run.pairs if pair.kept]
    wrong_drafts = len(run.pairs) - len(good)
    precision_kept = share(pair.pair_id in good for pair in kept)
    yield Figure("wrong_drafts", wrong_drafts, ">=", 0)
    yield Figure("recall_kept", share(pair.kept for pair in run.pairs if pair.pair_id in good), ">=", 0.5)
    if wrong_drafts < FEW_WRONG_DRAFTS:
        yield Figure("precision_kept", precision_kept, ">=", 0.97)
        return
    yield Figure("precision_kept", precision_kept, ">=", 0.90)
    likeliest = sorted(run.pairs, key=lambda pair: (-pair.log_probability, pair.pair_id))[: len(kept)]
    drafted_error = wrong_drafts / len(run.pairs)
    baseline_error = 1 - share(pair.pair_id in good for pair in likeliest)
    yield Figure("kept_error_over_drafted_error", (1 - precision_kept) / max(drafted_error, 1e-9), "<=", 0.6)
    yield Figure("kept_error_over_log_probability_error", (1 - precision_kept) / max(baseline_error, 1e-9), "<=", 0.85)


def extraction_f1s(run: Run) -> list[float]:
    """Of each admissible page with documents: the documents in their order against the page's main text."""
    texts: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for document in run.documents:
        if run.truth.get(document["url"], {}).get("admissible"):
            texts[document["url"]].append((document["ordinal"], document["text"]))
    values = []
    for url, passages in texts.items():
        text = "\n\n".join(passage for _, passage in sorted(passages))
        values.append(f1(text, run.truth[url]["main_text"], run.truth[url]["language"]))
    return values


def policy_violations(run: Run) -> int:
    """Requests that robots.txt forbids, and documents or rows of pages that refuse their use."""
    closed = {urlsplit(url).path for url, page in run.truth.items() if page["reason"] == "robots_disallowed"}
    refusing = {url for url, page in run.truth.items() if str(page["reason"]).startswith("opt_out")}
    asked = sum(path.partition("?")[0] in closed for path in run.fetched_paths)
    used = {d["url"] for d in run.documents} | {row["url"] for row in run.published}
    return asked + len(used & (refusing | {url for url in run.truth if urlsplit(url).path in closed}))


def pii_leaked(run: Run) -> int:
    """Planted strings in any admitted document or published row, whatever page they were planted on."""
    planted = {datum for page in run.truth.values() for datum in page["pii"]}
    texts = [document["text"] for document in run.documents] + [row["response"] for row in run.published]
    return sum(datum in text for text in texts for datum in planted)


def duplicates(run: Run) -> Iterator[Figure]:
    """Of the clusters of admissible duplicates, the share that publishes several pages, or none though one was kept.

    Beside it, of those with an admitted page, the share that publishes none for whatever reason.
    """
    clusters: dict[str, set[str]] = defaultdict(set)
    for url, page in run.truth.items():
        if page["near_duplicate_of"] and page["admissible"]:
            clusters[page["near_duplicate_of"]] |= {url, page["near_duplicate_of"]}
    published = {row["url"] for row in run.published}
    kept = {pair.url for pair in run.pairs if pair.kept}
    yield Figure("duplicate_several", share(len(found & published) > 1 for found in clusters.values()), "<=", 0.05)
    none = [not found & published for found in clusters.values() if found & kept]
    yield Figure("duplicate_none", share(none), "<=", 0.005)
    admitted = {document["url"] for document in run.documents}
    literally = [not found & published for found in clusters.values() if found & admitted]
    yield Figure("duplicate_none_over_all_admitted", share(literally), ">=", 0)


def is_good(run: Run, pair: Pair) -> bool:
    """The definition of the issue: admissible page, a document of it, a right instruction."""
    page = run.truth.get(pair.url)
    return page is not None and bool(page["admissible"]) and is_right(run, pair)


def is_right(run: Run, pair: Pair) -> bool:
    """Whether the instruction names every slot of the document that the response is."""
    key = (pair.pair_id, pair.instruction)
    if key not in run.cache:
        page = run.truth.get(pair.url)
        run.cache[key] = page is not None and right_for(page, pair.response, pair.instruction)
    return run.cache[key]


def right_for(page: Mapping[str, Any], response: str, instruction: str) -> bool:
    """Whether some document of the page is the response and has every slot in the instruction."""
    words = whole_words(instruction)
    for document in page["documents"]:
        named = all(any(whole_words(form) in words for form in slot["accepts"]) for slot in document["slots"])
        if named and f1(response, document["text"], page["language"]) >= F1_GOOD:
            return True
    return False


def right_before(run: Run, out: Path) -> float:
    """Share of right drafts by the base model as it is in the checkout, on a sample of admitted documents."""
    sample = []
    for code in run.languages:
        own = sorted((d for d in run.documents if d["language"] == code), key=lambda d: str(d["document_id"]))
        sample += own[:BEFORE_SAMPLE_PER_LANGUAGE]
    lines = "".join(json.dumps({"text": d["text"], "language": d["language"]}) + "\n" for d in sample)
    command = [sys.executable, "-m", "xinstruct.cli.demo.untuned", str(ROOT / "models" / "tiny-base")]
    written = subprocess.run(command, input=lines.encode(), capture_output=True, check=True, cwd=out).stdout
    drafts = [json.loads(line) for line in written.splitlines()]
    return share(
        document["url"] in run.truth and right_for(run.truth[document["url"]], document["text"], draft)
        for document, draft in zip(sample, drafts, strict=True)
    )


# ── words ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def f1(one: str, other: str, language: str) -> float:
    """F1 over multisets of words, of characters for Thai."""
    first, second = Counter(units(one, language)), Counter(units(other, language))
    total = sum(first.values()) + sum(second.values())
    return 2 * sum((first & second).values()) / total if total else 1.0


def units(text: str, language: str) -> list[str]:
    """What F1 counts."""
    text = fold(text)
    if language == "th":
        return [character for character in text if not character.isspace()]
    return "".join(character if in_word(character) else " " for character in text).split()


def whole_words(text: str) -> str:
    """The text with its word borders marked: a text has another's words in a row when this has that as a substring."""
    folded = fold(text).replace("’", "'")
    return "\0" + "".join(character if in_word(character) else f"\0{character}\0" for character in folded) + "\0"


def in_word(character: str) -> bool:
    """Letters, marks, digits, and the joiners inside Indic and Urdu words."""
    return unicodedata.category(character)[0] in "LMN" or character in "\u200c\u200d"


def fold(text: str) -> str:
    """Case-folded NFC."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def share(values: Iterable[bool]) -> float:
    """Part of the values that are true; 0 for none."""
    listed = list(values)
    return sum(listed) / len(listed) if listed else 0.0


# ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def read_run(out: Path, database: Path | None, *, seed: int, languages: Sequence[str]) -> Run:
    """What the run in `out` left behind, and the truth about its site."""
    release = newest_release(out / "home" / "releases")
    manifest = json.loads((release / "manifest.json").read_text("utf-8"))
    published: list[Mapping[str, Any]] = []
    for code in languages:
        for file in sorted(release.glob(f"data/{code}/*.parquet")):
            published += pq.read_table(file).to_pylist()
    catalog = sqlite3.connect(f"file:{database or out / 'home' / 'database.sqlite'}?mode=ro", uri=True)
    catalog.row_factory = sqlite3.Row
    documents = [dict(row) for row in catalog.execute("SELECT * FROM documents ORDER BY document_id")]
    pairs = read_pairs(catalog, evaluator_of(manifest, published))
    port = urlsplit(documents[0]["url"]).port
    log = (out / "access.jsonl").read_text("utf-8").splitlines()
    return Run(
        languages, read_truth(seed, languages, port), documents, pairs, published,
        [json.loads(line)["path"] for line in log],
    )  # fmt: skip


def newest_release(folder: Path) -> Path:
    """The release whose manifest was written last."""
    manifests = sorted(folder.glob("*/manifest.json"), key=lambda file: file.stat().st_mtime)
    if not manifests:
        sys.exit(f"no release in {folder}")
    return manifests[-1].parent


def evaluator_of(manifest: Mapping[str, Any], published: Sequence[Mapping[str, Any]]) -> str:
    """The one evaluator of the release: that of its rows."""
    found = {row["evaluator"] for row in published}
    if len(found) != 1:
        sys.exit(f"the release of {manifest.get('name')} has rows of {len(found)} evaluators, not of one")
    return str(found.pop())


def read_pairs(catalog: sqlite3.Connection, evaluator: str) -> list[Pair]:
    """Every drafted pair; kept is what that evaluator labels best with P(best) of at least one half."""
    labels = {
        row["pair_id"]: row["p_best"] >= P_BEST_MIN and row["p_best"] >= max(row["p_reasonable"], row["p_worst"])
        for row in catalog.execute("SELECT * FROM scores WHERE evaluator_digest = ?", (evaluator,))
    }
    return [
        Pair(
            row["pair_id"], row["document_id"], row["url"], row["language"], row["instruction"], row["response"],
            row["mean_log_probability"] if row["mean_log_probability"] is not None else -1e9,
            labels.get(row["pair_id"], False),
        )
        for row in catalog.execute("SELECT * FROM pairs ORDER BY pair_id")
    ]  # fmt: skip


def read_truth(seed: int, languages: Sequence[str], port: int | None) -> dict[str, Mapping[str, Any]]:
    """URL → line of `xinstruct microworld truth`."""
    command = [
        sys.executable, "-m", "xinstruct.cli.main", "microworld", "truth", "--seed", str(seed), "--languages",
        ",".join(languages), "--port", str(port),
    ]  # fmt: skip
    printed = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    return {page["url"]: page for page in map(json.loads, printed.splitlines())}


if __name__ == "__main__":
    sys.exit(main())
