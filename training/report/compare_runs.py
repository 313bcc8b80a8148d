"""What evaluations and trainings left, read for a comparison."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.errors import DataError, UsageError
from training.metrics.reading import load
from training.report.naming import METRIC_TITLES


@dataclass(frozen=True)
class Evaluated:
    """The figures of a run.

    Attributes:
        name: In tables.
        source: The file that they were read from.
        split: Split they were measured on.
        rows: Rows of it; None where the file does not say.
        figures: Fractions by name.
        intervals: 95 % intervals over the evaluated rows, where the evaluation made some.
        data: Folder of the tables; empty where the file does not say.
        content: Hash of the evaluated rows' ids; None where no predictions lie beside the figures.
    """

    name: str
    source: Path
    split: str
    rows: int | None
    figures: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    data: str
    content: str | None = None


def same_rows(one: Evaluated, other: Evaluated) -> bool:
    """Tell whether two runs were measured on the same rows: by their ids, else by where they came from."""
    if one.content is not None and other.content is not None:
        return one.content == other.content
    return _origin(one) == _origin(other)


def _origin(run: Evaluated) -> tuple[str, str, int | None]:
    # A relative path and an absolute one may name the same tables.
    data = str(Path(run.data).expanduser().resolve()) if run.data else ""
    return data, run.split, run.rows


def read_runs(folders: Sequence[Path], names: Sequence[str] = ()) -> list[Evaluated]:
    """Read what evaluations or trainings left.

    Args:
        folders: Of evaluations (``metrics.json`` of ``training/evaluate.py``) or of runs: an evaluation in
            one of a run's folders, test before others, else its last validation.
        names: One per folder; the folders' own names by default.

    Raises:
        UsageError: There are not as many names as folders, or a name stands twice.
        DataError: A folder has no figures, or they are damaged.
    """
    if names and len(names) != len(folders):
        raise UsageError(f"--names has {len(names)} names for {len(folders)} runs; give one each")
    chosen = list(names) or _own_names(folders)
    twice = next((name for name in chosen if chosen.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"two runs are called {twice!r}; tell them apart with --names")
    return [_read(folder, name) for folder, name in zip(folders, chosen, strict=True)]


def _own_names(folders: Sequence[Path]) -> list[str]:
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) == len(names):
        return names
    # Evaluations are often all called test.
    return [f"{folder.resolve().parent.name}/{folder.resolve().name}" for folder in folders]


def _read(folder: Path, name: str) -> Evaluated:
    evaluations = [
        path for path in sorted(folder.glob("*/metrics.json")) if path.parent.name != "checkpoints"
    ]
    evaluations.sort(key=lambda path: path.parent.name != "test")
    own = folder / "metrics.json"
    # A run's own metrics.json is its last validation; an evaluation's own says which split it is of.
    found = _json(own) if own.is_file() else None
    if found is not None and "split" in found:
        return _evaluated(found, own, name)
    for path in evaluations:
        inner = _json(path)
        if "split" in inner:
            return _evaluated(inner, path, name)
    if found is None:
        raise DataError(
            f"{folder}: no metrics.json here or in a folder of it; evaluate the run first: "
            f"training/evaluate.py --checkpoint {folder} --data OUT --split test --to {folder / 'test'}"
        )
    return _evaluated(found | {"split": "its last validation"}, own, name)


def _evaluated(found: Mapping[str, Any], path: Path, name: str) -> Evaluated:
    figures = {
        metric: float(found[metric])
        for metric in METRIC_TITLES
        if isinstance(found.get(metric), int | float) and not isinstance(found[metric], bool)
    }
    if not figures:
        raise DataError(f"{path} has none of {', '.join(METRIC_TITLES)}; evaluate again")
    intervals = {}
    made = found.get("intervals")
    ends = made.get("figures", {}) if isinstance(made, Mapping) else {}
    for metric, each in ends.items():
        if isinstance(each, Mapping) and each.get("low") is not None and each.get("high") is not None:
            intervals[metric] = (float(each["low"]), float(each["high"]))
    rows = found.get("rows")
    return Evaluated(
        name,
        path,
        str(found["split"]),
        rows if isinstance(rows, int) else None,
        figures,
        intervals,
        str(found.get("data", "")),
        _content(path.parent / "predictions.npz") if "data" in found else None,
    )


def _content(path: Path) -> str | None:
    """Return a hash of the ids of an evaluation's rows, or None if they cannot be read."""
    if not path.is_file():
        return None
    try:
        ids = load(path)[0].sample_id
    except DataError:
        return None
    return None if ids is None else hashlib.sha256("\0".join(sorted(ids.tolist())).encode()).hexdigest()


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}; evaluate the run again") from None
    if not isinstance(found, dict):
        raise DataError(f"{path} holds no JSON object; evaluate the run again")
    return found
