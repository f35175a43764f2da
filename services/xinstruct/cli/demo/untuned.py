"""What the base model writes before any tuning: `python -m xinstruct.cli.demo.untuned MODEL`, texts in, drafts out.

A process of its own, so that the demo itself stays without torch. stdin: {"text", "language"} a line; stdout: the
drafts, a JSON string a line.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from xinstruct.spine.errors import Unavailable
from xinstruct.spine.inference import Decoding, Generate, Generated
from xinstruct.spine.languages import language
from xinstruct.spine.prompts import generator_prompt

TOKENS_MAX = 72


def drafts_of(model: Path, texts: Sequence[tuple[str, str]]) -> list[str]:
    """What `model` writes for each (text, language). Unavailable when its process fails."""
    lines = "".join(json.dumps({"text": text, "language": code}) + "\n" for text, code in texts)
    command = [sys.executable, "-m", "xinstruct.cli.demo.untuned", str(model)]
    done = subprocess.run(command, input=lines.encode(), capture_output=True, check=False)
    if done.returncode:
        raise Unavailable(f"the base model wrote nothing: {done.stderr.decode('utf-8', 'replace')[-400:]}")
    return [str(json.loads(line)) for line in done.stdout.splitlines()]


def main(model: Path) -> None:
    """Draft every text of stdin."""
    from xinstruct.spine.inference.local import LocalInference

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
