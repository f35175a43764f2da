"""Every topic's committed records as the log has them; run in a pod by `python - CONFIG < read_log.py`.

Prints one JSON document: topic → ids of its records, sorted; an id stands as often as its record does.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from xinstruct.settings import load_settings
from xinstruct.spine.topics import TOPICS
from xinstruct.targets import open_log


def main() -> None:
    """Read all topics from their beginning to their ends of now."""
    log = open_log(load_settings(Path(sys.argv[1])))
    try:
        print(json.dumps({name: sorted(record.id for record in log.read(topic, {})) for name, topic in TOPICS.items()}))
    finally:
        log.close()


if __name__ == "__main__":
    main()
