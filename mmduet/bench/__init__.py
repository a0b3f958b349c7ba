"""Measurements that are commands, never tests: how long, how much, how steadily."""
