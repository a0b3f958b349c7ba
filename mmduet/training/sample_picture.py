"""Draw a sample as it is trained on: film strip, turns, labels of both heads, and numbers of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mmduet.duet import IGNORE
from mmduet.errors import OptionError, TrainingError
from mmduet.events import Frame, Query
from mmduet.model.description import read_description
from mmduet.spans import Span
from mmduet.training.data_sets import SourceSample, read_data_sets
from mmduet.training.dataset import BadSample, PreparedSample, TrainingItem, scan_videos
from mmduet.training.recipe import Recipe
from mmduet.training.recipe_data import all_sets, make_dataset
from mmduet.training.sequence import FRAME_TOKEN, TrainingSequence
from mmduet.viz.film_strip import FilmStrip
from mmduet.viz.sample_plot import SamplePlot, save_sample_plot


def draw_sample(recipe: Recipe, sample: str, path: Path, epoch: int = 0) -> str:
    """Draw the sample with a number or an id into ``path``, as it is trained on in ``epoch``; return a line about it.

    Raises ``OptionError`` for an unknown sample, ``TrainingError`` for one that cannot be trained on.
    """
    config, tokenizer = read_description(recipe.model)
    samples = read_data_sets(all_sets(recipe))
    index = find_sample(samples, sample)
    dataset = make_dataset(recipe, samples, scan_videos([samples[index]]), config, tokenizer)
    prepared, item = dataset.prepare(epoch, index), dataset[epoch, index]
    for each in (prepared, item):
        if isinstance(each, BadSample):
            raise TrainingError(str(each))
    assert isinstance(prepared, PreparedSample)
    assert isinstance(item, TrainingItem)
    summary = describe_tokens(item.sequence)
    save_sample_plot(path, _plot(samples[index], prepared, item, summary))
    return f"{item.id}: {summary}"


def find_sample(samples: Sequence[SourceSample], name: str) -> int:
    """Return the index of a sample by its number or its id. Raises ``OptionError`` if it does not exist."""
    if name.isdecimal() and int(name) < len(samples):
        return int(name)
    found = next((k for k, source in enumerate(samples) if source.id == name), None)
    if found is None:
        raise OptionError(
            f"the recipe has no sample {name!r}; give a number from 0 to {len(samples) - 1}, or an id such as {samples[0].id}"
        )
    return found


def describe_tokens(sequence: TrainingSequence) -> str:
    """Return a text about the numbers of frames and tokens of a sequence."""
    visual = sequence.ids.count(FRAME_TOKEN)
    learned = sum(target != IGNORE for target in sequence.targets)
    branches = max(sequence.branches)
    parts = [f"{len(sequence.frame_ends)} frames", f"{sequence.size} tokens: {visual} visual, {learned} learned"]
    return "  ·  ".join([*parts, *([f"replies learned after {branches} frames"] if branches else [])])


def _plot(source: SourceSample, prepared: PreparedSample, item: TrainingItem, summary: str) -> SamplePlot:
    start = float(prepared.times[0])
    times = [float(time) - start for time in prepared.times]
    strip = FilmStrip()
    for k, (time, image) in enumerate(zip(times, item.images.numpy(), strict=True)):
        strip.add(Frame(k, time, image))
    sample, sequence = prepared.sample, item.sequence
    place = f"{source.path.name} from {start:.2f} s" if start else source.path.name
    return SamplePlot(
        title=f"{source.id} ({sample.kind})",
        remark=f"{place}  ·  {summary}",
        times=times,
        labels={
            "informative": _labels(sequence.informative),
            "relevance": _labels(sequence.relevance),
        },
        queries=[Query(query.text, query.time - start) for query in sample.queries],
        replies=[
            replace(reply, time=reply.time - start, timespan=_shift(reply.timespan, start)) for reply in sample.answers
        ],
        spans=[_shift(span, start) for span in sample.spans],
        strip=strip,
    )


def _labels(values: Sequence[int]) -> list[int | None]:
    return [None if value == IGNORE else value for value in values]


def _shift(span: Span, seconds: float) -> Span:
    return Span(span[0] - seconds, span[1] - seconds)
