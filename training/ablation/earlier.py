"""Axes that earlier starts left in the same folder: their finished runs go on standing in the tables."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path

from training.ablation.axes import Axis, parse_axis
from training.ablation.plan import Plan, check_stamps, make_plan, merged
from training.config import load_config
from training.errors import TrainingError

log = logging.getLogger(__name__)

RESULT = "ablation.json"


def with_earlier_axes(
    plan: Plan, config: Path, overrides: Sequence[str], data: Path, split: str, to: Path
) -> Plan:
    """Return the plan with the axes that ``ablation.json`` has beside those that were asked for.

    Nothing is trained for them. An axis whose runs had another configuration or other rows is left out, and
    that is told.

    Args:
        plan: What was asked for.
        config: The base configuration file.
        overrides: Of ``--set``.
        data: Folder of the tables.
        split: Split that is evaluated.
        to: Folder of the ablation.
    """
    asked = {axis.name for axis in plan.axes}
    found, seeds, earlier_split = _noted(to / RESULT)
    # Each is put before the others, so the last one goes first.
    for name, given in reversed(found):
        if name in asked:
            continue
        try:
            if earlier_split != split:
                raise TrainingError(f"it was compared on {earlier_split}")
            axis: Axis = parse_axis(given, load_config(config, overrides))
            count = max(seeds, len(plan.seeds))
            earlier = make_plan(config, overrides, (axis,), count, data, split, to)
            check_stamps(earlier)
        except TrainingError as error:
            log.warning("axis %s of an earlier start is left out of the tables: %s", name, error)
            continue
        plan = merged(earlier, plan)
    return plan


def _noted(path: Path) -> tuple[list[tuple[str, str]], int, str]:
    """Return name and command-line form of each axis, the number of seeds, and the split."""
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        axes = [(str(axis["name"]), str(axis.get("given") or axis["name"])) for axis in result["axes"]]
        return axes, len(result["seeds"]), str(result["split"])
    except FileNotFoundError:
        return [], 0, ""
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("%s is damaged (%r): axes of earlier starts are left out of the tables", path, error)
        return [], 0, ""
