"""Pictures and instructions become what transformers.InstructBlipProcessor makes of them."""

from __future__ import annotations

import numpy as np
import pytest
import transformers
from PIL import Image

from tests.checkpoints import QUERIES
from tests.pipeline.engines.vllm_instructblip import vllm_side
from tests.pipeline.engines.vllm_instructblip.vllm_side import Ask

PROMPTS = ("Give the caption of this picture", "$5 and 30% {{ more }}", "", "Ünïcode ☂ [SEP] flag")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1600)]


@pytest.mark.parametrize(("layout", "placeholder", "start"), [("v4", 0, 2), ("v5", 544, 1)])
def test_pictures_and_instructions_equal_those_of_the_transformers_processor(
    vllm, folder, pictures, layout, placeholder, start
):
    asks = [Ask(prompt, picture) for prompt, picture in zip(PROMPTS, pictures, strict=False)]
    made = vllm(vllm_side.process, folder(layout), asks)
    processor = transformers.InstructBlipProcessor.from_pretrained(folder(layout))
    processor.num_query_tokens = QUERIES  # not written down by transformers 4
    for ask, ours in zip(asks, made, strict=True):
        theirs = processor(images=Image.fromarray(ask.picture), text=ask.prompt, return_tensors="np")
        for name in ("pixel_values", "qformer_input_ids", "qformer_attention_mask"):
            assert ours[name].dtype == theirs[name].dtype
            assert np.array_equal(ours[name], theirs[name][0]), name
        ids = theirs["input_ids"][0].tolist()
        assert ours["ids"][:QUERIES] == [placeholder] * QUERIES and ours["place"] == (0, QUERIES)
        # The start token is the declared one, which transformers leaves wrong in the older layout.
        assert ours["ids"][QUERIES:] == [start, *ids[QUERIES + 1 :]]
