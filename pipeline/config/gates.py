"""The gates' part of a job's configuration: what becomes of a text with a flag."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from pipeline.config.section import Section
from schemas.vocabulary import FLAGS

Policy = Literal["keep", "regenerate", "quarantine"]

LOCAL_DIR = "local-dir:"
"""What open_clip puts before a folder in its own format."""

HOTTEST = 2.0
"""Highest temperature that every engine takes; the limit is vLLM's."""


class AgainConfig(Section):
    """How a text is sampled when it is generated again. A row's tokens follow from (seed, key, attempt)."""

    temperature: float = Field(
        default=0.7, ge=0.01, le=HOTTEST, description="temperature of the first new attempt"
    )
    temperature_step: float = Field(
        default=0.2, ge=0, description="how much hotter each further attempt is than the one before"
    )
    top_p: float = Field(
        default=0.95,
        gt=0,
        le=1,
        description="sample from the likeliest tokens that reach this probability; 1 = all",
    )


class ClipConfig(Section):
    """The gate image_mismatch: CLIP's cosine of caption and picture. Off unless this section is there."""

    model: str = Field(
        description="an open_clip name such as ViT-B-32, or a folder in open_clip's own format (relative to "
        "the folder that holds configs/), with or without open_clip's local-dir: before it"
    )
    pretrained: str | None = Field(
        default=None,
        description="a tag of open_clip or a weights file; null for a folder, which has its weights",
    )
    min_score: float = Field(
        default=0.2, ge=-1, le=1, description="a lower cosine of caption and picture raises the flag"
    )
    batch_size: int = Field(default=64, ge=1, description="captions and pictures scored at once")
    device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$",
        description="auto: cuda where there is one, else cpu",
    )

    @field_validator("model")
    @classmethod
    def _folder_without_its_prefix(cls, model: str) -> str:
        # One folder in two spellings would be two fingerprints.
        if not model.startswith(LOCAL_DIR):
            return model
        folder = model.removeprefix(LOCAL_DIR).strip()
        if not folder:
            raise ValueError(f"{LOCAL_DIR} names no folder; write it as {LOCAL_DIR}models/clip")
        return str(Path(folder).expanduser().absolute())


class GatesConfig(Section):
    """What becomes of a text with a flag. All of it changes rows, so all of it is in the fingerprint."""

    policy: dict[str, Policy] = Field(
        default_factory=dict,
        description="keep (the default), regenerate or quarantine per flag of: " + ", ".join(FLAGS),
    )
    attempts: int = Field(
        default=2, ge=1, le=10, description="most times a text with a flag of policy regenerate is made anew"
    )
    after_attempts: Literal["keep", "quarantine"] = Field(
        default="keep", description="what becomes of a text that no attempt has cured"
    )
    again: AgainConfig = Field(
        default_factory=AgainConfig, description="how tokens are chosen in new attempts"
    )
    clip: ClipConfig | None = Field(
        default=None, description="scores captions against their pictures; null: off"
    )

    @property
    def regenerates(self) -> bool:
        """Whether any flag leads to a new attempt."""
        return "regenerate" in self.policy.values()

    @model_validator(mode="before")
    @classmethod
    def _known_flags_only(cls, data: Any) -> Any:
        policy = data.get("policy") if isinstance(data, dict) else None
        for flag in policy if isinstance(policy, dict) else ():
            if flag not in FLAGS:
                near = difflib.get_close_matches(str(flag), FLAGS, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"the flags are {', '.join(FLAGS)}"
                raise ValueError(f"policy has {flag!r}, which is no flag; {hint}")
        return data

    @model_validator(mode="after")
    def _temperatures_that_engines_take(self) -> Self:
        hottest = self.again.temperature + (self.attempts - 1) * self.again.temperature_step
        if self.regenerates and hottest > HOTTEST:
            raise ValueError(
                f"attempt {self.attempts} would have temperature {hottest:g}, more than {HOTTEST:g}; lower "
                "attempts, again.temperature or again.temperature_step"
            )
        if self.clip is None and self.policy.get("image_mismatch", "keep") != "keep":
            raise ValueError(
                "policy.image_mismatch needs the section clip, which scores captions against pictures; add "
                "it, e.g. clip: {model: ViT-B-32, pretrained: openai}, or remove the policy"
            )
        return self
