"""Writes the golden example of every topic that has none: <topic>.bin, the payload's bytes, and <topic>.json, what
they say. An existing one is a promise about bytes that are in somebody's log, and is never written again.

Run by `make golden`; compared by tests/unit/spine/test_messages.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

from google.protobuf import json_format, message

GOLDEN = Path(__file__).parent
sys.path.insert(0, str(GOLDEN.parent))

import builders  # noqa: E402
from xinstruct.spine.messages import Payload  # noqa: E402
from xinstruct.spine.topics import DEAD_LETTERS, TOPICS  # noqa: E402
from xinstruct.v1 import messages_pb2  # noqa: E402

EXAMPLES: dict[str, Payload] = {
    "crawl-requested-v1": builders.crawl_request(),
    "page-fetched-v1": builders.page(
        superseded_body_digest=builders.digest("c"), fetch_number=2, content_encoding_text="plain",
        opt_outs=(builders.opt_out(), builders.opt_out(signal="robots_txt", directive="allow", denies=False)),
    ),
    "document-admitted-v1": builders.document(ordinal=1, masked_count=2),
    "pair-drafted-v1": builders.pair(ordinal=1),
    "pair-scored-v1": builders.score(votes_count=8),
    "pair-reviewed-v1": builders.review(),
    "record-dropped-v1": builders.drop(),
    "takedown-requested-v1": builders.takedown(),
    "release-published-v1": builders.release(),
    "training-requested-v1": builders.training_request(),
    "model-trained-v1": builders.trained_model(),
} | {topic.name: builders.dead_letter(stage=stage) for stage, topic in DEAD_LETTERS.items()}


def json_of(raw: bytes, payload_name: str) -> str:
    """What the bytes say, in protobuf's own JSON form: not by way of our mapping, which is what is tested."""
    parsed: message.Message = getattr(messages_pb2, payload_name).FromString(raw)
    text = json_format.MessageToJson(parsed, preserving_proto_field_name=True, sort_keys=True, ensure_ascii=False)
    return text + "\n"


def main() -> None:
    """Write what is missing."""
    for name, topic in TOPICS.items():
        raw = EXAMPLES[name].encode()
        for path, content in (
            (GOLDEN / f"{name}.bin", raw), (GOLDEN / f"{name}.json", json_of(raw, topic.payload).encode()),
        ):
            if not path.exists():
                path.write_bytes(content)


if __name__ == "__main__":
    main()
