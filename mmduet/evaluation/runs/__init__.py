"""Evaluations that run a model."""
