"""Say which settings of a stored run differ from those it is to be continued with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from training.config.sections import Config

# Results do not depend on these: a run may be continued on another machine, with more workers or fewer
# micro-batches, and with other intervals, and still be the same run.
_FREE = (
    "name",
    "data.out",
    "data.image_root",
    "data.rows_cache",
    "data.workers",
    "data.prefetch",
    "model.checkpoint_blocks",
    "train.accumulate",
    "train.eval_every",
    "train.eval_batch_size",
    "train.save_every",
    "train.keep_last",
    "train.keep_best",
    "train.log_every",
    "train.trackers",
    "train.profile",
)


def changed_keys(stored: Mapping[str, Any], config: Config) -> list[str]:
    """Return ``key: old -> new`` for every setting that changes results and differs.

    Args:
        stored: ``config.model_dump(mode="json")`` of the stored run.
        config: The configuration it is to be continued with.
    """
    old, new = _flat(stored), _flat(config.model_dump(mode="json"))
    return [
        f"{key}: {old.get(key)!r} -> {new.get(key)!r}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key) and not _is_free(key)
    ]


def _is_free(key: str) -> bool:
    return any(key == free or key.startswith(f"{free}.") for free in _FREE)


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat
