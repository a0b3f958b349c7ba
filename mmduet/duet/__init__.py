"""The duet format: roles, template, labels; no torch."""

from mmduet.duet.feed import Feed, make_feed
from mmduet.duet.labels import IGNORE, Answer, informative_targets, relevance_targets, reply_frame
from mmduet.duet.roles import END, IMAGE, START, SYSTEM_PROMPT, Role
from mmduet.duet.template import Piece, Renderer, Turn, refuse_markers, render

__all__ = [
    "END", "IGNORE", "IMAGE", "START", "SYSTEM_PROMPT", "Answer", "Feed", "Piece", "Renderer", "Role", "Turn",
    "informative_targets", "make_feed", "refuse_markers", "relevance_targets", "render", "reply_frame",
]  # fmt: skip
