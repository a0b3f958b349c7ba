"""One module per benchmark: read and check the files, compute the metrics, and build the report; no torch."""

from __future__ import annotations

from typing import Literal

BenchmarkName = Literal[
    "qvhighlights", "grounding", "dense-captioning", "magqa", "proactive", "ovo", "audio-description", "captions"
]
