"""Build the token sequence and targets of one sample: the training side of the duet template. NumPy only, no weights.

Replies that stay in the conversation are on the main line. Replies that are removed are on *branches*: a branch attends to the
main line up to the frame that triggered it and to itself, and nothing attends to a branch. One forward pass thus computes what
the engine computes by rolling back after each reply.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from mmduet.annotations.training_samples import Sample
from mmduet.duet import (
    IGNORE,
    SYSTEM_PROMPT,
    Piece,
    PinningRule,
    Renderer,
    Role,
    evicted_at_frame,
    informative_targets,
    relevance_targets,
)
from mmduet.model.tokenizer import Tokenizer

FRAME_TOKEN = -1
NEVER = 2**30  # larger than any frame number: a token with this number is never evicted


@dataclass
class TrainingSequence:
    """One sample, per token [T] and per frame [F]."""

    ids: list[int] = field(default_factory=list)  # FRAME_TOKEN in place of a visual token
    positions: list[int] = field(default_factory=list)
    limits: list[int] = field(default_factory=list)  # the last main-line token that it may attend to
    branches: list[int] = field(default_factory=list)  # 0: main line
    visible_from_frame: list[int] = field(default_factory=list)  # number of the newest frame when the token is fed
    evicted_at_frame: list[int] = field(default_factory=list)  # number of the frame that evicts the token
    targets: list[int] = field(default_factory=list)  # the next token that the language head should predict
    frame_ends: list[int] = field(default_factory=list)  # index of each frame's last token
    frame_times: list[float] = field(default_factory=list)  # seconds
    informative: list[int] = field(default_factory=list)
    relevance: list[int] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Number of tokens."""
        return len(self.ids)


class SequenceBuilder:
    """Appends turns in the order of the stream. ``window`` is the number of frames that stay in view; None: all."""

    def __init__(self, tokenizer: Tokenizer, frame_tokens: int, window: int | None = None) -> None:
        self._tokenizer, self._frame_tokens, self._window = tokenizer, frame_tokens, window
        self._renderer = Renderer()
        self.sequence = TrainingSequence()
        self._next_position = 0  # on the main line
        self._last = -1  # index of the last main-line token
        self._pinning = PinningRule()

    @property
    def _frames(self) -> int:
        return len(self.sequence.frame_ends)

    def append_main(
        self, pieces: Sequence[Piece], *, visible_from_frame: int, pinned: bool = False, learn: bool = False
    ) -> None:
        """Append to the main line. With ``learn``, assistant text and its closing token become targets."""
        leaves = NEVER if pinned or self._window is None else evicted_at_frame(self._frames, self._window)
        for piece in pieces:
            ids = [FRAME_TOKEN] * self._frame_tokens if piece.frame else self._tokenizer.encode_piece(piece)
            if not ids:
                continue
            first = self.sequence.size
            limits = range(first, first + len(ids))
            self._append(ids, self._next_position, limits, 0, visible_from_frame, leaves)
            if learn:
                self.sequence.targets[self._last] = ids[0]
                self.sequence.targets[first:-1] = ids[1:]
            self._last = self.sequence.size - 1
            self._next_position += len(ids)

    def append_frame(self) -> None:
        """Append the next frame of the stream."""
        *header, frame = self._renderer.frame()
        self.append_main(header, visible_from_frame=self._frames, pinned=self._pinning.append_frame())
        self.append_main([frame], visible_from_frame=self._frames)
        self.sequence.frame_ends.append(self._last)

    def append_text(self, role: Role, text: str, *, keep: bool = False) -> None:
        """Append a system or user turn. It is pinned if it is a user turn or ``keep`` is set."""
        pinned = self._pinning.append_turn(role, keep=keep)
        self.append_main(self._renderer.text_turn(role, text), visible_from_frame=self._frames, pinned=pinned)

    def append_kept_reply(self, text: str, learn: bool) -> None:
        """Append a reply that stays in the conversation until the frame after it is evicted."""
        last = self._frames - 1
        self.append_main(self._renderer.begin_reply(), visible_from_frame=last)
        self.append_main([Piece(text, Role.ASSISTANT)], visible_from_frame=last, learn=learn)
        # The closing tokens are fed together with the next frame.
        self.append_main(self._renderer.end_reply(), visible_from_frame=self._frames, learn=learn)

    def append_exchange(self, question: str, answer: str, learn: bool) -> None:
        """Append a question after the last frame, and its answer; both stay in the conversation."""
        last = self._frames - 1
        pinned = self._pinning.append_turn(Role.USER)
        self.append_main(self._renderer.text_turn(Role.USER, question), visible_from_frame=last, pinned=pinned)
        self.append_main(self._renderer.begin_reply(), visible_from_frame=last)
        self.append_main([Piece(answer, Role.ASSISTANT)], visible_from_frame=last, learn=learn)
        self.append_main(self._renderer.end_reply(), visible_from_frame=last, learn=learn)

    def append_removed_replies(self, replies: Sequence[tuple[int, str]]) -> None:
        """Append replies (frame that triggers it, text), each on its own branch, as if rolled back afterwards."""
        for branch, (frame, text) in enumerate(replies, start=1):
            self._append_branch(branch, frame, Renderer(started=True, streaming=True), [], text)

    def append_side_questions(self, questions: Sequence[tuple[int, str, str]]) -> None:
        """Append (frame, question, answer), each on its own branch, as if rolled back after the answer."""
        for branch, (frame, question, answer) in enumerate(questions, start=max(self.sequence.branches) + 1):
            renderer = Renderer(started=True, streaming=True)
            self._append_branch(branch, frame, renderer, renderer.text_turn(Role.USER, question), answer)

    def _append_branch(self, branch: int, frame: int, renderer: Renderer, before: Sequence[Piece], reply: str) -> None:
        """Append ``before`` and a reply with targets, which attend to the main line up to ``frame``."""
        header = [i for p in [*before, *renderer.begin_reply()] for i in self._tokenizer.encode_piece(p)]
        reply_ids = [*self._tokenizer.encode(reply), self._tokenizer.end_id]
        anchor = self.sequence.frame_ends[frame]
        first = self.sequence.positions[anchor] + 1
        ids = [*header, *reply_ids]
        self._append(ids, first, [anchor] * len(ids), branch, frame, NEVER)
        self.sequence.targets[-len(reply_ids) - 1 : -1] = reply_ids

    def _append(
        self,
        ids: list[int],
        position: int,
        limits: Sequence[int],
        branch: int,
        visible_from_frame: int,
        evicted_at_frame: int,
    ) -> None:
        """Append tokens at positions from ``position`` on."""
        sequence, size = self.sequence, len(ids)
        sequence.ids += ids
        sequence.positions += range(position, position + size)
        sequence.limits += limits
        sequence.branches += [branch] * size
        sequence.visible_from_frame += [visible_from_frame] * size
        sequence.evicted_at_frame += [evicted_at_frame] * size
        sequence.targets += [IGNORE] * size


def build_sequence(
    sample: Sample,
    times: Sequence[float],
    tokenizer: Tokenizer,
    frame_tokens: int,
    *,
    keep_replies: bool,
    rng: np.random.Generator,
    side_questions: Sequence[tuple[int, str, str]] = (),
    window: int | None = None,
) -> TrainingSequence:
    """Return the tokens and targets of a sample with frames at ``times`` (seconds).

    As in the engine, ``window`` bounds the frames in the context. Positions are those of the whole sample, so the distance to
    pinned turns grows; in the engine it never exceeds the window. ``side_questions`` are (frame, question, answer).

    A kept reply follows one of its positive frames, drawn at random, and the frames after it become negative. A removed reply
    is learned at every positive frame, because each of them may trigger it. The answers of a conversation always stay.
    """
    builder = SequenceBuilder(tokenizer, frame_tokens, window)
    builder.append_text(Role.SYSTEM, SYSTEM_PROMPT, keep=True)
    if sample.kind == "conversation":
        return _append_conversation(builder, sample, len(times))
    informative = informative_targets(times, sample.answers, _turn_starts(sample, times))
    reply_at = _assign_replies(sample, times, informative, keep_replies, rng)
    queries = sorted(sample.queries, key=lambda q: q.time)
    for k, time in enumerate(times):
        while queries and queries[0].time <= (time if k else max(time, 0.0)):
            builder.append_text(Role.USER, queries.pop(0).text)
        builder.append_frame()
        if keep_replies and k in reply_at:
            answer = sample.answers[reply_at[k]]
            builder.append_kept_reply(answer.text, answer.learn)
    if keep_replies:
        informative = _clear_targets_after_reply(sample, times, informative, reply_at)
    else:
        builder.append_removed_replies([(k, sample.answers[i].text) for k, i in reply_at.items()])
    builder.append_side_questions(side_questions)
    grounding = sample.kind == "grounding"
    sequence = builder.sequence
    sequence.frame_times = [float(time) for time in times]
    sequence.informative = [IGNORE] * len(times) if grounding else informative
    sequence.relevance = relevance_targets(times, sample.spans) if grounding else [IGNORE] * len(times)
    return sequence


def _append_conversation(builder: SequenceBuilder, sample: Sample, frames: int) -> TrainingSequence:
    """Append all frames, then questions and answers in turn. Frames have no labels."""
    for _ in range(frames):
        builder.append_frame()
    for query, answer in zip(sample.queries, sample.answers, strict=True):
        builder.append_exchange(query.text, answer.text, answer.learn)
    sequence = builder.sequence
    sequence.informative, sequence.relevance = [IGNORE] * frames, [IGNORE] * frames
    return sequence


def _turn_starts(sample: Sample, times: Sequence[float]) -> list[int]:
    """Return for each answer the first frame of the stream turn that it ends.

    That is after the previous answer, and after the last query that precedes the answer.
    """
    starts, previous = [], float("-inf")
    for answer in sample.answers:
        query = max((q.time for q in sample.queries if q.time <= answer.time), default=float("-inf"))
        starts.append(next((k for k, t in enumerate(times) if previous < t and query <= t), len(times)))
        previous = answer.time
    return starts


def _positive_frames(sample: Sample, times: Sequence[float], informative: Sequence[int]) -> list[list[int]]:
    """Return for each answer the frames that may trigger it: within its own stream turn, so no frame has two answers."""
    found, previous = [], float("-inf")
    for answer in sample.answers:
        middle = sum(answer.timespan) / 2
        found.append(
            [k for k, t in enumerate(times) if previous < t and middle <= t <= answer.time and informative[k] != 0]
        )
        previous = answer.time
    return found


def _assign_replies(
    sample: Sample, times: Sequence[float], informative: Sequence[int], keep: bool, rng: np.random.Generator
) -> dict[int, int]:
    """Return which frame triggers which answer, by their indices."""
    reply_at: dict[int, int] = {}
    for i, frames in enumerate(_positive_frames(sample, times, informative)):
        if frames and keep:
            reply_at[frames[int(rng.integers(len(frames)))]] = i
        elif sample.answers[i].learn:
            reply_at.update(dict.fromkeys(frames, i))
    return reply_at


def _clear_targets_after_reply(
    sample: Sample, times: Sequence[float], informative: list[int], reply_at: dict[int, int]
) -> list[int]:
    """Return ``informative`` with 0 at the positive frames after the frame at which the answer was given."""
    targets = list(informative)
    for frame, i in reply_at.items():
        for k, time in enumerate(times):
            if k > frame and time <= sample.answers[i].time and targets[k] == 1:
                targets[k] = 0
    return targets
