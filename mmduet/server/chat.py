"""``/v1/chat/completions``: a question about pictures or a video, answered once, in OpenAI's shape; a short session inside."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from time import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import Field
from starlette.types import Receive, Scope, Send

from mmduet.engine import Engine, Session
from mmduet.engine.session import Picture
from mmduet.errors import EngineError, MmduetError, ProtocolError, VideoError
from mmduet.events import Frame, Output, Query, Reply, ReplyDelta, Said, Scores, SessionFailed
from mmduet.options import DecodeOptions, SessionOptions, SpeakOptions
from mmduet.protocol.wire import Received
from mmduet.server.auth import Keys
from mmduet.server.body import parsed
from mmduet.server.house import House
from mmduet.server.media import Media

FINISH = {"stop": "stop", "length": "length", "cancelled": "stop"}
MOST_WAITING = 8
"""Frames of one request with the engine."""


class Url(Received):
    """Where a picture or a video is: a data URL, or http(s) where the server allows it."""

    url: str
    detail: Literal["auto", "low", "high"] = "auto"


class TextPart(Received):
    """Words."""

    type: Literal["text"]
    text: str


class ImagePart(Received):
    """A still picture: a frame of its own, half a second after the one before."""

    type: Literal["image_url"]
    image_url: Url


class VideoPart(Received):
    """A video: its frames at the model's rate."""

    type: Literal["video_url"]
    video_url: Url


Part = Annotated[TextPart | ImagePart | VideoPart, Field(discriminator="type")]


class Message(Received):
    """One turn."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | tuple[Part, ...]
    name: str | None = None

    @property
    def parts(self) -> tuple[Any, ...]:
        """The content, text as a part."""
        return (TextPart(type="text", text=self.content),) if isinstance(self.content, str) else self.content


class StreamOptions(Received):
    """``include_usage`` adds a last chunk with the count of tokens."""

    include_usage: bool = False


class ChatRequest(Received):
    """What can be asked for; anything else is refused by name."""

    model: str
    messages: tuple[Message, ...] = Field(min_length=1, max_length=256)
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    temperature: float = Field(default=0.0, ge=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    seed: int | None = None
    n: Literal[1] = 1
    user: str | None = None


def routes(house: House, keys: Keys, media: Media) -> APIRouter:
    """The endpoint."""
    router = APIRouter()

    @router.post("/v1/chat/completions")
    async def completions(request: Request) -> Response:
        """Answer the last turn."""
        owner = keys.owner(request.headers)
        wanted = await parsed(request, ChatRequest, house.config.max_request_bytes)
        house.refuse_unless_open(wanted.model)
        answer = Answer(house, wanted, owner)
        try:
            answer.items = await _timeline(wanted, house, media)
            await answer.open()
            if wanted.stream:
                return Streamed(answer, wanted)
            async for _ in answer.deltas():
                pass
            return JSONResponse(answer.completion())
        finally:
            if not answer.streams:
                house.spawn(answer.close())

    return router


async def _timeline(wanted: ChatRequest, house: House, media: Media) -> list[Picture | Query | Said]:
    """The turns after the system's, in order, with times that increase; pictures as the tower takes them."""
    items: list[Picture | Query | Said] = []
    fps, clock, frames = house.room.engine.model.config.recommended.fps, 0.0, 0
    for message in wanted.messages:
        if message.role in ("system", "developer"):
            continue
        for part in message.parts:
            if isinstance(part, TextPart):
                continue
            url = part.image_url.url if isinstance(part, ImagePart) else part.video_url.url
            async for image in media.pictures(url, fps, still=isinstance(part, ImagePart)):
                clock, frames = frames / fps, frames + 1
                if frames > media.most_frames:
                    raise VideoError(
                        f"there are more than {media.most_frames} frames at {fps:g} a second; send less, or stream it"
                    )
                items.append(await house.room.prepare(Frame(frames - 1, clock, image)))
        words = "\n".join(part.text for part in message.parts if isinstance(part, TextPart))
        if words:
            items.append((Query if message.role == "user" else Said)(words, clock))
    if not items:
        raise ProtocolError(
            "messages hold neither words nor pictures; ask something", "invalid_value", param="messages"
        )
    return items


@dataclass
class Answer:
    """One answer, while it is made."""

    house: House
    wanted: ChatRequest
    owner: str
    items: Sequence[Picture | Query | Said] = ()
    streams: bool = False  # whoever streams it closes it

    def __post_init__(self) -> None:
        """Set memory aside, before anything is fetched or decoded.

        Raises ``CapacityError``, and what the options are refused for.
        """
        self.id = f"chatcmpl-{secrets.token_hex(12)}"
        self.created = int(time())
        self.text = ""
        self.reply: Reply | None = None
        self._outputs: asyncio.Queue[Output | None] = asyncio.Queue()
        self._session: Session | None = None
        engine, options = self.house.room.engine, self._options()
        engine.check(options)
        self.house.budget.reserve(self.id, engine.slot_bytes(options), self.owner)

    async def open(self) -> None:
        """Take the engine's memory."""
        self._session = await self.house.room.open(self._options(), self._outputs.put_nowait)

    def _options(self) -> SessionOptions:
        wanted = self.wanted
        base = self.house.default_settings().options
        most = wanted.max_completion_tokens or wanted.max_tokens or base.decode.max_new_tokens
        told = [m for m in wanted.messages if m.role in ("system", "developer")]
        system = [part.text for message in told for part in message.parts if isinstance(part, TextPart)]
        decode = DecodeOptions(most, wanted.temperature, wanted.top_p, seed=wanted.seed or 0)
        return replace(
            base,
            speak=SpeakOptions("never", 0.0),
            decode=decode,
            keep_replies=True,
            window=None,
            system_prompt="\n".join(system) if system else base.system_prompt,
        )

    async def deltas(self) -> AsyncIterator[str]:
        """The words, as they are written. Raises what ended the session."""
        room, session = self.house.room, self._session
        assert session is not None
        waiting = 0
        for item in self.items:
            await room.ask(partial(_push, session, item))
            waiting += isinstance(item, Picture)
            while waiting >= MOST_WAITING or (waiting and not isinstance(item, Picture)):
                waiting -= isinstance(await self._next(), Scores)
        while waiting:
            waiting -= isinstance(await self._next(), Scores)
        await room.ask(lambda engine: engine.speak_now(session))
        while self.reply is None:
            output = await self._next()
            if isinstance(output, ReplyDelta):
                self.text += output.text
                yield output.text
            elif isinstance(output, Reply):
                self.reply = output

    async def _next(self) -> Output:
        output = await self._outputs.get()
        if output is None:
            raise EngineError("the engine has stopped; ask again")
        if isinstance(output, SessionFailed):
            if output.code == "no_capacity":
                raise ProtocolError(
                    f"the messages are too long: {output.message}", "context_length_exceeded", param="messages"
                )
            raise EngineError(output.message)
        return output

    async def close(self) -> None:
        """Give the memory back."""
        session, self._session = self._session, None
        if session is not None:
            with contextlib.suppress(MmduetError):
                await self.house.room.forget(session)
        self.house.budget.release(self.id)

    # as it is told

    def completion(self) -> dict[str, Any]:
        """The whole answer."""
        assert self.reply is not None
        message = {"role": "assistant", "content": self.text}
        choice = {"index": 0, "message": message, "finish_reason": FINISH[self.reply.finish], "logprobs": None}
        return {**self._head("chat.completion"), "choices": [choice], "usage": self.usage()}

    def chunk(self, delta: dict[str, str], finish: str | None = None) -> dict[str, Any]:
        """A part of it."""
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        return {**self._head("chat.completion.chunk"), "choices": [choice]}

    def last_chunk(self) -> dict[str, Any]:
        """The count of tokens, as a chunk."""
        return {**self._head("chat.completion.chunk"), "choices": [], "usage": self.usage()}

    def usage(self) -> dict[str, int]:
        """Tokens read and written."""
        assert self.reply is not None
        read, written = self.reply.context_tokens, self.reply.tokens
        return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.wanted.model}


def _push(session: Session, item: Picture | Query | Said, engine: Engine) -> None:
    engine.push(session, item)


class Streamed(StreamingResponse):
    """An answer as it is made; however the response ends, or does not begin, the answer is closed."""

    def __init__(self, answer: Answer, wanted: ChatRequest) -> None:
        super().__init__(_chunks(answer, wanted), media_type="text/event-stream")
        self._answer = answer
        answer.streams = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._answer.house.spawn(self._answer.close())


async def _chunks(answer: Answer, wanted: ChatRequest) -> AsyncIterator[str]:
    """Server-sent events to ``[DONE]``; a fault on the way is an event of its own."""
    try:
        yield _event(answer.chunk({"role": "assistant", "content": ""}))
        async for delta in answer.deltas():
            yield _event(answer.chunk({"content": delta}))
        assert answer.reply is not None
        yield _event(answer.chunk({}, FINISH[answer.reply.finish]))
        if wanted.stream_options is not None and wanted.stream_options.include_usage:
            yield _event(answer.last_chunk())
        yield "data: [DONE]\n\n"
    except MmduetError as error:
        yield _event({"error": {"message": str(error), "type": "server_error", "code": error.code, "param": None}})


def _event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n"
