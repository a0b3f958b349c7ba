"""The template: whole equals piece by piece, in text and in token ids; conversations that cannot be are refused."""

from __future__ import annotations

from functools import lru_cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmduet.duet import END, IMAGE, START, Piece, Renderer, Role, Turn, make_feed, render
from mmduet.errors import FormatError
from mmduet.model.presets import byte_tokenizer
from mmduet.model.tokenizer import Tokenizer
from mmduet.recipes.nano.vocabulary import train_tokenizer

TEXTS = st.text(max_size=12).filter(lambda t: START not in t and END not in t and IMAGE not in t)
LIKELY = st.lists(
    st.sampled_from(["the ", "red", " red", "\n", "\n\n", " ", "stream", "user", "a", "."]), max_size=8
).map("".join)
TURNS = st.lists(
    st.one_of(
        st.builds(Turn, st.sampled_from([Role.SYSTEM, Role.USER, Role.ASSISTANT]), st.one_of(TEXTS, LIKELY)),
        st.builds(Turn, st.just(Role.STREAM), st.just(""), st.integers(1, 3)),
    ),
    max_size=8,
)


@lru_cache
def tokenizer(kind: str) -> Tokenizer:
    """The byte tokenizer, or a BPE that has merged as much of the template as it could."""
    if kind == "bytes":
        return byte_tokenizer()
    corpus = [
        "the red star enters the stream\n\nthe user asks: red? ",
        "system\nstream\nuser\nassistant\nthe red red red.\n",
    ]
    return train_tokenizer(corpus * 20, 400)


def whole_text(pieces: list[Piece]) -> str:
    return "".join(IMAGE if p.frame else p.text for p in pieces)


def by_hand(turns: list[Turn]) -> str:
    """The description's table, written again: every turn from its role and text; adjacent frames share a stream turn."""
    text, streaming = "", False
    for turn in turns:
        if turn.role is Role.STREAM and streaming:
            text += IMAGE * turn.frames
            continue
        text += END if streaming else ""
        streaming = turn.role is Role.STREAM
        text += (
            ("\n" if text else "") + f"{START}{turn.role}\n" + turn.text + (IMAGE * turn.frames if streaming else END)
        )
    return text + (END if streaming else "")


@given(TURNS)
def test_text_follows_the_description(turns: list[Turn]) -> None:
    assert whole_text(render(turns)) == by_hand(turns)


@pytest.mark.parametrize("kind", ["bytes", "bpe"])
@given(turns=TURNS)
def test_ids_piece_by_piece_are_the_ids_of_the_whole(kind: str, turns: list[Turn]) -> None:
    encode = tokenizer(kind)
    image = encode.encode(IMAGE)
    pieces = render(turns)
    ids = [i for p in pieces for i in (image if p.frame else encode.encode_piece(p))]
    assert ids == list(encode.encode(whole_text(pieces)))


@pytest.mark.parametrize("kind", ["bytes", "bpe"])
@given(turns=TURNS)
def test_a_reply_decoded_by_itself_has_the_ids_of_the_whole(kind: str, turns: list[Turn]) -> None:
    """The engine feeds header, decoded tokens, closing token; training tokenises the same three apart."""
    encode = tokenizer(kind)
    renderer = Renderer()
    ids: list[int] = []
    for turn in turns:
        if turn.role is Role.ASSISTANT:
            parts = [*renderer.begin_reply(), Piece(turn.text, Role.ASSISTANT), *renderer.end_reply()]
        elif turn.role is Role.STREAM:
            parts = [p for _ in range(turn.frames) for p in renderer.frame()]
        else:
            parts = renderer.text_turn(turn.role, turn.text)
        ids += [i for p in parts for i in encode.encode(IMAGE if p.frame else p.text)]
    ids += [i for p in renderer.finish() for i in encode.encode_piece(p)]
    assert ids == encode.encode(by_hand(turns))


@pytest.mark.parametrize("kind", ["bytes", "bpe"])
@given(text=st.one_of(TEXTS, LIKELY))
def test_tokenizers_lose_nothing(kind: str, text: str) -> None:
    assert tokenizer(kind).decode(tokenizer(kind).encode(text)) == text


def test_the_bpe_of_these_tests_does_merge() -> None:
    assert len(tokenizer("bpe").encode("the red stream")) < 6


@given(TURNS)
def test_the_fixed_feed_is_the_template(turns: list[Turn]) -> None:
    feed = make_feed("fixed", "Watch.")
    pieces = feed.begin(query_first=False)
    for turn in turns:
        if turn.role is Role.ASSISTANT:
            pieces += [*feed.begin_reply(), Piece(turn.text, Role.ASSISTANT), *feed.end_reply(removed=False, cut=False)]
        elif turn.role is Role.STREAM:
            pieces += [p for _ in range(turn.frames) for p in feed.frame()]
        else:
            pieces += feed.text(turn.role, turn.text)
    assert pieces == render([Turn(Role.SYSTEM, "Watch."), *turns], close=False)


@given(TURNS, st.integers(0, 8))
def test_a_removed_reply_leaves_the_feed_as_it_was(turns: list[Turn], at: int) -> None:
    told, silent = make_feed("fixed", "p"), make_feed("fixed", "p")
    for feed in (told, silent):
        pieces = feed.begin(query_first=False)
        for i, turn in enumerate(t for t in turns if t.role is not Role.ASSISTANT):
            if feed is told and i == at:
                feed.begin_reply()
                assert feed.end_reply(removed=True, cut=False) == []
            pieces += feed.text(turn.role, turn.text) if turn.role is not Role.STREAM else feed.frame()
        if feed is told:
            seen = pieces
    assert seen == pieces


def test_open_conversations_stay_open() -> None:
    assert whole_text(render([Turn(Role.STREAM, frames=1)], close=False)) == f"{START}stream\n{IMAGE}"


def test_frames_of_one_stream_turn_follow_each_other() -> None:
    split = render([Turn(Role.STREAM, frames=2), Turn(Role.STREAM, frames=1)])
    assert split == render([Turn(Role.STREAM, frames=3)])
    assert [p.frame for p in split] == [False, True, True, True, False]


def test_pieces_know_their_role() -> None:
    pieces = render([Turn(Role.STREAM, frames=1), Turn(Role.ASSISTANT, "hi"), Turn(Role.USER, "q")])
    assert [p.role.value for p in pieces] == ["stream"] * 3 + ["assistant"] * 3 + ["user"]


@pytest.mark.parametrize("frames", [0, -1])
def test_a_stream_turn_needs_frames(frames: int) -> None:
    with pytest.raises(FormatError, match="at least one"):
        render([Turn(Role.STREAM, frames=frames)])


@pytest.mark.parametrize("marker", [START, END])
@pytest.mark.parametrize("role", [Role.SYSTEM, Role.USER, Role.ASSISTANT])
def test_markers_in_a_text_are_refused(role: Role, marker: str) -> None:
    with pytest.raises(FormatError, match=r"im_(start|end)"):
        render([Turn(role, f"say {marker} now")])


@pytest.mark.parametrize("role", [Role.STREAM, Role.ASSISTANT])
def test_only_system_and_user_are_text_turns(role: Role) -> None:
    with pytest.raises(FormatError, match=role.value):
        Renderer().text_turn(role, "x")


def test_replies_open_and_close_in_turn() -> None:
    with pytest.raises(FormatError, match="begin_reply"):
        Renderer().end_reply()
    renderer = Renderer()
    renderer.begin_reply()
    for impossible in (
        renderer.frame,
        renderer.begin_reply,
        renderer.finish,
        lambda: renderer.text_turn(Role.USER, "q"),
    ):
        with pytest.raises(FormatError, match="still open"):
            impossible()
    renderer.end_reply()
    renderer.frame()
