"""Evaluations that run a model; the only part of ``mmduet.evaluation`` that needs torch."""
