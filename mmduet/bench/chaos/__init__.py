"""Stress a server with hostile clients and disturbances, while well-behaved clients must get the same results as alone."""

from mmduet.bench.chaos.report import ChaosConfig, ChaosReport
from mmduet.bench.chaos.run import run_chaos

__all__ = ["ChaosConfig", "ChaosReport", "run_chaos"]
