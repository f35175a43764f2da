"""What the base model writes before any tuning: `python -m xinstruct.cli.demo.untuned MODEL`, texts in, drafts out.

A process of its own, so that the demo itself stays without torch. stdin: {"text", "language"} a line; stdout: the
drafts, a JSON string a line.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile

from xinstruct.spine.errors import Unavailable
from xinstruct.spine.inference import Decoding, Generate, Generated
from xinstruct.spine.languages import language
from xinstruct.spine.prompts import generator_prompt

TOKENS_MAX = 72


@contextmanager
def drafting(model: Path, texts: Sequence[tuple[str, str]]) -> Iterator[Callable[[], list[str]]]:
    """`model` drafts each (text, language) beside the block; its process is killed where the block ends before.

    The value waits for what it wrote. Unavailable when its process fails.
    """
    lines = "".join(json.dumps({"text": text, "language": code}) + "\n" for text, code in texts)
    command = [sys.executable, "-m", "xinstruct.cli.demo.untuned", str(model)]
    # Files, not pipes: nobody reads while it writes.
    with TemporaryFile() as asked, TemporaryFile() as drafts, TemporaryFile() as errors:
        asked.write(lines.encode())
        asked.seek(0)
        process = subprocess.Popen(command, stdin=asked, stdout=drafts, stderr=errors)

        def drafted() -> list[str]:
            failed = process.wait()
            for file in (drafts, errors):
                file.seek(0)
            if failed:
                raise Unavailable(f"the base model wrote nothing: {errors.read().decode('utf-8', 'replace')[-400:]}")
            return [str(json.loads(line)) for line in drafts]

        try:
            yield drafted
        finally:
            process.kill()
            process.wait()


def main(model: Path) -> None:
    """Draft every text of stdin."""
    from xinstruct.inference.local import LocalInference

    inference = LocalInference(lambda _role, _digest: model)
    futures = []
    for line in sys.stdin:
        asked = json.loads(line)
        prompt = generator_prompt(asked["text"], language(asked["language"]).english_name, "tiny")
        futures.append(inference.submit(Generate("generator", "base", prompt, Decoding(TOKENS_MAX, stop=("\n",)))))
    for future in futures:
        answer = future.result()
        text = answer.text if isinstance(answer, Generated) else ""
        sys.stdout.write(json.dumps(" ".join(text.split())) + "\n")
    inference.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
