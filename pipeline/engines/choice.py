"""``engine: auto``: vLLM where it can serve the model on this machine, else transformers, with the reason."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.config.models import ModelConfig, RunConfig
from pipeline.engines.checkpoint import checkpoint_config
from pipeline.engines.installed import Build, has_nvidia_driver, installed_build, known_architectures
from pipeline.engines.vllm_options import HOTTEST

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Facts:
    """What the choice depends on.

    Attributes:
        build: The installed vLLM, None without one.
        device: Where the model would run: ``cpu``, ``cuda`` or ``mps``.
        kind: ``chat`` or ``instructblip``.
        architecture: The model's, from its config.json.
        encoder_decoder: Type of the language model where that is an encoder-decoder (Flan-T5), else None.
        known: Architectures that vLLM lists; empty when its list could not be read.
        num_beams: Beams asked for.
        temperature: Temperature asked for.
        repetition_penalty: Asked for; 1 is none.
    """

    build: Build | None
    device: str
    kind: str
    architecture: str
    encoder_decoder: str | None
    known: frozenset[str]
    num_beams: int
    temperature: float = 1.0
    repetition_penalty: float = 1.0


@dataclass(frozen=True)
class Choice:
    """The engine, and in one clause why."""

    engine: Literal["vllm", "transformers"]
    reason: str


def choose(facts: Facts) -> Choice:
    """Return vLLM unless something speaks against it; the first thing that does is the reason."""
    build, model = facts.build, facts.architecture
    if build is None:
        return Choice("transformers", "vLLM is not installed")
    runs_on = {"cpu": "cpu", "gpu": "cuda"}[build.kind]
    if facts.device != runs_on:
        return Choice(
            "transformers",
            f"the model is to run on {facts.device}, and vLLM {build.version} is built for {runs_on}",
        )
    if facts.num_beams > 1:
        return Choice("transformers", f"vLLM here has no beam search (num_beams: {facts.num_beams})")
    if facts.temperature > HOTTEST:
        reason = f"vLLM takes a temperature of at most {HOTTEST:g} (temperature: {facts.temperature:g})"
        return Choice("transformers", reason)
    if facts.kind == "instructblip" and facts.repetition_penalty != 1.0:
        asked = f"repetition_penalty: {facts.repetition_penalty:g}"
        reason = f"for captions vLLM penalises the instruction's words too ({asked})"
        return Choice("transformers", reason)
    if facts.encoder_decoder is not None:
        return Choice(
            "transformers",
            f"vLLM runs {model} with decoder-only language models, not {facts.encoder_decoder}",
        )
    if facts.kind == "instructblip":
        return Choice("vllm", f"vLLM {build.version} serves {model} on {runs_on} with this project's plugin")
    if not facts.known:
        return Choice("transformers", f"the list of models of vLLM {build.version} could not be read")
    if model not in facts.known:
        return Choice("transformers", f"vLLM {build.version} does not list {model}")
    return Choice("vllm", f"vLLM {build.version} serves {model} on {runs_on}")


def resolve_engine(model: ModelConfig, name: str = "this model") -> ModelConfig:
    """Return the configuration of a model with ``engine: auto`` replaced by a name; any other is left alone.

    It reads the model's config.json and asks what is installed, and loads neither a model nor vLLM, so it can
    stand before everything else: the fingerprint of a table holds the engine's name. ``auto`` in its place
    would let a machine with vLLM and one without write into the same table, whose rows then no single command
    could make again.

    Raises:
        UsageError: the model's folder or its config.json is not there.
    """
    if model.engine != "auto":
        return model
    choice = choose(_facts(model))
    log.info("engine: auto is %s for %s: %s", choice.engine, name, choice.reason)
    return model.model_copy(update={"engine": choice.engine})


def resolve_job(config: RunConfig, job: str) -> RunConfig:
    """Return a configuration in which the model of ``captions`` or ``explanations`` names its engine."""
    name = config.job(job).model
    return config.model_copy(
        update={"models": config.models | {name: resolve_engine(config.models[name], name)}}
    )


def _facts(model: ModelConfig) -> Facts:
    content: dict[str, Any] = checkpoint_config(model)
    architectures = content.get("architectures")
    return Facts(
        build=installed_build(),
        device=_device(model.device),
        kind=model.kind,
        architecture=str(architectures[0]) if architectures else "a model without an architecture",
        encoder_decoder=_encoder_decoder(content) if model.kind == "instructblip" else None,
        known=known_architectures(),
        num_beams=model.generation.num_beams,
        temperature=model.generation.temperature,
        repetition_penalty=model.generation.repetition_penalty,
    )


def _encoder_decoder(content: dict[str, Any]) -> str | None:
    """Return the type of InstructBLIP's language model if it is an encoder-decoder, from its config.json."""
    text = content.get("text_config")
    text = text if isinstance(text, dict) else {}
    kind = str(text.get("model_type", "unknown"))
    # transformers 5 writes down only what differs from the model type's defaults.
    marked = text.get("is_encoder_decoder") or content.get("use_decoder_only_language_model") is False
    return kind if marked or kind.endswith("t5") else None


def _device(name: str) -> str:
    """Return where a model with ``device: name`` would run, as the transformers engine takes it."""
    if name != "auto":
        return name.partition(":")[0]
    if not has_nvidia_driver():
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
