"""Streaming inference for video language models in the duet format.

Names are imported when they are first used, so ``import mmduet`` is fast and loads neither torch nor NumPy. What ``__all__``
lists is the public API; everything else is internal.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmduet.client import ConnectionStatus, RemoteSession, RemoteStream
    from mmduet.engine import Engine, EngineThread, recommended_options
    from mmduet.errors import (
        AnnotationError,
        EngineError,
        FormatError,
        MmduetError,
        ModelError,
        OptionError,
        ServerError,
        VideoError,
    )
    from mmduet.events import (
        AssistantTurn,
        Context,
        Frame,
        Query,
        Reply,
        ReplyDelta,
        ReplyStarted,
        Scores,
        SessionFailed,
        SessionWarning,
        StreamEnded,
    )
    from mmduet.model import load_model
    from mmduet.options import DecodeOptions, SessionOptions, SpeakOptions
    from mmduet.pipelines.jobs import VideoResult
    from mmduet.pipelines.pipeline import Pipeline, pipeline
    from mmduet.tasks import (
        DenseCaptioning,
        HighlightDetection,
        OnlineGrounding,
        QuestionAnswering,
        TemporalGrounding,
    )
    from mmduet.video import open_frames

__version__ = "0.1.0"

_MODULES = {
    "mmduet.client": ("ConnectionStatus", "RemoteSession", "RemoteStream"),
    "mmduet.engine": ("Engine", "EngineThread", "recommended_options"),
    "mmduet.errors": (
        "AnnotationError",
        "EngineError",
        "FormatError",
        "MmduetError",
        "ModelError",
        "OptionError",
        "ServerError",
        "VideoError",
    ),
    "mmduet.events": (
        "AssistantTurn",
        "Context",
        "Frame",
        "Query",
        "Reply",
        "ReplyDelta",
        "ReplyStarted",
        "Scores",
        "SessionFailed",
        "SessionWarning",
        "StreamEnded",
    ),
    "mmduet.model": ("load_model",),
    "mmduet.options": ("DecodeOptions", "SessionOptions", "SpeakOptions"),
    "mmduet.pipelines.jobs": ("VideoResult",),
    "mmduet.pipelines.pipeline": ("Pipeline", "pipeline"),
    "mmduet.tasks": (
        "DenseCaptioning",
        "HighlightDetection",
        "OnlineGrounding",
        "QuestionAnswering",
        "TemporalGrounding",
    ),
    "mmduet.video": ("open_frames",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "AnnotationError",
    "AssistantTurn",
    "ConnectionStatus",
    "Context",
    "DecodeOptions",
    "DenseCaptioning",
    "Engine",
    "EngineError",
    "EngineThread",
    "FormatError",
    "Frame",
    "HighlightDetection",
    "MmduetError",
    "ModelError",
    "OnlineGrounding",
    "OptionError",
    "Pipeline",
    "Query",
    "QuestionAnswering",
    "RemoteSession",
    "RemoteStream",
    "Reply",
    "ReplyDelta",
    "ReplyStarted",
    "Scores",
    "ServerError",
    "SessionFailed",
    "SessionOptions",
    "SessionWarning",
    "SpeakOptions",
    "StreamEnded",
    "TemporalGrounding",
    "VideoError",
    "VideoResult",
    "__version__",
    "load_model",
    "open_frames",
    "pipeline",
    "recommended_options",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'mmduet' has no attribute {name!r}; the public names are in mmduet.__all__")
    value = getattr(import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names, whether or not they have been imported yet."""
    return sorted({*globals(), *__all__})
