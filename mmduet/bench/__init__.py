"""Measurements of time, memory and robustness. They are commands, not tests: a test would depend on the machine."""
