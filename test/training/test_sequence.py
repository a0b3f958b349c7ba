"""Training sequences: one forward with branches equals one forward for each conversation that it represents."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from visual_tokens import embed_pixels

from mmduet.annotations.training_samples import Sample
from mmduet.duet import IGNORE, SYSTEM_PROMPT, Piece, Role, Turn, render
from mmduet.errors import TrainingError
from mmduet.events import Query
from mmduet.model import DuetModel
from mmduet.model.preprocess import normalize_images
from mmduet.model.presets import SHAPES, byte_tokenizer, random_model
from mmduet.spans import AnnotatedReply
from mmduet.training.collate import Batch, collate
from mmduet.training.losses import forward_hidden
from mmduet.training.sequence import FRAME_TOKEN, TrainingSequence, build_sequence

TOKENIZER = byte_tokenizer()
K = SHAPES["tiny"].frame_tokens
TIMES = [i / 2 for i in range(9)]  # 0.0 … 4.0
ANSWERS = (
    AnnotatedReply(1.5, "it enters", (0.0, 2.0)),
    AnnotatedReply(3.5, "it leaves", (2.0, 4.0)),
)  # positive at 1.0, 1.5 and 3.0, 3.5
CAPTIONS = Sample("captioning", "v", (Query("Narrate.", 0.0), Query("Now?", 2.2)), ANSWERS)


@lru_cache
def model() -> DuetModel:
    """Return a tiny model with weights so large that every visible token affects the result."""
    network = random_model(SHAPES["tiny"]).requires_grad_(False)
    for weight in network.parameters():
        if weight.dim() == 2:
            weight.copy_(
                torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)) * 1.6 / weight.shape[1] ** 0.5
            )
    return network


def make_sequence(
    sample: Sample = CAPTIONS, *, keep: bool, seed: int = 0, window: int | None = None
) -> TrainingSequence:
    return build_sequence(
        sample, TIMES, TOKENIZER, K, keep_replies=keep, rng=np.random.default_rng(seed), window=window
    )


def images(frames: int = len(TIMES), seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (frames, 28, 28, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def forward_in_one_row(pieces: list[Piece], visible: torch.Tensor) -> torch.Tensor:
    """Return the hidden states [T, D] of a conversation in one row, with ordinary causal attention."""
    visual = iter(embed_pixels(model(), normalize_images(visible)))
    rows = [next(visual) if p.frame else model().embed_tokens(torch.tensor(TOKENIZER.encode_piece(p))) for p in pieces]
    return model().lm(inputs_embeds=torch.cat(rows)[None], use_cache=False).last_hidden_state[0]


def conversation(frames: int, replies: dict[int, str] | None = None) -> list[Piece]:
    """Render the sample's timeline up to ``frames`` frames, with ``replies`` after some of them."""
    turns = [Turn(Role.SYSTEM, SYSTEM_PROMPT), Turn(Role.USER, "Narrate.")]
    for k in range(frames):
        turns += [Turn(Role.USER, "Now?")] if TIMES[k] == 2.5 else []
        turns.append(Turn(Role.STREAM, frames=1))
        turns += [Turn(Role.ASSISTANT, replies[k])] if replies and k in replies else []
    return render(turns, close=False)


@pytest.fixture(scope="module")
def removed() -> tuple[TrainingSequence, torch.Tensor]:
    sequence = make_sequence(keep=False)
    return sequence, forward_hidden(model(), collate([sequence], [images()]))[0]


def test_branches_do_not_affect_the_main_line(removed: tuple[TrainingSequence, torch.Tensor]) -> None:
    sequence, hidden = removed
    expected = forward_in_one_row(conversation(9), images())
    main = [i for i, branch in enumerate(sequence.branches) if branch == 0]
    assert main == list(range(len(expected)))
    torch.testing.assert_close(hidden[: len(expected)], expected, atol=1e-4, rtol=1e-4)
    assert torch.equal(torch.tensor([sequence.positions[i] for i in main]), torch.arange(len(main)))


def test_a_branch_equals_the_reply_after_its_frame(removed: tuple[TrainingSequence, torch.Tensor]) -> None:
    """At every positive frame, the logits of the branch equal those of a row in which the reply follows that frame."""
    sequence, hidden = removed
    places = {2: "it enters", 3: "it enters", 6: "it leaves", 7: "it leaves"}
    assert sorted(set(sequence.branches)) == [0, 1, 2, 3, 4]
    for branch, (frame, text) in enumerate(places.items(), start=1):
        expected = forward_in_one_row(conversation(frame + 1, {frame: text}), images(frame + 1))
        own = [i for i, b in enumerate(sequence.branches) if b == branch]
        torch.testing.assert_close(
            model().lm_head(hidden[own]), model().lm_head(expected[-len(own) :]), atol=1e-4, rtol=1e-4
        )
        replies = [*TOKENIZER.encode(text), TOKENIZER.end_id]
        assert [sequence.targets[i] for i in own if sequence.targets[i] != IGNORE] == replies
        assert [sequence.ids[i] for i in own][-len(replies) :] == replies
        assert sequence.targets[own[-1]] == IGNORE  # the end token is the last target


def test_kept_replies_are_in_the_main_line() -> None:
    sequence = make_sequence(keep=True)
    replies_by_frame = {
        k: text
        for k, text in ((k, t) for k in range(9) for t in ("it enters", "it leaves"))
        if reply_after(sequence, k) == text
    }
    assert len(replies_by_frame) == 2
    assert {k in (2, 3) for k, t in replies_by_frame.items() if t == "it enters"} == {True}
    assert {k in (6, 7) for k, t in replies_by_frame.items() if t == "it leaves"} == {True}
    assert set(sequence.branches) == {0}
    assert sequence.positions == list(range(sequence.size))
    hidden = forward_hidden(model(), collate([sequence], [images()]))[0]
    expected = forward_in_one_row(conversation(9, replies_by_frame), images())
    torch.testing.assert_close(hidden[: sequence.size], expected, atol=1e-4, rtol=1e-4)
    learned = [(i, t) for i, t in enumerate(sequence.targets) if t != IGNORE]
    assert [t for _, t in learned] == [
        t for _, s in sorted(replies_by_frame.items()) for t in (*TOKENIZER.encode(s), TOKENIZER.end_id)
    ]
    assert all(sequence.ids[i + 1] == t for i, t in learned)


def reply_after(sequence: TrainingSequence, frame: int) -> str:
    """Return the reply in the main line directly after a frame, or an empty string."""
    start = sequence.frame_ends[frame] + 1
    end = sequence.frame_ends[frame + 1] if frame + 1 < len(sequence.frame_ends) else sequence.size
    text = TOKENIZER.backend.decode([i for i in sequence.ids[start:end] if i != FRAME_TOKEN], skip_special_tokens=False)
    head, found, rest = text.partition("<|im_end|>\n<|im_start|>assistant\n")
    return rest.split("<|im_end|>")[0] if found and not head else ""


def test_a_kept_reply_follows_any_of_its_positive_frames_and_later_ones_become_negative() -> None:
    visible = set()
    for seed in range(12):
        sequence = make_sequence(keep=True, seed=seed)
        first = next(k for k in range(9) if reply_after(sequence, k))
        visible.add(first)
        assert sequence.informative[:5] == [0, 0, 1, int(first == 3), 0]
    assert visible == {2, 3}


def test_removed_replies_are_positive_at_all_their_frames() -> None:
    sequence = make_sequence(keep=False)
    assert sequence.informative == [0, 0, 1, 1, 0, 0, 1, 1, 0]
    assert sequence.relevance == [IGNORE] * 9


def test_frame_ends_are_the_last_visual_tokens() -> None:
    for keep in (False, True):
        sequence = make_sequence(keep=keep)
        assert len(sequence.frame_ends) == 9
        assert sequence.ids.count(FRAME_TOKEN) == 9 * K
        for end in sequence.frame_ends:
            assert sequence.ids[end - K + 1 : end + 1] == [FRAME_TOKEN] * K


def test_replies_that_are_context_have_no_targets() -> None:
    sample = Sample("qa", "v", answers=(AnnotatedReply(1.5, "old news", (0.0, 2.0), learn=False), ANSWERS[1]))
    kept, gone = make_sequence(sample, keep=True), make_sequence(sample, keep=False)
    assert "old news" in [reply_after(kept, k) for k in range(9)]
    text = TOKENIZER.decode([t for t in kept.targets if t != IGNORE])
    assert text == "it leaves"
    assert kept.informative[2:4] == gone.informative[2:4] == [IGNORE] * 2
    assert {
        TOKENIZER.decode([t for t, b in zip(gone.targets, gone.branches, strict=True) if t != IGNORE and b == n])
        for n in (1, 2)
    } == {"it leaves"}


def test_grounding_has_relevance_labels_only() -> None:
    sequence = make_sequence(Sample("grounding", "v", (Query("red?"),), spans=((1.0, 2.0),)), keep=False)
    assert sequence.relevance == [0, 0, 1, 1, 1, 0, 0, 0, 0]
    assert sequence.informative == [IGNORE] * 9
    assert set(sequence.targets) == {IGNORE}


def test_overlapping_spans_each_have_positive_frames() -> None:
    answers = (
        AnnotatedReply(2.0, "first", (1.0, 2.0)),
        AnnotatedReply(3.0, "second", (0.0, 3.0)),
    )  # middles 1.5 and 1.5
    sequence = make_sequence(Sample("captioning", "v", answers=answers), keep=False)
    reply_of_frame = {
        sequence.limits[i]: TOKENIZER.decode(
            [t for t, b in zip(sequence.targets, sequence.branches, strict=True) if b == branch and t != IGNORE]
        )
        for i, branch in enumerate(sequence.branches)
        if branch
    }
    assert [reply_of_frame[sequence.frame_ends[k]] for k in (3, 4, 5, 6)] == ["first", "first", "second", "second"]


def test_padding_is_not_attended_to_and_has_no_targets() -> None:
    """A sample's hidden states and labels are the same alone and in a batch with a longer sample."""
    short, long = make_sequence(Sample("captioning", "v"), keep=False), make_sequence(keep=False)
    alone, pair = collate([short], [images()]), collate([short, long], [images(), images(seed=1)])
    assert pair.ids.shape[1] % 16 == 0
    assert set(pair.targets[0, short.size :].tolist()) == {IGNORE}
    assert not pair.is_frame[0, short.size :].any()
    hidden = forward_hidden(model(), pair)[0, : short.size]
    torch.testing.assert_close(hidden, forward_hidden(model(), alone)[0, : short.size], atol=1e-5, rtol=1e-4)
    assert torch.isfinite(forward_hidden(model(), pair)).all()
    swapped = Batch(**{**vars(pair), "ids": pair.ids.clone()})
    swapped.ids[0, short.size :] = 7
    assert torch.equal(forward_hidden(model(), swapped)[0, : short.size], hidden)


def visible_texts(sequence: TrainingSequence) -> list[str]:
    """Return the text that each frame's last token attends to, with frames written as their numbers."""
    mask = collate([sequence], [images()]).mask[0, 0]
    numbers = np.searchsorted(sequence.frame_ends, np.arange(sequence.size))

    def words(row: torch.Tensor) -> str:
        parts, text = [], []
        for i in row.nonzero()[:, 0].tolist():
            if sequence.ids[i] == FRAME_TOKEN:
                parts += [TOKENIZER.decode(text)] if text else []
                parts += [f"({numbers[i]})"] if f"({numbers[i]})" not in parts else []
                text = []
            else:
                text.append(sequence.ids[i])
        return "".join(parts)

    return [words(mask[end]) for end in sequence.frame_ends]


SYSTEM = f"system\n{SYSTEM_PROMPT}\nuser\nNarrate.\nstream\n"
LATER_QUERY = "\nuser\nNow?\nstream\n"


def test_frames_leave_the_window_and_queries_stay() -> None:
    views = visible_texts(make_sequence(keep=False, window=3))
    assert views[:4] == [f"{SYSTEM}(0)", f"{SYSTEM}(0)(1)", f"{SYSTEM}(0)(1)(2)", f"{SYSTEM}(1)(2)(3)"]
    assert views[5:8] == [
        f"{SYSTEM}(3)(4){LATER_QUERY}(5)",
        f"{SYSTEM}(4){LATER_QUERY}(5)(6)",
        f"{SYSTEM}{LATER_QUERY}(5)(6)(7)",
    ]
    assert views[8] == f"{SYSTEM}{LATER_QUERY}(6)(7)(8)"
    assert visible_texts(make_sequence(keep=False))[8] == f"{SYSTEM}(0)(1)(2)(3)(4){LATER_QUERY}(5)(6)(7)(8)"


def test_a_kept_reply_is_evicted_with_the_frame_after_it() -> None:
    sequence = make_sequence(Sample("captioning", "v", (), ANSWERS[:1]), keep=True, window=3)
    reply = "\nassistant\nit enters\nstream\n"
    views = visible_texts(sequence)
    given = next(k for k, view in enumerate(views) if reply in view)  # the frame after it
    assert [reply in view for view in views] == [given <= k < given + 3 for k in range(len(TIMES))]


def test_a_removed_reply_attends_to_the_window_of_its_frame() -> None:
    sequence = make_sequence(keep=False, window=3)
    mask = collate([sequence], [images()]).mask[0, 0]
    main = np.pad(np.array(sequence.branches) == 0, (0, len(mask) - sequence.size))
    anchors = {2: 1, 3: 2, 6: 3, 7: 4}
    for frame, branch in anchors.items():
        first = sequence.branches.index(branch)
        visible, expected = mask[first].numpy() & main, mask[sequence.frame_ends[frame]].numpy() & main
        assert (visible == expected).all()


def sample_of(cuts: list[float], learn: list[bool]) -> Sample:
    """Return a sample with one reply between every two cuts."""
    pairs = zip(cuts[::2], cuts[1::2], learn, strict=False)
    return Sample("captioning", "v", answers=tuple(AnnotatedReply(b, f"{a:.1f}", (a, b + 0.4), x) for a, b, x in pairs))


CUTS = st.lists(st.floats(0, 4), max_size=6).map(sorted)
SAMPLES = st.builds(sample_of, CUTS, st.lists(st.booleans(), min_size=3, max_size=3))


@settings(max_examples=40)
@given(SAMPLES, st.booleans())
def test_masks_are_causal_and_targets_are_the_next_tokens(sample: Sample, keep: bool) -> None:
    sequence = make_sequence(sample, keep=keep)
    batch = collate([sequence], [images()])
    mask = batch.mask[0, 0]
    index = torch.arange(len(mask))
    assert mask.diagonal().all()
    assert not (mask & (index[None, :] > index[:, None])).any()
    positions = batch.positions[0]
    for i, target in enumerate(sequence.targets):
        visible = sorted(positions[mask[i]].tolist())
        assert visible == list(range(int(positions[i]) + 1))  # exactly one token at every earlier position
        if target != IGNORE:
            assert sequence.ids[i + 1] == target
            assert sequence.branches[i + 1] == sequence.branches[i]


def test_a_sample_longer_than_the_model_s_positions_is_rejected() -> None:
    shape = SHAPES["tiny"]
    short = random_model(replace(shape, text=replace(shape.text, max_positions=64)))
    with pytest.raises(TrainingError, match="the model has 64 positions; use fewer frames"):
        forward_hidden(short, collate([make_sequence(keep=False)], [images()]))


def test_the_answers_of_a_conversation_are_the_only_targets_and_follow_all_frames() -> None:
    never = float("inf")
    texts = ("What happens?", "it enters"), ("And then?", "it leaves")
    sample = Sample(
        "conversation",
        "v",
        tuple(Query(question, never) for question, _ in texts),
        tuple(AnnotatedReply(never, answer, (never, never)) for _, answer in texts),
    )
    sequence = make_sequence(sample, keep=False, window=len(TIMES))
    turns = [Turn(Role.SYSTEM, SYSTEM_PROMPT), Turn(Role.STREAM, frames=len(TIMES))]
    for question, answer in texts:
        turns += [Turn(Role.USER, question), Turn(Role.ASSISTANT, answer)]
    pieces = render(turns)
    ids = [i for p in pieces for i in ([FRAME_TOKEN] * K if p.frame else TOKENIZER.encode_piece(p))]
    assert sequence.ids == ids
    expected = [i for _, answer in texts for i in (*TOKENIZER.encode(answer), TOKENIZER.end_id)]
    assert [target for target in sequence.targets if target != IGNORE] == expected
    learned = [k for k, target in enumerate(sequence.targets) if target != IGNORE]
    assert [ids[k + 1] for k in learned] == expected
    assert set(sequence.informative + sequence.relevance) == {IGNORE}
    mask = collate([sequence], [images()]).mask[0, 0, : sequence.size, : sequence.size]
    assert torch.equal(mask, torch.ones_like(mask).tril())  # a window of all frames evicts none


def test_labels_do_not_begin_before_the_question() -> None:
    """The middle of the span is at 2.0 s, but the stream turn that the answer ends begins after the question at 2.2 s."""
    sample = Sample("qa", "v", (Query("a", 0.0), Query("b", 2.2)), (AnnotatedReply(3.5, "it", (0.0, 4.0)),))
    assert make_sequence(sample, keep=False).informative == [0, 0, 0, 0, 0, 1, 1, 1, 0]
    asked_at_frame = replace(sample, queries=(Query("b", 2.5),))
    assert make_sequence(asked_at_frame, keep=False).informative == [0, 0, 0, 0, 0, 1, 1, 1, 0]
