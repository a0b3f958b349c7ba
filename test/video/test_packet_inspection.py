"""What a packet's header says; malformed packets say nothing."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmduet.video.packet_inspection import INTRA, OTHER, PacketTraits, make_inspector

AVCC = bytes([1, 100, 0, 30, 0xFF, 0xE1])  # units have lengths of 4 bytes
HVCC = bytes([1, *[0] * 20, 0x0B])


def with_length(*unit: int) -> bytes:
    return len(unit).to_bytes(4) + bytes(unit)


@pytest.mark.parametrize(
    ("units", "traits"),
    [
        ([(0x67, 1), (0x65, 1)], PacketTraits(starts_group=True)),  # parameters and an IDR picture
        ([(0x41, 1)], OTHER),  # another picture that is referenced
        ([(0x01, 1)], PacketTraits(is_disposable=True)),
        ([(0x01, 1), (0x41, 1)], OTHER),  # one of its slices is referenced
        ([(0x06, 5), (0x41, 1)], OTHER),  # a recovery point, from which frames before may be needed
        ([(0x06, 5)], OTHER),  # no picture
    ],
)
def test_h264(units: list[tuple[int, ...]], traits: PacketTraits) -> None:
    with_lengths, with_codes = make_inspector("h264", AVCC), make_inspector("h264", b"\0\0\1\x67")
    assert with_lengths is not None
    assert with_codes is not None
    assert with_lengths(b"".join(with_length(*unit) for unit in units), False) == traits
    assert with_codes(b"".join(b"\0\0\1" + bytes(unit) for unit in units), False) == traits


@pytest.mark.parametrize(
    ("units", "traits"),
    [
        ([(0x40, 1, 0), (0x26, 1, 0)], PacketTraits(starts_group=True)),  # parameters and an IDR picture
        ([(0x2A, 1, 0)], PacketTraits(starts_group=True)),  # CRA
        ([(0x02, 1, 0)], OTHER),
        ([(0x00, 1, 0)], PacketTraits(is_disposable=True)),
        ([(0x00, 3, 0)], PacketTraits(is_disposable=True, temporal_layer=2)),
        ([(0x02, 1, 0), (0x00, 9, 0)], OTHER),  # the second one is of another view
    ],
)
def test_hevc(units: list[tuple[int, ...]], traits: PacketTraits) -> None:
    inspect = make_inspector("hevc", HVCC)
    assert inspect is not None
    assert inspect(b"".join(with_length(*unit) for unit in units), False) == traits


@pytest.mark.parametrize(("first", "starts"), [(0x82, True), (0x86, False), (0x8A, False), (0xB2, False), (0xB0, True)])
def test_vp9(first: int, starts: bool) -> None:
    inspect = make_inspector("vp9", None)
    assert inspect is not None
    assert inspect(bytes([first]), True).starts_group == starts
    assert inspect(bytes([first]), False) == OTHER


def test_av1_starts_with_a_sequence_header() -> None:
    inspect = make_inspector("av1", None)
    assert inspect is not None
    delimiter, sequence, frame = b"\x12\x00", b"\x0a\x01\x00", b"\x32\x01\x00"
    assert inspect(delimiter + sequence + frame, True) == PacketTraits(starts_group=True)
    assert inspect(delimiter + frame, True) == inspect(delimiter + sequence + frame, False) == OTHER


def test_codecs_of_still_pictures_and_unknown_ones() -> None:
    inspect = make_inspector("mjpeg", None)
    assert inspect is not None
    assert inspect(b"", False) == INTRA
    assert make_inspector("vp8", None) is None


@pytest.mark.parametrize("codec", ["h264", "hevc", "vp9", "av1"])
@given(
    extradata=st.one_of(st.none(), st.binary(max_size=30), st.just(AVCC), st.just(HVCC)), data=st.binary(max_size=60)
)
@settings(max_examples=100, deadline=None)
def test_any_bytes_can_be_inspected(codec: str, extradata: bytes | None, data: bytes) -> None:
    inspect = make_inspector(codec, extradata)
    assert inspect is not None
    assert isinstance(inspect(data, True), PacketTraits)
