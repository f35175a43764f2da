"""xinstruct demo: drives every phase, then writes the report and says on the screen what came out."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xinstruct.cli.demo.plan import SEED_PAIRS_PER_LANGUAGE, SITE_PORT, Plan, base_model, chosen_languages, members
from xinstruct.cli.options import JsonOption
from xinstruct.cli.output import print_json, print_note
from xinstruct.spine.errors import Conflict, Invalid, Unavailable

if TYPE_CHECKING:
    from xinstruct.cli.client import Client
    from xinstruct.cli.demo.progress import Screen
    from xinstruct.cli.factory import Factory
    from xinstruct.cli.report.gather import Gathered

Untuned = tuple[str, str, str, str]
"""Language, URL, text, and what the untuned base writes for it."""

SAMPLE_PER_LANGUAGE = 12
RESTART_S_MAX = 120.0
"""A call waits so long for a process that was killed."""
MARKER = "demo.json"
"""Lies in every folder that a demo made: only such a folder is emptied for the next one."""


def mount(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(demo)


def demo(
    languages: Annotated[str, typer.Option(metavar="TAG,…", help="Languages, for instance fi,sw,ta; or all.")] = "all",
    seed: Annotated[int, typer.Option(min=0, help="Another seed is another invented country.")] = 1,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Everything is written here.")] = Path("var/demo"),
    kafka: Annotated[bool, typer.Option("--kafka", help="A process a service, over Kafka and PostgreSQL.")] = False,
    workers: Annotated[int, typer.Option(min=1, max=4, help="With --kafka: processes a service.")] = 1,
    kills: Annotated[int, typer.Option(min=0, max=50, help="Kill so many processes while they work.")] = 0,
    site_port: Annotated[int, typer.Option(help="Port of the invented site on loopback.")] = SITE_PORT,
    base: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Model to tune; default: the tiny one of the checkout.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Run the main job on an invented web site.

    Crawl, train, draft, score, a second round, publish, report.
    """
    from xinstruct.cli.demo.progress import screen
    from xinstruct.cli.demo.servers import start_servers
    from xinstruct.cli.factory import require_free, terminated_like_interrupted

    require_free(site_port, "--site-port")
    chosen = chosen_languages(languages)
    folder = base_model(base)
    _empty(out)
    plan = Plan(chosen, seed, out, folder, site_port, workers_count=workers, kills_count=kills)
    if kafka:
        servers = start_servers()
        plan = replace(
            plan,
            kafka=servers.bootstrap,
            kafka_prefix=servers.prefix,
            database_url=servers.database_url,
        )
    with terminated_like_interrupted(), screen() as shown:
        report = _run(plan, shown)
    if as_json:
        print_json(report)
    else:
        _summarise(plan, report)
    if report["release"] is None:
        raise Conflict(f"no pair was good enough to be published; {plan.out / 'report.html'} shows the scores")


def _run(plan: Plan, screen: Screen) -> dict[str, object]:
    from xinstruct.cli.demo.chaos import kills
    from xinstruct.cli.factory import MemoryMeter

    started_s = time.monotonic()
    with MemoryMeter() as memory, _running(plan, screen) as (factory, client), ExitStack() as beside:
        with kills(factory, count=plan.kills_count, seed=plan.seed) as killed, _blaming(factory):
            bases = _first_models(plan, factory, client, screen)
            # Drafting takes one core.
            before = beside.enter_context(_untuned(plan, client))
            _first_labels(factory, client, screen, evaluator=bases[1])
            _second_round(plan, factory, client, screen, bases=bases)
            _publish(plan, client, screen)
        for where in killed:
            screen.say(f"  killed {where}")
        gathered, untuned = _collect(plan, client, screen, before)
    return _report(plan, gathered, untuned, screen, wall_s=time.monotonic() - started_s, peak_memory_mb=memory.peak_mb)


@contextmanager
def _blaming(factory: Factory) -> Iterator[None]:
    """Where a call met nobody because a process has ended, say which one and what its log says."""
    try:
        yield
    except Unavailable:
        factory.require_alive()
        raise


@contextmanager
def _running(plan: Plan, screen: Screen) -> Iterator[tuple[Factory, Client]]:
    """The site and the services, started; all stopped at the end."""
    from xinstruct.cli.client import connect_to
    from xinstruct.cli.factory import Factory, child, output_of
    from xinstruct.settings import load_settings

    site = ["--seed", str(plan.seed), "--languages", ",".join(plan.languages)]
    serve = ["microworld", "serve", *site, "--port", str(plan.site_port), "--access-log", str(plan.access_log)]
    made = members(plan)
    factory = Factory(made, plan.out / "logs")
    with ExitStack() as stack:
        with screen.phase("prepare", "Building an invented country"):
            stack.enter_context(child(serve, plan.out / "logs" / "site.log"))
            stack.callback(factory.stop)
            factory.spawn_all()
            output_of(["microworld", "seeds", *site, "--per-language", str(SEED_PAIRS_PER_LANGUAGE)], plan.seeds_file)
            factory.await_all()
        settings = load_settings(made[0].config)
        patience_s = RESTART_S_MAX if plan.kills_count else 0.0
        yield factory, stack.enter_context(connect_to(settings, patience_s=patience_s))


def _first_models(plan: Plan, factory: Factory, client: Client, screen: Screen) -> tuple[str, str]:
    """The digests of generator and evaluator; pages are fetched while they learn, each on a core of its own."""
    from xinstruct.cli.demo import phases

    source = phases.add_source(client, plan)
    name = phases.submit_training(client, plan, role="generator", round_number=0)
    beside = phases.submit_training(client, plan, role="evaluator", round_number=0)
    with screen.phase("crawl", "Crawling its web sites") as phase:
        phases.await_crawl(client, factory, source, phase)
    with screen.phase("train_generator", "Training the generator from seeds") as phase:
        generator = phases.await_job(client, factory, name, phase)
        phases.await_promotion(client, factory, role="generator", digest=generator.model_digest, phase=phase)
    with screen.phase("train_evaluator", "Training the evaluator from seeds") as phase:
        evaluator = phases.await_job(client, factory, beside, phase)
    return generator.model_digest, evaluator.model_digest


def _first_labels(factory: Factory, client: Client, screen: Screen, *, evaluator: str) -> None:
    """A scored pair, or a reason why not, of every document."""
    from xinstruct.cli.demo import phases

    with screen.phase("draft", "Drafting instructions") as phase:
        phases.await_drafts(client, factory, phase)
    with screen.phase("score", "Scoring the pairs") as phase:
        phases.await_promotion(client, factory, role="evaluator", digest=evaluator, phase=phase)
        phases.await_scores(client, factory, phase)


@contextmanager
def _untuned(plan: Plan, client: Client) -> Iterator[Callable[[], list[Untuned]]]:
    """The untuned base drafts a few documents of each language beside the block; the value waits for its drafts."""
    from xinstruct.cli.demo.untuned import drafting
    from xinstruct.cli.report.gather import documents_of

    documents = documents_of(client)
    sample = [
        document
        for code in plan.languages
        for document in [x for x in documents if x.language == code][:SAMPLE_PER_LANGUAGE]
    ]
    with drafting(plan.base, [(document.text, document.language) for document in sample]) as drafted:
        yield lambda: [(x.language, x.url, x.text, draft) for x, draft in zip(sample, drafted(), strict=True)]


def _second_round(plan: Plan, factory: Factory, client: Client, screen: Screen, *, bases: tuple[str, str]) -> None:
    """Both models learn on, from seeds and kept pairs; the new evaluator labels while the generator still learns."""
    from xinstruct.cli.demo import phases

    generator, evaluator = bases
    name = phases.submit_training(client, plan, role="evaluator", round_number=1, base=evaluator)
    phases.await_running(client, factory, name)
    following = phases.submit_training(client, plan, role="generator", round_number=1, base=generator)
    with screen.phase("round2_evaluator", "Round two: training the evaluator") as phase:
        job = phases.await_job(client, factory, name, phase)
    with screen.phase("round2_score", "Round two: scoring again") as phase:
        phases.await_promotion(client, factory, role="evaluator", digest=job.model_digest, phase=phase)
    with screen.phase("round2_generator", "Round two: training the generator") as phase:
        made = phases.await_job(client, factory, following, phase)
        phases.await_promotion(client, factory, role="generator", digest=made.model_digest, phase=phase)
        phases.await_scores(client, factory, phase)


def _publish(plan: Plan, client: Client, screen: Screen) -> None:
    from xinstruct.cli.demo import phases

    with screen.phase("release", "Publishing the release"):
        try:
            phases.publish(client, plan)
        except Conflict as error:
            # Nothing was kept. The report is written all the same: it shows why.
            screen.say(f"  {error.message}")


def _collect(
    plan: Plan, client: Client, screen: Screen, before: Callable[[], list[Untuned]]
) -> tuple[Gathered, list[Untuned]]:
    """The catalog for the report, and the drafts of the untuned base."""
    from xinstruct.cli.factory import output_of
    from xinstruct.cli.report.gather import gather

    with screen.phase("report", "Comparing with the truth"):
        gathered = gather(client)
        site = ["--seed", str(plan.seed), "--port", str(plan.site_port), "--languages", ",".join(plan.languages)]
        output_of(["microworld", "truth", *site], plan.truth_file)
        return gathered, before()


def _report(
    plan: Plan,
    gathered: Gathered,
    before: Sequence[Untuned],
    screen: Screen,
    *,
    wall_s: float,
    peak_memory_mb: float,
) -> dict[str, object]:
    from xinstruct.cli.report.page import Run
    from xinstruct.cli.report.quality import draft_right, judge
    from xinstruct.cli.report.write import report_values, write_report

    truth = [json.loads(line) for line in plan.truth_file.read_text("utf-8").splitlines()]
    by_url = {page["url"]: page for page in truth}
    right = [url in by_url and draft_right(by_url[url], text, draft) for _, url, text, draft in before]
    fetched = [json.loads(line)["path"] for line in plan.access_log.read_text("utf-8").splitlines()]
    judgement = judge(gathered, truth, fetched_paths=fetched, right_before=sum(right) / max(len(right), 1))
    run = Run(
        "An invented country, in instructions",
        plan.languages,
        dict(screen.seconds),
        wall_s,
        peak_memory_mb,
        plan.seed,
        [(code, text[:90], draft[:160]) for code, _, text, draft in before[:: max(len(before) // 10, 1)]],
    )
    write_report(plan.out, gathered, run, judgement)
    return report_values(gathered, run, judgement)


def _summarise(plan: Plan, report: dict[str, object]) -> None:
    from xinstruct.cli.demo.summary import summary_lines

    summary_lines(plan, report)


def _empty(out: Path) -> None:
    """Make `out` an empty folder; what an earlier demo left there goes. Conflict when it holds anything else."""
    if out.exists():
        if not out.is_dir():
            raise Invalid(f"{out} is no folder")
        if any(out.iterdir()) and not (out / MARKER).exists():
            raise Conflict(f"{out} holds files that no demo made: name another folder with --out (make demo OUT=…)")
        if any(out.iterdir()):
            print_note(f"Replacing the demo in {out}.")
        shutil.rmtree(out)
    (out / "logs").mkdir(parents=True)
    (out / MARKER).write_text("{}\n", "utf-8")
