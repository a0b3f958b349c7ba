"""Reference for the engine: the same timeline by full forwards of the plain Transformers model, without cache or packing."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from visual_tokens import embed_images

from mmduet.duet import Piece, Renderer, Role
from mmduet.events import Context, Frame, Query
from mmduet.model import LoadedModel
from mmduet.options import SessionOptions

HEADER = 32  # the engine's allowance for the header and end of a reply


@dataclass
class Part:
    """Tokens that enter and leave the context together; ``embeds`` [n, D]."""

    embeds: Tensor
    pinned: bool = False
    frame: bool = False


@dataclass
class ExpectedOutputs:
    """The outputs that the engine must produce."""

    scores: list[float] = field(default_factory=list)
    replies: list[tuple[int, str, int, str]] = field(default_factory=list)
    evicted: int = 0


class Oracle:
    """Processes one stream. ``capacity`` only matters with a window."""

    def __init__(self, model: LoadedModel, options: SessionOptions, capacity: int = 10**9) -> None:
        assert model.network.lm.config._attn_implementation == "sdpa", (
            "the oracle needs a model that no engine has touched"
        )
        self.network, self.tokenizer, self.options, self.capacity = model.network, model.tokenizer, options, capacity
        self.parts: list[Part] = []
        self.renderer = Renderer()
        self.outputs = ExpectedOutputs()
        self.pin_header = True

    @torch.no_grad()
    def run_stream(self, items: Sequence[Frame | Query | Context], forced: Sequence[int] = ()) -> ExpectedOutputs:
        """Process frames in order, each after the turns that are due, then the turns after the last frame."""
        turns = sorted((x for x in items if not isinstance(x, Frame)), key=lambda x: x.time)
        has_query = False
        due = self._text(Role.SYSTEM, self.options.system_prompt or "", pinned=True)
        frame = None
        for frame in (x for x in items if isinstance(x, Frame)):
            while turns and turns[0].time <= frame.time:
                has_query |= isinstance(turns[0], Query)
                due += self._turn(turns.pop(0))
            self._append_frame(due, frame)
            due = []
            informative, relevance = self.network.score(self._hidden()[-1:])[0].tolist()
            self.outputs.scores += [informative, relevance]
            if informative > self.options.speak.value or frame.index in forced:
                due = self._reply(frame)
        assert frame is not None
        late = any(isinstance(t, Query) for t in turns)
        self.parts += due + [part for turn in turns for part in self._turn(turn)]
        for _ in range(late or (self.options.speak.at_end and has_query)):
            due = self._reply(frame)
            self.parts += due
        return self.outputs

    def _append_frame(self, due: list[Part], frame: Frame) -> None:
        *header, _ = self.renderer.frame()
        due = due + self._ids(header, pinned=self.pin_header)
        self.pin_header = False
        due.append(Part(embed_images(self.network, [frame.image])[0], frame=True))
        self._ensure_capacity(sum(len(p.embeds) for p in due), 1)
        self.parts += due

    def _reply(self, frame: Frame) -> list[Part]:
        """Decode greedily with one full forward per token. Return what must be fed next."""
        tokens = self.options.decode.max_new_tokens
        self._ensure_capacity(tokens + HEADER, 0)
        before, renderer = list(self.parts), copy.copy(self.renderer)
        self.parts += self._ids(self.renderer.begin_reply())
        tokens_so_far: list[int] = []
        finish = "length"
        while len(tokens_so_far) < tokens:
            token = int(self.network.lm_head(self._hidden()[-1]).argmax())
            if token == self.tokenizer.end_id:
                finish = "stop"
                break
            tokens_so_far.append(token)
            self.parts.append(Part(self.network.embed_tokens(torch.tensor([token], device=self.network.device))))
        self.outputs.replies.append((frame.index, self.tokenizer.decode(tokens_so_far), len(tokens_so_far), finish))
        if self.options.keep_replies:
            return self._ids(self.renderer.end_reply())
        self.parts, self.renderer = before, renderer
        return []

    def _turn(self, turn: Query | Context) -> list[Part]:
        pinned = isinstance(turn, Query) or turn.keep
        self.pin_header |= pinned
        return self._text(Role.USER if isinstance(turn, Query) else Role.SYSTEM, turn.text, pinned=pinned)

    def _text(self, role: Role, text: str, *, pinned: bool) -> list[Part]:
        return self._ids(self.renderer.text_turn(role, text), pinned=pinned)

    def _ids(self, pieces: list[Piece], *, pinned: bool = False) -> list[Part]:
        ids = self.tokenizer.encode("".join(p.text for p in pieces))
        return [Part(self.network.embed_tokens(torch.tensor(ids, device=self.network.device)), pinned)] if ids else []

    def _ensure_capacity(self, tokens: int, new_frames: int) -> None:
        window = self.options.window
        while window is not None and any(p.frame for p in self.parts):
            length, frame_count = sum(len(p.embeds) for p in self.parts), sum(p.frame for p in self.parts)
            if frame_count + new_frames <= window and length + tokens <= self.capacity:
                return
            oldest = next(i for i, p in enumerate(self.parts) if p.frame)
            self.parts = [p for p in self.parts[:oldest] if p.pinned] + self.parts[oldest + 1 :]
            self.outputs.evicted += 1

    def _hidden(self) -> Tensor:
        """Return final-norm hidden states [T, D] of the whole context, at positions 0..T-1."""
        row = torch.cat([p.embeds for p in self.parts])[None]
        return self.network.lm(inputs_embeds=row, use_cache=False).last_hidden_state[0]
