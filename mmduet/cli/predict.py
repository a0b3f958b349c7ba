"""``mmduet predict``: answer the questions of a test set, in the file format of MMDuet."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer import Option

from mmduet.cli._loading import (
    MODEL_HELP,
    MODEL_METAVAR,
    PROFILE_HELP,
    LoadingOptions,
    MaxConcurrent,
    find,
    load,
)
from mmduet.cli._options import StrictVideo, takes_options
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
    from mmduet.annotations.prediction_settings import PredictionSettings
    from mmduet.annotations.test_sets import Example
    from mmduet.engine import Engine
    from mmduet.evaluation.runs.predict import PredictionConfig
    from mmduet.events import SessionWarning
    from mmduet.model import LoadedModel
    from mmduet.model.source import ModelSource
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


@dataclass(frozen=True, kw_only=True)
class PredictOptions(LoadingOptions):
    """The options of ``mmduet predict``."""

    annotations: Annotated[Path, Option(metavar="TEST.json", help="The questions: a test set of a benchmark.")]
    videos: Annotated[Path, Option(metavar="DIR", help="Directory of the test set's videos.")]
    output: Output
    model: Annotated[str, Option(metavar=MODEL_METAVAR, help=MODEL_HELP)] = "nano"
    fps: Annotated[float | None, Option(help="Frames per second to process.", show_default=FROM_MODEL)] = None
    max_frames: MaxFrames = None
    speak: Annotated[str | None, Option(metavar=SPEAK_METAVAR, help=SPEAK_HELP, show_default=FROM_MODEL)] = None
    score_heads: Annotated[str | None, Option(metavar="HEAD,...", help=HEADS_HELP, show_default=FROM_MODEL)] = None
    keep_replies: Annotated[bool, Option("--keep-replies/--remove-replies", help=KEEP_HELP)] = False
    max_new_tokens: Annotated[int | None, Option(min=1, help=TOKENS_HELP, show_default=FROM_MODEL)] = None
    repetition_penalty: Annotated[float | None, Option(help=PENALTY_HELP, show_default="1")] = None
    window: Window = None
    profile: Annotated[Literal["fixed", "paper"], Option(help=PROFILE_HELP)] = "fixed"
    at_once: MaxConcurrent = 8
    strict_video: StrictVideo = False


@takes_options(PredictOptions)
def predict(options: PredictOptions) -> None:
    """Answer every question of a benchmark's test set. The exit status is 1 if some could not be answered."""
    from mmduet.annotations.prediction_files import PredictionFile
    from mmduet.annotations.test_sets import read_test_set
    from mmduet.engine import Engine, model_defaults
    from mmduet.evaluation.runs.predict import with_prompts

    examples = read_test_set(options.annotations)
    source = find(options.model, options.adapter, options.allow_pickle)
    engine = Engine(load(source, options, streams=options.at_once), options.engine_config)
    config = _prediction_config(options, engine.model)
    examples = with_prompts(examples, model_defaults(engine.model.config.recommended))
    with PredictionFile(options.output, _settings(options, source, engine.model, config).to_dict()) as file:
        open_examples = [example for example in examples if example.question_id not in file.done]
        failed = _predict(engine, open_examples, config, file, options.at_once)
        file.sort([example.question_id for example in examples])
        answered = sum(example.question_id in file.done for example in examples)
    typer.echo(f"{options.output}: {answered} of {len(examples)} questions answered, {failed} failed")
    if failed:
        raise typer.Exit(1)


def _prediction_config(options: PredictOptions, model: LoadedModel) -> PredictionConfig:
    """Return how the videos are run: what the model recommends, with the options that the user gave."""
    from mmduet.engine import recommended_options
    from mmduet.evaluation.runs.predict import PredictionConfig
    from mmduet.options import parse_window

    recommended = model.config.recommended
    base = recommended_options(recommended, options.profile)
    rate = recommended.fps if options.fps is None else options.fps
    session = replace(
        base,
        speak=base.speak.with_overrides(options.speak, options.score_heads),
        decode=_with_overrides(base.decode, options.max_new_tokens, options.repetition_penalty),
        keep_replies=options.keep_replies,
        window=base.window if options.window is None else parse_window(options.window, rate),
    )
    return PredictionConfig(options.videos, rate, options.max_frames, session, options.strict_video)


def _settings(
    options: PredictOptions, source: ModelSource, model: LoadedModel, config: PredictionConfig
) -> PredictionSettings:
    """Return what the predictions depend on."""
    from mmduet.annotations.prediction_settings import PredictionSettings, file_digest
    from mmduet.model.devices import dtype_name
    from mmduet.model.inspection import fingerprint

    return PredictionSettings(
        annotations=file_digest(options.annotations),
        videos=str(options.videos.resolve()),
        model=fingerprint(source.base or options.model),
        adapter=fingerprint(source.adapter) if source.adapter else None,
        quantized=options.quantized,
        quantized_tower=options.quantized_tower,
        kv_dtype=options.kv_dtype,
        dtype=dtype_name(model.network.dtype),
        fps=config.fps,
        max_frames=config.max_frames,
        options=config.options,
        revisions=source.revisions,
    )


def _with_overrides(decode: DecodeOptions, max_new_tokens: int | None, penalty: float | None) -> DecodeOptions:
    """Return decoding options with the values that were given on the command line."""
    given: dict[str, Any] = {"max_new_tokens": max_new_tokens, "repetition_penalty": penalty}
    return replace(decode, **{name: value for name, value in given.items() if value is not None})


def _predict(
    engine: Engine, examples: list[Example], config: PredictionConfig, file: PredictionFile, at_once: int
) -> int:
    """Answer the questions with a progress bar on stderr; report failed ones and return their number."""
    from mmduet.evaluation.runs.predict import FailedPrediction, predict_examples

    warn_if_extreme(config.options.speak, config.max_frames)
    failed, warned = 0, set[str]()

    def warn(example: Example, warning: SessionWarning) -> None:
        if warning.code not in warned:  # once, whatever the number of videos
            warned.add(warning.code)
            print_warning(warning.code, warning.message, example.video)

    with progress_bar("questions") as report:
        results = predict_examples(engine, examples, config, at_once, warn)
        for done, result in enumerate(results, 1):
            if isinstance(result, FailedPrediction):
                failed += 1
                typer.echo(f"{result.question_id}: error[{result.error.code}]: {result.error}", err=True)
            else:
                file.add(result.line)
                warn_about_damage(result.video, result.damage)
            report(done, len(examples))
    return failed
