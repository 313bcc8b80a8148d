"""The trainer's configuration: every field, its meaning, its default and its limits."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

TEMPERATURES = (0.001, 0.5)
"""Smallest and largest temperature of the contrastive terms, as given and as learned."""


class Section(BaseModel):
    """A part of the configuration: unknown keys are errors, values never change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _truth_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        # pydantic would read true as 1, and YAML reads a bare no or off as false.
        kind = cls.model_fields[info.field_name].annotation if info.field_name else bool
        if isinstance(value, bool) and kind is not bool:
            raise ValueError("true and false are no value of this key; a word such as off needs quotes")
        return value


class DataConfig(Section):
    """Where the rows come from and how they are prepared."""

    out: Path | None = Field(
        default=None, description="folder of the tables, as the pipeline wrote it (also --data)"
    )
    image_root: Path | None = Field(
        default=None, description="folder that image paths start at; the one ingest noted when not set"
    )
    train_splits: tuple[str, ...] = Field(default=("train",), min_length=1, description="splits to train on")
    val_split: str = Field(default="val", description="split that is evaluated during training")
    rows_cache: Path | None = Field(
        default=None, description="folder of the joined rows (memory-mapped); RUN/rows when not set"
    )
    image_cache: Path | None = Field(
        default=None, description="folder of resized images written by python -m training.data.cache"
    )
    max_words: int = Field(default=50, ge=1, description="words of a text that are read; the rest is counted")
    max_tokens: int | None = Field(
        default=None, ge=4, description="tokens per text; the text tower's context length when not set"
    )
    flip: float = Field(default=0.5, ge=0, le=1, description="share of training images flipped left to right")
    augment_ops: int = Field(
        default=2, ge=0, description="RandAugment operations drawn per training image; 0 = none"
    )
    augment_probability: float = Field(
        default=0.5, ge=0, le=1, description="probability that a drawn operation is applied"
    )
    augment_magnitude: float = Field(
        default=7.0, ge=0, le=10, description="strength of each operation, 0 to 10"
    )
    skip_flags: tuple[str, ...] = Field(
        default=("empty",), description="captions and explanations with one of these flags count as missing"
    )
    unlabelled_share: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="share of training rows whose annotations are hidden, chosen by hash of sample_id",
    )
    limit: int | None = Field(default=None, ge=1, description="use only the first rows of each split")
    workers: int = Field(
        default=4, ge=0, description="processes per rank that decode images; 0 = none of its own"
    )
    prefetch: int = Field(default=4, ge=1, description="batches that each worker prepares ahead")


class FusionConfig(Section):
    """Cross-attention between patches and tokens, in both directions."""

    width: int = Field(default=512, ge=8, description="width of the fused features")
    layers: int = Field(default=6, ge=1, description="layers; each has a text block and an image block")
    heads: int = Field(default=8, ge=1, description="attention heads; must divide width")
    mlp_ratio: float = Field(default=4.0, gt=0, description="hidden width of a feed-forward part over width")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="dropout in the fusion blocks")

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        return self


class ModelConfig(Section):
    """The towers and what stands on them."""

    towers: str = Field(
        default="ViT-B-16",
        description="open_clip model name, or local-dir:FOLDER in open_clip's own format",
    )
    pretrained: str | None = Field(
        default=None,
        description="open_clip tag (e.g. openai, needs a filled cache) or a local weights file; null: from "
        "the local-dir folder, else random weights",
    )
    image_size: int = Field(
        default=256,
        ge=16,
        description="side of the square image in pixels; position embeddings are interpolated",
    )
    fusion: FusionConfig = Field(default_factory=FusionConfig, description="cross-attention layers")
    patch_dim: int = Field(default=128, ge=8, description="width of the patch embedding that L_PMM compares")
    freeze_towers: bool = Field(default=False, description="train only what stands on the towers")
    box_threshold: float = Field(
        default=0.3,
        ge=0,
        le=1,
        description="no box is predicted where a face manipulation is less probable than this; 0: always one",
    )
    checkpoint_blocks: bool = Field(
        default=False, description="recompute activations in the backward pass: less memory, more time"
    )


class ContrastConfig(Section):
    """Momentum encoder and queues."""

    momentum: float = Field(default=0.995, ge=0, lt=1, description="share of the old momentum weights kept")
    queue_size: int = Field(
        default=65536, ge=0, description="momentum features kept as further negatives; 0 = none"
    )
    temperature: float = Field(default=0.07, gt=0, description="start of the learned temperature")
    distill: float = Field(
        default=0.4, ge=0, le=1, description="share of the momentum model's soft targets (MAC, TMG)"
    )
    distill_warmup_epochs: float = Field(
        default=1.0, ge=0, description="epochs over which that share rises from 0"
    )

    @model_validator(mode="after")
    def _temperature_within_bounds(self) -> Self:
        low, high = TEMPERATURES
        if not low <= self.temperature <= high:
            raise ValueError(
                f"temperature {self.temperature} is outside {low} to {high}, where training keeps it; choose "
                "one between"
            )
        return self


class DgmConfig(Section):
    """L_DGM: the five tasks of HAMMER, each with its weight."""

    mac: float = Field(default=0.1, ge=0, description="manipulation-aware contrastive")
    bic: float = Field(default=1.0, ge=0, description="binary classification")
    mlc: float = Field(default=1.0, ge=0, description="multi-label types")
    box_l1: float = Field(default=0.1, ge=0, description="box grounding, L1")
    box_giou: float = Field(default=0.1, ge=0, description="box grounding, GIoU")
    tmg: float = Field(default=1.0, ge=0, description="text grounding")
    box_on_negatives: bool = Field(
        default=False,
        description="regress a zero box on rows without one, as the released code does, and predict what is "
        "regressed whatever model.box_threshold is",
    )


class LmaConfig(Section):
    """L_LMA = L_cap + L_exp."""

    text: Literal["none", "caption", "explanation", "both"] = Field(
        default="both", description="which auxiliary texts align"
    )
    weight: float = Field(default=1.0, ge=0, description="weight of L_cap + L_exp")
    queue: bool = Field(default=False, description="use the queues as further negatives")
    explanation_anchor: Literal["text", "image"] = Field(
        default="text",
        description="what explanations align with; image: the released code, positives on orig rows only",
    )
    ied: float = Field(
        default=0.0, ge=0, description="weight of the released code's real/fake head on image + explanation"
    )


class MgcaConfig(Section):
    """L_MGCA: guided attention as a target, as a bias, or supervised."""

    mode: Literal["none", "distill", "bias", "supervise"] = Field(default="distill", description="see above")
    weight: float = Field(default=0.1, ge=0, description="alpha")
    beta: float = Field(default=2.0, gt=0, description="added to the scores of guided keys")
    guidance: Literal["annotated", "predicted"] = Field(
        default="annotated",
        description="predicted: rows without annotations take the patch head's own mask",
    )

    @model_validator(mode="after")
    def _guidance_guides_something(self) -> Self:
        if self.guidance == "predicted" and self.mode == "none":
            raise ValueError(
                "guidance predicted has no effect with mode none; set guidance to annotated, or a mode"
            )
        return self


class PmmConfig(Section):
    """L_PMM: patches of one manipulated region against unmanipulated ones."""

    mode: Literal["none", "infonce", "border_bce"] = Field(
        default="infonce", description="border_bce: the released code's loss, border patches as negatives"
    )
    weight: float = Field(default=0.01, ge=0, description="lambda")
    hnp: bool = Field(default=True, description="hard negatives; false: random ones (the seed's ablation)")
    negatives: int = Field(default=32, ge=1, description="negatives per anchor (k)")
    anchors: int = Field(default=16, ge=1, description="most anchors per region, spread evenly over it")
    pool: int = Field(default=64, ge=1, description="most patches per row that negatives are mined from")
    temperature: float = Field(default=0.1, gt=0, description="tau")


class LossConfig(Section):
    """L = L_DGM + L_LMA + alpha L_MGCA + lambda L_PMM."""

    dgm: DgmConfig = Field(default_factory=DgmConfig, description="L_DGM")
    lma: LmaConfig = Field(default_factory=LmaConfig, description="L_LMA")
    mgca: MgcaConfig = Field(default_factory=MgcaConfig, description="L_MGCA")
    pmm: PmmConfig = Field(default_factory=PmmConfig, description="L_PMM")

    @model_validator(mode="after")
    def _something_is_trained(self) -> Self:
        dgm, lma = self.dgm, self.lma
        parts = [dgm.mac, dgm.bic, dgm.mlc, dgm.box_l1, dgm.box_giou, dgm.tmg, lma.ied]
        parts += [] if lma.text == "none" else [lma.weight]
        parts += [part.weight for part in (self.mgca, self.pmm) if part.mode != "none"]
        if not any(parts):
            raise ValueError(
                "every loss is off or has weight 0, so nothing would be trained; give one a weight, e.g. "
                "loss.dgm.bic=1"
            )
        return self


class OptimConfig(Section):
    """AdamW, and a cosine with warm-up, both in optimizer steps."""

    lr_towers: float = Field(default=1e-5, ge=0, description="peak learning rate of the pretrained towers")
    lr_new: float = Field(default=1e-4, ge=0, description="peak learning rate of fusion and heads")
    weight_decay: float = Field(default=0.02, ge=0, description="not on norms, biases and embeddings")
    betas: tuple[float, float] = Field(default=(0.9, 0.98), description="AdamW's betas")
    eps: float = Field(default=1e-8, gt=0, description="AdamW's epsilon")
    warmup_steps: int = Field(default=1000, ge=0, description="optimizer steps of linear warm-up")
    min_lr_ratio: float = Field(
        default=0.01, ge=0, le=1, description="learning rate at the end over the peak"
    )
    clip_norm: float | None = Field(
        default=1.0, gt=0, description="largest norm of the gradient; null = no clipping"
    )

    @field_validator("betas")
    @classmethod
    def _betas_are_shares(cls, betas: tuple[float, float]) -> tuple[float, float]:
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError("each beta is the share of an old mean that is kept: at least 0 and below 1")
        return betas


class ProfileConfig(Section):
    """torch.profiler over a few steps, written for TensorBoard."""

    enabled: bool = Field(default=False, description="record a trace into RUN/profile")
    start: int = Field(default=10, ge=0, description="optimizer steps before recording")
    steps: int = Field(default=5, ge=1, description="optimizer steps recorded")


class TrainConfig(Section):
    """The loop."""

    epochs: int = Field(default=50, ge=1, description="passes over the training rows")
    max_steps: int | None = Field(default=None, ge=1, description="stop after so many optimizer steps")
    batch_size: int = Field(
        default=256, ge=1, description="rows per optimizer step, over all processes and micro-batches"
    )
    accumulate: int = Field(
        default=1, ge=1, description="micro-batches per optimizer step; memory falls, results stay"
    )
    precision: Literal["float32", "bfloat16"] = Field(default="float32", description="of the forward pass")
    compile: bool = Field(default=False, description="torch.compile the model")
    seed: int = Field(default=0, ge=0, description="weights, order and augmentation follow from it")
    eval_every: int | None = Field(
        default=None, ge=1, description="optimizer steps between validations; each epoch's end when not set"
    )
    eval_batch_size: int = Field(default=256, ge=1, description="rows per forward pass in evaluation")
    save_every: int | None = Field(
        default=None, ge=1, description="optimizer steps between checkpoints; each epoch's end when not set"
    )
    keep_last: int = Field(default=2, ge=1, description="newest checkpoints kept")
    keep_best: int = Field(default=1, ge=0, description="best checkpoints kept")
    best_metric: str = Field(
        default="score",
        description="validation metric that names the best checkpoint; score is the mean of auc, map, "
        "word_f1 and iou_face_mean",
    )
    log_every: int = Field(default=10, ge=1, description="optimizer steps between records")
    trackers: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = Field(
        default=("tensorboard",), description="where records go besides RUN/log.jsonl"
    )
    overfit_one_batch: bool = Field(
        default=False, description="train on the first batch only, without augmentation: losses must vanish"
    )
    profile: ProfileConfig = Field(default_factory=ProfileConfig, description="torch.profiler")


class Config(Section):
    """A training run."""

    name: str = Field(default="asap", description="name of the run, in trackers and in its folder")
    data: DataConfig = Field(default_factory=DataConfig, description="rows and images")
    model: ModelConfig = Field(default_factory=ModelConfig, description="towers, fusion, heads")
    contrast: ContrastConfig = Field(default_factory=ContrastConfig, description="momentum and queues")
    loss: LossConfig = Field(default_factory=LossConfig, description="losses and weights")
    optim: OptimConfig = Field(default_factory=OptimConfig, description="optimizer and schedule")
    train: TrainConfig = Field(default_factory=TrainConfig, description="the loop")

    @model_validator(mode="after")
    def _texts_for_ied(self) -> Self:
        lma = self.loss.lma
        if lma.ied > 0 and lma.text not in ("explanation", "both"):
            raise ValueError("loss.lma.ied needs explanations; set loss.lma.text to explanation or both")
        return self

    @model_validator(mode="after")
    def _queue_for_lma(self) -> Self:
        lma = self.loss.lma
        if lma.queue and lma.text != "none" and self.contrast.queue_size == 0:
            raise ValueError(
                "loss.lma.queue needs queues, but contrast.queue_size is 0; give them a size or set "
                "loss.lma.queue=false"
            )
        return self
