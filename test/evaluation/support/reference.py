"""The reference implementation of prediction for one question, written directly from docs/duet_format.md.

No cache, no template code, no engine: Transformers' own modules, and a full forward over everything fed so far for every
score and every token. Of the package only the letterbox and the tokenizer are used, which have judges of their own.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate
from transformers import LlavaOnevisionForConditionalGeneration
from transformers.generation.logits_process import RepetitionPenaltyLogitsProcessor

from mmduet.model.tokenizer import Tokenizer
from mmduet.video.letterbox import letterbox

S, E = "<|im_start|>", "<|im_end|>"
SYSTEM = (
    "A multimodal AI assistant is helping users with some activities. Below is their conversation, interleaved with the list "
    "of video frames received by the assistant."
)


@dataclass(frozen=True)
class Settings:
    """A row of the table of docs/duet_format.md."""

    fps: float
    max_frames: int = 400
    policy: str = "threshold"  # or "sum", "never"
    value: float = 0.0
    heads: tuple[str, ...] = ("informative",)
    keep: bool = False
    limit: int = 200
    penalty: float = 1.0


@dataclass
class Reference:
    """One conversation. ``heads``: name to weights [2, D]; ``fed``: embeddings [n, D] of all that stands in the context."""

    model: LlavaOnevisionForConditionalGeneration
    heads: dict[str, Tensor]
    tokenizer: Tokenizer
    settings: Settings
    fed: list[Tensor] = field(default_factory=list)
    text: str = ""  # the same in words, a frame as <F>
    last: str = "start"  # system, stream, user, kept, cut, removed or removed and cut
    used: list[int] = field(default_factory=list)  # tokens of all replies
    steps: Counter[tuple[str, str]] = field(default_factory=Counter)  # ``last``, and what came next
    lengths: list[int] = field(default_factory=list)  # of the replies, in tokens

    @torch.no_grad()
    def answer(self, entry: dict[str, Any], video: Path) -> dict[str, Any]:
        """The line of the prediction file."""
        turns = [t for t in entry["conversation"] if t["role"] == "user"]
        waiting = sorted(turns, key=lambda t: t["time"])
        frames, duration = sampled(video, self.settings.fps, self.settings.max_frames)
        if not (waiting and waiting[0]["time"] <= 0):  # Q1
            self.say(f"{S}system\n{SYSTEM}{E}", "system")
        debug, replies, clock, total = [], [], 0.0, 0.0
        for picture in frames:
            if waiting and clock >= waiting[0]["time"]:  # Q4: one a frame
                self.ask(waiting.pop(0)["content"])
            self.watch(picture)
            scores = {name: self.score(weights) for name, weights in self.heads.items()}
            debug.append({"time": clock, **{f"{k}_score": round(v, 3) for k, v in scores.items()}})  # Q12
            score = sum(scores[name] for name in self.settings.heads)
            total += score  # Q11
            if {"threshold": score, "sum": total, "never": -1.0}[self.settings.policy] > self.settings.value:
                total = 0.0
                replies.append({"time": clock, "content": self.reply(), "role": "assistant"})
            clock += 1 / self.settings.fps  # Q5
        turns_and_replies = [{"time": t["time"], "content": t["content"], "role": "user"} for t in turns] + replies
        return {
            "question_id": entry["question_id"],
            "video_duration": duration,
            "model_response_list": sorted(turns_and_replies, key=lambda t: t["time"]),
            "debug_data": debug,
        }

    def say(self, text: str, last: str) -> None:
        self.fed.append(self.words(self.tokenizer.encode(text)))
        self.text, self.last = self.text + text, last

    def words(self, ids: list[int]) -> Tensor:
        return self.model.model.language_model.embed_tokens(torch.tensor(ids))

    def ask(self, query: str) -> None:
        self.steps[self.last, "query"] += 1
        if self.last == "cut":
            self.fed.pop()  # Q3: the last token of a cut reply is only fed with the header of the next frame
        closing = E if self.last == "stream" else ""  # Q3: after a reply nothing is closed
        self.say(f"{closing}\n{S}user\n{query}{E}", "user")

    def watch(self, picture: np.ndarray) -> None:
        self.steps[self.last, "frame"] += 1
        if self.last in ("user", "kept", "cut"):  # Q2: not after the system turn; Q13: a cut reply is not closed
            self.say(f"{E if self.last == 'kept' else ''}\n{S}stream\n", "stream")
        pixels = torch.from_numpy(picture).permute(2, 0, 1)[None].float()
        pixels = (pixels / 255 - 0.5) / 0.5
        core = self.model.model
        features = core.vision_tower(pixel_values=pixels, output_hidden_states=True).hidden_states[-1]
        tokens = core.multi_modal_projector(features)  # [1, 64, D]
        side = math.isqrt(tokens.shape[1])
        grid = tokens.transpose(1, 2).reshape(1, -1, side, side)
        pooled = interpolate(grid, size=(math.ceil(side / 4),) * 2, mode="bilinear", align_corners=False)
        self.fed.append(pooled.flatten(2).transpose(1, 2)[0])
        self.text, self.last = f"{self.text}<F>", "stream"

    def hidden(self) -> Tensor:
        """Final-norm hidden state [D] of the last thing fed."""
        row = torch.cat(self.fed)[None]
        return self.model.model.language_model(inputs_embeds=row, use_cache=False).last_hidden_state[0, -1]

    def score(self, weights: Tensor) -> float:
        return float((weights @ self.hidden()).softmax(0)[1])

    def reply(self) -> str:
        before = len(self.fed), self.text
        self.say(f"{E}\n{S}assistant\n", "reply")
        ids: list[int] = []
        while len(ids) < self.settings.limit:
            logits = self.model.lm_head(self.hidden())[None]
            used = torch.tensor([self.used], dtype=torch.long)  # Q15
            token = int(RepetitionPenaltyLogitsProcessor(self.settings.penalty)(used, logits).argmax())
            if token == self.tokenizer.end_id:
                break
            ids.append(token)
            self.used.append(token)
            self.fed.append(self.words([token]))
        self.lengths.append(len(ids))
        self.last = "cut" if len(ids) == self.settings.limit else "kept"
        if not self.settings.keep:
            self.last = "removed and cut" if self.last == "cut" else "removed"
            del self.fed[before[0] :]
            self.text = before[1]
        return cleaned(self.tokenizer.decode(ids))


def cleaned(text: str) -> str:
    """Q14."""
    for spaced in (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're"):
        text = text.replace(spaced, spaced.strip() if spaced != " ' " else "'")
    return text


def sampled(video: Path, fps: float, most: int) -> tuple[list[np.ndarray], float]:
    """Q6, Q7, Q8: letterboxed frames [56, 56, 3], and the duration in seconds."""
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        input_fps = float(stream.average_rate)
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    duration = len(decoded) / input_fps
    taken: list[np.ndarray] = []
    clock = 0.0
    for frame in decoded:
        if len(taken) < min(most, math.ceil(duration * fps)) and clock >= len(taken) / fps:
            taken.append(letterbox(frame, 56))
        clock += 1 / input_fps
    return taken, duration


def spread(heads: Sequence[str], seed: int, scale: float, width: int = 48) -> dict[str, Tensor]:
    """Random heads whose scores differ from frame to frame."""
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(2, width, generator=generator) * scale for name in heads}
