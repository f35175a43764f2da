"""xinstruct demo: the main job on an invented web site, from URL to release, with the truth at hand."""
