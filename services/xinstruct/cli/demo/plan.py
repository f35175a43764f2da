"""What a demo run is made of: its languages, folders and ports, and the configuration that its processes get."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xinstruct.cli.factory import Member, free_port
from xinstruct.spine.errors import Invalid, require
from xinstruct.spine.languages import language, languages

SITE_PORT = 8780
SEED_PAIRS_PER_LANGUAGE = 2_400
PAGES_MAX = 20_000
KAFKA_PORT = 19_092

# Optimizer steps of the first round, and those more for each language: time is 3 and 15 minutes. A generator learns new
# words, an evaluator's labels are known to the tiny base: it forgets how to compare at a higher rate.
STEPS = {"generator": (250, 60), "evaluator": (195, 45)}
LEARNING_RATES = {"generator": 0.01, "evaluator": 0.002}
JOBS_MAX = 2
"""Both models learn at once, each on one thread: two threads a job make a step 1.5 times as fast, no more, and the sums
of two threads come out another way when something else wants the core."""
DRAFTS_MAX = 64
"""Rows for which the generator's own mistakes are sampled, for the second round's evaluator to learn from."""
WRONG_EACH = 3
"""Wrong versions of a pair that an evaluator learns from, beside the right one."""
ROUND_TWO_SHARE = 0.2

SERVICES = ("crawler", "backgen", "scoring-a", "scoring-b", "training", "curation")
"""Targets that run as processes of their own with --kafka."""


@dataclass(frozen=True)
class Plan:
    """A run. `out` holds everything that it writes."""

    languages: tuple[str, ...]
    seed: int
    out: Path
    base: Path
    """Model folder that both roles are tuned from."""
    site_port: int
    kafka: str = ""
    """Bootstrap servers; empty: everything in one process over SQLite."""
    kafka_prefix: str = ""
    """With kafka: put before names of topics and groups, so that runs share nothing."""
    database_url: str = ""
    """With kafka: the PostgreSQL database of this run."""
    workers_count: int = 1
    """With kafka: processes a service."""
    kills_count: int = 0
    """Processes to kill while records are in flight."""

    @property
    def home(self) -> Path:
        """Data folder of the services."""
        return self.out / "home"

    @property
    def seeds_file(self) -> Path:
        """Gold pairs about other entities than the site's."""
        return self.out / "seeds.jsonl"

    @property
    def truth_file(self) -> Path:
        """The truth about the site. Read by the report only, after the release."""
        return self.out / "truth.jsonl"

    @property
    def access_log(self) -> Path:
        """What the site was asked for."""
        return self.out / "access.jsonl"

    @property
    def site(self) -> str:
        """Host and port of the microworld's site."""
        return f"127.0.0.1:{self.site_port}"

    def recipe(self, role: str, round_number: int) -> dict[str, Any]:
        """Changes to the training recipe of `role` in a round."""
        always, each = STEPS[role]
        steps = always + each * len(self.languages)
        share = ROUND_TWO_SHARE if round_number else 1.0
        return {
            "steps_max": round(steps * share), "epochs": 100.0, "threads_count": 1, "drafts_max": DRAFTS_MAX,
            "wrong_each": WRONG_EACH if role == "evaluator" else 1, "learning_rate": LEARNING_RATES[role],
        }


def base_model(chosen: Path | None) -> Path:
    """The chosen model folder, or the tiny base model in the checkout. Invalid when it is not there."""
    folder = (chosen or Path(__file__).resolve().parents[4] / "models" / "tiny-base").absolute()
    hint = "run the demo from a clone, or name a model folder with --base"
    require((folder / "config.json").exists(), f"no base model in {folder}: {hint}")
    return folder


def chosen_languages(asked: str) -> tuple[str, ...]:
    """The languages in a comma-separated list, "all" for every one. Invalid, NotFound with the known ones."""
    if asked == "all":
        return tuple(item.code for item in languages())
    codes = tuple(code.strip() for code in asked.split(",") if code.strip())
    if not codes:
        raise Invalid("--languages wants tags like fi,sw,ta, or all")
    return tuple(dict.fromkeys(language(code).code for code in codes))


def settings(
    plan: Plan, *, port: int, instance: str = "0", addresses: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The configuration of one process of the run, as keys and values."""
    values: dict[str, Any] = {
        "home": str(plan.home.absolute()),
        "instance": instance,
        "rpc": {"port": port},
        "crawler": {
            "fetch": {
                "private_hosts_allowed": [plan.site],
                "host_delay_ms": 0,
                "host_requests_max": 16,
                "retry_delay_ms": 50,
                "contact_url": "http://localhost/xinstruct-demo",
            },
            "languages": list(plan.languages),
        },
        "backgen": {"prompt_family": "tiny", "instruction_tokens_max": 72},
        "scoring": {"prompt_family": "tiny"},
        "training": {
            "base_model": str(plan.base),
            "seeds_location": str(plan.seeds_file.absolute()),
            "jobs_max": JOBS_MAX,
            "generator": {"prompt_family": "tiny"},
            "evaluator": {"prompt_family": "tiny"},
        },
        "curation": {
            "dataset_title": "Instructions of an invented country",
            "reports_location": str(plan.out.absolute()),
        },
    }
    if plan.kafka:
        values["log"] = {"kind": "kafka", "bootstrap_servers": plan.kafka, "prefix": plan.kafka_prefix}
        values["database_url"] = plan.database_url
        values["addresses"] = dict(addresses or {})
    else:
        # Without, the libraries load (8 s) when the generator is there and everything waits for its drafts.
        values["inference"] = {"local_warm_up_s": 20.0}
    return values


def members(plan: Plan) -> list[Member]:
    """The processes of the run, their configurations written under `out`."""
    folder = plan.out / "config"
    folder.mkdir(parents=True, exist_ok=True)
    if not plan.kafka:
        port = free_port()
        return [Member("all", ("all",), write_config(settings(plan, port=port), folder / "all.yaml"), port)]
    ports = {(name, worker): free_port() for name in SERVICES for worker in range(plan.workers_count)}
    addresses = {name: f"127.0.0.1:{ports[name, 0]}" for name in SERVICES}
    made = []
    for (name, worker), port in ports.items():
        values = settings(plan, port=port, instance=f"{name}-{worker}", addresses=addresses)
        config = write_config(values, folder / f"{name}-{worker}.yaml")
        made.append(Member(f"{name}-{worker}", (name,), config, port))
    return made


def write_config(values: Mapping[str, Any], file: Path) -> Path:
    """Write a configuration file."""
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe")
    yaml.default_flow_style = False
    stream = io.StringIO()
    yaml.dump(dict(values), stream)
    file.write_text(stream.getvalue(), "utf-8")
    return file


def member_names(made: Sequence[Member]) -> str:
    """Names of processes for a person."""
    return ", ".join(member.name for member in made)
