"""Sampling, repetition penalty, repeat suppression and the text of replies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import repeat

import pytest
import torch
from duet_rig import Rig, ScriptedSampler, endless_model, frames, joined_deltas, lively_model, options, replies, scores
from hypothesis import given
from hypothesis import strategies as st

from mmduet.engine.repeat_filter import RepeatFilter
from mmduet.engine.sampling import Sampler, sample_together
from mmduet.events import Output, Reply, ReplyStarted
from mmduet.model.presets import byte_tokenizer
from mmduet.model.tokenizer import TextStream
from mmduet.options import DecodeOptions, SessionOptions, SpeakOptions

LOGITS = torch.tensor([0.5, 3.0, 2.0, -1.0, 2.9])


def first_tokens(
    options: DecodeOptions, count: int, logits: torch.Tensor = LOGITS, sampler: type[Sampler] = Sampler
) -> list[int]:
    return [sampler(options, reply).next(logits) for reply in range(count)]


def test_greedy_sampling_takes_the_largest_logit() -> None:
    sampler = Sampler(DecodeOptions(), 0)
    assert [sampler.next(LOGITS) for _ in range(3)] == [1, 1, 1]


def test_repetition_penalty_counts_tokens_of_one_reply() -> None:
    options = DecodeOptions(repetition_penalty=1.4)
    first = Sampler(options, 0)
    assert [first.next(LOGITS) for _ in range(3)] == [1, 4, 1]  # 3.0/1.4 = 2.14, 2.9/1.4 = 2.07: both above 2.0
    assert Sampler(options, 1).next(LOGITS) == 1
    below = torch.tensor([-1.0, -1.2])
    sampler = Sampler(options, 0)
    assert [sampler.next(below) for _ in range(2)] == [0, 1]  # a negative logit is lowered too
    assert torch.equal(below, torch.tensor([-1.0, -1.2]))


def test_sampling_is_seeded() -> None:
    options = DecodeOptions(temperature=1.0, seed=3)
    assert first_tokens(options, 50) == first_tokens(options, 50)
    assert first_tokens(options, 50) != first_tokens(DecodeOptions(temperature=1.0, seed=4), 50)
    assert len(set(first_tokens(options, 50))) > 2  # each reply has its own seed


def test_sampling_does_not_use_the_global_generator() -> None:
    before = torch.random.get_rng_state()
    first_tokens(DecodeOptions(temperature=1.0), 3)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_sampled_frequencies_follow_the_softmax_at_the_temperature() -> None:
    counts = Counter(first_tokens(DecodeOptions(temperature=0.7), 3000))
    expected = (LOGITS / 0.7).softmax(-1)
    assert [counts[i] / 3000 for i in range(5)] == pytest.approx(expected.tolist(), abs=0.04)


def test_top_p_keeps_the_smallest_set_with_probability_p() -> None:
    logits = torch.tensor([0.1, 0.5, 0.4]).log()
    assert set(first_tokens(DecodeOptions(temperature=1.0, top_p=0.45), 200, logits)) == {1}
    assert set(first_tokens(DecodeOptions(temperature=1.0, top_p=0.55), 200, logits)) == {1, 2}
    assert set(first_tokens(DecodeOptions(temperature=1.0, top_p=1.0), 400, logits)) == {0, 1, 2}


class LargestNumber(Sampler):
    """A sampler whose random number is just below 1, which is 1 in float32."""

    def draw(self) -> float:
        """Return the number."""
        return 1 - 1e-12


def test_rounding_does_not_lead_beyond_the_kept_tokens() -> None:
    logits = torch.tensor([0.1, 0.5, 0.4, 1e-6]).log()
    assert first_tokens(DecodeOptions(temperature=1.0, top_p=0.55), 1, logits, LargestNumber) == [2]


def test_a_token_that_is_not_accepted_is_sampled_again() -> None:
    """A step that fails after sampling is repeated, and gives the same tokens."""
    sampler, other = (Sampler(DecodeOptions(temperature=1.0, repetition_penalty=1.3, seed=5), 0) for _ in range(2))
    repeated = [int(sample_together(LOGITS[None], [sampler])[0]) for _ in range(4)]
    assert len(set(repeated)) == 1
    sampler.accept(repeated[0])
    assert [repeated[0], *(sampler.next(LOGITS) for _ in range(20))] == [other.next(LOGITS) for _ in range(21)]


# repeats

TEXTS = st.text(alphabet="ab ", max_size=6)


@given(st.lists(TEXTS, max_size=4), TEXTS, st.data())
def test_repeat_filter_releases_all_text_or_none(recent: list[str], text: str, data: st.DataObject) -> None:
    repeats = RepeatFilter(tuple(recent))
    released = pushed = ""
    while pushed != text:
        step = data.draw(st.integers(1, len(text) - len(pushed)))
        delta, pushed = text[len(pushed) : len(pushed) + step], text[: len(pushed) + step]
        released += repeats.push(delta)
        assert text.startswith(released)
        assert released == pushed or any(r.startswith(pushed) for r in recent)
    rest, repeated = repeats.finish()
    assert repeated == (text in recent)
    assert released + rest == ("" if repeated else text)


def test_reply_is_not_repeated_within_the_repeat_window() -> None:
    texts = ["it falls", "it falls", "it fails", "it falls", "it"]
    speak = SpeakOptions("threshold", 0.0, repeat_window=1.5)
    outputs = Rig(lively_model(), sampler_factory=ScriptedSampler(texts)).run_stream(
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
    assert joined_deltas(outputs) == {i: texts[i] for i in started}


# text


@given(st.text(max_size=12), st.binary(max_size=6))
def test_joined_deltas_equal_the_text(text: str, junk: bytes) -> None:
    tokenizer = byte_tokenizer()
    ids = tokenizer.encode(text) + list(junk)  # ids below 256 are single bytes, in some order
    stream = TextStream(tokenizer)
    deltas = [stream.push(i) for i in ids]
    deltas.append(stream.flush())
    assert "".join(deltas) == stream.text == tokenizer.decode(ids)


def test_characters_are_emitted_whole() -> None:
    tokenizer = byte_tokenizer()
    stream = TextStream(tokenizer)
    deltas = [stream.push(i) for i in tokenizer.encode("aé€😀!")]
    assert deltas == ["a", "", "é", "", "", "€", "", "", "", "😀", "!"]
    assert stream.flush() == ""


def test_incomplete_character_is_emitted_by_flush() -> None:
    tokenizer = byte_tokenizer()
    stream = TextStream(tokenizer)
    for i in tokenizer.encode("a€")[:-1]:
        stream.push(i)
    assert stream.text == "a"
    assert stream.flush() == "\N{REPLACEMENT CHARACTER}"


def test_reply_at_its_token_limit_finishes_with_length() -> None:
    rig = Rig(lively_model(), sampler_factory=ScriptedSampler(["abcdef", "abc", "abcd"]))
    outputs = rig.run_stream(options(0.0, tokens=4), frames(3))
    assert replies(outputs) == [(0, "abcd", 4, "length"), (1, "abc", 3, "stop"), (2, "abcd", 4, "length")]


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("allowed", [1, 3])
def test_reply_refused_a_token_equals_one_at_its_token_limit(keep: bool, allowed: int) -> None:
    def run(tokens: int, granted: Iterator[bool]) -> tuple[list[Output], str]:
        rig = Rig(endless_model())
        session = rig.open(options(keep=keep, tokens=tokens))
        session.take_token = lambda: next(granted)
        first, last = frames(2)
        rig.push(session, first)
        rig.speak_now(session)
        outputs = list(rig.run(session))
        rig.push(session, last)
        return [*outputs, *rig.run(session)], rig.fed_text(session)

    refused, fed = run(8, iter([True] * allowed + [False]))
    limited, fed_by_limit = run(allowed, repeat(True))
    assert [finish for *_, finish in replies(refused)] == ["length"]
    assert replies(refused) == replies(limited)
    assert scores(refused) == pytest.approx(scores(limited), abs=1e-5)
    if keep:
        assert fed == fed_by_limit


def test_reply_without_any_token_is_empty_and_ends_with_length() -> None:
    rig = Rig(endless_model())
    session = rig.open(options(keep=True))
    session.take_token = lambda: False
    rig.push(session, frames(1)[0])
    rig.speak_now(session)
    assert replies(list(rig.run(session))) == [(0, "", 0, "length")]


def test_empty_reply_is_emitted() -> None:
    outputs = Rig(lively_model(), sampler_factory=ScriptedSampler([""])).run_stream(options(0.0), frames(1))
    assert [type(o).__name__ for o in outputs] == ["Scores", "ReplyStarted", "Reply", "StreamEnded"]
    assert replies(outputs) == [(0, "", 0, "stop")]


def test_seeded_reply_does_not_depend_on_other_sessions() -> None:
    speak = SpeakOptions("threshold", 0.0)
    given_options = SessionOptions(speak=speak, decode=DecodeOptions(6, temperature=0.8, seed=5), system_prompt="x")
    alone = replies(Rig(lively_model()).run_stream(given_options, frames(4)))
    rig = Rig(lively_model())
    other = rig.open(given_options)
    rig.push(other, frames(1, seed=9)[0])
    assert replies(rig.run_stream(given_options, frames(4))) == alone
