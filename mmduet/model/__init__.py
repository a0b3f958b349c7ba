"""The duet network, its checkpoints, adapters and quantisation."""

from mmduet.model.config import DuetConfig, Recommended, TextShape, VisionShape
from mmduet.model.loading import LoadedModel, load_model
from mmduet.model.network import HEADS, DuetModel, HeadName

__all__ = [
    "HEADS",
    "DuetConfig",
    "DuetModel",
    "HeadName",
    "LoadedModel",
    "Recommended",
    "TextShape",
    "VisionShape",
    "load_model",
]
