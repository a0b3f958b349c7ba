"""The duet format: roles, template, window rule, labels; no torch."""

from mmduet.duet.feed import Feed, make_feed
from mmduet.duet.labels import IGNORE, informative_targets, relevance_targets, reply_frame
from mmduet.duet.roles import END, IMAGE, START, SYSTEM_PROMPT, Role
from mmduet.duet.template import Piece, Renderer, Turn, check_no_markers, render
from mmduet.duet.window import (
    ContextLayout,
    PinningRule,
    Segment,
    count_evictions,
    evicted_at_frame,
    eviction_blocks,
    is_turn_pinned,
)

__all__ = [
    "END",
    "IGNORE",
    "IMAGE",
    "START",
    "SYSTEM_PROMPT",
    "ContextLayout",
    "Feed",
    "Piece",
    "PinningRule",
    "Renderer",
    "Role",
    "Segment",
    "Turn",
    "check_no_markers",
    "count_evictions",
    "evicted_at_frame",
    "eviction_blocks",
    "informative_targets",
    "is_turn_pinned",
    "make_feed",
    "relevance_targets",
    "render",
    "reply_frame",
]
