"""What makes two runs write the same texts: the configuration's share of a table version's fingerprint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipeline.config.gates import GatesConfig
from pipeline.config.models import RunConfig
from pipeline.engines.weights import file_hash, weights_hash
from pipeline.gates import GATES_VERSION
from pipeline.prompts import load_prompt

# Without effect on greedy decoding, so not a reason to refuse.
_SAMPLING = ("temperature", "top_p", "top_k", "seed")
_PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")


def fingerprint_fields(config: RunConfig, job: str, cache: Path | None = None) -> dict[str, Any]:
    """Return every setting of a job that changes its texts, as flat JSON-ready fields with dotted names.

    In it: the model (hub id and revision, or the weights hash of a local folder; its path is not, so a folder
    may be moved), the bytes of each prompt, each generation parameter, the image preprocessing, ``dtype`` and
    ``trust_remote_code``. ``dtype: auto`` is the checkpoint's own type and so does not depend on the device.

    The engine is in it too. Engines run the same model, but they round differently,
    so a table begun on one and finished on another could not be reproduced by any single command. It is the
    name of the engine that runs, never ``auto`` (see ``pipeline.engines.choice``). Of vLLM's options only the
    quantisation of the weights is in it.

    So are the gates: their version, and of their settings those that are not without effect.

    Not in it: batch size, device, threads, shard size, thresholds. They can move a text by float rounding at
    most.

    Args:
        config: A loaded configuration in which the job's model names its engine.
        job: ``captions`` or ``explanations``.
        cache: JSON file that keeps weight hashes between runs.

    Raises:
        UsageError: the model folder or a prompt file does not exist.
    """
    model = config.model_for(job)
    if model.engine == "auto":
        raise ValueError(f"the engine of {job} is not chosen yet")
    fields: dict[str, Any] = {"job": job, "engine": model.engine, "kind": model.kind}
    if model.engine == "echo":
        fields["echo.failure_share"] = model.echo.failure_share
        if model.echo.loop_share:
            fields["echo.loop_share"] = model.echo.loop_share
    elif model.revision is not None and not Path(model.path or "").is_dir():
        fields |= {"model": model.path, "revision": model.revision}
    else:
        folder = Path(model.path or "")
        fields["weights"] = weights_hash(folder, cache)
        if model.kind == "instructblip":
            fields["image_preprocessing"] = _image_preprocessing(folder)
    if model.engine != "echo":
        fields |= {"dtype": model.dtype, "trust_remote_code": model.trust_remote_code}
    if model.engine == "vllm" and model.vllm.quantization is not None:
        fields["vllm.quantization"] = model.vllm.quantization
    for use, name in sorted(config.job(job).prompts.items()):
        fields[f"prompt.{use}"] = f"{load_prompt(name).id}:{load_prompt(name).sha}"
    fields |= _gates_fields(config.job(job).gates, cache)
    generation = model.generation.model_dump()
    if not model.generation.do_sample and model.engine != "echo":
        again = ("seed",) if config.job(job).gates.regenerates else ()
        idle = [name for name in _SAMPLING if name not in again]
        generation = {name: value for name, value in generation.items() if name not in idle}
    return fields | {f"generation.{name}": value for name, value in generation.items()}


def _gates_fields(gates: GatesConfig, cache: Path | None) -> dict[str, Any]:
    """Return the settings of the gates that change rows; batch size and device of CLIP do not."""
    fields: dict[str, Any] = {"gates.version": GATES_VERSION}
    for flag, policy in sorted(gates.policy.items()):
        if policy != "keep":
            fields[f"gates.policy.{flag}"] = policy
    if gates.regenerates:
        fields |= {"gates.attempts": gates.attempts, "gates.after_attempts": gates.after_attempts}
        fields |= {f"gates.again.{name}": value for name, value in gates.again.model_dump().items()}
    if gates.clip is not None:
        clip, folder = gates.clip, Path(gates.clip.model)
        model = weights_hash(folder, cache) if folder.is_dir() else clip.model
        fields |= {"gates.clip.model": model, "gates.clip.min_score": clip.min_score}
        if clip.pretrained is not None:
            fields["gates.clip.pretrained"] = file_hash(Path(clip.pretrained)) or clip.pretrained
    return fields


def _image_preprocessing(folder: Path) -> str | None:
    """Return the hash of the image processor's settings, which transformers 5 keeps in another file."""
    for name in _PROCESSOR_FILES:
        path = folder / name
        if name == "processor_config.json" and path.is_file():
            try:
                if "image_processor" not in json.loads(path.read_text()):
                    continue
            except ValueError:
                continue
        digest = file_hash(path)
        if digest is not None:
            return digest
    return None
