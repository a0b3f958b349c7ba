"""Layouts: one forward with branches equals the conversations it stands for, each in a row of its own."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

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
    """Tiny, with weights large enough for what one token sees to matter."""
    network = random_model(SHAPES["tiny"]).requires_grad_(False)
    for weight in network.parameters():
        if weight.dim() == 2:
            weight.copy_(
                torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)) * 1.6 / weight.shape[1] ** 0.5
            )
    return network


def laid_out(sample: Sample = CAPTIONS, *, keep: bool, seed: int = 0, window: int | None = None) -> TrainingSequence:
    return build_sequence(
        sample, TIMES, TOKENIZER, K, keep_replies=keep, rng=np.random.default_rng(seed), window=window
    )


def pictures(frames: int = len(TIMES), seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (frames, 28, 28, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def plain(pieces: list[Piece], seen: torch.Tensor) -> torch.Tensor:
    """Hidden states [T, D] of a conversation in one row, by the model's ordinary causal attention."""
    visual = iter(model().embed_frames(normalize_images(seen)))
    rows = [next(visual) if p.frame else model().embed_tokens(torch.tensor(TOKENIZER.encode_piece(p))) for p in pieces]
    return model().lm(inputs_embeds=torch.cat(rows)[None], use_cache=False).last_hidden_state[0]


def conversation(frames: int, said: dict[int, str] | None = None) -> list[Piece]:
    """The sample's timeline up to ``frames`` frames, with replies after some of them."""
    turns = [Turn(Role.SYSTEM, SYSTEM_PROMPT), Turn(Role.USER, "Narrate.")]
    for k in range(frames):
        turns += [Turn(Role.USER, "Now?")] if TIMES[k] == 2.5 else []
        turns.append(Turn(Role.STREAM, frames=1))
        turns += [Turn(Role.ASSISTANT, said[k])] if said and k in said else []
    return render(turns, close=False)


@pytest.fixture(scope="module")
def removed() -> tuple[TrainingSequence, torch.Tensor]:
    sequence = laid_out(keep=False)
    return sequence, forward_hidden(model(), collate([sequence], [pictures()]))[0]


def test_branches_change_nothing_on_the_main_line(removed: tuple[TrainingSequence, torch.Tensor]) -> None:
    sequence, hidden = removed
    wanted = plain(conversation(9), pictures())
    main = [i for i, branch in enumerate(sequence.branches) if branch == 0]
    assert main == list(range(len(wanted)))
    torch.testing.assert_close(hidden[: len(wanted)], wanted, atol=1e-4, rtol=1e-4)
    assert torch.equal(torch.tensor([sequence.positions[i] for i in main]), torch.arange(len(main)))


def test_a_branch_is_the_reply_in_its_place(removed: tuple[TrainingSequence, torch.Tensor]) -> None:
    """At every positive frame, the logits on the branch are those of a row in which the reply follows that frame."""
    sequence, hidden = removed
    places = {2: "it enters", 3: "it enters", 6: "it leaves", 7: "it leaves"}
    assert sorted(set(sequence.branches)) == [0, 1, 2, 3, 4]
    for branch, (frame, text) in enumerate(places.items(), start=1):
        wanted = plain(conversation(frame + 1, {frame: text}), pictures(frame + 1))
        own = [i for i, b in enumerate(sequence.branches) if b == branch]
        torch.testing.assert_close(
            model().lm_head(hidden[own]), model().lm_head(wanted[-len(own) :]), atol=1e-4, rtol=1e-4
        )
        said = [*TOKENIZER.encode(text), TOKENIZER.end_id]
        assert [sequence.targets[i] for i in own if sequence.targets[i] != IGNORE] == said
        assert [sequence.ids[i] for i in own][-len(said) :] == said
        assert sequence.targets[own[-1]] == IGNORE  # the closing token is the last there is to learn


def test_kept_replies_stand_in_the_main_line() -> None:
    sequence = laid_out(keep=True)
    spoken = {
        k: text
        for k, text in ((k, t) for k in range(9) for t in ("it enters", "it leaves"))
        if reply_after(sequence, k) == text
    }
    assert len(spoken) == 2
    assert {k in (2, 3) for k, t in spoken.items() if t == "it enters"} == {True}
    assert {k in (6, 7) for k, t in spoken.items() if t == "it leaves"} == {True}
    assert set(sequence.branches) == {0}
    assert sequence.positions == list(range(sequence.size))
    hidden = forward_hidden(model(), collate([sequence], [pictures()]))[0]
    wanted = plain(conversation(9, spoken), pictures())
    torch.testing.assert_close(hidden[: sequence.size], wanted, atol=1e-4, rtol=1e-4)
    learned = [(i, t) for i, t in enumerate(sequence.targets) if t != IGNORE]
    assert [t for _, t in learned] == [
        t for _, s in sorted(spoken.items()) for t in (*TOKENIZER.encode(s), TOKENIZER.end_id)
    ]
    assert all(sequence.ids[i + 1] == t for i, t in learned)


def reply_after(sequence: TrainingSequence, frame: int) -> str:
    """What is said in the main line right after a frame, or nothing."""
    start = sequence.frame_ends[frame] + 1
    end = sequence.frame_ends[frame + 1] if frame + 1 < len(sequence.frame_ends) else sequence.size
    text = TOKENIZER.backend.decode([i for i in sequence.ids[start:end] if i != FRAME_TOKEN], skip_special_tokens=False)
    head, found, rest = text.partition("<|im_end|>\n<|im_start|>assistant\n")
    return rest.split("<|im_end|>")[0] if found and not head else ""


def test_a_kept_reply_is_given_at_any_of_its_frames_and_then_has_been_given() -> None:
    seen = set()
    for seed in range(12):
        sequence = laid_out(keep=True, seed=seed)
        first = next(k for k in range(9) if reply_after(sequence, k))
        seen.add(first)
        assert sequence.informative[:5] == [0, 0, 1, int(first == 3), 0]
    assert seen == {2, 3}


def test_removed_replies_are_positive_wherever_they_may_be_given() -> None:
    sequence = laid_out(keep=False)
    assert sequence.informative == [0, 0, 1, 1, 0, 0, 1, 1, 0]
    assert sequence.relevance == [IGNORE] * 9


def test_frame_ends_point_at_the_last_visual_token_of_each_frame() -> None:
    for keep in (False, True):
        sequence = laid_out(keep=keep)
        assert len(sequence.frame_ends) == 9
        assert sequence.ids.count(FRAME_TOKEN) == 9 * K
        for end in sequence.frame_ends:
            assert sequence.ids[end - K + 1 : end + 1] == [FRAME_TOKEN] * K


def test_what_is_not_to_be_learned_stands_there_without_targets() -> None:
    sample = Sample("qa", "v", answers=(AnnotatedReply(1.5, "old news", (0.0, 2.0), learn=False), ANSWERS[1]))
    kept, gone = laid_out(sample, keep=True), laid_out(sample, keep=False)
    assert "old news" in [reply_after(kept, k) for k in range(9)]
    text = TOKENIZER.decode([t for t in kept.targets if t != IGNORE])
    assert text == "it leaves"
    assert kept.informative[2:4] == gone.informative[2:4] == [IGNORE] * 2
    assert {
        TOKENIZER.decode([t for t, b in zip(gone.targets, gone.branches, strict=True) if t != IGNORE and b == n])
        for n in (1, 2)
    } == {"it leaves"}


def test_grounding_has_relevance_only() -> None:
    sequence = laid_out(Sample("grounding", "v", (Query("red?"),), spans=((1.0, 2.0),)), keep=False)
    assert sequence.relevance == [0, 0, 1, 1, 1, 0, 0, 0, 0]
    assert sequence.informative == [IGNORE] * 9
    assert set(sequence.targets) == {IGNORE}


def test_overlapping_spans_do_not_displace_each_other() -> None:
    answers = (
        AnnotatedReply(2.0, "first", (1.0, 2.0)),
        AnnotatedReply(3.0, "second", (0.0, 3.0)),
    )  # middles 1.5 and 1.5
    sequence = laid_out(Sample("captioning", "v", answers=answers), keep=False)
    told = {
        sequence.limits[i]: TOKENIZER.decode(
            [t for t, b in zip(sequence.targets, sequence.branches, strict=True) if b == branch and t != IGNORE]
        )
        for i, branch in enumerate(sequence.branches)
        if branch
    }
    assert [told[sequence.frame_ends[k]] for k in (3, 4, 5, 6)] == ["first", "first", "second", "second"]


def test_padding_is_neither_seen_nor_learned() -> None:
    """Beside a longer sample, a sample's hidden states and labels are what they are alone."""
    short, long = laid_out(Sample("captioning", "v"), keep=False), laid_out(keep=False)
    alone, pair = collate([short], [pictures()]), collate([short, long], [pictures(), pictures(seed=1)])
    assert pair.ids.shape[1] % 16 == 0
    assert set(pair.targets[0, short.size :].tolist()) == {IGNORE}
    assert not pair.is_frame[0, short.size :].any()
    hidden = forward_hidden(model(), pair)[0, : short.size]
    torch.testing.assert_close(hidden, forward_hidden(model(), alone)[0, : short.size], atol=1e-5, rtol=1e-4)
    assert torch.isfinite(forward_hidden(model(), pair)).all()
    swapped = Batch(**{**vars(pair), "ids": pair.ids.clone()})
    swapped.ids[0, short.size :] = 7
    assert torch.equal(forward_hidden(model(), swapped)[0, : short.size], hidden)


def in_view(sequence: TrainingSequence) -> list[str]:
    """What each frame's last token sees, in words, a frame written as its number."""
    mask = collate([sequence], [pictures()]).mask[0, 0]
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
ASKED = "\nuser\nNow?\nstream\n"


def test_frames_leave_the_window_and_queries_stay() -> None:
    views = in_view(laid_out(keep=False, window=3))
    assert views[:4] == [f"{SYSTEM}(0)", f"{SYSTEM}(0)(1)", f"{SYSTEM}(0)(1)(2)", f"{SYSTEM}(1)(2)(3)"]
    assert views[5:8] == [f"{SYSTEM}(3)(4){ASKED}(5)", f"{SYSTEM}(4){ASKED}(5)(6)", f"{SYSTEM}{ASKED}(5)(6)(7)"]
    assert views[8] == f"{SYSTEM}{ASKED}(6)(7)(8)"
    assert in_view(laid_out(keep=False))[8] == f"{SYSTEM}(0)(1)(2)(3)(4){ASKED}(5)(6)(7)(8)"


def test_a_kept_reply_leaves_with_the_frame_after_it() -> None:
    sequence = laid_out(Sample("captioning", "v", (), ANSWERS[:1]), keep=True, window=3)
    reply = "\nassistant\nit enters\nstream\n"
    views = in_view(sequence)
    given = next(k for k, view in enumerate(views) if reply in view)  # the frame after it
    assert [reply in view for view in views] == [given <= k < given + 3 for k in range(len(TIMES))]


def test_a_removed_reply_sees_the_window_of_its_frame() -> None:
    sequence = laid_out(keep=False, window=3)
    mask = collate([sequence], [pictures()]).mask[0, 0]
    main = np.pad(np.array(sequence.branches) == 0, (0, len(mask) - sequence.size))
    anchors = {2: 1, 3: 2, 6: 3, 7: 4}
    for frame, branch in anchors.items():
        first = sequence.branches.index(branch)
        seen, wanted = mask[first].numpy() & main, mask[sequence.frame_ends[frame]].numpy() & main
        assert (seen == wanted).all()


def sample_of(cuts: list[float], learn: list[bool]) -> Sample:
    """Answers between every two cuts, one after the other."""
    pairs = zip(cuts[::2], cuts[1::2], learn, strict=False)
    return Sample("captioning", "v", answers=tuple(AnnotatedReply(b, f"{a:.1f}", (a, b + 0.4), x) for a, b, x in pairs))


CUTS = st.lists(st.floats(0, 4), max_size=6).map(sorted)
SAMPLES = st.builds(sample_of, CUTS, st.lists(st.booleans(), min_size=3, max_size=3))


@settings(max_examples=40)
@given(SAMPLES, st.booleans())
def test_masks_are_causal_and_targets_are_what_comes_next(sample: Sample, keep: bool) -> None:
    sequence = laid_out(sample, keep=keep)
    batch = collate([sequence], [pictures()])
    mask = batch.mask[0, 0]
    index = torch.arange(len(mask))
    assert mask.diagonal().all()
    assert not (mask & (index[None, :] > index[:, None])).any()
    positions = batch.positions[0]
    for i, target in enumerate(sequence.targets):
        seen = sorted(positions[mask[i]].tolist())
        assert seen == list(range(int(positions[i]) + 1))  # exactly one token at every earlier position
        if target != IGNORE:
            assert sequence.ids[i + 1] == target
            assert sequence.branches[i + 1] == sequence.branches[i]


def test_a_sample_longer_than_the_models_positions_is_refused() -> None:
    shape = SHAPES["tiny"]
    short = random_model(replace(shape, text=replace(shape.text, max_positions=64)))
    with pytest.raises(TrainingError, match="the model has 64 positions; use fewer frames"):
        forward_hidden(short, collate([laid_out(keep=False)], [pictures()]))
