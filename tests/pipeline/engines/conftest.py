from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image

from pipeline.config import ModelConfig
from pipeline.engines import Request
from pipeline.engines.transformers import TransformersEngine
from pipeline.engines.vllm import VllmEngine
from tests import checkpoints, checkpoints_chatglm

PROMPTS = (
    "Give the caption of this picture",
    "A yellow flag",
    "Name the words that were changed, and say in one or two English sentences where they differ.",
    "$5 and 30% {{ more }}",
)

BUILDERS = {
    "glm": lambda folder: checkpoints.glm(folder),
    "glm4": lambda folder: checkpoints.glm4(folder),
    "instructblip-llama-v4": lambda folder: checkpoints.instructblip_llama(folder, "v4"),
    "instructblip-llama-v5": lambda folder: checkpoints.instructblip_llama(folder, "v5"),
    "instructblip-t5-v4": lambda folder: checkpoints.instructblip_t5(folder, "v4"),
    "instructblip-t5-v5": lambda folder: checkpoints.instructblip_t5(folder, "v5"),
}
# ChatGLM3 runs on vLLM only; vLLM's attention on a CPU computes heads of 32 values and more.
FOR_VLLM = {
    "chatglm3": lambda folder: checkpoints_chatglm.chatglm3(folder),
    "chatglm3-converted": lambda folder: checkpoints_chatglm.chatglm3(folder, tokenizer="json"),
    "glm-wide": lambda folder: checkpoints.glm(folder, head_dim=32),
    "glm4-wide": lambda folder: checkpoints.glm4(folder, head_dim=32),
    "instructblip-wide": lambda folder: checkpoints.instructblip_llama(folder, "v4", head_dim=32),
}


class Bench:
    """Builds each checkpoint once, and engines and requests for it."""

    def __init__(self, root):
        self.root = root
        rng = np.random.default_rng(0)
        self.images = []
        for number in range(8):
            self.images.append(root / f"{number}.jpg")
            picture = rng.integers(0, 255, (4 + number, 6, 3), dtype=np.uint8)
            Image.fromarray(picture).resize((60, 40)).save(self.images[-1], quality=95)

    def folder(self, name):
        folder = self.root / name
        return folder if folder.exists() else (BUILDERS | FOR_VLLM)[name](folder)

    def config(self, name, **changes):
        generation = {"max_new_tokens": 12} | changes.pop("generation", {})
        kind = "instructblip" if name.startswith("instructblip") else "chat"
        values = {"path": str(self.folder(name)), "kind": kind, "device": "cpu", "generation": generation}
        return ModelConfig.model_validate(values | changes)

    def engine(self, name, **changes):
        return TransformersEngine(self.config(name, **changes))

    @contextmanager
    def vllm(self, name, **changes):
        """A running vLLM, closed afterwards; a start takes 15 s, so tests of a module share one."""
        config = self.config(name, **({"engine": "vllm", "dtype": "float32"} | changes))
        engine = VllmEngine(config)
        try:
            yield engine
        finally:
            engine.close()

    def requests(self, name, count=8, seed=0):
        images = self.images if name.startswith("instructblip") else [None] * 8
        return [
            Request(f"key-{n}", PROMPTS[n % len(PROMPTS)], images[n % len(images)], seed)
            for n in range(count)
        ]


@pytest.fixture(scope="session")
def bench(tmp_path_factory):
    return Bench(tmp_path_factory.mktemp("checkpoints"))


def by_key(results):
    found = {result.key: result for result in results}
    return found
