"""From logits to tokens, from tokens to text: greedy, sampled, penalised; no half characters, no repeats."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from duet_rig import Rig, Scripted, frames, joined_deltas, lively_model, options, replies
from hypothesis import given
from hypothesis import strategies as st

from mmduet.engine.decoding import RepeatFilter, Sampler
from mmduet.events import Reply, ReplyStarted
from mmduet.model.presets import byte_tokenizer
from mmduet.model.tokenizer import TextStream
from mmduet.options import DecodeOptions, SessionOptions, SpeakOptions

LOGITS = torch.tensor([0.5, 3.0, 2.0, -1.0, 2.9])


def drawn(options: DecodeOptions, count: int, logits: torch.Tensor = LOGITS) -> list[int]:
    return [Sampler(options, reply).next(logits) for reply in range(count)]


def test_greedy_takes_the_largest() -> None:
    sampler = Sampler(DecodeOptions(), 0)
    assert [sampler.next(LOGITS) for _ in range(3)] == [1, 1, 1]


def test_the_penalty_counts_one_reply_only() -> None:
    options = DecodeOptions(repetition_penalty=1.4)
    first = Sampler(options, 0)
    assert [first.next(LOGITS) for _ in range(3)] == [1, 4, 1]  # 3.0/1.4 = 2.14, 2.9/1.4 = 2.07: both above 2.0
    assert Sampler(options, 1).next(LOGITS) == 1
    below = torch.tensor([-1.0, -1.2])
    sampler = Sampler(options, 0)
    assert [sampler.next(below) for _ in range(2)] == [0, 1]  # a negative logit is pushed down too
    assert torch.equal(below, torch.tensor([-1.0, -1.2]))


def test_sampling_is_seeded() -> None:
    options = DecodeOptions(temperature=1.0, seed=3)
    assert drawn(options, 50) == drawn(options, 50)
    assert drawn(options, 50) != drawn(DecodeOptions(temperature=1.0, seed=4), 50)
    assert len(set(drawn(options, 50))) > 2  # replies differ from each other


def test_sampling_leaves_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    drawn(DecodeOptions(temperature=1.0), 3)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_temperature_follows_the_softmax() -> None:
    counts = Counter(drawn(DecodeOptions(temperature=0.7), 3000))
    wanted = (LOGITS / 0.7).softmax(-1)
    assert [counts[i] / 3000 for i in range(5)] == pytest.approx(wanted.tolist(), abs=0.04)


def test_top_p_is_the_smallest_set_that_holds_p() -> None:
    logits = torch.tensor([0.1, 0.5, 0.4]).log()
    assert set(drawn(DecodeOptions(temperature=1.0, top_p=0.45), 200, logits)) == {1}
    assert set(drawn(DecodeOptions(temperature=1.0, top_p=0.55), 200, logits)) == {1, 2}
    assert set(drawn(DecodeOptions(temperature=1.0, top_p=1.0), 400, logits)) == {0, 1, 2}


# repeats

TEXTS = st.text(alphabet="ab ", max_size=6)


@given(st.lists(TEXTS, max_size=4), TEXTS, st.data())
def test_repeat_filter_shows_all_or_nothing(recent: list[str], text: str, data: st.DataObject) -> None:
    repeats = RepeatFilter(tuple(recent))
    shown = said = ""
    while said != text:
        step = data.draw(st.integers(1, len(text) - len(said)))
        delta, said = text[len(said) : len(said) + step], text[: len(said) + step]
        shown += repeats.push(delta)
        assert text.startswith(shown)
        assert shown == said or any(r.startswith(said) for r in recent)
    rest, repeated = repeats.finish()
    assert repeated == (text in recent)
    assert shown + rest == ("" if repeated else text)


def test_the_same_words_are_not_said_again_within_the_window() -> None:
    said = ["it falls", "it falls", "it fails", "it falls", "it"]
    speak = SpeakOptions("threshold", 0.0, repeat_window=1.5)
    outputs = Rig(lively_model(), sampler_factory=Scripted(said)).watch(
        SessionOptions(speak=speak, system_prompt="x"), frames(5)
    )
    assert [(o.frame, o.text) for o in outputs if isinstance(o, Reply)] == [
        (0, "it falls"),
        (2, "it fails"),
        (3, "it falls"),
        (4, "it"),
    ]
    started = [o.reply for o in outputs if isinstance(o, ReplyStarted)]
    assert started == [o.reply for o in outputs if isinstance(o, Reply)]
    assert joined_deltas(outputs) == {i: said[i] for i in started}


# text


@given(st.text(max_size=12), st.binary(max_size=6))
def test_deltas_joined_are_the_text(text: str, junk: bytes) -> None:
    tokenizer = byte_tokenizer()
    ids = tokenizer.encode(text) + list(junk)  # ids below 256 are single bytes, in some order
    stream = TextStream(tokenizer)
    deltas = [stream.push(i) for i in ids]
    deltas.append(stream.flush())
    assert "".join(deltas) == stream.text == tokenizer.decode(ids)


def test_a_character_is_never_shown_in_parts() -> None:
    tokenizer = byte_tokenizer()
    stream = TextStream(tokenizer)
    deltas = [stream.push(i) for i in tokenizer.encode("aé€😀!")]
    assert deltas == ["a", "", "é", "", "", "€", "", "", "", "😀", "!"]
    assert stream.flush() == ""


def test_what_is_left_of_a_cut_character_comes_at_the_end() -> None:
    tokenizer = byte_tokenizer()
    stream = TextStream(tokenizer)
    for i in tokenizer.encode("a€")[:-1]:
        stream.push(i)
    assert stream.text == "a"
    assert stream.flush() == "\N{REPLACEMENT CHARACTER}"


def test_a_reply_at_its_limit_says_so() -> None:
    rig = Rig(lively_model(), sampler_factory=Scripted(["abcdef", "abc", "abcd"]))
    outputs = rig.watch(options(0.0, tokens=4), frames(3))
    assert replies(outputs) == [(0, "abcd", 4, "length"), (1, "abc", 3, "stop"), (2, "abcd", 4, "length")]


def test_an_empty_reply_is_still_a_reply() -> None:
    outputs = Rig(lively_model(), sampler_factory=Scripted([""])).watch(options(0.0), frames(1))
    assert [type(o).__name__ for o in outputs] == ["Scores", "ReplyStarted", "Reply", "StreamEnded"]
    assert replies(outputs) == [(0, "", 0, "stop")]


def test_a_seeded_reply_is_the_same_in_any_company() -> None:
    speak = SpeakOptions("threshold", 0.0)
    given_options = SessionOptions(speak=speak, decode=DecodeOptions(6, temperature=0.8, seed=5), system_prompt="x")
    alone = replies(Rig(lively_model()).watch(given_options, frames(4)))
    rig = Rig(lively_model())
    other = rig.open(given_options)
    rig.push(other, frames(1, seed=9)[0])
    assert replies(rig.watch(given_options, frames(4))) == alone
