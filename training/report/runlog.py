"""Reads RUN/log.jsonl as one series per key."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.errors import DataError

Series = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Steps and values, both (n,), steps ascending."""


def read_log(path: Path) -> dict[str, Series]:
    """Return the series of each key of the log, in order of first appearance.

    A run that resumed repeats the steps after its checkpoint: the later record stands. A value that is not
    finite is left out, so a diverged loss ends its line.

    Raises:
        DataError: The file is missing, holds no records, or a line but the last is not a record.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"{path} does not exist; a training run writes it into its folder") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    found: dict[str, dict[int, float]] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        record = _record(line)
        if record is None:
            # A killed run leaves half a line at the end.
            if number == len(lines):
                break
            raise DataError(f"{path}, line {number}: not a JSON object with a step; delete the line")
        step, values = record
        for key, value in values.items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                continue
            if math.isfinite(value):
                found.setdefault(key, {})[step] = float(value)
    if not found:
        raise DataError(f"{path} holds no records yet; they come after train.log_every steps")
    return {key: _sorted(values) for key, values in found.items()}


def _record(line: str) -> tuple[int, dict[str, object]] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    if not isinstance(record, dict) or not isinstance(record.get("step"), int):
        return None
    return record.pop("step"), record


def _sorted(values: dict[int, float]) -> Series:
    steps = sorted(values)
    return np.array(steps, dtype=np.float64), np.array([values[step] for step in steps])
