"""One file for each benchmark: reads its files, checks them, and turns pure metrics into a report; no torch."""
