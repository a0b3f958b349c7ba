"""Validate a saved model by running it as when serving: when it replies to validation clips, compared with the annotations.

Losses are computed on the annotated replies; here the policy decides and the model's own replies are decoded.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mmduet.annotations.json_values import Json
from mmduet.annotations.scene_files import read_clips
from mmduet.engine import Engine, Session, recommended_options
from mmduet.engine.config import EngineConfig
from mmduet.engine.defaults import slot_tokens
from mmduet.engine.pool_size import cache_shape
from mmduet.errors import OptionError
from mmduet.events import Frame, Output, Query
from mmduet.metrics.reply_matching import TOLERANCE_SECONDS, TimedText
from mmduet.metrics.reply_timing import DueReply, TimingCounts, compare_timing
from mmduet.model import LoadedModel, load_model
from mmduet.model.network import DuetModel
from mmduet.model.quantize import Quantization
from mmduet.options import SessionOptions
from mmduet.spans import Span
from mmduet.tasks.base import StreamResult
from mmduet.training.data_sets import SourceSample
from mmduet.training.recipe import Recipe
from mmduet.training.validation_split import choose_samples
from mmduet.video import open_frames

MAX_SESSIONS = 8  # that are open at the same time
POOL_SLACK = 1.5  # for slots that are rounded up
TIMED_KINDS = ("captioning", "qa")  # kinds of samples whose replies have times


@dataclass(frozen=True)
class ValidationClip:
    """A video, its query and the replies that are due. ``max_frames`` are run at ``fps``."""

    path: Path
    queries: tuple[Query, ...]
    due: tuple[DueReply, ...]
    fps: float | None
    max_frames: int


class LiveValidation:
    """Runs saved models of one training run on the same clips."""

    def __init__(self, recipe: Recipe, sources: Sequence[SourceSample], clips: int, device: str = "auto") -> None:
        """Choose at most ``clips`` of ``sources``, validation samples of ``recipe``'s data sets; the seed decides which.

        In a split of scenes a reply is due from the end of an event until ``TOLERANCE_SECONDS`` after it, as ``mmduet scenes
        score`` has it. Elsewhere it is due within the annotated span, and until the annotated time if that is later.

        Raises ``OptionError`` if no sample has replies with times, and ``AnnotationError`` if scenes cannot be read.
        """
        timed = [source for source in sources if source.sample.kind in TIMED_KINDS]
        if not timed:
            raise OptionError(
                "validation.decode_clips needs validation samples with timed replies (captioning, magqa or scenes); "
                "set it to 0, or add such data"
            )
        chosen = choose_samples(timed, clips, recipe.seed)
        truth = _SceneTruth(recipe, {source.set_name for source in chosen})
        self.clips = [_make_clip(recipe, source, truth) for source in chosen]
        self._recipe, self._device = recipe, device

    def __call__(self, directory: str | Path) -> dict[str, float]:
        """Return the figures of the adapter or checkpoint in ``directory``, run with the settings that its manifest recommends.

        They are ``speak_f1``, ``speak_precision``, ``speak_recall``, ``repeat_rate`` (the share of replies that match nothing
        and repeat another), ``replies_per_minute``, and ``timing_error_seconds`` if any reply came when one was due.

        Raises the error of a video that cannot be read or of a session that failed.
        """
        model = self._load(Path(directory))
        _limit_context(model.network, max(clip.max_frames for clip in self.clips))
        options = recommended_options(model.config.recommended)
        engine = Engine(model, _engine_config(model, options, min(MAX_SESSIONS, len(self.clips))))
        total = TimingCounts()
        for start in range(0, len(self.clips), MAX_SESSIONS):
            clips = self.clips[start : start + MAX_SESSIONS]
            for clip, result in zip(clips, _run(engine, options, clips), strict=True):
                total += _compare(clip, result)
        return total.to_dict()

    def _load(self, directory: Path) -> LoadedModel:
        """Load a saved model. With QLoRA its language model has 4 bits as in training, so that the memory is enough for it."""
        recipe = self._recipe
        if recipe.method.kind == "full":
            return load_model(directory, recipe.dtype, self._device)
        quantized: Quantization | None = "nf4" if recipe.method.kind == "qlora" else None
        return load_model(recipe.model, recipe.dtype, self._device, directory, quantized=quantized)


class _SceneTruth:
    """The exact events of the recipe's splits of scenes, by data set and video."""

    def __init__(self, recipe: Recipe, names: Collection[str]) -> None:
        self._clips: dict[str, Mapping[str, Json]] = {
            data_set.name: {clip["video"]: clip for clip in read_clips(data_set.videos)}
            for data_set in (*recipe.data, *recipe.validation.data)
            if data_set.kind == "scenes" and data_set.name in names
        }

    def due(self, source: SourceSample) -> tuple[DueReply, ...] | None:
        """Return the replies that are due in a sample, None if it is not of a scene."""
        clip = self._clips.get(source.set_name, {}).get(source.sample.video)
        if clip is None:
            return None
        events = [(event["end"], event["text"]) for event in clip["events"]]
        if source.sample.kind == "qa":
            query = source.sample.queries[0]
            question = next(each for each in clip["questions"] if each["question"] == query.text)
            events = [(answer["end"], answer["content"]) for answer in question["answers"]]
        return tuple(DueReply(Span(end, end + TOLERANCE_SECONDS), end, text) for end, text in events)


def _make_clip(recipe: Recipe, source: SourceSample, truth: _SceneTruth) -> ValidationClip:
    data_set = next(each for each in (*recipe.data, *recipe.validation.data) if each.name == source.set_name)
    sampling = recipe.sampling_for(data_set)
    due = truth.due(source)
    if due is None:
        due = tuple(
            DueReply(Span(answer.timespan[0], max(answer.timespan[1], answer.time)), answer.time, answer.text)
            for answer in source.sample.answers
        )
    return ValidationClip(source.path, source.sample.queries, due, sampling.fps, sampling.max_frames)


def _limit_context(network: DuetModel, frames: int) -> None:
    """Give a model without a window one that holds all ``frames`` of a clip, so that sessions reserve no more memory."""
    config = network.config
    bounded = replace(config.recommended, window=config.recommended.window or frames)
    try:
        slot_tokens(config, recommended_options(bounded))
    except OptionError:  # the model has too few positions for a window of this size
        return
    network.config = replace(config, recommended=bounded)


def _engine_config(model: LoadedModel, options: SessionOptions, sessions: int) -> EngineConfig:
    """Return a configuration with memory for ``sessions`` sessions, so that the rest stays free for training."""
    shape = cache_shape(model.network)
    size = slot_tokens(model.config, options) * shape.token_bytes + options.text_tokens * shape.pin_bytes
    return EngineConfig(graphs=False, kv_bytes=int(sessions * size * POOL_SLACK))


def _run(engine: Engine, options: SessionOptions, clips: Sequence[ValidationClip]) -> list[StreamResult]:
    """Run clips together, each in its own session, and return their scores and replies."""
    sessions = [engine.open(options) for _ in clips]
    try:
        frames = [_open(engine, session, clip) for session, clip in zip(sessions, clips, strict=True)]
        outputs: dict[int, list[Output]] = {session.id: [] for session in sessions}
        while not all(session.closed for session in sessions):
            for session, stream in zip(sessions, frames, strict=True):
                _feed(engine, session, stream)
            for session, output in engine.step():
                outputs[session.id].append(output)
    finally:
        for session in sessions:
            engine.close(session)
    return [StreamResult.from_outputs(outputs[session.id]) for session in sessions]


def _open(engine: Engine, session: Session, clip: ValidationClip) -> Iterator[Frame]:
    """Push the queries of a clip and return its frames."""
    config = engine.model.config
    default = (Query(config.recommended.query),) if config.recommended.query else ()
    for query in clip.queries or default:
        engine.push(session, query)
    fps, size = clip.fps or config.recommended.fps, config.vision.image_size
    return iter(open_frames(clip.path, fps, max_frames=clip.max_frames, size=size))


def _feed(engine: Engine, session: Session, frames: Iterator[Frame]) -> None:
    """Give a session that waits its next frame, or end it."""
    if session.closed or session.inbox or session.ending:
        return
    frame = next(frames, None)
    if frame is None:
        engine.end(session)
    else:
        engine.push(session, frame)


def _compare(clip: ValidationClip, result: StreamResult) -> TimingCounts:
    """Compare replies with those that are due before the last frame that was run."""
    is_whole = len(result.scores) < clip.max_frames
    due = [each for each in clip.due if is_whole or each.span.start <= result.duration]
    return compare_timing(due, [TimedText(reply.time, reply.text) for reply in result.replies], result.duration)
