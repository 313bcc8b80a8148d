"""The ways of generating that are compared; each lives in a process of its own, with its model loaded.

A way gets the same requests as the others and returns the texts. Reading images, tokenising and decoding are
part of its time; loading the model is not.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from pipeline.config import RunConfig
from pipeline.engines.base import Request


@dataclass(frozen=True)
class Task:
    """What is generated.

    Attributes:
        job: ``captions`` or ``explanations``.
        config: The run's configuration; its engine is replaced by the variant's.
        out: Folder with the ``samples`` table.
        requests: All rows, as the job asks them.
        tables: Folder in which the pipeline may write its tables.
    """

    job: str
    config: RunConfig
    out: Path
    requests: Sequence[Request]
    tables: Path

    @property
    def folder(self) -> Path:
        """The checkpoint."""
        return Path(self.config.model_for(self.job).path or "")

    @property
    def new_tokens(self) -> int:
        """Most tokens per text."""
        return self.config.model_for(self.job).generation.max_new_tokens


Texts = dict[str, tuple[str, int]]
"""Key to text and number of generated tokens, the end token not counted."""

Run = Callable[[Sequence[Request]], Texts]


def serve(name: str, task: Task, pipe: Connection) -> None:
    """Load a variant, say so, and run whatever numbers of rows come through the pipe until it closes."""
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    run = VARIANTS[name](task)
    run(task.requests[:2])  # first calls allocate and compile
    pipe.send("ready")
    while True:
        try:
            rows = pipe.recv()
        except EOFError:
            return
        started = time.perf_counter()
        texts = run(task.requests[:rows])
        pipe.send((time.perf_counter() - started, texts))


def transformers_raw(task: Task, size: int) -> Run:
    """Batches of ``size`` with ``generate``; 1 is what the field's released scripts do."""
    import torch
    import transformers
    from PIL import Image

    if task.job == "captions":
        kind, processor = (
            transformers.InstructBlipForConditionalGeneration,
            transformers.InstructBlipProcessor.from_pretrained(task.folder),
        )
        tokenizer = processor.tokenizer
        tokenizer.padding_side = "left"
    else:
        kind, processor = transformers.AutoModelForCausalLM, None
        tokenizer = transformers.AutoTokenizer.from_pretrained(task.folder, padding_side="left")
    transformers.utils.logging.disable_progress_bar()
    model = kind.from_pretrained(task.folder, dtype=torch.float32).eval()
    ends = {tokenizer.pad_token_id, *_listed(language(model).generation_config.eos_token_id)}

    def encoded(batch: Sequence[Request]) -> Any:
        prompts = [request.prompt for request in batch]
        if processor is not None:
            images = [Image.open(request.image).convert("RGB") for request in batch if request.image]
            return processor(images=images, text=prompts, padding=True, return_tensors="pt")
        chats = [[{"role": "user", "content": prompt}] for prompt in prompts]
        return tokenizer.apply_chat_template(
            chats, add_generation_prompt=True, padding=True, return_dict=True, return_tensors="pt"
        )

    @torch.inference_mode()
    def run(requests: Sequence[Request]) -> Texts:
        texts: Texts = {}
        for start in range(0, len(requests), size):
            batch = requests[start : start + size]
            inputs = encoded(batch)
            output = model.generate(**inputs, do_sample=False, max_new_tokens=task.new_tokens)
            new = output[:, inputs["input_ids"].shape[1] :]
            for request, ids, text in zip(
                batch, new.tolist(), tokenizer.batch_decode(new, skip_special_tokens=True), strict=True
            ):
                texts[request.key] = (text.strip(), sum(token not in ends for token in ids))
        return texts

    return run


def vllm_raw(task: Task) -> Run:
    """All rows at once through ``LLM.generate``, with our plugin for captions."""
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    from PIL import Image
    from vllm import LLM, SamplingParams

    from pipeline.engines.chat_prompts import chat_prompts
    from pipeline.engines.installed import installed_build
    from pipeline.engines.loading import checkpoint_ends
    from pipeline.engines.vllm_instructblip.prompt import CaptionPrompts, caption_request
    from pipeline.engines.vllm_options import engine_arguments

    config = task.config.model_for(task.job)
    build = installed_build()
    assert build is not None
    # The same model, cache and limits as our engine asks for: what differs is what is around it.
    llm = LLM(**engine_arguments(config, task.folder, build))
    captions = CaptionPrompts(task.folder) if task.job == "captions" else None
    chat = chat_prompts(task.folder, config) if captions is None else None
    tokenizer = captions.tokenizer if captions is not None else None
    ends = checkpoint_ends(task.folder, config)
    sampling = SamplingParams(
        temperature=0.0, max_tokens=task.new_tokens, stop_token_ids=sorted(ends), detokenize=False
    )

    def prompt(request: Request) -> Any:
        if captions is None:
            assert chat is not None
            return {"prompt_token_ids": chat.encode(request.prompt)}
        assert request.image is not None
        return caption_request(captions, request.prompt, Image.open(request.image).convert("RGB"))

    def text_of(ids: list[int]) -> str:
        if tokenizer is None:
            assert chat is not None
            return chat.decode(ids).strip()
        return str(tokenizer.decode(ids, skip_special_tokens=True)).strip()

    def run(requests: Sequence[Request]) -> Texts:
        outputs = llm.generate([prompt(request) for request in requests], sampling, use_tqdm=False)
        texts: Texts = {}
        for request, output in zip(requests, outputs, strict=True):
            ids = [token for token in output.outputs[0].token_ids if token not in ends]
            texts[request.key] = (text_of(ids), len(ids))
        return texts

    return run


def through_the_pipeline(task: Task, engine: str) -> Run:
    """Our whole run: plan, images, engine, checks, shards on disk and markers, read back at the end."""
    from pipeline.engines import get_engine
    from pipeline.run import generate_table, prepare
    from schemas import open_table

    name = task.config.job(task.job).model
    model = task.config.models[name].model_copy(update={"engine": engine})
    config = task.config.model_copy(update={"models": {**task.config.models, name: model}})

    def run(requests: Sequence[Request]) -> Texts:
        with tempfile.TemporaryDirectory(dir=task.tables) as folder:
            out = Path(folder)
            first_samples(task.out, out, {request.key for request in requests}, task.job)
            get_engine(prepare(task.job, config, out).job.model)
            generate_table(task.job, config, out)
            rows = open_table(out, task.job).to_arrow().to_pylist()
        key, text = ("image_key", "caption") if task.job == "captions" else ("sample_id", "explanation")
        return {row[key]: (row[text], row["tokens_out"]) for row in rows}

    return run


def first_samples(source: Path, out: Path, keys: set[str], job: str) -> None:
    """Write a ``samples`` table with one sample for each of the keys, in the source's order."""
    import polars as pl

    from pipeline.shards.snapshot import write_snapshot
    from schemas import open_table

    samples = open_table(source, "samples")
    if len(keys) == samples.num_rows:
        shutil.copytree(source / "samples", out / "samples")
        return
    key = "image_key" if job == "captions" else "sample_id"
    frame = samples.to_polars().unique(key, keep="first", maintain_order=True)
    chosen = frame.filter(pl.col(key).is_in(list(keys))).to_arrow().cast(samples.schema)
    write_snapshot(out, "samples", [chosen], info={"image_root": samples.info["image_root"]})


def language(model: Any) -> Any:
    """Return the part of a model that writes."""
    return getattr(model, "language_model", model)


def _listed(value: Any) -> list[int]:
    return list(value) if isinstance(value, list | tuple) else [value]


VARIANTS: dict[str, Callable[[Task], Run]] = {
    "one row at a time": lambda task: transformers_raw(task, 1),
    "transformers, batches": lambda task: transformers_raw(task, 32),
    "pipeline, transformers": lambda task: through_the_pipeline(task, "transformers"),
    "vLLM raw": vllm_raw,
    "pipeline, vLLM": lambda task: through_the_pipeline(task, "vllm"),
}
