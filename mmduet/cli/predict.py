"""``mmduet predict``: a model's answers to a test set, in the reference's formats."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer import Option

from mmduet.cli._loading import Adapter, AtOnce, NumberType, Pickles, Quantized, load

if TYPE_CHECKING:
    from mmduet.annotations.prediction_files import Example, PredictionFile
    from mmduet.evaluation.runs.predict import Viewing
    from mmduet.model import LoadedModel


def predict(
    annotations: Annotated[Path, Option(metavar="TEST.json", help="The test set: questions about videos.")],
    videos: Annotated[Path, Option(metavar="DIR", help="Where the videos lie.")],
    output: Annotated[Path, Option(metavar="PRED.jsonl", help="Where predictions go; an interrupted run goes on.")],
    model: Annotated[str, Option(help="nano, random:SIZE or a checkpoint directory.")] = "nano",
    adapter: Adapter = None,
    allow_pickle: Pickles = False,
    quantized: Quantized = None,
    dtype: NumberType = "float32",
    fps: Annotated[float | None, Option(help="Frames a second; the model's own rate by default.")] = None,
    max_frames: Annotated[int | None, Option(min=1, help="Watch no more than so many.")] = None,
    speak: Annotated[str | None, Option(help="threshold:VALUE, sum:VALUE or never.")] = None,
    score_heads: Annotated[str | None, Option(metavar="HEADS", help="Heads that are added up.")] = None,
    keep_replies: Annotated[bool, Option("--keep-replies/--remove-replies", help="Leave replies in view.")] = False,
    max_new_tokens: Annotated[int | None, Option(min=1, help="Longest reply.")] = None,
    repetition_penalty: Annotated[float | None, Option(help="Above 1 avoids repetition; 1 by default.")] = None,
    window: Annotated[
        str | None, Option(metavar="N|SECONDSs|none", help="In view; the model's own by default.")
    ] = None,
    profile: Annotated[Literal["fixed", "paper"], Option(help="Feed and sample as the paper did.")] = "fixed",
    at_once: AtOnce = 8,
) -> None:
    """Answer every question of a test set. Exit status 1 if some could not be answered."""
    from dataclasses import asdict, replace
    from hashlib import sha256

    from mmduet.annotations.prediction_files import PredictionFile, instructed, read_test_set
    from mmduet.engine import own, recommended_options
    from mmduet.evaluation.runs.predict import Viewing
    from mmduet.model.inspection import fingerprint
    from mmduet.options import parse_window

    examples = read_test_set(annotations)
    loaded = load(model, adapter, allow_pickle, dtype, quantized)
    best = loaded.config.recommended
    base, rate = recommended_options(best, profile), best.fps if fps is None else fps
    said: dict[str, Any] = {"max_new_tokens": max_new_tokens, "repetition_penalty": repetition_penalty}
    options = replace(
        base,
        speak=base.speak.revised(speak, score_heads),
        decode=replace(base.decode, **{name: value for name, value in said.items() if value is not None}),
        keep_replies=keep_replies,
        window=base.window if window is None else parse_window(window, rate),
    )
    viewing = Viewing(videos, rate, max_frames, options)
    settings = {
        "annotations": sha256(annotations.read_bytes()).hexdigest(), "videos": str(videos.resolve()),
        "model": fingerprint(model), "adapter": fingerprint(adapter) if adapter else None,
        "quantized": quantized, "dtype": dtype,
        "fps": viewing.fps, "max_frames": max_frames, "options": asdict(options),
    }  # fmt: skip
    examples = instructed(examples, own(best))
    with PredictionFile(output, settings) as file:
        failed = _answer(loaded, [e for e in examples if e.question_id not in file.done], viewing, file, at_once)
        file.arrange([example.question_id for example in examples])
        answered = sum(example.question_id in file.done for example in examples)
    typer.echo(f"{output}: {answered} of {len(examples)} questions answered, {failed} failed")
    if failed:
        raise typer.Exit(1)


def _answer(model: LoadedModel, examples: list[Example], viewing: Viewing, file: PredictionFile, at_once: int) -> int:
    """Answer with a bar on stderr, and a line for every question that could not be; returns how many those were."""
    from rich.console import Console
    from rich.progress import Progress

    from mmduet.engine import Engine
    from mmduet.evaluation.runs.predict import Failure, predictions

    failed = 0
    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("questions", total=len(examples))
        for result in predictions(Engine(model), examples, viewing, at_once):
            if isinstance(result, Failure):
                failed += 1
                bar.console.print(
                    f"{result.question_id}: error[{result.error.code}]: {result.error}", markup=False, soft_wrap=True
                )
            else:
                file.add(result)
            bar.advance(task)
    return failed
