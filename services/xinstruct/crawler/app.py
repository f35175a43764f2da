"""Builds the crawler: the frontier's loops, the admit stage, the servicer."""

from __future__ import annotations

import threading

from xinstruct.crawler import circles
from xinstruct.crawler.admit_port import AdmitPort
from xinstruct.crawler.api import CrawlerServicer
from xinstruct.crawler.commands import CommandLoop
from xinstruct.crawler.config import CrawlerSettings
from xinstruct.crawler.extract_worker import WorkerPool
from xinstruct.crawler.fetch import Fetcher
from xinstruct.crawler.loops import ExpiryLoop, FetchLoop, OutboxLoop
from xinstruct.crawler.robots import Speaker
from xinstruct.crawler.stage import stage
from xinstruct.crawler.texts import TextLoop
from xinstruct.crawler.visit import Tools
from xinstruct.spine.app import App, Deps, Servicer
from xinstruct.spine.languages import language
from xinstruct.spine.sql import transaction
from xinstruct.v1 import crawler_service_pb2, crawler_service_pb2_grpc


def build(config: CrawlerSettings, deps: Deps) -> App:
    """The service, ready to run. NotFound for a configured language that the registry does not know."""
    for code in config.languages:
        language(code)
    settings, database = config.fetch, deps.database
    pool = WorkerPool(
        workers_count=config.extract_workers_count, memory_mb_max=config.worker_memory_mb_max,
        deadline_s=config.worker_deadline_s,
    )
    port = AdmitPort(database, deps.blobs, pool)
    fetcher = Fetcher(settings)
    closing = threading.Event()

    def stands_for_itself(target: str, url: str) -> bool:
        with transaction(database) as connection:
            return circles.stands_for_itself(connection, target, url)

    tools = Tools(
        fetcher, pool, deps.blobs, deps.clock, Speaker(settings.agent_name, settings.ai_use_tokens), stands_for_itself
    )
    loops = (
        CommandLoop(database, deps.log, blobs=deps.blobs, clock=deps.clock, settings=settings),
        TextLoop(database, deps.blobs, deps.clock),
        FetchLoop(database, tools, settings, owner=f"crawler-{deps.instance}"),
        OutboxLoop(database, deps.log),
        ExpiryLoop(database, deps.blobs, deps.clock, retention_days=settings.body_retention_days),
    )
    servicer = Servicer(
        crawler_service_pb2.DESCRIPTOR.services_by_name["CrawlerService"].full_name,
        crawler_service_pb2_grpc.add_CrawlerServiceServicer_to_server,
        CrawlerServicer(database, deps.log, deps.clock, settings=settings, rest=closing.wait),
    )

    def close() -> None:
        closing.set()
        port.close()
        pool.close()
        fetcher.close()

    admit = stage(config, port)
    return App(stages=lambda: [admit], loops=loops, servicers=[servicer], close=close)
