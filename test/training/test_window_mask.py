"""What a training sample sees under a window is what is in an engine's slot at that moment, token by token.

In a network of one layer a token's value depends on the token alone, so values tell which tokens a slot holds.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from duet_rig import Rig, Scripted, lively_model, options, picture

from mmduet.annotations.training_samples import Sample
from mmduet.duet import SYSTEM_PROMPT
from mmduet.events import Frame, Query
from mmduet.model.preprocess import normalize_images
from mmduet.spans import AnnotatedReply
from mmduet.training.collate import collate
from mmduet.training.sequence import build_sequence

TIMES = [k / 2 for k in range(14)]
ANSWERS = (AnnotatedReply(1.0, "one", (0.0, 2.0)), AnnotatedReply(3.5, "two", (3.0, 4.0)))
SAMPLE = Sample("captioning", "v", (Query("What?", 0.0), Query("More?", 2.2)), ANSWERS)


@pytest.mark.parametrize("window", [1, 3, 5])
def test_the_mask_is_what_the_slot_holds(window: int) -> None:
    model = lively_model(1)
    sequence = build_sequence(
        SAMPLE, TIMES, model.tokenizer, model.config.frame_tokens,
        keep_replies=True, rng=np.random.default_rng(3), window=window,
    )  # fmt: skip
    images = [picture(k) for k in range(len(TIMES))]
    batch = collate([sequence], [torch.from_numpy(np.stack(images))])
    values = token_values(model.network, batch)
    spoken = replies_of(sequence, model.tokenizer)
    assert sorted(spoken.values()) == ["one", "two"]
    rig = Rig(model, sampler_factory=Scripted([spoken[k] for k in sorted(spoken)]))
    session = rig.open(options(keep=True, window=window, text_tokens=1024))
    session.feed.system_prompt = SYSTEM_PROMPT
    for query in SAMPLE.queries:
        rig.push(session, query)
    for k, image in enumerate(images):
        rig.push(session, Frame(k, TIMES[k], image))
        list(rig.run(session))
        slot, seen = session.slot, batch.mask[0, 0, sequence.frame_ends[k]]
        held = slot.values[0, :, slot.start : slot.end].transpose(0, 1).flatten(1)
        torch.testing.assert_close(held, values[seen], atol=1e-5, rtol=0)
        if k in spoken:
            rig.speak_now(session)
            list(rig.run(session))


def token_values(network, batch) -> torch.Tensor:
    """The first layer's values [T, kv_heads * head_dim] of a sample's tokens."""
    embeds = network.embed_tokens(batch.ids[0])
    embeds = embeds.masked_scatter(
        batch.is_frame[0][:, None], network.embed_frames(normalize_images(batch.visual[0])).flatten(0, 1)
    )
    layer = network.lm.layers[0]
    return layer.self_attn.v_proj(layer.input_layernorm(embeds))


def replies_of(sequence, tokenizer) -> dict[int, str]:
    """The frames after which the sample speaks, and what it says."""
    found = {}
    for k, end in enumerate(sequence.frame_ends):
        following = sequence.frame_ends[k + 1] if k + 1 < len(sequence.frame_ends) else sequence.size
        said = tokenizer.decode([i for i in sequence.ids[end + 1 : following] if i >= 0])
        if "assistant\n" in said:
            found[k] = said.split("assistant\n")[1].split("\n")[0]
    return found
