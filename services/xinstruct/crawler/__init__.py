"""The crawler: sources and frontier, fetching within robots.txt and opt-outs, extraction and admission."""
