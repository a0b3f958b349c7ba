"""``mmduet predict``: answer the questions of a test set, in the file format of MMDuet."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer import Option

from mmduet.cli._loading import (
    MODEL_HELP,
    MODEL_METAVAR,
    PROFILE_HELP,
    Adapter,
    AllowPickle,
    Dtype,
    MaxConcurrent,
    Quantized,
    Threads,
    find,
    load,
)
from mmduet.cli._options import StrictVideo
from mmduet.cli._progress import progress_bar
from mmduet.cli._session_options import (
    HEADS_HELP,
    KEEP_HELP,
    PENALTY_HELP,
    SPEAK_HELP,
    SPEAK_METAVAR,
    TOKENS_HELP,
    WINDOW_HELP,
    WINDOW_METAVAR,
)
from mmduet.cli._warnings import print_warning, warn_about_damage, warn_if_extreme

if TYPE_CHECKING:
    from mmduet.annotations.prediction_files import PredictionFile
    from mmduet.annotations.test_sets import Example
    from mmduet.evaluation.runs.predict import PredictionConfig
    from mmduet.events import SessionWarning
    from mmduet.model import LoadedModel
    from mmduet.options import DecodeOptions

FROM_MODEL = "the model's"
Output = Annotated[
    Path,
    Option(
        metavar="PRED.jsonl",
        help="Write the predictions to this file, one per line; if it exists, the run continues it.",
    ),
]
MaxFrames = Annotated[
    int | None, Option(min=1, help="Process at most this many frames of each video.", show_default="all")
]
Window = Annotated[str | None, Option(metavar=WINDOW_METAVAR, help=WINDOW_HELP, show_default=FROM_MODEL)]


def predict(
    annotations: Annotated[Path, Option(metavar="TEST.json", help="The questions: a test set of a benchmark.")],
    videos: Annotated[Path, Option(metavar="DIR", help="Directory of the test set's videos.")],
    output: Output,
    model: Annotated[str, Option(metavar=MODEL_METAVAR, help=MODEL_HELP)] = "nano",
    adapter: Adapter = None,
    allow_pickle: AllowPickle = False,
    quantized: Quantized = None,
    dtype: Dtype = "float32",
    fps: Annotated[float | None, Option(help="Frames per second to process.", show_default=FROM_MODEL)] = None,
    max_frames: MaxFrames = None,
    speak: Annotated[str | None, Option(metavar=SPEAK_METAVAR, help=SPEAK_HELP, show_default=FROM_MODEL)] = None,
    score_heads: Annotated[str | None, Option(metavar="HEAD,...", help=HEADS_HELP, show_default=FROM_MODEL)] = None,
    keep_replies: Annotated[bool, Option("--keep-replies/--remove-replies", help=KEEP_HELP)] = False,
    max_new_tokens: Annotated[int | None, Option(min=1, help=TOKENS_HELP, show_default=FROM_MODEL)] = None,
    repetition_penalty: Annotated[float | None, Option(help=PENALTY_HELP, show_default="1")] = None,
    window: Window = None,
    profile: Annotated[Literal["fixed", "paper"], Option(help=PROFILE_HELP)] = "fixed",
    at_once: MaxConcurrent = 8,
    threads: Threads = None,
    strict_video: StrictVideo = False,
) -> None:
    """Answer every question of a benchmark's test set. The exit status is 1 if some could not be answered."""
    from mmduet.annotations.prediction_files import PredictionFile
    from mmduet.annotations.prediction_settings import PredictionSettings, file_digest
    from mmduet.annotations.test_sets import read_test_set
    from mmduet.engine import model_defaults, recommended_options
    from mmduet.evaluation.runs.predict import PredictionConfig, with_prompts
    from mmduet.model.inspection import fingerprint
    from mmduet.options import parse_window

    examples = read_test_set(annotations)
    source = find(model, adapter, allow_pickle)
    loaded = load(source, None, allow_pickle, dtype, quantized, streams=at_once, threads=threads)
    recommended = loaded.config.recommended
    base, rate = recommended_options(recommended, profile), recommended.fps if fps is None else fps
    options = replace(
        base,
        speak=base.speak.with_overrides(speak, score_heads),
        decode=_with_overrides(base.decode, max_new_tokens, repetition_penalty),
        keep_replies=keep_replies,
        window=base.window if window is None else parse_window(window, rate),
    )
    config = PredictionConfig(videos, rate, max_frames, options, strict_video)
    settings = PredictionSettings(
        annotations=file_digest(annotations), videos=str(videos.resolve()), model=fingerprint(source.base or model),
        adapter=fingerprint(source.adapter) if source.adapter else None, quantized=quantized, dtype=dtype,
        fps=config.fps, max_frames=max_frames, options=options, revisions=source.revisions,
    )  # fmt: skip
    examples = with_prompts(examples, model_defaults(recommended))
    with PredictionFile(output, settings.to_dict()) as file:
        open_examples = [example for example in examples if example.question_id not in file.done]
        failed = _predict(loaded, open_examples, config, file, at_once)
        file.sort([example.question_id for example in examples])
        answered = sum(example.question_id in file.done for example in examples)
    typer.echo(f"{output}: {answered} of {len(examples)} questions answered, {failed} failed")
    if failed:
        raise typer.Exit(1)


def _with_overrides(decode: DecodeOptions, max_new_tokens: int | None, penalty: float | None) -> DecodeOptions:
    """Return decoding options with the values that were given on the command line."""
    given: dict[str, Any] = {"max_new_tokens": max_new_tokens, "repetition_penalty": penalty}
    return replace(decode, **{name: value for name, value in given.items() if value is not None})


def _predict(
    model: LoadedModel, examples: list[Example], config: PredictionConfig, file: PredictionFile, at_once: int
) -> int:
    """Answer the questions with a progress bar on stderr; report failed ones and return their number."""
    from mmduet.engine import Engine
    from mmduet.evaluation.runs.predict import FailedPrediction, predict_examples

    warn_if_extreme(config.options.speak, config.max_frames)
    failed, warned = 0, set[str]()

    def warn(example: Example, warning: SessionWarning) -> None:
        if warning.code not in warned:  # once, whatever the number of videos
            warned.add(warning.code)
            print_warning(warning.code, warning.message, example.video)

    with progress_bar("questions") as report:
        results = predict_examples(Engine(model), examples, config, at_once, warn)
        for done, result in enumerate(results, 1):
            if isinstance(result, FailedPrediction):
                failed += 1
                typer.echo(f"{result.question_id}: error[{result.error.code}]: {result.error}", err=True)
            else:
                file.add(result.line)
                warn_about_damage(result.video, result.damage)
            report(done, len(examples))
    return failed
