"""Write the model card of a trained model: README.md with Hugging Face's metadata, the recipe, the figures, and how to use it.

Names of folders on this machine are left out, because a card is made to be published.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from mmduet.errors import OptionError
from mmduet.files import as_option_error, write_text
from mmduet.training.data_sets import SourceSample
from mmduet.training.recipe import DataSet, Recipe
from mmduet.training.recipe_files import dump_recipe

CARD = "README.md"
HUB_ID = re.compile(r"(?:hf:)?([\w.-]+/[\w.-]+?)(?:@[\w./-]+)?")
BUNDLED_OR_RANDOM = re.compile(r"nano|random:[\w.]+")
TRAINED = {
    "lora": "low-rank updates (LoRA) of the language model",
    "qlora": "low-rank updates (QLoRA, base in 4 bits) of the language model",
    "full": "all weights of the projector, the language model and the heads",
    "heads": "only the heads that score frames",
}
MEANINGS = {
    "loss": "weighted sum of the losses",
    "lm": "loss of the replies, per token",
    "informative": "loss of the informative head",
    "relevance": "loss of the relevance head",
    "speak_f1": "F1 of when it replies: due replies that come, one to one",
    "speak_precision": "share of its replies that come when one is due",
    "speak_recall": "share of due replies that come",
    "repeat_rate": "share of its replies that match nothing and repeat another",
    "timing_error_seconds": "mean distance of matched replies from their annotated time",
    "replies_per_minute": "replies per minute of video",
    "speaking_rate": "share of frames whose informative score is above 0.5",
    "roc_auc": "ROC-AUC of the head's scores",
    "pr_auc": "PR-AUC of the head's scores",
    "f1": "F1 of the head's scores at 0.5",
}


@dataclass(frozen=True)
class DataSize:
    """The number of samples and of videos of a data set."""

    samples: int
    videos: int


def count_by_set(samples: Sequence[SourceSample]) -> dict[str, DataSize]:
    """Return the size of every data set by its name."""
    by_set: dict[str, list[SourceSample]] = {}
    for sample in samples:
        by_set.setdefault(sample.set_name, []).append(sample)
    return {name: DataSize(len(group), len({each.path for each in group})) for name, group in by_set.items()}


def write_model_card(
    directory: str | Path,
    recipe: Recipe,
    figures: Mapping[str, float],
    base: str,
    *,
    sizes: Mapping[str, DataSize] | None = None,
    steps: int | None = None,
) -> Path:
    """Write the card of the model in ``directory`` and return its path.

    Args:
        directory: The adapter or checkpoint that was trained.
        recipe: What it was trained with.
        figures: Validation figures by name, as they are reported during training.
        base: Name of the model that training started from.
        sizes: Size of every data set by its name.
        steps: Number of optimizer steps.

    Raises:
        OptionError: ``directory`` does not exist, or the card cannot be written.
    """
    path = Path(directory) / CARD
    if not path.parent.is_dir():
        raise OptionError(f"{path.parent} does not exist; write the model before its card")
    sections = [
        _metadata(recipe, base),
        _introduction(Path(directory).resolve(), recipe, base, steps),
        _usage(recipe, base),
        _data(recipe, sizes or {}),
        _figures(figures),
        _limits(recipe),
        _recipe_section(recipe),
    ]
    with as_option_error(path):
        write_text(path, "\n\n".join(sections) + "\n")
    return path


def _metadata(recipe: Recipe, base: str) -> str:
    """Return the YAML head. The hub accepts only its own models as ``base_model``."""
    hub_id = _hub_id(base)
    is_full = recipe.method.kind == "full"
    values = {
        **({"base_model": hub_id, "base_model_relation": "finetune" if is_full else "adapter"} if hub_id else {}),
        "library_name": "mmduet",
        "pipeline_tag": "video-text-to-text",
        "tags": ["mmduet", "video", "streaming", *([] if is_full else ["peft"]), recipe.method.kind],
    }
    head = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    return f"---\n# license: choose one that the licenses of the base model and of the data allow\n{head}---"


def _hub_id(base: str) -> str | None:
    match = None if Path(base).exists() else HUB_ID.fullmatch(base)
    return match and match[1]


def _shown(base: str) -> str:
    """Return the base as the card names it: of a directory only the last part."""
    is_public = BUNDLED_OR_RANDOM.fullmatch(base) is not None or _hub_id(base) is not None
    return base if is_public else Path(base).name


def _introduction(directory: Path, recipe: Recipe, base: str, steps: int | None) -> str:
    result = "A checkpoint, based on" if recipe.method.kind == "full" else "An adapter of"
    took = "" if steps is None else f" in {steps:,} steps"
    name = directory.parent.name if directory.name == "model" else directory.name  # of a run
    lines = [f"# {_plain(name)}"]
    if recipe.description:
        lines.append(_plain(recipe.description))
    lines.append(
        f"{result} {_plain(_shown(base))}, for mmduet, which runs video language models on live streams: the model receives a "
        f"video frame by frame and decides after every frame whether to speak. Trained{took}: {TRAINED[recipe.method.kind]}."
    )
    return "\n\n".join(lines)


def _usage(recipe: Recipe, base: str) -> str:
    """Return how to load and serve the model; what an adapter needs beside it is named."""
    named = recipe.method.kind == "full" or _hub_id(base) or BUNDLED_OR_RANDOM.fullmatch(base)
    options = "--model DIR" if named else "--model BASE --adapter DIR"
    call = 'load_model("DIR")' if named else 'load_model("BASE", adapter="DIR")'
    hint = "" if named else f" and `BASE` with that of {_plain(_shown(base))}"
    return f"""## Use

Replace `DIR` with the directory of these files, or their name on the hub{hint}.

```bash
mmduet run VIDEO.mp4 {options}
mmduet serve {options}
```

```python
from mmduet import load_model, pipeline

model = {call}
for result in pipeline("caption", model=model)("VIDEO.mp4"):
    result.raise_for_error()
    for segment in result.output.segments:
        print(segment.start, segment.end, segment.caption)
```

Frame rate, prompts and the policy that decides when it speaks are in `mmduet.json` and are used by default. \
`mmduet calibrate DIR --data SPLIT` fits the policy to other videos."""


def _data(recipe: Recipe, sizes: Mapping[str, DataSize]) -> str:
    rows = [_data_row(each, "training", sizes) for each in recipe.data]
    rows += [_data_row(each, "validation", sizes) for each in recipe.validation.data]
    share = recipe.validation.share
    kept = f"\n\n{share:.0%} of the training videos were kept for validation." if share else ""
    table = "\n".join(
        ["| Data set | Used for | Kind | Samples | Videos | Weight |", "|---|---|---|---|---|---|", *rows]
    )
    return f"## Data\n\n{table}{kept}"


def _data_row(data_set: DataSet, use: str, sizes: Mapping[str, DataSize]) -> str:
    size = sizes.get(data_set.name)
    counts = ["", ""] if size is None else [f"{size.samples:,}", f"{size.videos:,}"]
    cells = [_plain(data_set.name), use, data_set.kind, *counts, f"{data_set.weight:g}"]
    return "| " + " | ".join(cells) + " |"


def _figures(figures: Mapping[str, float]) -> str:
    if not figures:
        return "## Validation\n\nIt was not validated."
    rows = [f"| {_plain(name)} | {value:.4g} | {_meaning(name)} |" for name, value in figures.items()]
    return "\n".join(["## Validation\n", "| Figure | Value | Meaning |", "|---|---|---|", *rows])


def _meaning(name: str) -> str:
    """Return what a figure means; those of a head begin with its name."""
    head, _, rest = name.partition("_")
    if name not in MEANINGS and rest in MEANINGS:
        return f"{MEANINGS[rest]} ({_plain(head)})"
    return MEANINGS.get(name, "")


def _limits(recipe: Recipe) -> str:
    limits = [
        "It was measured only on the validation data above, if any. Measure it on your own videos before you rely on it.",
        f"Samples had at most {max(recipe.sampling_for(each).max_frames for each in recipe.data)} frames. How it behaves on "
        "longer videos depends on the window that it is run with.",
        "It can describe what does not happen and miss what does. It has the biases and the limits of its base and its data.",
    ]
    if recipe.method.kind == "heads":
        limits.append("Only when it speaks was trained; what it says is as in its base.")
    if all(each.kind == "conversations" for each in recipe.data):
        limits.append("Its data have no times, so when it speaks was not trained.")
    return "## Limits\n\n" + "\n".join(f"- {limit}" for limit in limits)


def _recipe_section(recipe: Recipe) -> str:
    text = dump_recipe(_public(recipe)).strip()
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"## Recipe\n\n{fence}yaml\n{text}\n{fence}"


def _public(recipe: Recipe) -> Recipe:
    """Return the recipe without folders of this machine."""
    validation = recipe.validation.model_copy(update={"data": tuple(map(_without_folders, recipe.validation.data))})
    data = tuple(map(_without_folders, recipe.data))
    return recipe.model_copy(update={"model": _shown(recipe.model), "data": data, "validation": validation})


def _without_folders(data_set: DataSet) -> DataSet:
    annotations = data_set.annotations and Path(data_set.annotations.name)
    return data_set.model_copy(update={"annotations": annotations, "videos": Path(data_set.videos.name)})


def _plain(text: str) -> str:
    """Return a text on one line, with characters escaped that are markup in a table or a heading."""
    return re.sub(r"([|`<>\\])", r"\\\1", " ".join(text.split()))
