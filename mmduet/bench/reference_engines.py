"""Two plain engines that serve one stream at a time: the references that ``mmduet bench engine`` compares speeds with.

Both run Transformers' unmodified modules with its SDPA attention and its ``DynamicCache``, and produce the scores and tokens of
``mmduet.engine``. A frame costs one forward over its K visual tokens and the two heads on the last one. A reply costs one
forward over its header and one per token, with the language head on the last row, and is removed from the cache when it ends.

``paper`` works as the MMDuet paper describes: it also applies the language head to every frame token, and encodes all frames of
a run with the vision tower before it scores the first one. ``tight`` encodes frame by frame and applies the language head only
where tokens are decoded.

With a window, the references drop the keys and values of the oldest frame from the cache (a view), and write the pinned prefix
(system turn, query and stream header) into the freed rows, with its keys rotated from a copy by one product for all layers. The
keys of the other frames stay as they are, so positions grow without bound. This is the window rule of ``mmduet.duet.window``.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from mmduet.duet import SYSTEM_PROMPT, Piece, Role, make_feed
from mmduet.engine.session import PreparedFrame
from mmduet.model import DuetModel, LoadedModel
from mmduet.model.preprocess import normalize_images
from mmduet.model.tower import VisionTower, patchify

TOWER_BATCH = 32  # frames that ``paper`` encodes at once, so that memory is bounded


@dataclass
class StreamTrace:
    """What one stream produced: (informative, relevance) of each frame, and the tokens of each reply."""

    scores: list[tuple[float, float]] = field(default_factory=list)
    replies: list[list[int]] = field(default_factory=list)


def plain_copy(model: LoadedModel) -> LoadedModel:
    """Return the model with modules of its own, which use Transformers' SDPA attention.

    They share the memory of the weights until an engine fuses or packs its own.

    Later changes of the modules of ``model``, such as another attention or replaced parameters, do not affect the copy.
    """
    shared = {id(weight): nn.Parameter(weight.detach(), requires_grad=False) for weight in model.network.parameters()}
    network: DuetModel = copy.deepcopy(model.network, shared)
    network.lm.config._attn_implementation = "sdpa"
    return replace(model, network=network.eval())


class TightReference:
    """Serves one stream frame by frame. ``window`` is in frames; None keeps every frame."""

    def __init__(self, model: LoadedModel, query: str, window: int | None, max_new_tokens: int) -> None:
        """Open a stream on ``model``, which ``plain_copy`` returned. ``query`` comes before the first frame."""
        self._network, self._tokenizer, self._end_id = model.network, model.tokenizer, model.tokenizer.end_id
        self._window, self._max_new_tokens = window, max_new_tokens
        self._frame_tokens = model.config.frame_tokens
        feed = make_feed("fixed", SYSTEM_PROMPT)
        prefix = [*feed.begin(query_first=True), *feed.text(Role.USER, query), *feed.frame()[:-1]]
        self._prefix_ids, self._reply_ids = self._encode(prefix), self._encode(feed.begin_reply())
        self._cache = DynamicCache(config=self._network.lm.config)
        self._position = self._frames = 0
        self._prefix: _PinnedPrefix | None = None

    @torch.inference_mode()
    def run(self, frames: Sequence[PreparedFrame], replies_after: Collection[int]) -> StreamTrace:
        """Process frames, with a reply after those whose index in ``frames`` is in ``replies_after``."""
        trace = StreamTrace()
        for i, visual in enumerate(self._encode_frames(frames)):
            trace.scores.append(self._score(visual))
            if i in replies_after:
                trace.replies.append(self._reply())
        return trace

    def _encode_frames(self, frames: Sequence[PreparedFrame]) -> Iterator[Tensor]:
        """Yield the visual tokens [K, D] of each frame, encoded when they are needed."""
        for frame in frames:
            yield from self._visual_tokens([frame])

    def _visual_tokens(self, frames: Sequence[PreparedFrame]) -> Tensor:
        """Return the visual tokens [B, K, D] of frames, all of which have ``embeds`` or none."""
        network = self._network
        if frames[0].embeds is not None:
            given = [frame.embeds for frame in frames if frame.embeds is not None]
            return torch.stack(given).to(network.device, network.dtype)
        images = normalize_images(torch.stack([frame.pixels for frame in frames]).to(network.device))
        visual: Tensor = network.projector(_tower_features(network.tower, images.to(network.dtype)))
        return visual

    def _score(self, visual: Tensor) -> tuple[float, float]:
        """Score a frame of visual tokens [K, D]; the first one is fed after the prefix."""
        if self._frames == self._window:
            self._evict_frame()
        first = self._position == 0
        hidden = self._forward(torch.cat([self._embed(self._prefix_ids), visual]) if first else visual)
        self._frames += 1
        self._process_frame_rows(hidden[-self._frame_tokens :])
        informative, relevance = self._network.heads(hidden[-1:])[0].tolist()
        return informative, relevance

    def _process_frame_rows(self, hidden: Tensor) -> None:
        """Do what a reference does with the hidden states [K, D] of a frame besides scoring it: here nothing."""

    def _reply(self) -> list[int]:
        """Decode a reply greedily, remove it from the cache and return its tokens, without the end token."""
        begin, tokens = self._position, list[int]()
        token = self._next_token(self._reply_ids)
        while token != self._end_id:
            tokens.append(token)
            if len(tokens) == self._max_new_tokens:
                break
            token = self._next_token([token])
        self._cache.crop(begin - self._position)
        self._position = begin
        return tokens

    def _next_token(self, ids: list[int]) -> int:
        hidden = self._forward(self._embed(ids))
        return int(self._network.lm_head(hidden[-1]).argmax())

    def _forward(self, embeds: Tensor) -> Tensor:
        """Return final-norm hidden states [n, D] of the next tokens, whose embeddings are [n, D]."""
        positions = torch.arange(self._position, self._position + len(embeds), device=embeds.device)
        self._position += len(embeds)
        hidden: Tensor = self._network.lm(
            inputs_embeds=embeds[None], position_ids=positions[None], past_key_values=self._cache, use_cache=True
        ).last_hidden_state
        return hidden[0]

    def _evict_frame(self) -> None:
        """Drop the oldest frame, and move the prefix into its place."""
        if self._prefix is None:
            self._prefix = _PinnedPrefix(self._cache, len(self._prefix_ids), self._network.config.text.rope_theta)
        self._prefix.move(self._frame_tokens)
        self._frames -= 1

    def _embed(self, ids: list[int]) -> Tensor:
        """Return the embeddings [n, D] of token ids."""
        return self._network.embed_tokens(torch.tensor(ids, device=self._network.device))

    def _encode(self, pieces: Sequence[Piece]) -> list[int]:
        return [token for piece in pieces for token in self._tokenizer.encode_piece(piece)]


class PaperReference(TightReference):
    """Serves one stream as the MMDuet paper describes."""

    def _encode_frames(self, frames: Sequence[PreparedFrame]) -> Iterator[Tensor]:
        """Encode all frames, then yield the visual tokens [K, D] of each."""
        batches = [frames[i : i + TOWER_BATCH] for i in range(0, len(frames), TOWER_BATCH)]
        yield from [visual for batch in batches for visual in self._visual_tokens(batch)]

    def _process_frame_rows(self, hidden: Tensor) -> None:
        """Compute the logits [K, V] of all frame tokens."""
        self._network.lm_head(hidden)


REFERENCE_ENGINES: dict[str, type[TightReference]] = {"paper": PaperReference, "tight": TightReference}


class _PinnedPrefix:
    """Keeps the first ``count`` tokens of a cache at its front while rows after them are dropped."""

    def __init__(self, cache: DynamicCache, count: int, rope_theta: float) -> None:
        self._cache, self._count, self._shift = cache, count, 0
        self._keys = torch.stack(
            [layer.keys[0, :, :count].float() for layer in cache.layers]
        )  # [layers, kv_heads, n, d]
        self._values = [layer.values[:, :, :count].clone() for layer in cache.layers]
        head_dim = self._keys.shape[-1]
        exponents = torch.arange(0, head_dim, 2, dtype=torch.float64, device=self._keys.device) / head_dim
        self._frequencies = rope_theta**-exponents

    def move(self, rows: int) -> None:
        """Drop ``rows`` rows after the prefix. Source of the rotation: RoFormer §3.2."""
        self._shift += rows
        angle = self._shift * self._frequencies  # [d / 2]; from the original keys, so that no error accumulates
        cos, sin = angle.cos().float(), angle.sin().float()
        first, second = self._keys.chunk(2, dim=-1)
        rotated = torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
        for layer, keys, values in zip(self._cache.layers, rotated, self._values, strict=True):
            layer.keys, layer.values = layer.keys[:, :, rows:], layer.values[:, :, rows:]
            layer.keys[0, :, : self._count] = keys
            layer.values[:, :, : self._count] = values


def _tower_features(tower: VisionTower, pixels: Tensor) -> Tensor:
    """Return the features [B, G*G, V] of normalised images [B, 3, S, S] by the tower's Transformers module."""
    if tower.shape.family == "siglip":
        features: Tensor = tower.siglip(pixel_values=pixels).last_hidden_state
        return features
    grids = torch.full((len(pixels), 2), tower.shape.grid, device=pixels.device)
    patches = patchify(pixels, tower.shape.patch_size)
    features = tower.siglip(patches, pixel_attention_mask=None, spatial_shapes=grids).last_hidden_state
    return features
