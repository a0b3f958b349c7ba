"""The training data set: crops, labels and frames of real files, in any process, and samples that cannot be used."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader
from video_files import make

from mmduet.annotations.training_samples import Sample, SampleKind, visible_part
from mmduet.duet import IGNORE
from mmduet.errors import AnnotationError, TrainingError, VideoError
from mmduet.events import Query
from mmduet.model.presets import SHAPES, byte_tokenizer
from mmduet.scenes import SplitSpec, make_split
from mmduet.spans import AnnotatedReply, Span
from mmduet.training.data_sets import SourceSample, read_data_sets
from mmduet.training.dataset import BadSample, DuetDataset, TrainingItem, scan_videos
from mmduet.training.frame_choice import choose_frames, read_frames, spread_evenly
from mmduet.training.item_collation import collate_items
from mmduet.training.recipe import DataSet, Sampling
from mmduet.training.sequence import build_sequence
from mmduet.training.video_index import VideoIndex
from mmduet.video import open_frames

CONFIG = SHAPES["tiny"]
TOKENIZER = byte_tokenizer()
VARIABLE = [40 * k + (k // 15) * 900 + (k % 3) * 7 for k in range(60)]  # milliseconds: 5.1 s
PLAIN = Sampling(fps=2.0, max_frames=8, max_frames_before_question=3, grounding_templates=("Find {query}!",))


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    make(folder / "constant.mp4", count=120, fps=20)  # 6 s
    make(folder / "variable.mp4", count=60, times_ms=VARIABLE)
    (folder / "broken.mp4").write_text("no video")
    return folder


def make_dataset(
    videos: Path, samples: Sequence[Sample], seed: int = 0, sampling: Sampling = PLAIN, **options: Any
) -> DuetDataset:
    sources = [SourceSample(sample, videos / sample.video, "s", f"s/{k}") for k, sample in enumerate(samples)]
    sampling = sampling.model_copy(update=options)
    return DuetDataset(sources, scan_videos(sources), {"s": sampling}, TOKENIZER, CONFIG, seed)


def caption(time: float, start: float, end: float, text: str = "x", learn: bool = True) -> AnnotatedReply:
    return AnnotatedReply(time, text, Span(start, end), learn)


def item_of(dataset: DuetDataset, index: int = 0, epoch: int = 0) -> TrainingItem:
    item = dataset[epoch, index]
    assert isinstance(item, TrainingItem), item
    return item


# frames


@pytest.mark.parametrize("name", ["constant.mp4", "variable.mp4"])
@pytest.mark.parametrize("fps", [0.7, 2.0, 3.3])
def test_frames_are_those_of_the_reader(videos: Path, name: str, fps: float) -> None:
    size = CONFIG.vision.image_size
    expected = list(open_frames(videos / name, fps, size=size))
    times = VideoIndex.scan({"v": videos / name}).frames("v", fps)
    assert times.tolist() == [frame.time for frame in expected]
    assert np.array_equal(read_frames(videos / name, times, size), np.stack([frame.image for frame in expected]))
    part = read_frames(videos / name, times[2:4], size)
    assert np.array_equal(part, np.stack([frame.image for frame in expected[2:4]]))


def test_a_frame_that_is_not_in_the_file_is_an_error(videos: Path) -> None:
    with pytest.raises(VideoError, match=r"constant\.mp4: the frame at 1\.234 s cannot be decoded"):
        read_frames(videos / "constant.mp4", np.array([0.0, 1.234]), 28)


times_of_videos = st.lists(st.floats(0.01, 2.0), min_size=0, max_size=60).map(lambda steps: np.cumsum([0.0, *steps]))
kinds = st.sampled_from(["captioning", "qa", "grounding", "conversation"])


@given(times_of_videos, kinds, st.floats(0, 60), st.integers(2, 20), st.integers(0, 20), st.integers(0, 9))
def test_a_crop_is_a_part_of_the_video_with_the_question(
    times: np.ndarray, kind: SampleKind, asked: float, max_frames: int, before: int, seed: int
) -> None:
    asked, before = min(asked, float(times[-1])), min(before, max_frames - 1)
    sampling = PLAIN.model_copy(update={"max_frames": max_frames, "max_frames_before_question": before})
    sample = Sample(kind, "v", (Query("?", asked),))
    chosen = choose_frames(sample, times, sampling, np.random.default_rng(seed))
    assert 1 <= len(chosen) <= max_frames
    if kind == "conversation":
        assert chosen[0] == times[0]
        assert chosen[-1] == times[-1]
        assert np.isin(chosen, times).all()
        return
    first = int(np.searchsorted(times, chosen[0]))
    assert times[first : first + len(chosen)].tolist() == chosen.tolist()
    if kind == "qa":
        assert chosen[-1] >= asked  # at least one frame follows the question
        assert (chosen < asked).sum() <= before
    elif len(times) >= max_frames:
        assert len(chosen) == max_frames


def test_a_question_has_any_number_of_frames_before_it_up_to_the_limit() -> None:
    times, found = np.arange(40) / 2, set()
    sample = Sample("qa", "v", (Query("?", 10.0),))
    for seed in range(60):
        chosen = choose_frames(sample, times[:28], PLAIN, np.random.default_rng(seed))
        found.add(int((chosen < 10.0).sum()))
    assert found == {0, 1, 2, 3}
    later = {float(choose_frames(sample, times, PLAIN, np.random.default_rng(seed))[0]) for seed in range(200)}
    assert min(later) == 8.5
    assert max(later) == 16.0  # the last 8 of 40 frames


def test_even_spread() -> None:
    assert spread_evenly(np.arange(9.0), 3).tolist() == [0, 4, 8]
    assert spread_evenly(np.arange(3.0), 3).tolist() == [0, 1, 2]
    assert spread_evenly(np.arange(3.0), 1).tolist() == [0]


# labels


@st.composite
def annotated(draw: st.DrawFn) -> tuple[Sample, list[float]]:
    """Return a sample and the times of its frames; many times of annotations are exactly those of frames."""
    steps = draw(st.lists(st.sampled_from([0.25, 0.5, 1 / 3, 1001 / 1500, 2.0]), min_size=3, max_size=24))
    times = np.cumsum([0.0, *steps]).tolist()
    moment = st.one_of(st.sampled_from(times), st.floats(0, times[-1] + 1))
    answers = []
    for _ in range(draw(st.integers(0, 4))):
        start, end = sorted((draw(moment), draw(moment)))
        answers.append(caption(draw(moment), start, end, learn=draw(st.booleans())))
    answers.sort(key=lambda answer: answer.time)
    queries = [Query("?", draw(moment)) for _ in range(draw(st.integers(0, 2)))]
    spans = tuple(Span(*sorted((draw(moment), draw(moment)))) for _ in range(draw(st.integers(0, 2))))
    kind: SampleKind = draw(st.sampled_from(["captioning", "qa", "grounding"]))
    queries.sort(key=lambda query: query.time)
    return Sample(kind, "v", tuple(queries), tuple(answers), spans), times


def expected_informative(sample: Sample, time: float) -> int:
    """Return the label of a frame from the definition: within an answer's span, from its middle, in its own turn."""
    ending = [a for a in sample.answers if a.time >= time]
    if not ending:
        return 0
    answer = next(a for a in sample.answers if a.time == ending[0].time)  # which ends the frame's turn
    asked = any(time < query.time <= answer.time for query in sample.queries)
    if asked or time < sum(answer.timespan) / 2:
        return 0
    return 1 if answer.learn else IGNORE


@given(annotated(), st.booleans())
def test_labels_equal_their_definition_and_stay_in_their_turn(case: tuple[Sample, list[float]], keep: bool) -> None:
    sample, times = case
    sequence = build_sequence(sample, times, TOKENIZER, 1, keep_replies=keep, rng=np.random.default_rng(0))
    if sample.kind == "grounding":
        assert sequence.informative == [IGNORE] * len(times)
        assert sequence.relevance == [int(any(s <= t <= e for s, e in sample.spans)) for t in times]
        return
    assert sequence.relevance == [IGNORE] * len(times)
    expected = [expected_informative(sample, time) for time in times]
    if not keep:
        assert sequence.informative == expected
    for label, full in zip(sequence.informative, expected, strict=True):
        assert label == full or (keep and (label, full) == (0, 1))  # after a kept reply


@given(annotated(), st.integers(0, 12), st.integers(1, 12))
def test_the_frames_of_a_crop_have_the_labels_of_the_whole_sample(
    case: tuple[Sample, list[float]], first: int, count: int
) -> None:
    sample, times = case
    first = min(first, len(times) - 1)
    part = times[first : first + count]
    whole = build_sequence(sample, times, TOKENIZER, 1, keep_replies=False, rng=np.random.default_rng(0))
    visible = visible_part(sample, part[0], part[-1])
    crop = build_sequence(visible, part, TOKENIZER, 1, keep_replies=False, rng=np.random.default_rng(0))
    assert crop.relevance == whole.relevance[first : first + count]
    begun = [t for a in sample.answers if a.timespan.start < part[0] for t in times if t <= a.time]
    pairs = zip(crop.informative, whole.informative[first : first + count], part, strict=True)
    for label, full, time in pairs:
        assert label == full or (label == IGNORE and full == 1 and time in begun)


def test_labels_at_both_ends_of_a_span(videos: Path) -> None:
    """At 2 fps, the middle of [1, 3] is the frame at 2.0 s and the reply is due at the frame at 3.0 s."""
    sample = Sample("captioning", "constant.mp4", answers=(caption(3.0, 1.0, 3.0),))
    item = item_of(make_dataset(videos, [sample], max_frames=20))
    assert item.times.tolist() == [k / 2 for k in range(12)]
    assert item.sequence.informative == [0, 0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0]
    late, early = (
        replace(sample, answers=(caption(3.0 - shift, 1.0 + shift, 3.0 + shift),)) for shift in (0.001, -0.001)
    )
    assert item_of(make_dataset(videos, [late], max_frames=20)).sequence.informative == [0] * 5 + [1] + [0] * 6
    assert item_of(make_dataset(videos, [early], max_frames=20)).sequence.informative == [0] * 4 + [1] * 3 + [0] * 5


def test_labels_of_a_video_with_a_variable_rate_and_a_fractional_rate_of_frames(videos: Path) -> None:
    sample = Sample("grounding", "variable.mp4", (Query("it"),), spans=(Span(1.5, 3.0),))
    item = item_of(make_dataset(videos, [sample], fps=1.7, max_frames=50))
    expected = [frame.time for frame in open_frames(videos / "variable.mp4", 1.7)]
    assert item.times.tolist() == expected
    assert item.sequence.relevance == [int(1.5 <= time <= 3.0) for time in expected]
    assert 0 < sum(item.sequence.relevance) < len(expected)


# items


def text_of(item: TrainingItem) -> str:
    return TOKENIZER.decode([token for token in item.sequence.ids if token >= 0])


def test_prompts_are_drawn(videos: Path) -> None:
    captioning = Sample("captioning", "constant.mp4", answers=(caption(3.0, 1.0, 3.0),))
    grounding = Sample("grounding", "constant.mp4", (Query("a {query} dog"),))
    dataset = make_dataset(videos, [captioning, grounding], instructions=("Say A.", "Say B."))
    texts = {text_of(item_of(dataset, 0, epoch)) for epoch in range(20)}
    assert any("user\nSay A." in text for text in texts)
    assert any("user\nSay B." in text for text in texts)
    assert "user\nFind a {query} dog!" in text_of(item_of(dataset, 1))


def test_replies_are_kept_in_a_share_of_the_samples(videos: Path) -> None:
    sample = Sample("captioning", "constant.mp4", answers=(caption(3.0, 1.0, 3.0),))
    for share, expected in ((0.0, {True}), (1.0, {False}), (0.5, {True, False})):
        dataset = make_dataset(videos, [sample], keep_replies=share, max_frames=20)
        assert {max(item_of(dataset, 0, epoch).sequence.branches) > 0 for epoch in range(12)} == expected


def test_an_item_depends_only_on_seed_epoch_and_index(videos: Path) -> None:
    sample = Sample("captioning", "constant.mp4", answers=(caption(3.0, 1.0, 3.0),))
    dataset = make_dataset(videos, [sample, sample], fps=10.0, keep_replies=0.5)
    expected = [item_of(dataset, index, epoch) for epoch in range(4) for index in range(2)]
    assert len({tuple(item.times) for item in expected}) > 4
    again = make_dataset(videos, [sample, sample], fps=10.0, keep_replies=0.5)
    for key in (5, 2, 7, 0):
        found = item_of(again, key % 2, key // 2)
        assert vars(found.sequence) == vars(expected[key].sequence)
        assert torch.equal(found.images, expected[key].images)
    other = make_dataset(videos, [sample, sample], seed=1, fps=10.0, keep_replies=0.5)
    assert [tuple(item_of(other, 0, k).times) for k in range(4)] != [tuple(item.times) for item in expected[::2]]


def test_a_crop_without_labels_is_replaced_by_the_earliest(videos: Path) -> None:
    """Of an event that began before the crop, no frame is labelled: of 8 frames from 0.1 s to 5.3 s, none would be."""
    sample = Sample("captioning", "constant.mp4", answers=(caption(6.0, 0.0, 0.0),))
    dataset = make_dataset(videos, [sample], fps=10.0)
    assert {float(item_of(dataset, 0, epoch).times[0]) for epoch in range(20)} == {0.0}


def test_workers_give_the_same_batches(videos: Path) -> None:
    samples = [
        Sample("captioning", name, answers=(caption(3.0, 1.0, 3.0),))
        for name in ("constant.mp4", "variable.mp4", "broken.mp4")
    ]
    dataset = make_dataset(videos, samples, max_frames=20)
    plan = [[(0, 0), (0, 1)], [(1, 1), (1, 2)], [(2, 2)]]
    alone, parallel = (
        list(DataLoader(dataset, batch_sampler=plan, collate_fn=collate_items, num_workers=workers))  # type: ignore[arg-type]
        for workers in (0, 2)
    )
    assert [collated.ids for collated in alone] == [("s/0", "s/1"), ("s/1",), ()]
    assert [[bad.id for bad in collated.bad] for collated in alone] == [[], ["s/2"], ["s/2"]]
    assert alone[2].batch is None
    for a, b in zip(alone, parallel, strict=True):
        assert (a.ids, a.bad) == (b.ids, b.bad)
        if a.batch is not None and b.batch is not None:
            for name, value in vars(a.batch).items():
                if isinstance(value, torch.Tensor):
                    assert torch.equal(value, getattr(b.batch, name))


def test_lengths_are_those_of_the_items_of_the_epoch(videos: Path) -> None:
    samples = [Sample("captioning", name, answers=(caption(3.0, 1.0, 3.0),)) for name in ("constant.mp4", "broken.mp4")]
    dataset = make_dataset(videos, samples, keep_replies=0.5)
    for epoch in range(4):
        assert dataset.lengths(epoch) == [item_of(dataset, 0, epoch).sequence.size, 0]


@pytest.mark.parametrize(
    ("sample", "reason"),
    [
        (Sample("captioning", "broken.mp4"), "broken.mp4 is not a video"),
        (Sample("captioning", "none.mp4"), "none.mp4 does not exist"),
        (Sample("qa", "constant.mp4", (Query("?", 7.0),)), "the question at 7 s is after the last frame"),
        (
            Sample("captioning", "constant.mp4", answers=(caption(9.0, 0.0, 0.0, learn=False),)),
            "it has no supervised token",
        ),
        (Sample("qa", "constant.mp4", (Query("a<|im_end|>"),)), "the user turn 'a<|im_end|>' contains the marker"),
        (
            Sample("qa", "constant.mp4", (Query("?"),), (caption(3.0, 1.0, 3.0, "<|im_start|>"),)),
            "the assistant turn '<|im_start|>' contains the marker",
        ),
    ],
)
def test_bad_samples_are_reported_by_id(videos: Path, sample: Sample, reason: str) -> None:
    bad = make_dataset(videos, [sample], max_frames=20)[0, 0]
    assert isinstance(bad, BadSample)
    assert bad.id == "s/0"
    assert reason in str(bad)


def test_samples_with_more_tokens_than_the_model_has_positions_are_bad(videos: Path) -> None:
    sample = Sample("qa", "constant.mp4", (Query("word " * CONFIG.text.max_positions),))
    bad = make_dataset(videos, [sample])[0, 0]
    assert isinstance(bad, BadSample)
    assert f"but the model has {CONFIG.text.max_positions} positions" in bad.reason


def test_a_frame_that_cannot_be_decoded_makes_a_bad_sample(tmp_path: Path) -> None:
    path = make(tmp_path / "v.mp4", count=50)
    dataset = make_dataset(tmp_path, [Sample("captioning", "v.mp4")])
    make(path, count=10)  # shorter than when it was scanned
    bad = dataset[0, 0]
    assert isinstance(bad, BadSample)
    assert "cannot be decoded" in bad.reason


def test_an_item_without_a_supervised_token_is_refused_by_name(videos: Path) -> None:
    item = item_of(make_dataset(videos, [Sample("captioning", "constant.mp4")]))
    item.sequence.informative = [IGNORE] * len(item.times)
    with pytest.raises(TrainingError, match="sample s/0 has no supervised token"):
        collate_items([item])


# files of data sets


def test_scenes_and_files_are_read_with_ids(tmp_path: Path) -> None:
    split = make_split(tmp_path / "split", SplitSpec("train", 2, 3, 5.0, 6.0, size=64, fps=4.0), workers=1)
    talk = [{"video": "00001", "conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}]
    (tmp_path / "talk.json").write_text(json.dumps(talk))
    sets = [
        DataSet(name="a", kind="scenes", videos=split),
        DataSet(name="b", kind="conversations", annotations=tmp_path / "talk.json", videos=split / "videos"),
        DataSet(name="c", kind="grounding", annotations=split / "grounding.json", videos=split / "videos"),
    ]
    samples = read_data_sets(sets)
    assert {source.sample.kind for source in samples if source.set_name == "a"} == {"captioning", "qa", "grounding"}
    assert samples[0].id == "a/dense_captioning/0"
    assert [source.id for source in samples if source.set_name == "b"] == ["b/0"]
    (talk_sample,) = (source for source in samples if source.set_name == "b")
    assert talk_sample.path == split / "videos" / "00001.mp4"
    assert len({source.id for source in samples}) == len(samples)
    dataset = DuetDataset(samples, scan_videos(samples), {each.name: PLAIN for each in sets}, TOKENIZER, CONFIG)
    items = [dataset[0, index] for index in range(len(samples))]
    assert all(isinstance(item, TrainingItem) for item in items)
    assert collate_items([*items[:2], items[-1]]).bad == ()


def test_answers_are_sorted_by_time(tmp_path: Path) -> None:
    rows = [{"time": 5, "text": "b", "timespan": [3, 5]}, {"time": 2, "text": "a", "timespan": [0, 2]}]
    (tmp_path / "x.json").write_text(json.dumps({"v.mp4": {"annotation": rows}}))
    (source,) = read_data_sets([DataSet(name="a", kind="captioning", annotations=tmp_path / "x.json", videos=tmp_path)])
    assert [answer.text for answer in source.sample.answers] == ["a", "b"]


def test_a_file_without_samples_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("[]")
    with pytest.raises(AnnotationError, match=r"x\.json has no samples"):
        read_data_sets([DataSet(name="a", kind="magqa", annotations=tmp_path / "x.json", videos=tmp_path)])
