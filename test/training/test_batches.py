"""Training input: batches that are a pure function of the step, the vocabulary, patch labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmduet.annotations.scene_files import read_clips
from mmduet.annotations.training_samples import Sample, read_dense_captioning, read_grounding, read_magqa
from mmduet.duet import END, IGNORE, IMAGE, START
from mmduet.errors import TrainingError
from mmduet.model.config import DuetConfig, TextShape, VisionShape
from mmduet.model.presets import byte_tokenizer
from mmduet.recipes.nano.frame_labels import FrameLabeler
from mmduet.recipes.nano.patch_pretraining import COLOUR_CLASS, SHAPE_CLASS, label_patches
from mmduet.recipes.nano.vocabulary import train_tokenizer
from mmduet.scenes import SplitSpec, make_split
from mmduet.training.batches import BatchSampler, CurriculumStage, SamplingConfig
from mmduet.training.collate import Batch
from mmduet.training.frames import FrameStore, build_store

NAMES = [f"{k:05d}.mp4" for k in range(4)]  # of the clips
Material = tuple[FrameStore, list[Sample]]
CONFIG = DuetConfig(
    "x", VisionShape(28, 7, 8, 8, 1, 1), TextShape(8, 8, 8, 1, 1, 1, 8), pooling_stride=2
)  # 2 x 2 cells


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_split(
        tmp_path_factory.mktemp("clips") / "s", SplitSpec("train", 4, 3, 8.0, 9.0, size=64, fps=4.0), workers=1
    )


@pytest.fixture(scope="module")
def material(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Material:
    folder = tmp_path_factory.mktemp("material")
    store = build_store(clips / "videos", NAMES, 4.0, 28, folder / "store", lambda done, total: None)
    samples = [
        *read_dense_captioning(clips / "dense_captioning.json"), *read_magqa(clips / "magqa.json"),
        *read_grounding(clips / "grounding.json"),
    ]  # fmt: skip
    return store, samples


def make_sampler(
    material: Material, seed: int = 0, label_provider: FrameLabeler | None = None, **sampling: object
) -> BatchSampler:
    store, samples = material

    def visual(name: str, first: int, count: int) -> torch.Tensor:
        return torch.from_numpy(np.array(store.images(name)[first : first + count]))

    sampling = SamplingConfig(
        **{"stages": (CurriculumStage((8, 12)),), "max_frames_per_batch": 72, "max_samples": 6, **sampling}
    )  # type: ignore[arg-type]
    return BatchSampler(
        samples, store, visual, byte_tokenizer(), 4, sampling, seed, steps=10, label_provider=label_provider
    )


def equal(a: Batch, b: Batch) -> bool:
    pairs = [(x, y) for x, y in zip(vars(a).values(), vars(b).values(), strict=True) if isinstance(x, torch.Tensor)]
    assert len(pairs) == 10
    return all(x.shape == y.shape and torch.equal(x, y) for x, y in pairs)


def test_a_frame_store_has_every_frame_of_every_clip(material: Material) -> None:
    store, _ = material
    for name in NAMES:
        times = store.times(name)
        assert np.allclose(times, np.arange(len(times)) / 4)
        assert store.images(name).shape == (len(times), 28, 28, 3)
    assert not np.array_equal(store.images(NAMES[0])[:9], store.images(NAMES[1])[:9])
    with pytest.raises(TrainingError, match=r"nothing\.mp4"):
        store.images("nothing.mp4")


def test_a_batch_depends_only_on_seed_and_step(material: Material) -> None:
    forwards = make_sampler(material)
    expected = [forwards.batch(step) for step in range(4)]
    backwards = make_sampler(material)
    for step in (3, 1, 2, 0, 0):
        assert equal(backwards.batch(step), expected[step])
    assert not equal(expected[0], expected[1])
    assert not equal(make_sampler(material, seed=1).batch(0), expected[0])


def test_batches_have_full_length_samples_with_labels_of_one_head_each(material: Material) -> None:
    sampler = make_sampler(material)
    for step in range(8):
        batch = sampler.batch(step)
        frames = batch.visual.shape[1]
        assert frames in (8, 12)
        assert batch.frame_ends.shape == batch.informative.shape == batch.relevance.shape == (6, frames)
        assert batch.is_frame.sum(1).tolist() == [frames * 4] * 6
        assert batch.is_frame.gather(1, batch.frame_ends).all()
        assert (
            (batch.informative == IGNORE).all(1) != (batch.relevance == IGNORE).all(1)
        ).all()  # one head or the other


def test_samples_are_drawn_by_the_stage_s_shares(material: Material) -> None:
    grounding = make_sampler(
        material, stages=(CurriculumStage((8,), (("grounding", 1.0), ("captioning", 0.0))),)
    ).batch(0)
    assert (grounding.informative == IGNORE).all()
    only = (CurriculumStage((8,), (("captioning", 1.0),)),)
    captions = make_sampler(material, stages=only, keep_replies=0.0, instructions=("Say.",)).batch(0)
    assert (captions.relevance == IGNORE).all()
    tokenizer = byte_tokenizer()
    for row, frame in zip(captions.ids, captions.is_frame, strict=True):
        assert "user\nSay." in tokenizer.decode([int(i) for i, f in zip(row, frame, strict=True) if not f])


def count_positive_frames(sampler: BatchSampler) -> int:
    """Return the number of frames with a positive informative label in a few batches."""
    return sum(int((sampler.batch(step).informative == 1).sum()) for step in range(16))


def qa_stages(**stage: float) -> tuple[CurriculumStage, ...]:
    return (CurriculumStage((24,), (("qa", 1.0),), **stage),)


def test_unanswerable_queries_give_no_positive_frames(clips: Path, material: Material) -> None:
    labeler = FrameLabeler(read_clips(clips), 4.0, CONFIG)
    assert (
        count_positive_frames(make_sampler(material, label_provider=labeler, stages=qa_stages(unanswerable_share=1.0)))
        == 0
    )
    plain, some = (
        count_positive_frames(
            make_sampler(material, label_provider=labeler, stages=qa_stages(unanswerable_share=share))
        )
        for share in (0.0, 0.5)
    )
    assert 0 < some < plain


def test_unanswerable_queries_need_a_label_provider(material: Material) -> None:
    with pytest.raises(TrainingError, match="label provider"):
        make_sampler(material, stages=qa_stages(unanswerable_share=0.5))


def test_samples_without_a_query_have_no_positive_frames(material: Material) -> None:
    assert count_positive_frames(make_sampler(material, stages=qa_stages(without_query_share=1.0))) == 0
    assert (
        0
        < count_positive_frames(make_sampler(material, stages=qa_stages(without_query_share=0.5)))
        < count_positive_frames(make_sampler(material, stages=qa_stages()))
    )
    tokenizer = byte_tokenizer()
    batch = make_sampler(material, stages=qa_stages(without_query_share=1.0)).batch(0)
    assert "user\n" not in tokenizer.decode([int(i) for i in batch.ids[~batch.is_frame]])


def test_at_most_window_frames_are_visible(material: Material) -> None:
    batch = make_sampler(material, stages=qa_stages(), window=5).batch(0)
    for mask, is_frame, ends in zip(batch.mask[:, 0], batch.is_frame, batch.frame_ends, strict=True):
        assert [int((mask[end] & is_frame).sum()) for end in ends] == [4 * min(k + 1, 5) for k in range(24)]


def test_stages_follow_each_other_and_batches_have_a_maximum_number_of_frames(material: Material) -> None:
    sampler = make_sampler(
        material,
        stages=(CurriculumStage((4,), until=0.5), CurriculumStage((12,))),
        max_frames_per_batch=48,
        max_samples=8,
    )
    shapes = [tuple(sampler.batch(step).visual.shape[:2]) for step in (0, 4, 5, 9)]
    assert shapes == [(8, 4), (8, 4), (4, 12), (4, 12)]  # 48 / 4 would be too many samples


# vocabulary

SENTENCES = ["the red star enters", "the blue star leaves", "a star. a star?\n"] * 9


@given(st.text(max_size=20))
def test_any_text_can_be_encoded_and_decoded(text: str) -> None:
    tokenizer = train_tokenizer(SENTENCES, 300)
    if not any(marker in text for marker in (START, END, IMAGE)):
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_the_vocabulary_has_its_size_and_does_not_depend_on_the_order_of_sentences() -> None:
    tokenizer = train_tokenizer(SENTENCES, 280)
    assert tokenizer.size == 280
    assert tokenizer.backend.get_vocab() == train_tokenizer(reversed(SENTENCES), 280).backend.get_vocab()
    assert len(tokenizer.encode(" star")) == 1
    for marker in (START, END, IMAGE):
        assert len(tokenizer.encode(marker)) == 1


def test_newlines_are_not_merged() -> None:
    tokenizer = train_tokenizer(["a\n\nb\n\n", "\n\n\n"] * 50, 300)
    assert len(tokenizer.encode("\n\n")) == 2


# patches


def test_patch_labels_equal_a_manual_example() -> None:
    """In a 4 by 4 grid, a red circle is in the upper left, with a blue star over its right edge."""
    boxes = [["red", "circle", 0.25, 0.25, 0.3], ["blue", "star", 0.625, 0.125, 0.1]]
    classes, geometry = label_patches(boxes, 4)
    red, blue = [COLOUR_CLASS["red"], SHAPE_CLASS["circle"]], [COLOUR_CLASS["blue"], SHAPE_CLASS["star"]]
    expected = [[0, 0]] * 16
    for place in (0, 1, 4, 5):
        expected[place] = red
    expected[2] = blue
    assert classes.tolist() == expected
    assert geometry[0] == pytest.approx([(0.25 - 0.125) * 5, (0.25 - 0.125) * 5, 1.5])
    assert geometry[2] == pytest.approx([0, 0, 0.5])
    assert not geometry[15].any()


def test_nearer_objects_cover_farther_ones() -> None:
    boxes = [["red", "circle", 0.5, 0.5, 0.5], ["blue", "star", 0.5, 0.5, 0.4]]
    classes, _ = label_patches(boxes, 4)
    assert classes[5].tolist() == [COLOUR_CLASS["blue"], SHAPE_CLASS["star"]]
    classes, _ = label_patches(boxes[::-1], 4)
    assert classes[5].tolist() == [COLOUR_CLASS["red"], SHAPE_CLASS["circle"]]


def test_a_frame_store_is_built_once(material: Material, tmp_path: Path) -> None:
    """A second call reads the existing files, so the videos are no longer needed."""
    store, _ = material
    again = build_store(tmp_path, NAMES, 4.0, 28, Path(store.all_images.base.filename).parent, lambda d, t: None)  # type: ignore[union-attr]
    assert np.array_equal(again.all_images, store.all_images)


def test_samples_longer_than_every_video_of_their_kind_are_rejected(material: Material) -> None:
    with pytest.raises(TrainingError, match="needs samples of 500 frames"):
        make_sampler(material, stages=(CurriculumStage((500,)),))
    store, samples = material
    with pytest.raises(TrainingError, match="qa: a stage needs samples of 4 frames, but the longest video has 0"):
        make_sampler((store, [s for s in samples if s.kind != "qa"]), stages=(CurriculumStage((4,)),))
