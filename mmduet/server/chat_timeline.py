"""Turns the messages of a chat completion into a timeline that fits the model's context.

Texts and images are always used whole. The frames of videos share what remains of the context: they are taken at the model's
frame rate, or at a lower one, so that they are spread evenly over every video however long it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from numpy import uint8
from numpy.typing import NDArray

from mmduet.duet import SYSTEM_PROMPT, Piece, Role, make_feed
from mmduet.engine.defaults import REPLY_OVERHEAD_TOKENS
from mmduet.engine.session import PreparedFrame
from mmduet.errors import ProtocolError, SourceError, VideoError
from mmduet.events import AssistantTurn, Frame, Query
from mmduet.model.tokenizer import Tokenizer
from mmduet.options import SessionOptions
from mmduet.server.async_engine import AsyncEngine
from mmduet.server.chat_schema import ImagePart, MediaPart, Message, SystemMessage, VideoPart, message_text
from mmduet.server.media import MediaLoader, probe
from mmduet.video import Damage, VideoFile, open_frames
from mmduet.video.sampling import even_rate, tick_count

TimelineItem = PreparedFrame | Query | AssistantTurn
Entry = Query | AssistantTurn | MediaPart
MIN_REPLY_SHARE = 4
"""A request that allows longer replies than the model's default gets at least 1/4 of the free context for its reply."""


@dataclass(frozen=True)
class Timeline:
    """The input of one completion, and the limit for its reply that fits the context beside it.

    ``video_frames`` is the number of frames of videos, ``video_fps`` the rate at which they were taken, which is the lowest
    one if there are several (None: no video). ``damage`` has what could not be read of each video.
    """

    items: Sequence[TimelineItem]
    max_new_tokens: int
    video_frames: int = 0
    video_fps: float | None = None
    damage: Sequence[Damage] = ()


@dataclass(frozen=True)
class _Video:
    path: Path
    seconds: float


class TimelineBuilder:
    """Builds the timeline of one request for a session with ``options``, which has no window."""

    def __init__(self, engine: AsyncEngine, media: MediaLoader, options: SessionOptions) -> None:
        self._engine, self._media, self._options = engine, media, options
        self._fps = engine.model_config.recommended.fps
        self._items: list[TimelineItem] = []
        self._part_names: dict[int, str] = {}  # of images and videos, by their identity
        self._frame_count = 0
        self._damage: list[Damage] = []

    async def build(self, messages: Sequence[Message]) -> Timeline:
        """Return the timeline: for each message its images and videos, then its text.

        Raises ``ProtocolError`` if the texts or the images do not fit the context, ``FormatError`` for a text with a marker
        of the format. The ``ProtocolError`` for media that cannot be read names the part and has the code of the cause.
        """
        self._part_names = _part_names(messages)
        entries = [entry for message in messages for entry in _entries(message)]
        if not entries:
            raise ProtocolError(
                "the messages have no text, image or video; add a user message", "invalid_value", param="messages"
            )
        prompt = SYSTEM_PROMPT if self._options.system_prompt is None else self._options.system_prompt
        text_tokens = await asyncio.to_thread(count_text_tokens, self._engine.tokenizer, prompt, entries)
        free_tokens = self._engine.slot_tokens(self._options) - text_tokens - REPLY_OVERHEAD_TOKENS
        max_frames = self._max_frames(entries, free_tokens, text_tokens)
        async with AsyncExitStack() as files:
            videos = {
                number: await self._open_video(entry, files)
                for number, entry in enumerate(entries)
                if isinstance(entry, VideoPart)
            }
            images = sum(isinstance(entry, ImagePart) for entry in entries)
            rates = await self._read(entries, videos, max_frames - images)
        free_tokens -= self._frame_count * self._engine.model_config.frame_tokens
        max_new_tokens = min(self._options.decode.max_new_tokens, free_tokens)
        fps = min(rates, default=None)
        return Timeline(self._items, max_new_tokens, self._frame_count - images, fps, self._damage)

    def _max_frames(self, entries: Sequence[Entry], free_tokens: int, text_tokens: int) -> int:
        """Return how many frames fit beside the texts and the reply. Raises ``ProtocolError``."""
        frame_tokens, limit = self._engine.model_config.frame_tokens, self._media.max_frames
        count = sum(isinstance(entry, ImagePart | VideoPart) for entry in entries)
        if free_tokens <= frame_tokens * min(count, 1):
            raise ProtocolError(
                f"the texts of the messages have {text_tokens} tokens, too many for a context of "
                f"{self._engine.slot_tokens(self._options)} tokens; shorten them",
                "context_length_exceeded",
                param="messages",
            )
        if count > (fitting := min((free_tokens - 1) // frame_tokens, limit)):
            raise ProtocolError(
                f"the messages have {count} images and videos, and at most {fitting} fit into the context; send fewer",
                "too_many_images",
                param="messages",
            )
        default = self._engine.model_config.recommended.max_new_tokens
        requested = min(self._options.decode.max_new_tokens, max(default, free_tokens // MIN_REPLY_SHARE))
        reply = min(requested, free_tokens - count * frame_tokens)
        return min((free_tokens - reply) // frame_tokens, limit)

    async def _open_video(self, part: VideoPart, files: AsyncExitStack) -> _Video:
        with self._errors_named(part):
            path = await files.enter_async_context(self._media.open_upload(part.video_url.url))
        with self._errors_named(part, path):
            info = await asyncio.to_thread(probe, path)
            self._media.check_size(info)
            seconds = info.duration if info.duration else await asyncio.to_thread(_measure_seconds, path)
        return _Video(path, seconds)

    @contextmanager
    def _errors_named(self, part: MediaPart, path: Path | None = None) -> Iterator[None]:
        """Name the content part in the errors of the block, and "the video" instead of its temporary file."""
        try:
            yield
        except (SourceError, VideoError) as error:
            name = self._part_names[id(part)]
            reason = str(error) if path is None else str(error).replace(str(path), "the video")
            raise ProtocolError(f"{name}: {reason}", error.code, param=name) from None

    async def _read(self, entries: Sequence[Entry], videos: dict[int, _Video], max_frames: int) -> list[float]:
        """Append every entry, with at most ``max_frames`` frames of videos. Return the rates of the videos."""
        fps, rates = even_rate([video.seconds for video in videos.values()], self._fps, max_frames), list[float]()
        for number, entry in enumerate(entries):
            if isinstance(entry, ImagePart):
                with self._errors_named(entry):
                    image = await self._media.load_image(entry.image_url.url)
                await self._append_frame(image)
            elif isinstance(entry, VideoPart):
                reserved = sum(tick_count(video.seconds, fps) for other, video in videos.items() if other > number)
                with self._errors_named(entry, videos[number].path):
                    images, rate, damage = await self._sample_evenly(videos[number], fps, max_frames - reserved)
                self._damage.append(damage)
                for image in images:
                    await self._append_frame(image)
                max_frames -= len(images)
                rates.append(rate)
            else:
                self._items.append(replace(entry, time=max(self._frame_count - 1, 0) / self._fps))
        return rates

    async def _sample_evenly(
        self, video: _Video, fps: float, max_frames: int
    ) -> tuple[list[NDArray[uint8]], float, Damage]:
        """Return at most ``max_frames`` images from the whole video, their rate, and what could not be read."""
        images, damage = await self._sample(video.path, fps, max_frames + 1)
        is_shorter = fps < self._fps and 2 * len(images) < tick_count(video.seconds, fps)
        if len(images) <= max_frames and not is_shorter:
            return images, fps, damage
        seconds = await asyncio.to_thread(_measure_seconds, video.path)  # the container declares another duration
        fps = even_rate([seconds], self._fps, max_frames)
        images, damage = await self._sample(video.path, fps, max_frames)
        return images, fps, damage

    async def _sample(self, path: Path, fps: float, max_frames: int) -> tuple[list[NDArray[uint8]], Damage]:
        """Return the images at ``fps`` at the model's input size, which takes less memory than the video's."""
        frames = open_frames(path, fps, max_frames=max_frames)
        images = list[NDArray[uint8]]()
        while (image := await asyncio.to_thread(self._next_image, frames)) is not None:
            images.append(image)
        return images, frames.damage

    def _next_image(self, frames: Iterator[Frame]) -> NDArray[uint8] | None:
        frame = next(frames, None)
        return None if frame is None else self._media.letterbox(frame.image)

    async def _append_frame(self, image: NDArray[uint8]) -> None:
        """Append a frame one sampling interval after the previous one."""
        frame = Frame(self._frame_count, self._frame_count / self._fps, image)
        self._items.append(await self._engine.prepare(frame))
        self._frame_count += 1


def _part_names(messages: Sequence[Message]) -> dict[int, str]:
    """Return the dotted names of the images and videos in ``messages``, by the identity of the parts."""
    return {
        id(part): f"messages.{number}.content.{index}.{part.type}"
        for number, message in enumerate(messages)
        if isinstance(message.content, tuple)
        for index, part in enumerate(message.content)
        if isinstance(part, ImagePart | VideoPart)
    }


def count_text_tokens(tokenizer: Tokenizer, system_prompt: str, entries: Sequence[Entry]) -> int:
    """Return the tokens of a conversation besides those of its frames. Raises ``FormatError`` for a text with a marker."""
    feed = make_feed("fixed", system_prompt)
    pieces = feed.begin(query_first=False)
    for entry in entries:
        if isinstance(entry, Query):
            pieces += feed.text(Role.USER, entry.text)
        elif isinstance(entry, AssistantTurn):
            pieces += [
                *feed.begin_reply(),
                Piece(entry.text, Role.ASSISTANT),
                *feed.end_reply(removed=False, cut=False),
            ]
        else:
            pieces += feed.frame()
    return sum(len(tokenizer.encode_piece(piece)) for piece in pieces if not piece.frame)


def _entries(message: Message) -> list[Entry]:
    """Return a message's images and videos, then its text. The session has the system prompt already."""
    if isinstance(message, SystemMessage):
        return []
    parts = message.content if isinstance(message.content, tuple) else ()
    media: list[Entry] = [part for part in parts if isinstance(part, ImagePart | VideoPart)]
    text = message_text(message)
    if not text:
        return media
    return [*media, Query(text, 0.0) if message.role == "user" else AssistantTurn(text, 0.0)]


def _measure_seconds(path: Path) -> float:
    """Return the time at which the last frame of a video begins, plus one frame, by decoding all of it."""
    with VideoFile(path) as file:
        last = 0.0
        for frame in file.decode():
            last = frame.time
        return last + 1 / (file.info.fps or 1.0)
