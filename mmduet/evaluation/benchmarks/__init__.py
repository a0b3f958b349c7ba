"""One module per benchmark: read and check the files, compute the metrics, and build the report; no torch."""
