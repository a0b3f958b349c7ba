"""Launcher of the live page, with sample clips."""
