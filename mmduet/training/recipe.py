"""The schema of a training recipe: model, method, data, sampling, optimization and losses. It imports no torch."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, Strict, field_validator, model_validator
from pydantic_core import PydanticCustomError

from mmduet.tasks.prompts import GROUNDING_TEMPLATE, NARRATION_QUERY
from mmduet.text import shorten

# Types are not converted: a number in quotes or `true` as a number is an error. An integer is accepted as a number.
Number = Annotated[float, Strict(), Field(allow_inf_nan=False)]
NonNegative = Annotated[Number, Field(ge=0)]
Positive = Annotated[Number, Field(gt=0)]
Share = Annotated[Number, Field(ge=0, le=1)]
Count = Annotated[int, Strict(), Field(ge=1)]
CountOrZero = Annotated[int, Strict(), Field(ge=0)]
Switch = Annotated[bool, Strict()]
Text = Annotated[str, Field(min_length=1)]

MAX_SEED = 2**32 - 1  # NumPy's
LINEAR_LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
INSTRUCTIONS = (
    NARRATION_QUERY,
    "Describe what happens in the video as you watch it.",
    "Tell me about each new event as soon as it is over.",
    "Keep me informed about what is going on in this video.",
    "Comment on the video step by step while it plays.",
)
GROUNDING_TEMPLATES = (
    GROUNDING_TEMPLATE,
    "When does this happen in the video: {query}",
    "Tell me whether the current moment shows the following: {query}",
    "Locate the part of the video that matches this description: {query}",
    "At which times can this be seen? {query}",
)


class Section(BaseModel):
    """Base of a recipe and its sections: unknown keys are rejected, and values cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class LowRank(Section):
    """Train low-rank updates of the language model's linear layers, and small modules as a whole."""

    kind: Literal["lora", "qlora"]
    rank: Count = Field(default=16, description="Rank of the updates.")
    alpha: Positive = Field(default=32.0, description="The updates are scaled by `alpha / rank`.")
    dropout: Annotated[Number, Field(ge=0, lt=1)] = Field(
        default=0.05, description="Share of a layer's inputs that its update ignores in training."
    )
    targets: Annotated[tuple[Text, ...], Field(min_length=1)] = Field(
        default=LINEAR_LAYERS, description="Names of the linear layers of the language model that are updated."
    )
    saved_modules: tuple[Literal["projector", "heads"], ...] = Field(
        default=("projector", "heads"),
        description="Modules that are trained as a whole and stored with the adapter: `projector`, `heads`.",
    )


class Lora(LowRank):
    """Train LoRA on the language model."""

    kind: Literal["lora"] = Field(default="lora", description="`lora`: LoRA on the language model.")


class QLora(LowRank):
    """Train LoRA on a language model whose frozen weights are stored in 4 bits."""

    kind: Literal["qlora"] = Field(
        default="qlora", description="`qlora`: LoRA on a language model quantized to NF4; needs `mmduet[quant]`."
    )


class Full(Section):
    """Train all weights of the projector, the language model and the heads."""

    kind: Literal["full"] = Field(default="full", description="`full`: all weights. The result is a checkpoint.")
    train_tower: Switch = Field(default=False, description="Train the vision tower, too.")


class HeadsOnly(Section):
    """Train only the two heads that score frames; everything else is frozen."""

    kind: Literal["heads"] = Field(default="heads", description="`heads`: only the informative and relevance heads.")
    reset: Switch = Field(default=True, description="Start from newly initialised heads instead of the model's own.")


Method = Annotated[Lora | QLora | Full | HeadsOnly, Field(discriminator="kind")]


class DataSet(Section):
    """One set of annotated videos."""

    name: Text = Field(description="Name of the set in reports and messages; every set has its own.")
    kind: Literal["captioning", "magqa", "grounding", "conversations", "scenes"] = Field(
        description="Format of the annotations: `captioning`, `magqa` and `grounding` are MMDuetIT's JSON files, "
        "`conversations` is a JSON file in the style of LLaVA and ShareGPT4Video, `scenes` a split that "
        "`mmduet scenes make` wrote."
    )
    annotations: Path | None = Field(
        default=None, description="JSON file with the annotations; not used by `scenes`, whose split contains them."
    )
    videos: Path = Field(description="Folder of the videos; for `scenes` the folder of the split.")
    weight: Positive = Field(
        default=1.0,
        description="Samples per epoch as a multiple of the set's size: 1 is every sample once, 0.5 half of them.",
    )
    fps: Positive | None = Field(default=None, description="Frames per second of this set. By default `sampling.fps`.")
    max_frames: Count | None = Field(
        default=None, description="Frames per sample of this set. By default `sampling.max_frames`."
    )

    @model_validator(mode="after")
    def _check_annotations(self) -> DataSet:
        if self.kind == "scenes" and self.annotations is not None:
            raise ValueError("annotations is not used by kind scenes; remove it, and set videos to the split's folder")
        if self.kind != "scenes" and self.annotations is None:
            raise ValueError(f"annotations is missing; kind {self.kind} needs a JSON file")
        return self


class Validation(Section):
    """Measurements on samples that are not trained on."""

    data: tuple[DataSet, ...] = Field(default=(), description="Data sets to validate on.")
    share: Annotated[Number, Field(ge=0, lt=1)] = Field(
        default=0.0,
        description="Share of the training videos that is kept for validation if `validation.data` is empty.",
    )
    max_samples: Count = Field(default=256, description="Samples that are used, at most; the seed decides which.")
    every: Count = Field(default=200, description="Steps between two validations; the last step is validated, too.")
    decode_clips: CountOrZero = Field(
        default=0, description="Number of validation clips that the engine also replies to, as when serving; 0: none."
    )
    patience: Count | None = Field(
        default=None, description="Stop after this number of validations without a lower loss. By default never."
    )

    @property
    def enabled(self) -> bool:
        """Whether there is anything to validate on."""
        return bool(self.data) or self.share > 0

    @model_validator(mode="after")
    def _check_consistent(self) -> Validation:
        if self.data and self.share:
            raise ValueError("data and share are both set; remove one of them")
        for name in ("decode_clips", "patience"):
            if getattr(self, name) and not self.enabled:
                raise ValueError(f"{name} needs validation samples; set validation.data or validation.share")
        return self


class Sampling(Section):
    """How a training sample is made from an annotated video."""

    fps: Positive | None = Field(default=None, description="Frames per second. By default the model's.")
    max_frames: Count = Field(
        default=100,
        description="Frames per sample. Of a longer video a random part is used, or for `conversations` frames at even "
        "distances.",
    )
    window: Count | None = Field(
        default=None, description="Frames in the context, as when serving with this window. By default all."
    )
    keep_replies: Share = Field(
        default=0.0,
        description="Share of the samples whose replies stay in the context. In the others a reply leaves it once it has "
        "been given, as when serving with the default options.",
    )
    instructions: Annotated[tuple[Text, ...], Field(min_length=1)] = Field(
        default=INSTRUCTIONS, description="Queries of samples without one, such as dense captions; one is drawn."
    )
    grounding_templates: Annotated[tuple[Text, ...], Field(min_length=1)] = Field(
        default=GROUNDING_TEMPLATES,
        description="Texts that grounding queries are wrapped in; one is drawn. `{query}` stands for the query.",
    )
    max_frames_before_question: CountOrZero = Field(
        default=20,
        description="Frames that may precede the first question of a `magqa` sample; a random number is kept.",
    )

    @field_validator("grounding_templates")
    @classmethod
    def _check_placeholder(cls, templates: tuple[str, ...]) -> tuple[str, ...]:
        for template in templates:
            if template.count("{query}") != 1:
                raise ValueError(f"each template must contain {{query}} once, got {shorten(repr(template))}")
        return templates


class Optimization(Section):
    """Duration, batches and optimizer."""

    epochs: Positive = Field(default=1.0, description="Passes over the data. Ignored if `steps` is set.")
    steps: Count | None = Field(default=None, description="Optimizer steps. By default they follow from `epochs`.")
    max_tokens_per_batch: Count = Field(
        default=8192, description="Tokens per forward pass on one device, including padding and visual tokens."
    )
    max_samples_per_batch: Count = Field(default=8, description="Samples per forward pass on one device.")
    accumulation: Count = Field(default=1, description="Forward passes whose gradients are added before a step.")
    learning_rate: Positive = Field(default=2e-5, description="Highest learning rate.")
    warmup: Annotated[Number, Field(ge=0, lt=1)] = Field(
        default=0.05, description="Share of the steps in which the learning rate rises from 0."
    )
    schedule: Literal["cosine", "constant"] = Field(
        default="cosine", description="Learning rate after the warm-up: `cosine` falls to 0, `constant` stays."
    )
    weight_decay: NonNegative = Field(default=0.0, description="Weight decay of matrices; vectors have none.")
    max_grad_norm: Positive = Field(default=1.0, description="Gradients with a larger norm are scaled down to it.")
    optimizer: Literal["adamw", "adamw_8bit"] = Field(
        default="adamw", description="`adamw`, or `adamw_8bit` with a state of 8 bits, which needs `mmduet[quant]`."
    )
    ema: Annotated[Number, Field(gt=0, lt=1)] | None = Field(
        default=None, description="Decay of a moving average of the weights, which is saved instead. By default none."
    )
    workers: CountOrZero = Field(default=2, description="Processes that decode videos; 0: the training process does.")
    save_every: Count = Field(default=200, description="Steps between two saved states, from which a run can resume.")
    max_bad_fraction: Share = Field(
        default=0.0, description="Share of the samples that may be unreadable; they are reported and skipped."
    )


class LossOptions(Section):
    """Weights of the three losses, and options for the few positive labels of the informative head."""

    lm: NonNegative = Field(default=1.0, description="Weight of the language-model loss of replies; 0: not computed.")
    informative: NonNegative = Field(default=1.0, description="Weight of the informative head's loss.")
    relevance: NonNegative = Field(default=1.0, description="Weight of the relevance head's loss.")
    positive_weight: float | Literal["balanced"] = Field(
        default=1.0,
        description="Weight of a positive frame label; a negative one has 1. `balanced`: positive and negative labels of a "
        "batch have the same sum.",
    )
    focal_gamma: NonNegative = Field(
        default=0.0, description="Exponent of the focal loss, by which frames with a right score count less; 0: off."
    )
    smoothing_seconds: NonNegative = Field(
        default=0.0, description="Seconds around a change of the label in which it changes gradually; 0: off."
    )

    @field_validator("positive_weight", mode="before")
    @classmethod
    def _check_positive_weight(cls, value: Any) -> Any:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if value != "balanced" and not (is_number and 0 < value < math.inf):
            raise PydanticCustomError("positive_weight", "a number above 0, or balanced")
        return value

    @model_validator(mode="after")
    def _check_weights(self) -> LossOptions:
        if not (self.lm or self.informative or self.relevance):
            raise ValueError("lm, informative and relevance are all 0; set one of them above 0")
        return self


class Recipe(Section):
    """Everything that a training run depends on, except the device and the directory of its results."""

    description: str = Field(default="", description="What the recipe is for.")
    model: Text = Field(
        default="nano",
        description="Model to start from: `nano`, `random:SIZE`, a checkpoint directory (relative to the working directory) or "
        "`OWNER/NAME` on the Hugging Face hub.",
    )
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto",
        description="Data type of frozen weights; trained weights are `float32`. `auto`: as stored, and on a CPU `float32` for "
        "up to a billion parameters.",
    )
    method: Method = Field(description="Which weights are trained.")
    data: Annotated[tuple[DataSet, ...], Field(min_length=1)] = Field(description="Data sets to train on.")
    validation: Validation = Field(default=Validation(), description="Measurements while training.")
    sampling: Sampling = Field(default=Sampling(), description="How samples are made from videos.")
    optimization: Optimization = Field(default=Optimization(), description="Duration, batches and optimizer.")
    losses: LossOptions = Field(default=LossOptions(), description="Weights and options of the losses.")
    precision: Literal["bfloat16", "float32"] = Field(
        default="bfloat16", description="Data type of computation; `bfloat16` is used by automatic mixed precision."
    )
    gradient_checkpointing: Switch = Field(
        default=False, description="Compute activations a second time in the backward pass instead of storing them."
    )
    seed: Annotated[CountOrZero, Field(le=MAX_SEED)] = Field(
        default=0, description="Seed of initial weights, sampling, order and dropout."
    )

    def sampling_for(self, data_set: DataSet) -> Sampling:
        """Return the sampling options of one data set: its own frame rate and number of frames replace the recipe's."""
        own = {name: value for name in ("fps", "max_frames") if (value := getattr(data_set, name)) is not None}
        return self.sampling.model_copy(update=own)

    @model_validator(mode="after")
    def _check_consistent(self) -> Recipe:
        _check_names(self.data, self.validation.data)
        for data_set in (*self.data, *self.validation.data):
            _check_question_fits(data_set, self.sampling_for(data_set))
        if self.method.kind == "heads":
            _check_heads_have_labels(self.data, self.losses)
        return self


def _check_names(*groups: Sequence[DataSet]) -> None:
    counts = Counter(data_set.name for group in groups for data_set in group)
    repeated = [name for name, count in counts.items() if count > 1]
    if repeated:
        raise ValueError(f"two data sets are named {shorten(repr(repeated[0]))}; give each its own name")


def _check_question_fits(data_set: DataSet, sampling: Sampling) -> None:
    """Raise ``ValueError`` if a cropped sample of the set could end before its question."""
    if data_set.kind in ("magqa", "scenes") and sampling.max_frames_before_question >= sampling.max_frames:
        raise ValueError(
            f"sampling.max_frames_before_question must be less than max_frames, which is {sampling.max_frames} for data set "
            f"{shorten(repr(data_set.name))}, got {sampling.max_frames_before_question}"
        )


def _check_heads_have_labels(data: Sequence[DataSet], losses: LossOptions) -> None:
    if not (losses.informative or losses.relevance):
        raise ValueError("method heads needs a loss of a head; set losses.informative or losses.relevance above 0")
    if all(data_set.kind == "conversations" for data_set in data):
        raise ValueError("method heads needs frame labels, and conversations have none; add another kind of data")
