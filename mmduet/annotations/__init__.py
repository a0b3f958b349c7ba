"""Parse and write every on-disk format of data sets, predictions and subtitles as plain types; no torch."""
