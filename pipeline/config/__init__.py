"""Configuration of a generation run: YAML file plus ``--set`` overrides -> checked, immutable values."""

from pipeline.config.models import (  # isort: skip  # first: the engines import it while this package loads
    CaptionsConfig,
    EchoConfig,
    ExplanationsConfig,
    GenerationConfig,
    JobConfig,
    ModelConfig,
    RunConfig,
    VllmConfig,
)
from pipeline.config.fingerprint import fingerprint_fields
from pipeline.config.load import engine_overrides, load_config

__all__ = [
    "CaptionsConfig",
    "EchoConfig",
    "ExplanationsConfig",
    "GenerationConfig",
    "JobConfig",
    "ModelConfig",
    "RunConfig",
    "VllmConfig",
    "engine_overrides",
    "fingerprint_fields",
    "load_config",
]
