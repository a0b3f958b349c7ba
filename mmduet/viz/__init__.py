"""Draw film strips, score timelines and span bars for the CLI, reports and pages; no torch."""
