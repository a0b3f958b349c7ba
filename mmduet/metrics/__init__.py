"""Pure functions from predictions and ground truth to numbers; no torch, no files."""
