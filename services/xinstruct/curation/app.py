"""Builds the curation service: one loop and one servicer over the catalog."""

from __future__ import annotations

from xinstruct.curation.api import CurationServicer
from xinstruct.curation.config import CurationSettings
from xinstruct.curation.loop import CurationLoop
from xinstruct.curation.projection import CatalogProjection
from xinstruct.curation.release import Releases
from xinstruct.curation.takedown import Takedowns
from xinstruct.spine.app import App, Deps, Servicer
from xinstruct.v1 import curation_service_pb2, curation_service_pb2_grpc


def build(config: CurationSettings, deps: Deps) -> App:
    """The service, ready to run. Needs deps.inference["encoder"] when it publishes."""
    projection = CatalogProjection(
        deps.log, deps.database, deps.blobs, clock=deps.clock, records_max=config.projection_records_max
    )
    releases = Releases(deps, config, projection)
    servicer = Servicer(
        curation_service_pb2.DESCRIPTOR.services_by_name["CurationService"].full_name,
        curation_service_pb2_grpc.add_CurationServiceServicer_to_server,
        CurationServicer(config, deps, projection=projection, releases=releases),
    )
    return App(loops=[CurationLoop(projection, Takedowns(deps, config), releases)], servicers=[servicer])
