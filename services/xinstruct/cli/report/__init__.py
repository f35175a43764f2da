"""The report: what a run made, as one HTML file and as JSON."""
