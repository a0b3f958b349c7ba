"""The text fed under both profiles, compared with text written by hand from docs/duet_format.md (Q1 to Q4, Q13)."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import pytest
from duet_rig import PROMPT, Rig, ScriptedSampler, endless_model, frames, lively_model, options, replies
from torch import Tensor

from mmduet.duet import make_feed
from mmduet.engine.sampling import Sampler
from mmduet.events import Context, Frame, Query, QueryRead, Scores
from mmduet.options import DecodeOptions

S, E = "<|im_start|>", "<|im_end|>"
SYSTEM = f"{S}system\n{PROMPT}{E}"
STREAM = f"\n{S}stream\n"
REPLY = f"\n{S}assistant\n"


def user(text: str) -> str:
    return f"\n{S}user\n{text}{E}"


def fed(
    profile: str,
    items: list[Frame | Query | Context],
    replies_at: dict[int, str],
    *,
    keep: bool,
    tokens: int = 8,
) -> str:
    """Return everything that is fed. ``replies_at``: the reply after each frame, by its number."""
    rig = Rig(lively_model(), sampler_factory=ScriptedSampler(list(replies_at.values())))
    session = rig.open(options(keep=keep, profile=profile, tokens=tokens))
    for turn in (x for x in items if not isinstance(x, Frame)):
        rig.push(session, turn)
    for frame in (x for x in items if isinstance(x, Frame)):
        rig.push(session, frame)
        list(rig.run(session))
        if frame.index in replies_at:
            rig.speak_now(session)
            list(rig.run(session))
    rig.end(session)
    list(rig.run(session))
    return rig.fed_text(session)


CASES = {
    # name: (items, replies_at, keep, fixed, paper)
    "Q1 a query first": (
        [Query("q", 0.0), *frames(2)], {}, False,
        SYSTEM + user("q") + STREAM + "<F><F>",
        user("q") + STREAM + "<F><F>",
    ),
    "Q2 video first": (
        frames(2), {}, False,
        SYSTEM + STREAM + "<F><F>",
        SYSTEM + "<F><F>",
    ),
    "Q2 then a query": (
        [Query("q", 0.5), *frames(2)], {}, False,
        SYSTEM + STREAM + "<F>" + E + user("q") + STREAM + "<F>",
        SYSTEM + "<F>" + E + user("q") + STREAM + "<F>",
    ),
    "Q3 a query right after a kept reply": (
        [Query("q", 0.5), *frames(2)], {0: "ok"}, True,
        SYSTEM + STREAM + "<F>" + E + REPLY + "ok" + E + user("q") + STREAM + "<F>",
        SYSTEM + "<F>" + E + REPLY + "ok" + user("q") + STREAM + "<F>",
    ),
    "Q3 a query right after a removed reply": (
        [Query("q", 0.5), *frames(2)], {0: "ok"}, False,
        SYSTEM + STREAM + "<F>" + E + REPLY + "ok" + E + user("q") + STREAM + "<F>",
        SYSTEM + "<F>" + E + REPLY + "ok" + user("q") + STREAM + "<F>",
    ),
    "a kept reply, then video": (
        frames(3), {1: "ok"}, True,
        SYSTEM + STREAM + "<F><F>" + E + REPLY + "ok" + E + STREAM + "<F>",
        SYSTEM + "<F><F>" + E + REPLY + "ok" + E + STREAM + "<F>",
    ),
    "a removed reply, then video": (
        frames(3), {1: "ok"}, False,
        SYSTEM + STREAM + "<F><F>" + E + REPLY + "ok" + "<F>",
        SYSTEM + "<F><F>" + E + REPLY + "ok" + "<F>",
    ),
    "two removed replies": (
        frames(3), {0: "ok", 1: "so"}, False,
        SYSTEM + STREAM + "<F>" + E + REPLY + "ok" + "<F>" + E + REPLY + "so" + "<F>",
        SYSTEM + "<F>" + E + REPLY + "ok" + "<F>" + E + REPLY + "so" + "<F>",
    ),
    "Q13 a kept reply cut at its limit": (
        frames(2), {0: "abcdefghXY"}, True,
        SYSTEM + STREAM + "<F>" + E + REPLY + "abcdefgh" + E + STREAM + "<F>",
        SYSTEM + "<F>" + E + REPLY + "abcdefgh" + STREAM + "<F>",
    ),
    "Q3 and Q13: a query right after a kept reply that was cut": (
        [Query("q", 0.5), *frames(2)], {0: "abcdefghXY"}, True,
        SYSTEM + STREAM + "<F>" + E + REPLY + "abcdefgh" + E + user("q") + STREAM + "<F>",
        SYSTEM + "<F>" + E + REPLY + "abcdefg" + user("q") + STREAM + "<F>",
    ),
    "Q3 and Q13: a query right after a removed reply that was cut": (
        [Query("q", 0.5), *frames(2)], {0: "abcdefghXY"}, False,
        SYSTEM + STREAM + "<F>" + E + REPLY + "abcdefg" + E + user("q") + STREAM + "<F>",
        SYSTEM + "<F>" + E + REPLY + "abcdefg" + user("q") + STREAM + "<F>",
    ),
    "Q3 and Q13: a context turn right after a kept reply that was cut": (
        [Context("c", 0.5), *frames(2)], {0: "abcdefghXY"}, True,
        SYSTEM + STREAM + "<F>" + E + REPLY + "abcdefgh" + E + f"\n{S}system\nc{E}" + STREAM + "<F>",
        SYSTEM + "<F>" + E + REPLY + "abcdefg" + f"\n{S}system\nc{E}" + STREAM + "<F>",
    ),
    "Q1 and Q3: a query first and one right after a kept reply": (
        [Query("p", 0.0), Query("q", 0.5), *frames(2)], {0: "ok"}, True,
        SYSTEM + user("p") + STREAM + "<F>" + E + REPLY + "ok" + E + user("q") + STREAM + "<F>",
        user("p") + STREAM + "<F>" + E + REPLY + "ok" + user("q") + STREAM + "<F>",
    ),
    "Q3 and Q4: two queries after a kept reply that was cut": (
        [Query("a", 0.5), Query("b", 0.5), *frames(3)], {0: "abcdefghXY"}, True,
        SYSTEM + STREAM + "<F>" + E + REPLY + "abcdefgh" + E + user("a") + user("b") + STREAM + "<F><F>",
        SYSTEM + "<F>" + E + REPLY + "abcdefg" + user("a") + STREAM + "<F>" + E + user("b") + STREAM + "<F>",
    ),
    "Q4 one query a frame": (
        [Query("a", 0.5), Query("b", 0.5), *frames(3)], {}, False,
        SYSTEM + STREAM + "<F>" + E + user("a") + user("b") + STREAM + "<F><F>",
        SYSTEM + "<F>" + E + user("a") + STREAM + "<F>" + E + user("b") + STREAM + "<F>",
    ),
    "context turns are system turns": (
        [Context("c", 0.5), *frames(2)], {}, False,
        SYSTEM + STREAM + "<F>" + E + f"\n{S}system\nc{E}" + STREAM + "<F>",
        SYSTEM + "<F>" + E + f"\n{S}system\nc{E}" + STREAM + "<F>",
    ),
}  # fmt: skip


@pytest.mark.parametrize("profile", ["fixed", "paper"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_fed_text_follows_the_profile(case: tuple, profile: str) -> None:
    items, replies_at, keep, fixed, paper = case
    actual = fed(profile, items, replies_at, keep=keep)
    assert actual == (fixed if profile == "fixed" else paper)


def test_q13_removed_reply_at_its_limit_is_not_closed() -> None:
    actual = fed("paper", frames(2), {0: "abcdefghXY"}, keep=False)
    assert actual == SYSTEM + "<F>" + E + REPLY + "abcdefg" + "<F>"  # its last token is never fed


@pytest.mark.parametrize(("text", "first_fed"), [("ok", "ok" + E), ("abcdefghXY", "abcdefgh")], ids=["ended", "cut"])
def test_a_second_reply_to_a_frame_follows_the_whole_first_one(text: str, first_fed: str) -> None:
    """The reference never replies twice to a frame; the live server does when a client requests it."""
    rig = Rig(lively_model(), sampler_factory=ScriptedSampler([text, "so"]))
    session = rig.open(options(keep=True, profile="paper", tokens=8))
    rig.push(session, frames(1)[0])
    for _ in range(2):
        rig.speak_now(session)
        list(rig.run(session))
    assert rig.fed_text(session) == SYSTEM + "<F>" + E + REPLY + first_fed + REPLY + "so"


class RecordingSampler(Sampler):
    """A sampler that records the tokens of all replies."""

    chosen: ClassVar[list[int]] = []

    def next(self, logits: Tensor) -> int:
        self.chosen.append(super().next(logits))
        return self.chosen[-1]


@pytest.mark.parametrize(("profile", "keep"), [("paper", False), ("paper", True), ("fixed", False)])
def test_q15_a_repetition_penalty_counts_all_replies_so_far(profile: str, keep: bool) -> None:
    """The penalty forbids every token that was counted: under ``paper`` no two replies share one."""
    RecordingSampler.chosen.clear()
    model = endless_model()
    decode = DecodeOptions(max_new_tokens=4, repetition_penalty=1e6)
    session_options = replace(options(0.0, keep=keep, profile=profile), decode=decode)
    rig = Rig(model, sampler_factory=RecordingSampler)
    assert len(replies(rig.run_stream(session_options, [Query("q", 0.0), *frames(4)]))) == 4
    chosen = [token for token in RecordingSampler.chosen if token != model.tokenizer.end_id]
    assert len(chosen) > 8
    assert (len(set(chosen)) == len(chosen)) is (profile == "paper")


def test_q4_query_after_the_last_frame_is_ignored_under_paper() -> None:
    items = [*frames(2), Query("late", 9.0)]
    assert fed("paper", items, {}, keep=False) == SYSTEM + "<F><F>"
    assert fed("fixed", items, {9: ""}, keep=False).endswith(E + user("late") + REPLY)


def test_q11_running_sum_includes_frames_before_the_query() -> None:
    rig = Rig(lively_model())
    outputs = rig.run_stream(options(0.0, profile="paper", tokens=1), [Query("q", 1.0), *frames(3)])
    assert [o.speak for o in outputs if isinstance(o, Scores)] == [True] * 3
    assert [o.time for o in outputs if isinstance(o, QueryRead)] == [1.0]


def test_removed_reply_between_a_turn_and_the_next_frame_leaves_no_trace() -> None:
    """The reply directly follows a query, so the stream header is still due and no stream turn is open."""
    for profile in ("fixed", "paper"):
        with_reply, without_reply = make_feed(profile, "p"), make_feed(profile, "p")
        for feed in (with_reply, without_reply):
            feed.begin(query_first=False)
            feed.frame()
            feed.text("user", "q")
        assert with_reply.begin_reply()[0].text == REPLY
        with_reply.end_reply(removed=True, cut=False)
        assert with_reply.frame() == without_reply.frame()
