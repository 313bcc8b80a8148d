"""Brings the evaluations of an ablation's runs together in one JSON tree, which tables and plots show."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from training.ablation.axes import Axis, Variant
from training.ablation.plan import Plan, PlannedRun, noted_codes, title_of
from training.ablation.runner import evaluated
from training.ablation.statistics import difference, estimate
from training.engine.evaluating import source_ids
from training.errors import DataError
from training.metrics.bootstrap import Ints, cluster_index, draw_figures
from training.metrics.predictions import Predictions
from training.metrics.reading import load
from training.report.naming import METRIC_TITLES

METRICS = tuple(METRIC_TITLES)
"""Figures that variants are compared by, as `training.metrics.evaluate` names them."""

T = TypeVar("T")
BySeed = dict[str, dict[int, dict[str, float]]]
DrawsBySeed = dict[str, dict[int, dict[str, NDArray[np.float64]]]]


def collect(plan: Plan, data: Path, split: str, draws: int, failures: Mapping[str, str]) -> dict[str, Any]:
    """Return everything that is known of an ablation; figures are fractions.

    Args:
        plan: Its runs; those without a complete evaluation are left out.
        data: Folder of the tables.
        split: Split that was evaluated.
        draws: Bootstrap draws over the evaluated rows; 0: none.
        failures: Why a run failed, by its name.

    Raises:
        DataError: No run is evaluated, an evaluation is damaged, or two runs were evaluated on other rows.
    """
    there = [run for run in plan.runs if evaluated(run, split)]
    if not there:
        why = next(iter(failures.values()), "none was started")
        raise DataError(f"no run of the ablation is evaluated on {split}: {why}")
    figures: BySeed = {}
    for run in there:
        figures.setdefault(run.variant, {})[run.seed] = _figures(run, split)
    read = _predictions(there, split)
    clusters = cluster_index(source_ids(data, split, read[there[0].name]))
    drawn = _draws(there, read, clusters, draws)
    return {
        "split": split,
        "rows": len(clusters),
        "source_items": int(clusters.max()) + 1,
        "draws": draws,
        "seeds": list(plan.seeds),
        "data": {"out": str(data.expanduser().resolve()), **plan.data},
        "metrics": list(METRICS),
        "runs": [
            {"variant": run.variant, "seed": run.seed, "folder": str(run.folder), "code": noted_codes(run)}
            | figures[run.variant][run.seed]
            for run in there
        ],
        "variants": {
            name: {
                "title": title_of(plan, name),
                "overrides": _overrides(plan, name),
                "metrics": {
                    metric: asdict(estimate([found[metric] for found in by_seed.values()]))
                    for metric in METRICS
                },
            }
            for name, by_seed in figures.items()
        },
        "axes": [_axis(plan, axis, figures, drawn) for axis in plan.axes],
        "failures": dict(failures),
    }


def _figures(run: PlannedRun, split: str) -> dict[str, float]:
    path = run.folder / split / "metrics.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {metric: float(found[metric]) for metric in METRICS}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} is damaged ({error!r}); remove {path.parent} and the same command evaluates it again"
        ) from None


def _predictions(runs: Sequence[PlannedRun], split: str) -> dict[str, Predictions]:
    """Return each run's predictions, all of them over the same rows in the same order."""
    read: dict[str, Predictions] = {}
    for run in runs:
        path = run.folder / split / "predictions.npz"
        found = read[run.name] = load(path)[0]
        ids, first = found.sample_id, read[runs[0].name].sample_id
        if ids is None or first is None or not np.array_equal(ids, first):
            raise DataError(
                f"{path}: its rows are not those of {runs[0].folder / split}; remove {path.parent}, and the "
                "same command evaluates it again"
            )
    return read


def _draws(
    runs: Sequence[PlannedRun], read: Mapping[str, Predictions], clusters: Ints, draws: int
) -> DrawsBySeed:
    found: DrawsBySeed = {}
    for run in runs if draws else ():
        drawn = draw_figures(read[run.name], clusters, draws)
        found.setdefault(run.variant, {})[run.seed] = {metric: drawn[metric] for metric in METRICS}
    return found


def _overrides(plan: Plan, name: str) -> list[str]:
    rows = [(axis, row) for axis in plan.axes for row in axis.variants]
    return list(next(row.overrides for axis, row in rows if plan.names[axis.name][row.key] == name))


def _axis(plan: Plan, axis: Axis, figures: BySeed, drawn: DrawsBySeed) -> dict[str, Any]:
    names = plan.names[axis.name]
    there = [set(figures[name]) for name in dict.fromkeys(names.values()) if name in figures]
    # Means over different seeds would differ by the seeds alone.
    common = sorted(set.intersection(*there)) if there else []
    rows = []
    for place, row in enumerate(axis.variants):
        against = []
        # The first row is the reference; in a stepwise axis the row before is one too.
        others = [("reference", 0)] if place else []
        others += [("previous", place - 1)] if axis.stepwise and place > 1 else []
        for kind, other in others:
            against.append(_comparison(kind, axis.variants[other], names, row, figures, drawn))
        rows.append(
            {
                "key": row.key,
                "title": row.title,
                "variant": names[row.key],
                "n": len(figures.get(names[row.key], {})),
                "metrics": _means(figures.get(names[row.key], {}), common),
                "published": None
                if row.published is None
                else {"name": row.published.name, "source": row.published.source, **row.published.figures},
                "against": [comparison for comparison in against if comparison is not None],
            }
        )
    return {
        "name": axis.name,
        "given": axis.given or axis.name,
        "title": axis.title,
        "common_seeds": common,
        "rows": rows,
    }


def _means(by_seed: Mapping[int, Mapping[str, float]], seeds: Sequence[int]) -> dict[str, Any] | None:
    """Return the estimates over some seeds, or over all there are if none of them is; None without a run."""
    used = [seed for seed in seeds if seed in by_seed] or sorted(by_seed)
    if not used:
        return None
    return {metric: asdict(estimate([by_seed[seed][metric] for seed in used])) for metric in METRICS}


def _comparison(
    kind: str, other: Variant, names: Mapping[str, str], row: Variant, figures: BySeed, drawn: DrawsBySeed
) -> dict[str, Any] | None:
    one, two = names[row.key], names[other.key]
    found = {}
    for metric in METRICS:
        values = [_of_metric(figures.get(name, {}), metric) for name in (one, two)]
        rows = [_of_metric(drawn[name], metric) if name in drawn else None for name in (one, two)]
        change = difference(values[0], values[1], rows[0], rows[1])
        if change is None:
            return None
        found[metric] = change.as_dict()
    return {"kind": kind, "to": other.key, "title": other.title, "metrics": found}


def _of_metric(by_seed: Mapping[int, Mapping[str, T]], metric: str) -> dict[int, T]:
    return {seed: found[metric] for seed, found in by_seed.items()}
