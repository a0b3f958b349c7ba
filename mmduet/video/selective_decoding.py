"""Decode only the frames of a file that a sampler selects, and those from which they are predicted.

The result is that of decoding every frame: the same frames, times and numbers. A group of pictures without a selected frame is
not decoded; another one is decoded up to its last selected frame, without frames on which no other frame depends. All packets
are read, so that their times are exact and gaps in the file are found. After the first sign of damage, every frame is decoded.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from mmduet.video.container import codec_name
from mmduet.video.decoding import Decoder, FrameTiming
from mmduet.video.packet_inspection import Inspector, make_inspector
from mmduet.video.packet_runs import MAX_RUN_PACKETS, InspectedPacket, PacketRun, split_into_runs
from mmduet.video.sampling import Sampler


class IsCutAfter(Protocol):
    """Whether the file is cut off after a packet."""

    def __call__(self, *, last_packet: Packet[Stream] | None) -> bool: ...


class _IncompleteOutputError(Exception):
    """The decoder has not returned exactly the frames of the packets that it was given."""


@dataclass(frozen=True, eq=False)
class _Group:
    """Runs that are decoded together, and the run after them, of which some frames may be shown before its first packet's.

    Such frames of the group's own first run belong to the group before.
    """

    runs: Sequence[PacketRun]
    next_run: PacketRun | None = None

    @property
    def packets(self) -> list[InspectedPacket]:
        """All packets in decode order."""
        return [item for run in self.runs for item in run.packets]

    @property
    def packets_to_check(self) -> list[InspectedPacket]:
        """All packets and the one after them: what is missing before it may belong to the group."""
        return self.packets if self.next_run is None else [*self.packets, self.next_run.packets[0]]

    @property
    def decodable(self) -> list[InspectedPacket]:
        """The packets that can be decoded without the group before."""
        return [*self.runs[0].trailing, *(item for run in self.runs[1:] for item in run.packets)]

    def presented(self) -> list[InspectedPacket]:
        """Return the packets whose frames are shown, in presentation order."""
        following = () if self.next_run is None else self.next_run.leading
        shown = [item for item in (*self.decodable, *following) if not item.packet.is_discard]
        return sorted(shown, key=_stamp)


def _stamp(item: InspectedPacket) -> int:
    return item.packet.pts or 0


def select_frames(
    decoder: Decoder, stream: VideoStream, sampler: Sampler, is_cut_after: IsCutAfter
) -> Iterator[FrameTiming]:
    """Yield every good frame in presentation order; those that ``sampler`` does not select may be without an image.

    The caller must call ``sampler.accept`` for each frame, before the next one.
    """
    context = stream.codec_context
    inspect = make_inspector(codec_name(stream), context.extradata)
    if inspect is None:
        return decoder.frames()
    return _SelectiveDecoder(decoder, inspect, sampler, is_cut_after).frames()


class _SelectiveDecoder:
    def __init__(self, decoder: Decoder, inspect: Inspector, sampler: Sampler, is_cut_after: IsCutAfter) -> None:
        self._decoder, self._inspect, self._sampler, self._is_cut_after = decoder, inspect, sampler, is_cut_after
        self._decodes_all = False  # from here on
        self._passed_until: int | None = None  # the last timestamp that was yielded or passed

    def frames(self) -> Iterator[FrameTiming]:
        """Yield every good frame in presentation order; those that are not selected may be without an image."""
        for group in self._groups():
            if self._can_select(group):
                yield from self._decode_selected(group)
            else:
                yield from self._decode_all(group)
        if self._decodes_all:
            yield from self._decoder.drain()

    def _groups(self) -> Iterator[_Group]:
        runs: list[PacketRun] = []
        for run in split_into_runs(self._decoder.packets(), self._inspect):
            group, is_joined = _Group(runs, run), False
            if runs and self._selects_any(group, run.leading):
                runs, is_joined = [*runs, run], True  # these frames depend on the run before
                if len(_Group(runs).packets) <= MAX_RUN_PACKETS:
                    continue
                group = _Group(runs)
            if runs:
                yield group
            runs = [] if is_joined else [run]
        if runs:
            yield _Group(runs)

    def _selects_any(self, group: _Group, packets: Sequence[InspectedPacket]) -> bool:
        if not packets or self._decodes_all:
            return False
        selected = self._plan(group.presented())
        return any(item.packet.pts in selected for item in packets)

    def _plan(self, presented: Sequence[InspectedPacket]) -> set[int]:
        """Return the timestamps of the frames that will be selected."""
        clock, sampler = copy.deepcopy(self._decoder.clock), copy.copy(self._sampler)
        times = ((_stamp(item), clock.to_seconds(item.packet.pts, item.packet.duration)) for item in presented)
        return {stamp for stamp, time in times if sampler.accept(time)}

    def _can_select(self, group: _Group) -> bool:
        """Return whether the group is intact and its frames are known from its packets."""
        is_too_long = len(group.packets) > MAX_RUN_PACKETS
        if self._decodes_all or is_too_long or not all(run.is_complete for run in group.runs):
            return False
        if any(item.packet.pts is None or self._decoder.may_be_damaged(item.read) for item in group.packets_to_check):
            return False
        if self._passed_until is None and group.runs[0].leading:
            return False  # whether they can be decoded depends on the codec
        if group.next_run is None and self._ends_early():
            return False
        stamps = [_stamp(item) for item in group.presented()]
        passed = [] if self._passed_until is None else [self._passed_until]
        return all(left < right for left, right in pairwise([*passed, *stamps]))

    def _ends_early(self) -> bool:
        """Return whether the file is cut off after the packets, or only decoding the last one shows whether it is."""
        decoder = self._decoder
        return not decoder.declares_end or decoder.breaks_off or self._is_cut_after(last_packet=decoder.last_packet)

    def _decode_selected(self, group: _Group) -> Iterator[FrameTiming]:
        """Yield the frames of an intact group; decode all of it if it turns out to be damaged."""
        presented = group.presented()
        selected = self._plan(presented)
        images, waiting = self._images(group, selected), list[InspectedPacket]()
        try:
            for item in presented:
                if _stamp(item) not in selected:
                    waiting.append(item)
                    continue
                image = next(images)  # before the frames that precede it: errors of these appear now
                yield from self._pass(waiting)
                waiting.clear()
                self._passed_until = _stamp(item)
                yield self._decoder.time_frame(image)
            next(images, None)
        except _IncompleteOutputError:
            yield from self._decode_all(group)
        else:
            yield from self._pass(waiting)

    def _pass(self, items: Sequence[InspectedPacket]) -> Iterator[FrameTiming]:
        for item in items:
            self._passed_until = _stamp(item)
            yield self._decoder.pass_frame(item.packet)

    def _images(self, group: _Group, selected: set[int]) -> Iterator[VideoFrame]:
        """Yield the frames at the timestamps ``selected``. Raise ``_IncompleteOutputError`` unless all frames come out."""
        packets = [item.packet for item in _needed_packets(group.decodable, selected)]
        if not packets:
            return
        due = sorted(packet.pts or 0 for packet in packets if not packet.is_discard)
        try:
            for stamp, frame in zip(due, self._decoder.decode_strictly(packets), strict=True):
                if frame.is_corrupt or frame.pts != stamp:
                    raise _IncompleteOutputError
                if stamp in selected:
                    yield frame
        except Exception as error:  # of any library; the whole group is then decoded again, which reports the error
            raise _IncompleteOutputError from error

    def _decode_all(self, group: _Group) -> Iterator[FrameTiming]:
        """Decode every packet, from here on."""
        if not self._decodes_all:
            self._decoder.restart_after(self._passed_until)
            self._decodes_all = True
        for item in group.packets:
            yield from self._decoder.decode(item.read)


def _needed_packets(packets: Sequence[InspectedPacket], selected: set[int]) -> list[InspectedPacket]:
    """Return the packets that must be decoded for the frames at the timestamps ``selected``."""
    last = max((index for index, item in enumerate(packets) if item.packet.pts in selected), default=-1)
    has_layers = any(item.traits.temporal_layer for item in packets)
    return [
        item
        for item in packets[: last + 1]
        if item.packet.pts in selected or has_layers or not item.traits.is_disposable
    ]
