"""The frontier's tables: sources, pages, hosts, what is still to be appended to the log, who claimed which fetch."""

from __future__ import annotations

import sqlalchemy as sa

from xinstruct.spine.sql import METADATA

NEVER_MS = -1
"""A due time that never comes."""

SOURCES = sa.Table(
    "crawler_sources", METADATA,
    sa.Column("source_id", sa.Text, primary_key=True),
    sa.Column("kind", sa.Integer, nullable=False),
    sa.Column("location", sa.Text, nullable=False),
    sa.Column("hosts", sa.Text, nullable=False),  # JSON list in the form of domain.host_of
    sa.Column("state", sa.Text, nullable=False),  # "active", "paused" or "removed"
    sa.Column("pages_max", sa.Integer, nullable=False),
    sa.Column("depth_max", sa.Integer, nullable=False),
    sa.Column("text_field", sa.Text, nullable=False),
    sa.Column("url_field", sa.Text, nullable=False),
    sa.Column("licence", sa.Text, nullable=False),
    sa.Column("declared_language", sa.Text, nullable=False),
    sa.Column("poll_interval_s", sa.Integer, nullable=False),
    sa.Column("pages_known", sa.Integer, nullable=False),
    sa.Column("pages_fetched", sa.Integer, nullable=False),
    sa.Column("pages_failed", sa.Integer, nullable=False),
    sa.Column("pages_denied", sa.Integer, nullable=False),
    sa.Column("rows_done", sa.BigInteger, nullable=False),  # text files: rows read
    sa.Column("position", sa.BigInteger, nullable=False),  # text files: where to go on
    sa.Column("due_time_ms", sa.BigInteger, nullable=False),  # text files: next look, NEVER_MS when none
    sa.Column("last_error", sa.Text, nullable=False),
    sa.Column("change_time_ms", sa.BigInteger, nullable=False),
    sa.Column("change_number", sa.BigInteger, nullable=False),
)
PAGES = sa.Table(
    "crawler_pages", METADATA,
    sa.Column("url", sa.Text, primary_key=True),  # canonical form
    sa.Column("host", sa.Text, nullable=False),
    sa.Column("source_id", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),  # "page", "sitemap", "feed" or "row"
    sa.Column("depth", sa.Integer, nullable=False),
    sa.Column("hops", sa.Integer, nullable=False),  # redirects that led here
    sa.Column("due_time_ms", sa.BigInteger, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("fetch_number", sa.Integer, nullable=False),
    sa.Column("etag", sa.Text, nullable=False),
    sa.Column("last_modified", sa.Text, nullable=False),
    sa.Column("body_digest", sa.Text, nullable=False),  # of the last record with a body
    sa.Column("body_bytes", sa.BigInteger, nullable=False),
    sa.Column("moved_to", sa.Text, nullable=False, index=True),
    sa.Column("outcome", sa.Text, nullable=False),  # failure and digest of what the last record said
    sa.Column("fetch_time_ms", sa.BigInteger, nullable=False),
    sa.Column("licence", sa.Text, nullable=False, server_default=""),  # see licences.py
    sa.Index(None, "due_time_ms"),
    sa.Index(None, "source_id", "due_time_ms"),
)
HOSTS = sa.Table(
    "crawler_hosts", METADATA,
    # A host has the lease and the Retry-After, "http://host" and "https://host" the rules: they are two authorities.
    sa.Column("host", sa.Text, primary_key=True),
    sa.Column("robots_status", sa.Integer, nullable=False),
    sa.Column("robots_text", sa.Text, nullable=False),
    sa.Column("tdmrep_text", sa.Text, nullable=False),
    sa.Column("rules_until_ms", sa.BigInteger, nullable=False),  # 0: never read
    sa.Column("next_time_ms", sa.BigInteger, nullable=False),  # a Retry-After in force
    sa.Column("lease_owner", sa.Text, nullable=False),
    sa.Column("lease_until_ms", sa.BigInteger, nullable=False),
)
OUTBOX = sa.Table(
    "crawler_outbox", METADATA,
    sa.Column("sequence", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("topic", sa.Text, nullable=False),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("record_id", sa.Text, nullable=False),
    sa.Column("value", sa.LargeBinary, nullable=False),
)
CLAIMS = sa.Table(
    "crawler_claims", METADATA,
    sa.Column("fetch_id", sa.Text, primary_key=True),
    sa.Column("partition", sa.Integer, nullable=False),
    sa.Column("offset", sa.BigInteger, nullable=False),
)
BODIES = sa.Table(
    "crawler_bodies", METADATA,
    sa.Column("body_digest", sa.Text, primary_key=True),
    sa.Column("store_time_ms", sa.BigInteger, nullable=False, index=True),
)
REQUESTS = sa.Table("crawler_requests", METADATA, sa.Column("request_id", sa.Text, primary_key=True))
POSITIONS = sa.Table(
    "crawler_positions", METADATA,
    sa.Column("partition", sa.Integer, primary_key=True),
    sa.Column("next_offset", sa.BigInteger, nullable=False),
)
COUNTERS = sa.Table(
    "crawler_counters", METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.BigInteger, nullable=False),
)
SUPPRESSIONS = sa.table("suppressions", sa.column("kind"), sa.column("target"))
"""Curation's permanent list, read only: what may never be fetched or admitted again. Absent before curation ran."""
