"""Lays one sample out as a token sequence with targets; the training side of the duet template. NumPy only, no weights.

Replies that stay in the conversation stand in the main line. Replies that are removed stand on *branches*: a branch sees
the main line up to the frame that set it off and itself, and nothing sees a branch. This is exactly what the engine's
rollback makes true when it serves, for the price of one forward.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from mmduet.annotations.training_samples import Sample
from mmduet.duet import IGNORE, SYSTEM_PROMPT, Piece, Renderer, Role, informative_targets, relevance_targets
from mmduet.model.tokenizer import Tokenizer

FRAME_TOKEN = -1
NEVER = 2**30  # the number of no frame: a token that leaves then stays in view


@dataclass
class Layout:
    """One sample, token by token [T], and frame by frame [F]."""

    ids: list[int] = field(default_factory=list)  # FRAME_TOKEN where a visual token goes
    positions: list[int] = field(default_factory=list)
    limits: list[int] = field(default_factory=list)  # the last main-line token it may see
    branches: list[int] = field(default_factory=list)  # 0: main line
    fed_with: list[int] = field(default_factory=list)  # number of the newest frame when it is fed
    leaves_at: list[int] = field(default_factory=list)  # number of the frame whose coming takes it out of view
    targets: list[int] = field(default_factory=list)  # what the language head should say next
    frame_ends: list[int] = field(default_factory=list)  # index of each frame's last token
    informative: list[int] = field(default_factory=list)
    relevance: list[int] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Number of tokens."""
        return len(self.ids)


class Builder:
    """Writes a layout in the order in which things happen; ``window`` is how many frames stay in view, None: all."""

    def __init__(self, tokenizer: Tokenizer, frame_tokens: int, window: int | None = None) -> None:
        self._tokenizer, self._frame_tokens, self._window = tokenizer, frame_tokens, window
        self._renderer = Renderer()
        self.layout = Layout()
        self._end = 0  # main line: next position
        self._last = -1  # main line: index of the last token
        self._pin_header = True  # whether the next stream header stays in view, as in the engine

    @property
    def _frames(self) -> int:
        return len(self.layout.frame_ends)

    def main(self, pieces: Sequence[Piece], *, fed_with: int, pinned: bool = False, learn: bool = False) -> None:
        """Append to the main line; ``learn`` makes assistant text and its closing token targets."""
        leaves_at = NEVER if pinned or self._window is None else self._frames + self._window
        for piece in pieces:
            ids = [FRAME_TOKEN] * self._frame_tokens if piece.frame else self._tokenizer.encode_piece(piece)
            if not ids:
                continue
            first = self.layout.size
            self._append(ids, self._end, range(first, first + len(ids)), 0, fed_with, leaves_at)
            if learn:
                self.layout.targets[self._last] = ids[0]
                self.layout.targets[first:-1] = ids[1:]
            self._last = self.layout.size - 1
            self._end += len(ids)

    def frame(self) -> None:
        """The next frame of the stream."""
        *header, frame = self._renderer.frame()
        self.main(header, fed_with=self._frames, pinned=self._pin_header)
        self.main([frame], fed_with=self._frames)
        self.layout.frame_ends.append(self._last)
        self._pin_header = False

    def text(self, role: Role, text: str) -> None:
        """A system or user turn; it stays in view."""
        self.main(self._renderer.text_turn(role, text), fed_with=self._frames, pinned=True)
        self._pin_header = True

    def kept_reply(self, text: str, learn: bool) -> None:
        """A reply that stays in the conversation, until the frame after it leaves."""
        last = self._frames - 1
        self.main(self._renderer.begin_reply(), fed_with=last)
        self.main([Piece(text, Role.ASSISTANT)], fed_with=last, learn=learn)
        self.main(self._renderer.end_reply(), fed_with=self._frames, learn=learn)  # its end waits for the next frame

    def removed_replies(self, anchors: Sequence[tuple[int, str]]) -> None:
        """Replies set off by frames (by number), each on a branch of its own, as if rolled back afterwards."""
        for branch, (frame, text) in enumerate(anchors, start=1):
            self._branch(branch, frame, Renderer(started=True, streaming=True), [], text)

    def side_questions(self, asked: Sequence[tuple[int, str, str]]) -> None:
        """Questions (frame, question, answer) that are answered at once and forgotten, each on a branch of its own."""
        for branch, (frame, question, answer) in enumerate(asked, start=max(self.layout.branches) + 1):
            renderer = Renderer(started=True, streaming=True)
            self._branch(branch, frame, renderer, renderer.text_turn(Role.USER, question), answer)

    def _branch(self, branch: int, frame: int, renderer: Renderer, before: Sequence[Piece], reply: str) -> None:
        """``before``, then a learned reply, seen from ``frame``."""
        header = [i for p in [*before, *renderer.begin_reply()] for i in self._tokenizer.encode_piece(p)]
        said = [*self._tokenizer.encode(reply), self._tokenizer.end_id]
        anchor = self.layout.frame_ends[frame]
        first = self.layout.positions[anchor] + 1
        ids = [*header, *said]
        self._append(ids, first, [anchor] * len(ids), branch, frame, NEVER)
        self.layout.targets[-len(said) - 1 : -1] = said

    def _append(
        self, ids: list[int], first: int, limits: Sequence[int], branch: int, fed_with: int, leaves_at: int
    ) -> None:
        """Tokens at positions from ``first`` on."""
        layout, size = self.layout, len(ids)
        layout.ids += ids
        layout.positions += range(first, first + size)
        layout.limits += limits
        layout.branches += [branch] * size
        layout.fed_with += [fed_with] * size
        layout.leaves_at += [leaves_at] * size
        layout.targets += [IGNORE] * size


def lay_out(
    sample: Sample,
    times: Sequence[float],
    tokenizer: Tokenizer,
    frame_tokens: int,
    *,
    keep_replies: bool,
    rng: np.random.Generator,
    asides: Sequence[tuple[int, str, str]] = (),
    window: int | None = None,
) -> Layout:
    """A sample over frames at ``times`` (s) as tokens and targets.

    A frame, and what was said before it, is seen until ``window`` newer frames have come, as in the engine. Positions are
    those of the whole sample: what is pinned lies as far away as it was said, in the engine no further than the window.
    ``asides`` are side questions (frame, question, answer). A kept reply is given at one of its positive frames, drawn at
    random; the frames after it are negative again. A removed reply is learned at every positive frame, since any of them may
    set it off.
    """
    informative = informative_targets(times, sample.answers)
    spoken = _spoken(sample, times, informative, keep_replies, rng)
    builder = Builder(tokenizer, frame_tokens, window)
    builder.text(Role.SYSTEM, SYSTEM_PROMPT)
    queries = sorted(sample.queries, key=lambda q: q.time)
    for k, time in enumerate(times):
        while queries and queries[0].time <= (time if k else max(time, 0.0)):
            builder.text(Role.USER, queries.pop(0).text)
        builder.frame()
        if keep_replies and k in spoken:
            answer = sample.answers[spoken[k]]
            builder.kept_reply(answer.text, answer.learn)
    if keep_replies:
        informative = _silent_after(sample, times, informative, spoken)
    else:
        builder.removed_replies([(k, sample.answers[i].text) for k, i in spoken.items()])
    builder.side_questions(asides)
    grounding = sample.kind == "grounding"
    layout = builder.layout
    layout.informative = [IGNORE] * len(times) if grounding else informative
    layout.relevance = relevance_targets(times, sample.spans) if grounding else [IGNORE] * len(times)
    return layout


def _positive_frames(sample: Sample, times: Sequence[float], informative: Sequence[int]) -> list[list[int]]:
    """For each answer, the frames at which it may be given: within its own stream turn, so none belongs to two answers."""
    found, before = [], float("-inf")
    for answer in sample.answers:
        middle = sum(answer.timespan) / 2
        own = [k for k, t in enumerate(times) if before < t and middle <= t <= answer.time and informative[k] != 0]
        found.append(own)
        before = answer.time
    return found


def _spoken(
    sample: Sample, times: Sequence[float], informative: Sequence[int], keep: bool, rng: np.random.Generator
) -> dict[int, int]:
    """Which frame sets off which answer."""
    spoken: dict[int, int] = {}
    for i, frames in enumerate(_positive_frames(sample, times, informative)):
        if frames and keep:
            spoken[frames[int(rng.integers(len(frames)))]] = i
        elif sample.answers[i].learn:
            spoken.update(dict.fromkeys(frames, i))
    return spoken


def _silent_after(sample: Sample, times: Sequence[float], informative: list[int], spoken: dict[int, int]) -> list[int]:
    """Once an answer has been given, its later positive frames are negative: it has been said."""
    targets = list(informative)
    for frame, i in spoken.items():
        for k, time in enumerate(times):
            if k > frame and time <= sample.answers[i].time and targets[k] == 1:
                targets[k] = 0
    return targets
