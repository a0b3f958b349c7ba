"""What this installation and this machine have: packages, processor, memory, devices, video decoders and Java."""

from mmduet.diagnostics.diagnosis import Diagnosis, diagnose

__all__ = ["Diagnosis", "diagnose"]
