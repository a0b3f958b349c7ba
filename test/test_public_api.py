"""The public API: its exact names, each of which resolves, and an import that loads no large library."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import mmduet

PUBLIC = {
    "AnnotationError", "AssistantTurn", "ConnectionStatus", "Context", "DecodeOptions", "DenseCaptioning", "Engine",
    "EngineError", "EngineThread", "FormatError", "Frame", "HighlightDetection", "MmduetError", "ModelError", "OnlineGrounding",
    "OptionError", "Pipeline", "Query", "QuestionAnswering", "RemoteSession", "RemoteStream", "Reply", "ReplyDelta",
    "ReplyStarted", "Scores", "ServerError", "SessionFailed", "SessionOptions", "SessionWarning", "SpeakOptions",
    "StreamEnded", "TemporalGrounding", "VideoError", "VideoResult", "__version__", "load_model", "open_frames", "pipeline",
    "recommended_options",
}  # fmt: skip


def test_public_names_are_pinned() -> None:
    assert set(mmduet.__all__) == PUBLIC
    assert set(dir(mmduet)) >= PUBLIC


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_every_public_name_resolves(name: str) -> None:
    assert getattr(mmduet, name) is not None


def test_unknown_name_raises_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Narrate'"):
        _ = mmduet.Narrate


def test_import_loads_no_large_library() -> None:
    program = "import json, sys, mmduet; dir(mmduet); print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"torch", "numpy", "av", "pydantic"} & set(json.loads(done.stdout))
