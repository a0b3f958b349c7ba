"""``/v1/chat/completions``: answer one question about images or a video in OpenAI's format, with a short session."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from time import monotonic, time
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from mmduet.engine import Session
from mmduet.engine.session import PreparedFrame
from mmduet.errors import EngineError, MmduetError, SessionClosedError
from mmduet.events import Output, Reply, ReplyDelta, Scores, SessionFailed, SessionWarning
from mmduet.options import DecodeOptions, SessionOptions, SpeakOptions
from mmduet.server.auth import KeyStore
from mmduet.server.chat_schema import ChatRequest, SystemMessage, message_text
from mmduet.server.chat_timeline import Timeline, TimelineBuilder, TimelineItem
from mmduet.server.error_response import error_body, http_status, to_mmduet_error
from mmduet.server.error_schema import describe_errors
from mmduet.server.event_stream import EventStream
from mmduet.server.log_events import COMPLETION_CLOSED, RESPONSE_FAILED
from mmduet.server.request_body import parse_body
from mmduet.server.session_manager import SessionManager

log = logging.getLogger(__name__)
FINISH_REASONS = {"stop": "stop", "length": "length", "cancelled": "stop"}
COMPLETION: dict[str, Any] = {
    "description": "OpenAI's `chat.completion` object; with `stream`, `chat.completion.chunk` objects as events.",
    "content": {
        "application/json": {"schema": {"type": "object"}},
        EventStream.media_type: {"schema": {"type": "string"}},
    },
}
MAX_FRAMES_IN_FLIGHT = 8
"""Frames of one request in the engine at a time, so that a long video does not crowd out live sessions."""
DAMAGED_VIDEO = "damaged_video"
MIN_TEMPERATURE = 0.01
"""Lower temperatures choose the most likely token, as 0 does."""


def build_router(manager: SessionManager, keys: KeyStore) -> APIRouter:
    """Return the endpoint."""
    router = APIRouter()

    @router.post(
        "/v1/chat/completions", responses={200: COMPLETION, **describe_errors(400, 404, 413, 415, 429, 500, 503, 507)}
    )
    async def completions(request: Request) -> Response:
        """Reply to the last message."""
        owner = keys.owner(request.headers)
        limiter = request.state.limiter = manager.limiters.of(owner)
        body = await parse_body(request, ChatRequest, manager.config.max_request_bytes, limiter.reading_delay)
        manager.check_accepting(body.model)
        completion = ChatCompletion(manager, body, owner)
        try:
            await completion.open()
            if body.stream:
                return StreamingCompletion(completion, request.state.request_id)
            async for _ in completion.deltas():
                pass
            return JSONResponse(completion.to_completion())
        finally:
            if not completion.closed_by_response:
                manager.run_in_background(completion.close())

    return router


@dataclass
class ChatCompletion:
    """One completion and the engine session that generates it."""

    manager: SessionManager
    body: ChatRequest
    owner: str
    closed_by_response: bool = False  # a streaming response closes it

    def __post_init__(self) -> None:
        """Reserve memory before anything is downloaded or decoded.

        Raises as ``SessionAdmission`` does, and ``RateLimitError`` if the key may not generate tokens now.
        """
        self.id = f"chatcmpl-{secrets.token_hex(12)}"
        self.created, self._opened_at = int(time()), monotonic()
        self.text = ""
        self.reply: Reply | None = None
        self._outputs: asyncio.Queue[Output | None] = asyncio.Queue()
        self._engine_session: Session | None = None
        self._timeline = Timeline((), 1)
        self._warnings: list[dict[str, str]] = []
        defaults = self.manager.default_settings()
        self._options = session_options(self.body, defaults.options)
        self._limiter = self.manager.limiters.of(self.owner)
        self._limiter.check_tokens()
        self.manager.admission.check_load(replace(defaults, max_frame_age=None))
        self.manager.admission.reserve_memory(self.id, self._options, self.owner)

    @property
    def includes_usage(self) -> bool:
        """Return whether the client has asked for a last chunk with the token counts; the others then have null."""
        return self.body.stream_options is not None and bool(self.body.stream_options.include_usage)

    async def open(self) -> None:
        """Load the media of the messages, and open the engine session. Raises as ``TimelineBuilder.build`` does."""
        engine, options = self.manager.engine, self._options
        self._timeline = await TimelineBuilder(engine, self.manager.media, options).build(self.body.messages)
        for damage in filter(None, self._timeline.damage):
            self._warnings.append({"code": DAMAGED_VIDEO, "message": damage.describe()})
        options = replace(options, decode=replace(options.decode, max_new_tokens=self._timeline.max_new_tokens))
        self._engine_session = await engine.open_session(options, self._outputs.put_nowait, self._limiter.take_token)

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
        for item in self._timeline.items:
            if isinstance(item, PreparedFrame):
                await self._limiter.wait_for_frame(self.owner)
                self._limiter.take_frame(self.owner)
            await self._push(session, item)
            in_flight += isinstance(item, PreparedFrame)
            while in_flight >= MAX_FRAMES_IN_FLIGHT or (in_flight and not isinstance(item, PreparedFrame)):
                in_flight -= isinstance(await self._next_output(), Scores)
        while in_flight:
            in_flight -= isinstance(await self._next_output(), Scores)

    async def _push(self, session: Session, item: TimelineItem) -> None:
        """Push one item. Raises the error that ended the session, if it has ended."""
        try:
            await self.manager.engine.call(lambda engine: engine.push(session, item))
        except SessionClosedError:
            while True:  # the engine has delivered the reason before
                await self._next_output()

    async def _next_output(self) -> Output:
        while isinstance(output := await self._outputs.get(), SessionWarning):
            self._warnings.append({"code": output.code, "message": output.message})
        if output is None:
            raise self.manager.engine.stopped_error()
        if isinstance(output, SessionFailed):
            raise EngineError(output.message)
        return output

    async def close(self) -> None:
        """Close the engine session and release its memory."""
        session, self._engine_session = self._engine_session, None
        if session is not None:
            with contextlib.suppress(MmduetError):
                await self.manager.engine.close_session(session)
        self.manager.budget.release(self.id)
        self._log_end()

    def _log_end(self) -> None:
        reply = self.reply
        COMPLETION_CLOSED.emit(
            log,
            key=self.owner,
            model=self.manager.model_name,
            reason=reply.finish if reply is not None else "failed",
            duration_s=round(monotonic() - self._opened_at, 3),
            frames=sum(isinstance(item, PreparedFrame) for item in self._timeline.items),
            context_tokens=reply.context_tokens if reply is not None else None,
            tokens=reply.tokens if reply is not None else 0,
        )

    # OpenAI's objects

    def to_completion(self) -> dict[str, Any]:
        """Return the ``chat.completion`` object."""
        assert self.reply is not None
        message = {"role": "assistant", "content": self.text, "refusal": None}
        finish_reason = FINISH_REASONS[self.reply.finish]
        choice = {"index": 0, "message": message, "finish_reason": finish_reason, "logprobs": None}
        completion = {**self._envelope("chat.completion"), "choices": [choice], "usage": self.usage()}
        return {**completion, "warnings": self._warnings}

    def to_chunk(self, delta: dict[str, str], finish_reason: str | None = None) -> dict[str, Any]:
        """Return a ``chat.completion.chunk`` object; the one with the reason of the end has the warnings."""
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None}
        usage = {"usage": None} if self.includes_usage else {}
        warnings = {"warnings": self._warnings} if finish_reason is not None else {}
        return {**self._envelope("chat.completion.chunk"), "choices": [choice], **usage, **warnings}

    def to_usage_chunk(self) -> dict[str, Any]:
        """Return the last chunk, which has the token counts."""
        return {**self._envelope("chat.completion.chunk"), "choices": [], "usage": self.usage()}

    def usage(self) -> dict[str, Any]:
        """Return the token counts, and as extensions which frames of videos were used, and the damage of each video."""
        assert self.reply is not None
        prompt, completion = self.reply.context_tokens, self.reply.tokens
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "video_frames": self._timeline.video_frames,
            "video_fps": self._timeline.video_fps,
            "damage": [damage.to_dict() for damage in self._timeline.damage],
        }

    def _envelope(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.body.model}


def session_options(body: ChatRequest, defaults: SessionOptions) -> SessionOptions:
    """Return the options of a session that answers ``body``: it keeps everything and replies only on request."""
    max_tokens = body.max_completion_tokens or body.max_tokens or defaults.decode.max_new_tokens
    top_p = 1.0 if body.top_p is None else body.top_p
    temperature = body.temperature or 0.0
    if top_p == 0 or temperature < MIN_TEMPERATURE:
        top_p, temperature = 1.0, 0.0
    system_texts = [message_text(message) for message in body.messages if isinstance(message, SystemMessage)]
    return replace(
        defaults,
        speak=SpeakOptions("never", 0.0),
        decode=DecodeOptions(max_tokens, temperature, top_p, seed=body.seed or 0),
        keep_replies=True,
        window=None,
        system_prompt="\n".join(system_texts) if system_texts else defaults.system_prompt,
    )


class StreamingCompletion(EventStream):
    """A completion sent as it is generated; closes it even if the response is interrupted or never starts."""

    def __init__(self, completion: ChatCompletion, request_id: str) -> None:
        super().__init__(_stream_chunks(completion, request_id))
        self._completion = completion
        completion.closed_by_response = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._completion.manager.run_in_background(self._completion.close())


async def _stream_chunks(completion: ChatCompletion, request_id: str) -> AsyncIterator[str]:
    """Yield server-sent events up to ``[DONE]``; an error while generating is sent as an event."""
    try:
        yield _sse_event(completion.to_chunk({"role": "assistant", "content": ""}))
        async for delta in completion.deltas():
            yield _sse_event(completion.to_chunk({"content": delta}))
        assert completion.reply is not None
        yield _sse_event(completion.to_chunk({}, FINISH_REASONS[completion.reply.finish]))
        if completion.includes_usage:
            yield _sse_event(completion.to_usage_chunk())
        yield "data: [DONE]\n\n"
    except Exception as error:  # noqa: BLE001 - logged with its traceback
        RESPONSE_FAILED.emit(log, error=error, request=request_id)
        reported = to_mmduet_error(error, request_id)
        yield _sse_event(error_body(str(reported), http_status(reported), reported.code))


def _sse_event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n"
