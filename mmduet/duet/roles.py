"""Constants of the duet format: roles, markers and the system prompt.

Source: MMDuet, arXiv 2411.17991, and its reference implementation. Video is a speaker with a role of its own, ``stream``.
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
    """Speaker of a turn."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    STREAM = "stream"
