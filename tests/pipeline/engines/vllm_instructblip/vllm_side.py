"""What the tests run inside vLLM: functions for a process of its own, with plain data in and out.

The process (see conftest.py) imports vLLM once and starts one engine after the other without further
processes, so that an exception of the model arrives here as it was raised.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ENVIRONMENT = {
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
}


@dataclass
class Ask:
    """An instruction and the picture it is about, uint8 [height, width, 3]."""

    prompt: str
    picture: np.ndarray


@dataclass
class Answer:
    """What came back for one request.

    Attributes:
        prompt_ids: The prompt's token ids, placeholders included.
        prompt_logits: float32 [len(prompt_ids) - 1, vocabulary], after each token of the prompt but the last;
            None where not asked for, since vLLM then leaves out its prefix cache.
        ids: The generated token ids.
        logits: float32 [len(ids), vocabulary], in front of each generated token.
    """

    prompt_ids: list[int]
    prompt_logits: np.ndarray | None
    ids: list[int]
    logits: np.ndarray


def set_up() -> None:
    """Set the environment of the process, before it imports vLLM."""
    os.environ.update(ENVIRONMENT)


@contextmanager
def engine(folder: Path, *, processes: bool = False, **options: Any) -> Iterator[Any]:
    """Start vLLM's offline engine on a checkpoint, in this process or, its default, in its own ones."""
    from vllm import LLM
    from vllm.distributed import cleanup_dist_env_and_memory

    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "1" if processes else "0"
    llm = None
    try:
        llm = LLM(
            str(folder),
            dtype="float32",
            enforce_eager=True,
            max_logprobs=-1,
            logprobs_mode="raw_logits",
            distributed_executor_backend=None if processes else "uni",
            **options,
        )
        yield llm
    finally:
        if llm is not None:
            llm.llm_engine.engine_core.shutdown()
        del llm
        cleanup_dist_env_and_memory()


def answer(
    folder: Path, asks: list[Ask], steps: int, **options: Any
) -> tuple[list[Answer], list[dict[str, Any]]]:
    """Return an answer to each request, all given at once, and the encoder's batches: keyword to shapes."""
    from pipeline.engines.vllm_instructblip.model import InstructBlipForConditionalGeneration as Model

    batches: list[dict[str, Any]] = []
    embed = Model.embed_multimodal

    def watched(self: Any, **kwargs: Any) -> Any:
        batches.append({name: [tuple(row.shape) for row in value] for name, value in kwargs.items()})
        return embed(self, **kwargs)

    with engine(folder, **options) as llm:
        Model.embed_multimodal = watched  # type: ignore[method-assign]
        try:
            return _generate(llm, folder, asks, steps), batches
        finally:
            Model.embed_multimodal = embed  # type: ignore[method-assign]


def answer_in_turn(
    folder: Path, turns: list[list[Ask]], steps: int
) -> tuple[list[list[Answer]], dict[str, int]]:
    """Return the answers to several rounds of requests, and the processor cache's totals and hits."""
    with engine(folder) as llm:
        answers = [_generate(llm, folder, asks, steps, whole=False) for asks in turns]
        used = llm.llm_engine.renderer.mm_processor_cache.make_stats()
        return answers, {"total": used.total, "hits": used.hits}


def _generate(llm: Any, folder: Path, asks: list[Ask], steps: int, whole: bool = True) -> list[Answer]:
    from vllm import SamplingParams

    from pipeline.engines.vllm_instructblip.prompt import CaptionPrompts, caption_request

    prompts = CaptionPrompts(folder)
    sampling = SamplingParams(
        temperature=0, max_tokens=steps, ignore_eos=True, logprobs=-1, prompt_logprobs=-1 if whole else None
    )
    requests = [caption_request(prompts, ask.prompt, Image.fromarray(ask.picture)) for ask in asks]
    return [
        Answer(
            out.prompt_token_ids,
            _dense(out.prompt_logprobs[1:], prompts.vocabulary) if whole else None,
            list(out.outputs[0].token_ids),
            _dense(out.outputs[0].logprobs, prompts.vocabulary),
        )
        for out in llm.generate(requests, sampling, use_tqdm=False)
    ]


def _dense(rows: list[dict[int, Any]], vocabulary: int) -> np.ndarray:
    return np.array([[row[token].logprob for token in range(vocabulary)] for row in rows], np.float32)


def first_logits(folder: Path, ids: list[int], texts: list[str], picture: np.ndarray) -> np.ndarray:
    """Return the logits after one prompt, float32 [texts, vocabulary], for several texts to the Q-Former."""
    from vllm import SamplingParams

    sampling = SamplingParams(temperature=0, max_tokens=1, logprobs=-1)
    image = Image.fromarray(picture)
    rows = []
    with engine(folder) as llm:
        for text in texts:
            request = {
                "prompt_token_ids": ids,
                "multi_modal_data": {"image": image},
                "mm_processor_kwargs": {"qformer_text": text},
            }
            (out,) = llm.generate([request], sampling, use_tqdm=False)
            rows.append(_dense(out.outputs[0].logprobs, len(out.outputs[0].logprobs[0]))[0])
    return np.array(rows)


def process(folder: Path, asks: list[Ask]) -> list[dict[str, Any]]:
    """Return what vLLM makes of each request before a model sees it: prompt ids and the model's arguments."""
    from vllm.engine.arg_utils import EngineArgs
    from vllm.multimodal import MULTIMODAL_REGISTRY
    from vllm.plugins import load_general_plugins

    from pipeline.engines.vllm_instructblip.prompt import CaptionPrompts, caption_request

    load_general_plugins()
    config = EngineArgs(str(folder), dtype="float32", skip_tokenizer_init=True).create_model_config()
    processor = MULTIMODAL_REGISTRY.create_processor(config, tokenizer=None)
    prompts = CaptionPrompts(folder)
    seen = []
    for ask in asks:
        request = caption_request(prompts, ask.prompt, Image.fromarray(ask.picture))
        made = processor(
            request["prompt_token_ids"],
            processor.info.parse_mm_data(request["multi_modal_data"]),
            hf_processor_mm_kwargs=request["mm_processor_kwargs"],
        )
        (item,) = made["mm_kwargs"]["image"]
        (place,) = made["mm_placeholders"]["image"]
        arrays = {name: value.numpy() for name, value in item.get_data().items()}
        seen.append({"ids": made["prompt_token_ids"], "place": (place.offset, place.length), **arrays})
    return seen


def refusals(
    folder: Path, ask: Ask, bad: dict[str, dict[str, Any]]
) -> tuple[dict[str, str], list[int], list[int]]:
    """Return the error for each changed request, and the answer's ids before and after all of them."""
    from vllm import SamplingParams

    from pipeline.engines.vllm_instructblip.prompt import CaptionPrompts, caption_request

    sampling = SamplingParams(temperature=0, max_tokens=4)
    errors = {}
    with engine(folder) as llm:
        good = caption_request(CaptionPrompts(folder), ask.prompt, Image.fromarray(ask.picture))
        (before,) = llm.generate([good], sampling, use_tqdm=False)
        for name, changes in bad.items():
            try:
                llm.generate([{**good, **changes}], sampling, use_tqdm=False)
            except Exception as error:  # vLLM has several kinds
                errors[name] = str(error)
        (after,) = llm.generate([good], sampling, use_tqdm=False)
    return errors, list(before.outputs[0].token_ids), list(after.outputs[0].token_ids)


def start(folder: Path) -> str:
    """Start an engine and return what it raised; empty when it started."""
    try:
        with engine(folder):
            return ""
    except ValueError as error:
        return str(error)


def captions(folder: Path, prompt: str, images: list[Path], steps: int, ends: list[int]) -> list[Answer]:
    """Return a caption for each file, from an engine of two worker processes that share every layer.

    The logits are those of the two likeliest tokens: float32 [len(ids), 2].
    """
    from vllm import SamplingParams

    from pipeline.engines.vllm_instructblip.prompt import CaptionPrompts, caption_request
    from pipeline.images import open_rgb

    prompts = CaptionPrompts(folder)
    sampling = SamplingParams(temperature=0, max_tokens=steps, logprobs=2, stop_token_ids=ends)
    requests = [caption_request(prompts, prompt, open_rgb(path)) for path in images]
    with engine(folder, processes=True, tensor_parallel_size=2) as llm:
        outputs = llm.generate(requests, sampling, use_tqdm=False)
    rows = []
    for out in outputs:
        text = out.outputs[0]
        best = [sorted((entry.logprob for entry in row.values()), reverse=True)[:2] for row in text.logprobs]
        rows.append(Answer(out.prompt_token_ids, None, list(text.token_ids), np.array(best, np.float32)))
    return rows
