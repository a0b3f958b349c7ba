"""Reference engines as opponents of the engine: they process the frames and replies of its first stream, round by round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

from mmduet.bench.engine.frames import FramePool, reply_indices
from mmduet.bench.reference_engines import REFERENCE_ENGINES, StreamTrace
from mmduet.events import Reply, Scores
from mmduet.model import LoadedModel
from mmduet.model.tokenizer import Tokenizer


@dataclass(frozen=True)
class ReferenceRound:
    """One round of a reference engine, and the wall time that it took in seconds."""

    trace: StreamTrace
    seconds: float

    @property
    def frames_per_second(self) -> float:
        """Frames per second of the one stream. Several streams one after another have the same rate in total."""
        return len(self.trace.scores) / self.seconds


class ReferenceRunner:
    """A reference engine with one stream."""

    def __init__(
        self, name: str, model: LoadedModel, pool: FramePool, query: str, window: int | None, max_new_tokens: int
    ) -> None:
        """Open the stream. ``model`` is what ``plain_copy`` returned."""
        self.name, self._pool, self._next_index = name, pool, 0
        self._engine = REFERENCE_ENGINES[name](model, query, window, max_new_tokens)

    def run(self, frames: int, replies: int) -> ReferenceRound:
        """Process the next frames, with the same replies as the first stream of ``SaturatedStreams``."""
        prepared = [self._pool.frame(0, self._next_index + i) for i in range(frames)]
        self._next_index += frames
        begin = perf_counter()
        trace = self._engine.run(prepared, reply_indices(frames, replies, 0.0))
        return ReferenceRound(trace, perf_counter() - begin)


@dataclass(frozen=True)
class Agreement:
    """How far the engine's first stream and a reference agree: the largest difference of a score, and equal replies."""

    score_difference: float
    equal_replies: int
    replies: int


def compare_outputs(outputs: Sequence[Scores | Reply], trace: StreamTrace, tokenizer: Tokenizer) -> Agreement:
    """Compare what the engine emitted for a stream with what a reference produced."""
    scores = [(output.informative, output.relevance) for output in outputs if isinstance(output, Scores)]
    difference = max(
        abs(ours - theirs)
        for pair, reference in zip(scores, trace.scores, strict=True)
        for ours, theirs in zip(pair, reference, strict=True)
    )
    replies = [(output.text, output.tokens) for output in outputs if isinstance(output, Reply)]
    expected = [(tokenizer.decode(tokens), len(tokens)) for tokens in trace.replies]
    return Agreement(difference, sum(a == b for a, b in zip(replies, expected, strict=True)), len(replies))
