"""Small configurations for tests of the trainer."""

from __future__ import annotations

from typing import Any

from training.config.sections import Config

TINY: dict[str, Any] = {
    "name": "tiny",
    "data": {"max_tokens": 64, "workers": 0},
    "model": {
        "image_size": 32,
        "patch_dim": 8,
        "fusion": {"width": 24, "layers": 2, "heads": 2, "mlp_ratio": 2},
    },
    "contrast": {"momentum": 0.9, "queue_size": 16, "distill_warmup_epochs": 0},
    "optim": {"lr_towers": 1e-3, "lr_new": 2e-3, "warmup_steps": 2},
    "train": {"epochs": 2, "batch_size": 8, "eval_batch_size": 16, "log_every": 1},
}


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return ``base`` with the nested ``changes`` applied."""
    result = dict(base)
    for key, value in changes.items():
        inner = result.get(key)
        both = isinstance(value, dict) and isinstance(inner, dict)
        result[key] = merged(inner, value) if both else value
    return result


def tiny_config(towers: str, **changes: Any) -> Config:
    """Return the tiny configuration on the given towers, with nested ``changes`` by section."""
    tree = merged(TINY, {"model": {"towers": towers}})
    return Config.model_validate(merged(tree, changes))
