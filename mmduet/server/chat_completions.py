"""``/v1/chat/completions``: answer one question about images or a video in OpenAI's format, with a short session."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from time import time
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.types import Receive, Scope, Send

from mmduet.engine import Engine, Session
from mmduet.engine.session import PreparedFrame
from mmduet.errors import EngineError, MmduetError, ProtocolError, VideoError
from mmduet.events import AssistantTurn, Frame, Output, Query, Reply, ReplyDelta, Scores, SessionFailed
from mmduet.options import DecodeOptions, SessionOptions, SpeakOptions
from mmduet.server.auth import KeyStore
from mmduet.server.chat_schema import ChatRequest, ImagePart, Message
from mmduet.server.request_body import parse_body
from mmduet.server.session_manager import SessionManager

FINISH_REASONS = {"stop": "stop", "length": "length", "cancelled": "stop"}
MAX_FRAMES_IN_FLIGHT = 8
"""Frames of one request in the engine at a time, so that a long video does not crowd out live sessions."""

TimelineItem = PreparedFrame | Query | AssistantTurn


def build_router(manager: SessionManager, keys: KeyStore) -> APIRouter:
    """Return the endpoint."""
    router = APIRouter()

    @router.post("/v1/chat/completions")
    async def completions(request: Request) -> Response:
        """Reply to the last message."""
        owner = keys.owner(request.headers)
        body = await parse_body(request, ChatRequest, manager.config.max_request_bytes)
        manager.check_accepting(body.model)
        completion = ChatCompletion(manager, body, owner)
        try:
            completion.items = await _build_timeline(body.messages, manager)
            await completion.open()
            if body.stream:
                return StreamingCompletion(completion, body)
            async for _ in completion.deltas():
                pass
            return JSONResponse(completion.to_completion())
        finally:
            if not completion.closed_by_response:
                manager.run_in_background(completion.close())

    return router


async def _build_timeline(messages: Sequence[Message], manager: SessionManager) -> list[TimelineItem]:
    """Return the frames and turns of all messages except system messages, in order and with times that never decrease."""
    items: list[TimelineItem] = []
    fps, clock, frames, max_frames = manager.engine.model_config.recommended.fps, 0.0, 0, manager.media.max_frames
    for message in messages:
        if message.is_system:
            continue
        for part in message.media:
            is_image = isinstance(part, ImagePart)
            url = part.image_url.url if isinstance(part, ImagePart) else part.video_url.url
            async for image in manager.media.iter_frames(url, fps, is_image=is_image):
                clock, frames = frames / fps, frames + 1
                if frames > max_frames:
                    raise VideoError(
                        f"the messages have more than {max_frames} frames at {fps:g} fps; "
                        "send a shorter video or use /v1/realtime"
                    )
                items.append(await manager.engine.prepare(Frame(frames - 1, clock, image)))
        if text := "\n".join(message.texts):
            items.append((Query if message.role == "user" else AssistantTurn)(text, clock))
    if not items:
        raise ProtocolError(
            "the messages have no text, image or video; add a user message", "invalid_value", param="messages"
        )
    return items


@dataclass
class ChatCompletion:
    """One completion and the engine session that generates it."""

    manager: SessionManager
    body: ChatRequest
    owner: str
    items: Sequence[TimelineItem] = ()
    closed_by_response: bool = False  # a streaming response closes it

    def __post_init__(self) -> None:
        """Reserve memory before anything is downloaded or decoded.

        Raises ``CapacityError``, or ``OptionError`` for options that the engine rejects.
        """
        self.id = f"chatcmpl-{secrets.token_hex(12)}"
        self.created = int(time())
        self.text = ""
        self.reply: Reply | None = None
        self._outputs: asyncio.Queue[Output | None] = asyncio.Queue()
        self._engine_session: Session | None = None
        engine, options = self.manager.engine, self._options()
        engine.check(options)
        self.manager.budget.reserve(self.id, engine.slot_bytes(options), self.owner)

    async def open(self) -> None:
        """Open the engine session."""
        self._engine_session = await self.manager.engine.open_session(self._options(), self._outputs.put_nowait)

    def _options(self) -> SessionOptions:
        body, defaults = self.body, self.manager.default_settings().options
        max_tokens = body.max_completion_tokens or body.max_tokens or defaults.decode.max_new_tokens
        system_texts = [text for message in body.messages if message.is_system for text in message.texts]
        return replace(
            defaults,
            speak=SpeakOptions("never", 0.0),
            decode=DecodeOptions(max_tokens, body.temperature, body.top_p, seed=body.seed or 0),
            keep_replies=True,
            window=None,
            system_prompt="\n".join(system_texts) if system_texts else defaults.system_prompt,
        )

    async def deltas(self) -> AsyncIterator[str]:
        """Yield the reply's text as it is generated. Raises the error that ended the session."""
        engine, session = self.manager.engine, self._engine_session
        assert session is not None
        await self._feed(session)
        await engine.call(lambda engine: engine.speak_now(session))
        while self.reply is None:
            output = await self._next_output()
            if isinstance(output, ReplyDelta):
                self.text += output.text
                yield output.text
            elif isinstance(output, Reply):
                self.reply = output

    async def _feed(self, session: Session) -> None:
        """Push every item and wait until all frames have been scored; a turn waits for the frames before it."""
        in_flight = 0
        for item in self.items:
            await self.manager.engine.call(partial(_push, session, item))
            in_flight += isinstance(item, PreparedFrame)
            while in_flight >= MAX_FRAMES_IN_FLIGHT or (in_flight and not isinstance(item, PreparedFrame)):
                in_flight -= isinstance(await self._next_output(), Scores)
        while in_flight:
            in_flight -= isinstance(await self._next_output(), Scores)

    async def _next_output(self) -> Output:
        output = await self._outputs.get()
        if output is None:
            raise EngineError("the engine has stopped; restart the server")
        if isinstance(output, SessionFailed):
            if output.code == "no_capacity":
                raise ProtocolError(
                    f"the messages are too long: {output.message}", "context_length_exceeded", param="messages"
                )
            raise EngineError(output.message)
        return output

    async def close(self) -> None:
        """Close the engine session and release its memory."""
        session, self._engine_session = self._engine_session, None
        if session is not None:
            with contextlib.suppress(MmduetError):
                await self.manager.engine.close_session(session)
        self.manager.budget.release(self.id)

    # OpenAI's objects

    def to_completion(self) -> dict[str, Any]:
        """Return the ``chat.completion`` object."""
        assert self.reply is not None
        message = {"role": "assistant", "content": self.text}
        finish_reason = FINISH_REASONS[self.reply.finish]
        choice = {"index": 0, "message": message, "finish_reason": finish_reason, "logprobs": None}
        return {**self._envelope("chat.completion"), "choices": [choice], "usage": self.usage()}

    def to_chunk(self, delta: dict[str, str], finish_reason: str | None = None) -> dict[str, Any]:
        """Return a ``chat.completion.chunk`` object."""
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None}
        return {**self._envelope("chat.completion.chunk"), "choices": [choice]}

    def to_usage_chunk(self) -> dict[str, Any]:
        """Return the last chunk, which has the token counts."""
        return {**self._envelope("chat.completion.chunk"), "choices": [], "usage": self.usage()}

    def usage(self) -> dict[str, int]:
        """Return the token counts."""
        assert self.reply is not None
        prompt, completion = self.reply.context_tokens, self.reply.tokens
        return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}

    def _envelope(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.body.model}


def _push(session: Session, item: TimelineItem, engine: Engine) -> None:
    engine.push(session, item)


class StreamingCompletion(StreamingResponse):
    """A completion sent as it is generated; closes it even if the response is interrupted or never starts."""

    def __init__(self, completion: ChatCompletion, body: ChatRequest) -> None:
        super().__init__(_stream_chunks(completion, body), media_type="text/event-stream")
        self._completion = completion
        completion.closed_by_response = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._completion.manager.run_in_background(self._completion.close())


async def _stream_chunks(completion: ChatCompletion, body: ChatRequest) -> AsyncIterator[str]:
    """Yield server-sent events up to ``[DONE]``; an error while generating is sent as an event."""
    try:
        yield _sse_event(completion.to_chunk({"role": "assistant", "content": ""}))
        async for delta in completion.deltas():
            yield _sse_event(completion.to_chunk({"content": delta}))
        assert completion.reply is not None
        yield _sse_event(completion.to_chunk({}, FINISH_REASONS[completion.reply.finish]))
        if body.stream_options is not None and body.stream_options.include_usage:
            yield _sse_event(completion.to_usage_chunk())
        yield "data: [DONE]\n\n"
    except MmduetError as error:
        details = {"message": str(error), "type": "server_error", "code": error.code, "param": None}
        yield _sse_event({"error": details})


def _sse_event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n"
