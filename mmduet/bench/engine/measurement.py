"""Measure the engine with some number of streams, in turns with the reference engines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from mmduet.bench.device_memory import allocated_bytes, peak_bytes
from mmduet.bench.engine.frames import FramePool
from mmduet.bench.engine.options import EngineBenchOptions
from mmduet.bench.engine.references import Agreement, ReferenceRound, ReferenceRunner, compare_outputs
from mmduet.bench.engine.streams import RoundRecord, SaturatedStreams
from mmduet.engine import Engine, recommended_options
from mmduet.model import LoadedModel
from mmduet.options import DecodeOptions, SessionOptions, SpeakOptions

DEFAULT_QUERY = "Narrate the video."

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class StreamMeasurement:
    """The rounds of one number of streams, and those of the references, in the same order.

    ``resident_bytes`` is the growth of memory in use from opening the streams to full windows.
    """

    streams: int
    rounds: Sequence[RoundRecord]
    references: dict[str, list[ReferenceRound]]
    agreement: dict[str, Agreement]
    slot_bytes: int
    resident_bytes: int
    peak_bytes: int | None


def session_options(model: LoadedModel, options: EngineBenchOptions) -> SessionOptions:
    """Return the options of every stream. The policy never speaks: replies are requested."""
    return replace(
        recommended_options(model.config.recommended),
        speak=SpeakOptions("never", 0.0),
        decode=DecodeOptions(max_new_tokens=options.tokens_per_reply),
        window=options.window,
    )


def open_streams(engine: Engine, options: EngineBenchOptions, pool: FramePool, count: int) -> SaturatedStreams:
    """Open ``count`` streams."""
    query, chosen = query_of(engine.model), session_options(engine.model, options)
    return SaturatedStreams(engine, chosen, query, pool, count, options.queued)


def query_of(model: LoadedModel) -> str:
    """Return the query of every stream."""
    return model.config.recommended.query or DEFAULT_QUERY


def warm_up(streams: SaturatedStreams, options: EngineBenchOptions) -> None:
    """Fill the windows and let every stream reply once, so that nothing happens for the first time later."""
    if options.warm_up_frames:
        streams.run(options.warm_up_frames, min(options.round_replies, 1))


def measure_streams(
    engine: Engine,
    plain: LoadedModel | None,
    options: EngineBenchOptions,
    pool: FramePool,
    count: int,
    progress: Progress | None = None,
) -> StreamMeasurement:
    """Measure ``count`` streams. ``plain`` is the model of the references, None without references.

    Engine and references take turns, in an order that rotates from round to round, so that another load of the machine
    affects all of them.
    """
    device = engine.model.network.device
    before = allocated_bytes(device)
    streams = open_streams(engine, options, pool, count)
    opponents = [] if plain is None else _open_references(plain, options, pool)
    warm_up(streams, options)
    used = allocated_bytes(device)
    for opponent in opponents:
        opponent.run(options.warm_up_frames, min(options.round_replies, 1))
    rounds, references, agreement = _run_rounds(streams, opponents, engine.model, options, progress)
    streams.close()
    return StreamMeasurement(
        streams=count,
        rounds=rounds,
        references=references,
        agreement=agreement,
        slot_bytes=engine.slot_bytes(session_options(engine.model, options)),
        resident_bytes=used - before,
        peak_bytes=peak_bytes(device),
    )


def _open_references(plain: LoadedModel, options: EngineBenchOptions, pool: FramePool) -> list[ReferenceRunner]:
    tokens, query = options.tokens_per_reply, query_of(plain)
    return [ReferenceRunner(name, plain, pool, query, options.window, tokens) for name in options.references]


def _run_rounds(
    streams: SaturatedStreams,
    opponents: Sequence[ReferenceRunner],
    model: LoadedModel,
    options: EngineBenchOptions,
    progress: Progress | None,
) -> tuple[list[RoundRecord], dict[str, list[ReferenceRound]], dict[str, Agreement]]:
    rounds = list[RoundRecord]()
    references: dict[str, list[ReferenceRound]] = {opponent.name: [] for opponent in opponents}
    frames, replies = options.round_frames, options.round_replies
    for number in range(options.rounds):
        if progress is not None:
            progress(number, options.rounds)
        for turn in range(len(opponents) + 1):
            position = (number + turn) % (len(opponents) + 1)
            if position == 0:
                rounds.append(streams.run(frames, replies))
            else:
                opponent = opponents[position - 1]
                references[opponent.name].append(opponent.run(frames, replies))
    outputs, tokenizer = streams.outputs(0), model.tokenizer
    agreement = {name: compare_outputs(outputs, found[-1].trace, tokenizer) for name, found in references.items()}
    return rounds, references, agreement


def device_name(device: torch.device) -> str:
    """Return the name of a device's model."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
