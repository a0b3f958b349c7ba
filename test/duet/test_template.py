"""Rendering all at once equals incremental rendering, in text and token ids; invalid conversations are rejected."""

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
    """Return the byte tokenizer, or a BPE trained on the words of the template so that it merges as much as possible."""
    if kind == "bytes":
        return byte_tokenizer()
    corpus = [
        "the red star enters the stream\n\nthe user asks: red? ",
        "system\nstream\nuser\nassistant\nthe red red red.\n",
    ]
    return train_tokenizer(corpus * 20, 400)


def whole_text(pieces: list[Piece]) -> str:
    return "".join(IMAGE if p.frame else p.text for p in pieces)


def expected_text(turns: list[Turn]) -> str:
    """Return the text by the table of docs/duet_format.md, written independently. Adjacent frames share a stream turn."""
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
def test_rendered_text_follows_the_format(turns: list[Turn]) -> None:
    assert whole_text(render(turns)) == expected_text(turns)


@pytest.mark.parametrize("kind", ["bytes", "bpe"])
@given(turns=TURNS)
def test_token_ids_of_pieces_equal_those_of_the_whole_text(kind: str, turns: list[Turn]) -> None:
    encode = tokenizer(kind)
    image = encode.encode(IMAGE)
    pieces = render(turns)
    ids = [i for p in pieces for i in (image if p.frame else encode.encode_piece(p))]
    assert ids == list(encode.encode(whole_text(pieces)))


@pytest.mark.parametrize("kind", ["bytes", "bpe"])
@given(turns=TURNS)
def test_token_ids_with_separately_encoded_replies_equal_those_of_the_whole_text(kind: str, turns: list[Turn]) -> None:
    """The engine feeds header, decoded tokens and closing token; training tokenizes the same three separately."""
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
    assert ids == encode.encode(expected_text(turns))


@pytest.mark.parametrize("kind", ["bytes", "bpe"])
@given(text=st.one_of(TEXTS, LIKELY))
def test_tokenizers_round_trip(kind: str, text: str) -> None:
    assert tokenizer(kind).decode(tokenizer(kind).encode(text)) == text


def test_the_bpe_tokenizer_of_these_tests_merges() -> None:
    assert len(tokenizer("bpe").encode("the red stream")) < 6


@given(TURNS)
def test_fixed_feed_equals_the_template(turns: list[Turn]) -> None:
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
def test_removed_reply_does_not_change_the_fixed_feed(turns: list[Turn], at: int) -> None:
    with_reply, without_reply = make_feed("fixed", "p"), make_feed("fixed", "p")
    for feed in (with_reply, without_reply):
        pieces = feed.begin(query_first=False)
        for i, turn in enumerate(t for t in turns if t.role is not Role.ASSISTANT):
            if feed is with_reply and i == at:
                feed.begin_reply()
                assert feed.end_reply(removed=True, cut=False) == []
            pieces += feed.text(turn.role, turn.text) if turn.role is not Role.STREAM else feed.frame()
        if feed is with_reply:
            pieces_with_reply = pieces
    assert pieces_with_reply == pieces


def test_open_stream_turn_is_not_closed_without_close() -> None:
    assert whole_text(render([Turn(Role.STREAM, frames=1)], close=False)) == f"{START}stream\n{IMAGE}"


def test_adjacent_stream_turns_are_merged() -> None:
    split = render([Turn(Role.STREAM, frames=2), Turn(Role.STREAM, frames=1)])
    assert split == render([Turn(Role.STREAM, frames=3)])
    assert [p.frame for p in split] == [False, True, True, True, False]


def test_pieces_have_the_role_of_their_turn() -> None:
    pieces = render([Turn(Role.STREAM, frames=1), Turn(Role.ASSISTANT, "hi"), Turn(Role.USER, "q")])
    assert [p.role.value for p in pieces] == ["stream"] * 3 + ["assistant"] * 3 + ["user"]


@pytest.mark.parametrize("frames", [0, -1])
def test_stream_turn_without_frames_is_rejected(frames: int) -> None:
    with pytest.raises(FormatError, match="at least one"):
        render([Turn(Role.STREAM, frames=frames)])


@pytest.mark.parametrize("marker", [START, END])
@pytest.mark.parametrize("role", [Role.SYSTEM, Role.USER, Role.ASSISTANT])
def test_markers_in_text_are_rejected(role: Role, marker: str) -> None:
    with pytest.raises(FormatError, match=r"im_(start|end)"):
        render([Turn(role, f"say {marker} now")])


@pytest.mark.parametrize("role", [Role.STREAM, Role.ASSISTANT])
def test_text_turn_rejects_stream_and_assistant(role: Role) -> None:
    with pytest.raises(FormatError, match=role.value):
        Renderer().text_turn(role, "x")


def test_replies_must_be_opened_and_closed_in_order() -> None:
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
