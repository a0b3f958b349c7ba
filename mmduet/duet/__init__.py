"""The duet format: roles, template, labels; no torch."""

from mmduet.duet.feed import Feed, make_feed
from mmduet.duet.labels import IGNORE, informative_targets, relevance_targets, reply_frame
from mmduet.duet.roles import END, IMAGE, START, SYSTEM_PROMPT, Role
from mmduet.duet.template import Piece, Renderer, Turn, check_no_markers, render

__all__ = [
    "END",
    "IGNORE",
    "IMAGE",
    "START",
    "SYSTEM_PROMPT",
    "Feed",
    "Piece",
    "Renderer",
    "Role",
    "Turn",
    "check_no_markers",
    "informative_targets",
    "make_feed",
    "relevance_targets",
    "render",
    "reply_frame",
]  # fmt: skip
