"""The duet format's fixed words: roles, markers, the system prompt; text only, no token ids and no tensors.

Source: MMDuet, arXiv 2411.17991, and its reference implementation. Video is a speaker: ``stream`` is a role like the others.
"""

from __future__ import annotations

from enum import StrEnum

START = "<|im_start|>"
END = "<|im_end|>"
IMAGE = "<image>"
SYSTEM_PROMPT = (
    "A multimodal AI assistant is helping users with some activities. "
    "Below is their conversation, interleaved with the list of video frames received by the assistant."
)


class Role(StrEnum):
    """Who speaks a turn."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    STREAM = "stream"
