"""What training is fed: batches that are a pure function of the step, a vocabulary that loses nothing, patch labels."""

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
    names = [clip["video"] for clip in read_clips(clips)]
    folder = tmp_path_factory.mktemp("material")
    store = build_store(clips / "videos", names, 4.0, 28, folder / "store", lambda done, total: None)
    samples = [
        *read_dense_captioning(clips / "dense_captioning.json"), *read_magqa(clips / "magqa.json"),
        *read_grounding(clips / "grounding.json"),
    ]  # fmt: skip
    return store, samples


def source(
    material: Material, seed: int = 0, label_provider: FrameLabeler | None = None, **sampling: object
) -> BatchSampler:
    store, samples = material

    def visual(name: str, first: int, count: int) -> torch.Tensor:
        return torch.from_numpy(np.array(store.pictures(name)[first : first + count]))

    drawn = SamplingConfig(
        **{"stages": (CurriculumStage((8, 12)),), "max_frames_per_batch": 72, "max_samples": 6, **sampling}
    )  # type: ignore[arg-type]
    return BatchSampler(
        samples, store, visual, byte_tokenizer(), 4, drawn, seed, steps=10, label_provider=label_provider
    )


def same(a: Batch, b: Batch) -> bool:
    pairs = [(x, y) for x, y in zip(vars(a).values(), vars(b).values(), strict=True) if isinstance(x, torch.Tensor)]
    assert len(pairs) == 9
    return all(x.shape == y.shape and torch.equal(x, y) for x, y in pairs)


def test_the_store_has_every_frame_of_every_clip(material: Material) -> None:
    store, _ = material
    for name in store.names:
        times = store.times(name)
        assert np.allclose(times, np.arange(len(times)) / 4)
        assert store.pictures(name).shape == (len(times), 28, 28, 3)
    assert len(store.names) == 4
    assert not np.array_equal(store.pictures(store.names[0])[:9], store.pictures(store.names[1])[:9])
    with pytest.raises(TrainingError, match=r"nothing\.mp4"):
        store.pictures("nothing.mp4")


def test_a_batch_is_its_seed_and_step_in_any_order(material: Material) -> None:
    forwards = source(material)
    wanted = [forwards.batch(step) for step in range(4)]
    backwards = source(material)
    for step in (3, 1, 2, 0, 0):
        assert same(backwards.batch(step), wanted[step])
    assert not same(wanted[0], wanted[1])
    assert not same(source(material, seed=1).batch(0), wanted[0])


def test_batches_are_whole(material: Material) -> None:
    given_source = source(material)
    for step in range(8):
        batch = given_source.batch(step)
        frames = batch.visual.shape[1]
        assert frames in (8, 12)
        assert batch.frame_ends.shape == batch.informative.shape == batch.relevance.shape == (6, frames)
        assert batch.is_frame.sum(1).tolist() == [frames * 4] * 6
        assert batch.is_frame.gather(1, batch.frame_ends).all()
        assert (
            (batch.informative == IGNORE).all(1) != (batch.relevance == IGNORE).all(1)
        ).all()  # one head or the other


def test_shares_are_kept(material: Material) -> None:
    grounding = source(material, stages=(CurriculumStage((8,), (("grounding", 1.0), ("captioning", 0.0))),)).batch(0)
    assert (grounding.informative == IGNORE).all()
    only = (CurriculumStage((8,), (("captioning", 1.0),)),)
    captions = source(material, stages=only, keep_replies=0.0, instructions=("Say.",)).batch(0)
    assert (captions.relevance == IGNORE).all()
    tokenizer = byte_tokenizer()
    for row, frame in zip(captions.ids, captions.is_frame, strict=True):
        assert "user\nSay." in tokenizer.decode([int(i) for i, f in zip(row, frame, strict=True) if not f])


def told(source: BatchSampler) -> int:
    """Frames after which something is to be said, in a few batches."""
    return sum(int((source.batch(step).informative == 1).sum()) for step in range(16))


def asked(**phase: float) -> tuple[CurriculumStage, ...]:
    return (CurriculumStage((24,), (("qa", 1.0),), **phase),)


def test_a_question_that_nothing_answers_teaches_silence(clips: Path, material: Material) -> None:
    book = FrameLabeler(read_clips(clips), 4.0, CONFIG)
    assert told(source(material, label_provider=book, stages=asked(unanswerable_share=1.0))) == 0
    plain, some = (
        told(source(material, label_provider=book, stages=asked(unanswerable_share=share))) for share in (0.0, 0.5)
    )
    assert 0 < some < plain


def test_questions_without_an_answer_need_a_tutor(material: Material) -> None:
    with pytest.raises(TrainingError, match="label provider"):
        source(material, stages=asked(unanswerable_share=0.5))


def test_where_nothing_is_asked_there_is_nothing_to_say(material: Material) -> None:
    assert told(source(material, stages=asked(without_query_share=1.0))) == 0
    assert 0 < told(source(material, stages=asked(without_query_share=0.5))) < told(source(material, stages=asked()))
    tokenizer = byte_tokenizer()
    batch = source(material, stages=asked(without_query_share=1.0)).batch(0)
    assert "user\n" not in tokenizer.decode([int(i) for i in batch.ids[~batch.is_frame]])


def test_no_more_frames_are_in_view_than_the_window_holds(material: Material) -> None:
    batch = source(material, stages=asked(), window=5).batch(0)
    for mask, is_frame, ends in zip(batch.mask[:, 0], batch.is_frame, batch.frame_ends, strict=True):
        assert [int((mask[end] & is_frame).sum()) for end in ends] == [4 * min(k + 1, 5) for k in range(24)]


def test_phases_follow_one_another_and_batches_hold_so_many_frames_at_most(material: Material) -> None:
    drawn = source(
        material,
        stages=(CurriculumStage((4,), until=0.5), CurriculumStage((12,))),
        max_frames_per_batch=48,
        max_samples=8,
    )
    shapes = [tuple(drawn.batch(step).visual.shape[:2]) for step in (0, 4, 5, 9)]
    assert shapes == [(8, 4), (8, 4), (4, 12), (4, 12)]  # 48 / 4 would be too many samples


# vocabulary

SENTENCES = ["the red star enters", "the blue star leaves", "a star. a star?\n"] * 9


@given(st.text(max_size=20))
def test_any_text_survives_the_vocabulary(text: str) -> None:
    tokenizer = train_tokenizer(SENTENCES, 300)
    if not any(marker in text for marker in (START, END, IMAGE)):
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_the_vocabulary_keeps_its_size_and_its_order() -> None:
    tokenizer = train_tokenizer(SENTENCES, 280)
    assert tokenizer.size == 280
    assert tokenizer.backend.get_vocab() == train_tokenizer(reversed(SENTENCES), 280).backend.get_vocab()
    assert len(tokenizer.encode(" star")) == 1
    for marker in (START, END, IMAGE):
        assert len(tokenizer.encode(marker)) == 1


def test_newlines_never_merge() -> None:
    tokenizer = train_tokenizer(["a\n\nb\n\n", "\n\n\n"] * 50, 300)
    assert len(tokenizer.encode("\n\n")) == 2


# patches


def test_patch_labels_by_hand() -> None:
    """A 4 by 4 grid: a red circle in the upper left, a blue star over its right edge."""
    boxes = [["red", "circle", 0.25, 0.25, 0.3], ["blue", "star", 0.625, 0.125, 0.1]]
    classes, geometry = label_patches(boxes, 4)
    red, blue = [COLOUR_CLASS["red"], SHAPE_CLASS["circle"]], [COLOUR_CLASS["blue"], SHAPE_CLASS["star"]]
    wanted = [[0, 0]] * 16
    for place in (0, 1, 4, 5):
        wanted[place] = red
    wanted[2] = blue
    assert classes.tolist() == wanted
    assert geometry[0] == pytest.approx([(0.25 - 0.125) * 5, (0.25 - 0.125) * 5, 1.5])
    assert geometry[2] == pytest.approx([0, 0, 0.5])
    assert not geometry[15].any()


def test_nearer_things_cover_farther_ones() -> None:
    boxes = [["red", "circle", 0.5, 0.5, 0.5], ["blue", "star", 0.5, 0.5, 0.4]]
    classes, _ = label_patches(boxes, 4)
    assert classes[5].tolist() == [COLOUR_CLASS["blue"], SHAPE_CLASS["star"]]
    classes, _ = label_patches(boxes[::-1], 4)
    assert classes[5].tolist() == [COLOUR_CLASS["red"], SHAPE_CLASS["circle"]]


def test_a_frame_store_is_built_once(material: Material, tmp_path: Path) -> None:
    """Asked for again it reads what is there: the videos are no longer needed."""
    store, _ = material
    again = build_store(
        tmp_path, store.names, 4.0, 28, Path(store.all_pictures.base.filename).parent, lambda d, t: None
    )  # type: ignore[union-attr]
    assert again.names == store.names


def test_samples_longer_than_every_video_of_their_kind_are_refused(material: Material) -> None:
    with pytest.raises(TrainingError, match="needs samples of 500 frames"):
        source(material, stages=(CurriculumStage((500,)),))
    store, samples = material
    with pytest.raises(TrainingError, match="qa: a stage needs samples of 4 frames, but the longest video has 0"):
        source((store, [s for s in samples if s.kind != "qa"]), stages=(CurriculumStage((4,)),))
