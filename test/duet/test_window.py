"""The window rule by itself, and that what trains and what serves agree on it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmduet.duet import ContextLayout, PinningRule, Role, Segment, evicted_at_frame, is_turn_pinned
from mmduet.model.presets import byte_tokenizer
from mmduet.training.sequence import SequenceBuilder

FRAME_TOKENS = 3
SEGMENTS = st.lists(
    st.one_of(
        st.builds(Segment, st.integers(1, 9), pinned=st.booleans()),
        st.just(Segment(FRAME_TOKENS, is_frame=True)),
    ),
    max_size=30,
).map(tuple)
LAYOUTS = st.builds(ContextLayout, SEGMENTS, st.integers(0, 20))
MAX_FRAMES, MAX_TOKENS = st.integers(1, 8), st.integers(0, 150)
TURNS = st.sampled_from(["query", "kept context", "context", "reply"])


def evict(layout: ContextLayout, evictions: int) -> ContextLayout:
    """Return what is left after some evictions. Pinned segments stay where they are instead of joining the head."""
    return ContextLayout(tuple(layout.segments[i] for i in layout.retained(evictions)), layout.pinned_tokens)


def fits(layout: ContextLayout, max_frames: int, new_frames: int, max_tokens: int, new_tokens: int) -> bool:
    return layout.frames + new_frames <= max_frames and layout.tokens + new_tokens <= max_tokens


@given(LAYOUTS, st.integers(0, 40))
def test_pinned_segments_are_never_evicted(layout: ContextLayout, evictions: int) -> None:
    left = evict(layout, evictions)
    assert [s for s in left.segments if s.pinned] == [s for s in layout.segments if s.pinned]


@given(LAYOUTS, st.integers(0, 40))
def test_oldest_segments_are_evicted_first_and_order_is_preserved(layout: ContextLayout, evictions: int) -> None:
    kept = layout.retained(evictions)
    assert kept == sorted(set(kept))
    evicted = set(range(len(layout.segments))) - set(kept)
    assert all(i < k for i in evicted for k in kept if not layout.segments[k].pinned)


@given(LAYOUTS, st.integers(0, 40))
def test_each_eviction_takes_one_frame_until_there_is_none(layout: ContextLayout, evictions: int) -> None:
    assert evict(layout, evictions).frames == max(0, layout.frames - evictions)


@given(LAYOUTS)
def test_without_evictions_everything_is_retained(layout: ContextLayout) -> None:
    assert evict(layout, 0) == layout


@given(LAYOUTS, st.integers(1, 40))
def test_unpinned_text_leaves_with_the_first_frame_after_it(layout: ContextLayout, evictions: int) -> None:
    kept = set(layout.retained(evictions))
    for i, segment in enumerate(layout.segments):
        frame = next((k for k in range(i, len(layout.segments)) if layout.segments[k].is_frame), None)
        if not segment.pinned and frame is not None:
            assert (i in kept) == (frame in kept)


@given(LAYOUTS, MAX_FRAMES, st.integers(0, 1), MAX_TOKENS, st.integers(0, 30))
def test_evictions_make_room_if_that_is_possible_and_are_never_more_than_necessary(
    layout: ContextLayout, max_frames: int, new_frames: int, max_tokens: int, new_tokens: int
) -> None:
    evictions = layout.evictions_needed(
        max_frames=max_frames, new_frames=new_frames, max_tokens=max_tokens, new_tokens=new_tokens
    )
    bounds = (max_frames, new_frames, max_tokens, new_tokens)
    pinned = layout.pinned_tokens + sum(s.tokens for s in layout.segments if s.pinned)
    assert fits(evict(layout, evictions), *bounds) == (pinned + new_tokens <= max_tokens)
    assert all(not fits(evict(layout, fewer), *bounds) for fewer in range(evictions))


@given(LAYOUTS, MAX_FRAMES)
def test_without_a_bound_on_tokens_only_frames_count(layout: ContextLayout, max_frames: int) -> None:
    assert layout.evictions_needed(max_frames=max_frames) == max(0, layout.frames - max_frames)


@pytest.mark.parametrize(
    ("role", "keep", "pinned"),
    [
        (Role.USER, False, True), ("user", False, True), (Role.SYSTEM, True, True),
        (Role.SYSTEM, False, False), ("system", False, False), (Role.ASSISTANT, False, False),
    ],
)  # fmt: skip
def test_queries_and_kept_turns_are_pinned(role: Role | str, keep: bool, pinned: bool) -> None:
    assert is_turn_pinned(role, keep=keep) == pinned
    assert PinningRule().append_turn(role, keep=keep) == pinned


def append_turn(rule: PinningRule, turn: str) -> bool:
    role = {"query": Role.USER, "reply": Role.ASSISTANT}.get(turn, Role.SYSTEM)
    return rule.append_turn(role, keep=turn == "kept context")


@given(st.lists(st.lists(TURNS, max_size=4), max_size=8))
def test_the_first_stream_header_is_pinned_and_each_that_follows_a_pinned_turn(timeline: list[list[str]]) -> None:
    """``timeline``: for each frame the turns before it."""
    rule = PinningRule()
    for number, turns in enumerate(timeline):
        pinned = [append_turn(rule, turn) for turn in turns]
        assert rule.append_frame() == (number == 0 or any(pinned))


@given(st.lists(st.lists(TURNS, max_size=3), max_size=12), MAX_FRAMES)
def test_the_frame_that_evicts_a_segment_is_the_one_for_which_room_is_made(
    timeline: list[list[str]], max_frames: int
) -> None:
    layout, frames_before = ContextLayout(), list[int]()
    rule, evicted_at = PinningRule(), dict[int, int]()
    segments: list[Segment] = []
    for frame, turns in enumerate(timeline):
        evictions = layout.evictions_needed(max_frames=max_frames, new_frames=1)
        left = set(layout.retained(evictions))
        for i in set(range(len(segments))) - left - evicted_at.keys():
            evicted_at[i] = frame
        new = [Segment(1, pinned=append_turn(rule, turn)) for turn in turns]
        new += [Segment(1, pinned=rule.append_frame()), Segment(FRAME_TOKENS, is_frame=True)]
        segments += new
        frames_before += [frame] * len(new)
        layout = ContextLayout(tuple(segments))
    for i, frame in evicted_at.items():
        assert frame == evicted_at_frame(frames_before[i], max_frames)


@given(st.lists(st.sampled_from(["frame", "frame", "query", "reply"]), max_size=25), MAX_FRAMES)
def test_a_training_sequence_shows_each_frame_what_the_window_rule_keeps(events: list[str], max_frames: int) -> None:
    """The events are fed as the engine does it: turns that are due are fed together with the next frame."""
    tokenizer = byte_tokenizer()
    builder, rule = SequenceBuilder(tokenizer, FRAME_TOKENS, max_frames), PinningRule()
    sequence = builder.sequence
    builder.append_text(Role.SYSTEM, "Watch.", keep=True)
    segments = [(Segment(sequence.size, pinned=rule.append_turn(Role.SYSTEM, keep=True)), 0)]  # with its first token
    context: list[tuple[Segment, int]] = []
    for event in events:
        first = sequence.size
        if event == "query":
            builder.append_text(Role.USER, "q")
            segments.append((Segment(sequence.size - first, pinned=rule.append_turn(Role.USER)), first))
        elif event == "reply" and sequence.frame_ends and first == sequence.frame_ends[-1] + 1:
            builder.append_kept_reply("r", learn=True)
            segments.append((Segment(sequence.size - first, pinned=rule.append_turn(Role.ASSISTANT)), first))
        elif event == "frame":
            builder.append_frame()
            header = sequence.size - first - FRAME_TOKENS
            segments.append((Segment(header, pinned=rule.append_frame()), first))
            segments.append((Segment(FRAME_TOKENS, is_frame=True), first + header))
            context = keep(context, max_frames - 1) + segments
            segments = []
            frame = len(sequence.frame_ends) - 1
            visible = [i for i in range(sequence.size) if sequence.evicted_at_frame[i] > frame]
            assert visible == [start + i for segment, start in context for i in range(segment.tokens)]


def keep(context: list[tuple[Segment, int]], max_frames: int) -> list[tuple[Segment, int]]:
    layout = ContextLayout(tuple(segment for segment, _ in context))
    return [context[i] for i in layout.retained(layout.evictions_needed(max_frames=max_frames))]
