"""Curation: the catalog of everything that happened, selection, diversification, releases, reviews and takedowns."""
