"""Characters and bytes of a document and of its prompts: microworld texts, and the Declaration of Human Rights.

No tokenizer of a large model is on this machine. A byte-level one never makes more tokens than bytes; one that is good
for a language needs about a third of that. A server's own count is in its metrics.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from statistics import mean

from lxml import html

from benchmarks.figure import Measured
from xinstruct.microworld.seeds import plain_texts
from xinstruct.spine.languages import languages
from xinstruct.spine.prompts import evaluator_prompt, generator_prompt

UDHR = Path(os.environ.get("XINSTRUCT_UDHR", Path(__file__).parents[3] / "shared" / "data" / "udhr"))
FILES = {
    "bn": "ben", "fi": "fin", "hi": "hin", "id": "ind", "sw": "swh", "ta": "tam", "th": "tha", "tr": "tur", "ur": "urd",
    "vi": "vie",
}
TEXTS = 200
INSTRUCTION = "Write an encyclopedia article about the town Bangeri, covering its livelihoods, its climate."
"""As long as the demo's: what is read by the evaluator, and written by the generator, beside the text."""


def figures(_folder: Path) -> Iterator[Measured]:
    """A figure a language and kind of text: mean characters of a text; bytes, and both prompts, beside it."""
    frame = len(generator_prompt("", "Swahili")), len(evaluator_prompt(INSTRUCTION, "", "Swahili"))
    for language in languages():
        kinds = {"microworld": list(plain_texts(7, [language.code], TEXTS))}
        if UDHR.is_dir():
            kinds["udhr_article"] = articles(UDHR / f"{FILES[language.code]}.html")
        for kind, texts in kinds.items():
            chars, size = mean(len(text) for text in texts), mean(len(text.encode()) for text in texts)
            yield Measured(f"chars_per_{kind}_{language.code}", chars, [], {
                "bytes": round(size), "texts": len(texts), "generator_prompt_bytes": round(size) + frame[0],
                "evaluator_prompt_bytes": round(size) + frame[1], "instruction_chars": len(INSTRUCTION),
            })


def articles(file: Path) -> list[str]:
    """The articles of the Declaration in one language, blanks joined."""
    parts = html.fromstring(file.read_text("utf-8")).xpath("//article")
    return [" ".join(part.text_content().split()) for part in parts]
