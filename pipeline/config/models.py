"""The configuration of a generation run: every field, its meaning, its default and its limits."""

from __future__ import annotations

import difflib
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from pipeline.config.gates import GatesConfig
from pipeline.config.section import Section
from pipeline.config.workers import RayConfig

ModelName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]


class GenerationConfig(Section):
    """How tokens are chosen. All of it changes texts, so all of it is part of the fingerprint."""

    max_new_tokens: int = Field(default=64, ge=1, description="most tokens to generate per row")
    do_sample: bool = Field(
        default=False, description="sample tokens instead of taking the likeliest (greedy)"
    )
    temperature: float = Field(default=1.0, gt=0, description="divides the logits before sampling")
    top_p: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="sample from the likeliest tokens that reach this probability; 1 = all",
    )
    top_k: int = Field(default=0, ge=0, description="sample from the k likeliest tokens; 0 = all")
    num_beams: int = Field(default=1, ge=1, description="beams of beam search; 1 = none; not with do_sample")
    repetition_penalty: float = Field(
        default=1.0, gt=0, description="divides the logits of tokens the row already has; 1 = none"
    )
    seed: int = Field(
        default=0, ge=0, description="run seed; tokens sampled for a row follow from (seed, key)"
    )

    @model_validator(mode="after")
    def _values_that_have_an_effect(self) -> Self:
        neutral = {"temperature": 1.0, "top_p": 1.0, "top_k": 0}
        idle = [name for name, value in neutral.items() if getattr(self, name) != value]
        if idle and not self.do_sample:
            raise ValueError(
                f"{', '.join(idle)} has no effect without do_sample: true; set it or remove the value"
            )
        if self.do_sample and self.num_beams > 1:
            raise ValueError("do_sample: true cannot be combined with num_beams > 1; choose one")
        return self


class EchoConfig(Section):
    """The fake engine's behaviour, for rehearsals and kill tests."""

    latency_s: float = Field(default=0.0, ge=0, description="seconds each request takes")
    failure_share: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="share of keys that fail, chosen by hash, the same in every attempt",
    )
    outage_share: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="share of further keys that fail as if memory had run out, chosen by hash; not part of "
        "the fingerprint, so that a retry can be rehearsed with less of it",
    )
    loop_share: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="share of texts that loop, chosen by hash anew in every attempt, to rehearse the gates",
    )


class VllmConfig(Section):
    """Options of engine: vllm. Only ``quantization`` changes texts and is part of the fingerprint."""

    tensor_parallel_size: int = Field(
        default=1, ge=1, description="GPUs that share one model; each holds a part of every layer"
    )
    gpu_memory_utilization: float = Field(
        default=0.9,
        gt=0,
        le=1,
        description="share of a GPU's memory for weights and attention cache together",
    )
    kv_cache_gib: float | None = Field(
        default=None,
        gt=0,
        description="GiB for the attention cache alone; null: 1 on a CPU, on a GPU what "
        "gpu_memory_utilization leaves beside the weights",
    )
    max_model_len: int | None = Field(
        default=None,
        ge=1,
        description="most tokens of a prompt and its answer; null: what model and attention cache hold",
    )
    quantization: str | None = Field(
        default=None, description="method of the weights, e.g. fp8 or awq; null: as the checkpoint says"
    )
    enable_prefix_caching: bool | None = Field(
        default=None,
        description="keep the attention of prompts' common beginnings; null: yes for chat, no for captions, "
        "whose prompts begin with the picture",
    )
    max_num_seqs: int | None = Field(
        default=None,
        ge=1,
        description="most rows computed in one step; null: vLLM's own, 256, or 1024 on a large GPU",
    )
    enforce_eager: bool | None = Field(
        default=None,
        description="run without compiling the model first; null: yes on a CPU, where compiling takes "
        "minutes, no on a GPU",
    )
    in_flight: int | None = Field(
        default=None,
        ge=1,
        description="most rows given to vLLM at once, computed or waiting; null: a quarter more than "
        "max_num_seqs, so that a finished row's place is taken at once",
    )


class ModelConfig(Section):
    """One model: where it is, how it is loaded and how it generates."""

    path: str | None = Field(
        default=None,
        description="local folder (relative to the folder that holds configs/), or a hub id if revision is "
        "set; not needed by echo",
    )
    revision: str | None = Field(
        default=None, description="commit or tag of a hub id; a hub id without one is refused"
    )
    kind: Literal["instructblip", "chat"] = Field(
        description="instructblip: image and instruction -> caption; chat: message -> answer"
    )
    engine: Literal["auto", "transformers", "vllm", "echo"] = Field(
        default="transformers",
        description="what runs the model; auto: vllm where it can serve the model on this machine, else "
        "transformers; echo is a fake without a model",
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto", description="type of the weights in memory; auto: as stored, the same on every device"
    )
    device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$",
        description="auto: cuda where there is one, else cpu; or cpu, cuda, cuda:1, mps",
    )
    batch_size: int = Field(
        default=8,
        ge=1,
        description="most rows per batch of engine: transformers; halved by itself when memory runs out",
    )
    decode_threads: int = Field(default=4, ge=1, description="threads that read images ahead of the model")
    trust_remote_code: bool = Field(
        default=False, description="run Python code that comes with the checkpoint"
    )
    generation: GenerationConfig = Field(
        default_factory=GenerationConfig, description="how tokens are chosen"
    )
    vllm: VllmConfig = Field(default_factory=VllmConfig, description="options of engine: vllm")
    echo: EchoConfig = Field(default_factory=EchoConfig, description="options of engine: echo")

    @model_validator(mode="after")
    def _path_where_needed(self) -> Self:
        if self.engine != "echo" and not (self.path and self.path.strip()):
            raise ValueError(f"path is needed by engine: {self.engine}; give a local folder or a hub id")
        if self.revision is not None and not self.revision.strip():
            raise ValueError("revision is empty; give a commit or tag, or remove it for a local folder")
        return self


class JobConfig(Section):
    """One of the two jobs: which model, which prompts, how the work is cut."""

    kind: ClassVar[str]
    default_prompts: ClassVar[dict[str, str]]

    model: ModelName = Field(description="a name from the models section")
    prompts: dict[str, str] = Field(
        default_factory=dict,
        description="template per use, an id of pipeline/prompts or a .txt file; uses left out keep theirs. "
        "captions: caption. explanations: pair, marked, description",
    )
    shard_size: int = Field(
        default=1000,
        ge=1,
        description="rows per shard: the unit of work, of resuming, and of one Parquet file",
    )
    max_failed_share: float = Field(
        default=0.05, ge=0, le=1, description="exit code 4 when a larger share of the planned rows failed"
    )
    lease_s: float = Field(
        default=300.0,
        gt=0,
        description="seconds without a sign of life after which other workers take this one's shards over",
    )
    gates: GatesConfig = Field(
        default_factory=GatesConfig, description="what becomes of texts that a gate flags"
    )

    @model_validator(mode="before")
    @classmethod
    def _default_prompts_stay(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("prompts", {}), dict):
            return {**data, "prompts": cls.default_prompts | data.get("prompts", {})}
        return data

    @model_validator(mode="after")
    def _known_prompts_only(self) -> Self:
        unknown = [name for name in self.prompts if name not in self.default_prompts]
        if unknown:
            raise ValueError(
                f"prompts has {unknown[0]!r}; the uses of this job are {', '.join(self.default_prompts)}"
            )
        return self


class CaptionsConfig(JobConfig):
    """The caption job: one text per distinct image. Prompt uses: caption."""

    kind = "instructblip"
    default_prompts = {"caption": "caption-v1"}


class ExplanationsConfig(JobConfig):
    """The explanation job: one text per sample.

    Prompt uses: pair (text manipulated, original known), marked (original unknown, manipulated words marked),
    description (text not manipulated).
    """

    kind = "chat"
    default_prompts = {
        "pair": "manipulation-pair-v1",
        "marked": "manipulation-marked-v1",
        "description": "description-v1",
    }


class RunConfig(Section):
    """The whole file: both jobs and the models they choose from."""

    captions: CaptionsConfig = Field(description="the caption job")
    explanations: ExplanationsConfig = Field(description="the explanation job")
    models: dict[ModelName, ModelConfig] = Field(description="models by name; jobs refer to these names")
    runner: Literal["local", "ray"] = Field(
        default="local",
        description="what starts the workers: local processes, or Ray (with the flows: python -m flows.NAME)",
    )
    workers: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        default="auto",
        description="worker processes, each with the model loaded; auto: one per visible GPU (or as many as "
        "tensor_parallel_size leaves), one without GPUs; with Ray as many as its cluster has room for",
    )
    ray: RayConfig = Field(default_factory=RayConfig, description="options of runner: ray")
    price_per_device_hour: float | None = Field(
        default=None,
        ge=0,
        description="what an hour of one device costs; forecasts and bills then say money too",
    )
    currency: str = Field(default="USD", description="currency of price_per_device_hour, as it is printed")

    @model_validator(mode="after")
    def _jobs_have_their_models(self) -> Self:
        for job_name in ("captions", "explanations"):
            job = self.job(job_name)
            model = self.models.get(job.model)
            if model is None:
                near = difflib.get_close_matches(job.model, self.models, 1)
                hint = f"; did you mean {near[0]!r}?" if near else f"; models has {', '.join(self.models)}"
                raise ValueError(f"{job_name}.model is {job.model!r}, which is not in models{hint}")
            if model.kind != job.kind:
                raise ValueError(
                    f"{job_name}.model is {job.model!r} of kind {model.kind!r}, but {job_name} needs a "
                    f"model of kind {job.kind!r}"
                )
            if job.gates.regenerates and model.generation.num_beams > 1:
                raise ValueError(
                    f"{job_name}.gates.policy regenerates by sampling, which cannot be combined with "
                    f"models.{job.model}.generation.num_beams: {model.generation.num_beams}; set num_beams: "
                    "1, or the policy to keep or quarantine"
                )
        if self.explanations.gates.clip is not None:
            raise ValueError("explanations.gates.clip: only captions are about a picture; remove it")
        return self

    def job(self, name: str) -> JobConfig:
        """Return the section of job ``captions`` or ``explanations``."""
        jobs: dict[str, JobConfig] = {"captions": self.captions, "explanations": self.explanations}
        return jobs[name]

    def model_for(self, name: str) -> ModelConfig:
        """Return the model that job ``captions`` or ``explanations`` uses."""
        return self.models[self.job(name).model]
