"""Under a window, the tokens visible to a training sample are those in the engine's slot at that moment.

In a network with one layer, the value of a token depends on the token alone, so values identify the tokens of a slot.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from duet_rig import Rig, ScriptedSampler, lively_model, options, picture
from visual_tokens import embed_pixels

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
def test_training_mask_equals_the_contents_of_the_slot(window: int) -> None:
    model = lively_model(1)
    sequence = build_sequence(
        SAMPLE, TIMES, model.tokenizer, model.config.frame_tokens,
        keep_replies=True, rng=np.random.default_rng(3), window=window,
    )  # fmt: skip
    images = [picture(k) for k in range(len(TIMES))]
    batch = collate([sequence], [torch.from_numpy(np.stack(images))])
    values = token_values(model.network, batch)
    reply_texts = replies_of(sequence, model.tokenizer)
    assert sorted(reply_texts.values()) == ["one", "two"]
    rig = Rig(model, sampler_factory=ScriptedSampler([reply_texts[k] for k in sorted(reply_texts)]))
    session = rig.open(options(keep=True, window=window, text_tokens=1024))
    session.feed.system_prompt = SYSTEM_PROMPT
    for query in SAMPLE.queries:
        rig.push(session, query)
    for k, image in enumerate(images):
        rig.push(session, Frame(k, TIMES[k], image))
        list(rig.run(session))
        visible = batch.mask[0, 0, sequence.frame_ends[k]]
        held = rig.held_values(session).transpose(0, 1).flatten(1)
        torch.testing.assert_close(held, values[visible], atol=1e-5, rtol=0)
        if k in reply_texts:
            rig.speak_now(session)
            list(rig.run(session))


def token_values(network, batch) -> torch.Tensor:
    """Return the first layer's values [T, kv_heads * head_dim] of the tokens of a sample."""
    embeds = network.embed_tokens(batch.ids[0])
    embeds = embeds.masked_scatter(
        batch.is_frame[0][:, None], embed_pixels(network, normalize_images(batch.visual[0])).flatten(0, 1)
    )
    layer = network.lm.layers[0]
    return layer.self_attn.v_proj(layer.input_layernorm(embeds))


def replies_of(sequence, tokenizer) -> dict[int, str]:
    """Return the text of each reply of the sample, by the frame before it."""
    texts = {}
    for k, end in enumerate(sequence.frame_ends):
        following = sequence.frame_ends[k + 1] if k + 1 < len(sequence.frame_ends) else sequence.size
        text = tokenizer.decode([i for i in sequence.ids[end + 1 : following] if i >= 0])
        if "assistant\n" in text:
            texts[k] = text.split("assistant\n")[1].split("\n")[0]
    return texts
