"""Intervals of the figures by resampling whole source items.

A news item stands in the data as itself and in several manipulations; their errors go together. Rows of one
``source_id`` are therefore drawn together (the cluster bootstrap: Davison and Hinkley, Bootstrap Methods and
Their Application, 1997, section 3.8), with replacement, as many items as there are. Ends are percentiles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.metrics.predictions import Predictions
from training.metrics.resample import FIGURES, Resampler

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]

LEVEL = 0.95
SEED = 20_121_718
LEAST_SHARE = 0.5
"""Share of the draws that must have a value; with fewer the interval would speak of a lucky half."""


def cluster_index(source_ids: Sequence[int | None]) -> Ints:
    """Return (N,) int64 numbers from 0 of the clusters; a row without a source id is one of its own."""
    number: dict[int, int] = {}
    found = np.empty(len(source_ids), dtype=np.int64)
    following = 0
    for row, source in enumerate(source_ids):
        if source is not None and source in number:
            found[row] = number[source]
            continue
        if source is not None:
            number[source] = following
        found[row] = following
        following += 1
    return found


def draw_figures(
    predictions: Predictions, clusters: Ints, draws: int, seed: int = SEED
) -> dict[str, NDArray[np.float64]]:
    """Return (draws,) values of each figure; NaN where a draw has no row that the figure is about.

    The draws depend on the number of clusters and the seed only: two models' figures over the same rows are
    paired draw by draw.

    Args:
        predictions: N rows, checked.
        clusters: (N,) int from `cluster_index`.
        draws: Number of resamples.
        seed: Of the draws.
    """
    resampler = Resampler(predictions, clusters)
    random = np.random.default_rng(seed)
    found = {name: np.full(draws, np.nan) for name in FIGURES}
    for draw in range(draws if resampler.clusters else 0):
        chosen = random.integers(0, resampler.clusters, resampler.clusters)
        figures = resampler.figures(np.bincount(chosen, minlength=resampler.clusters))
        for name, value in figures.items():
            found[name][draw] = value
    return found


def intervals(
    predictions: Predictions,
    clusters: Ints,
    draws: int,
    notes: list[str],
    seed: int = SEED,
) -> dict[str, Any]:
    """Return ``{"draws", "level", "seed", "clusters", "figures": {name: {"low", "high", "draws"}}}``.

    ``low`` and ``high`` are fractions, or None where no interval can be given.

    Args:
        predictions: N rows, checked.
        clusters: (N,) int from `cluster_index`.
        draws: Number of resamples; 0 gives no figures.
        notes: Receives a sentence for each figure whose interval is missing or leaves draws out.
        seed: Of the draws.
    """
    count = int(clusters.max()) + 1 if len(clusters) else 0
    found: dict[str, Any] = {"draws": draws, "level": LEVEL, "seed": seed, "clusters": count, "figures": {}}
    if not draws:
        return found
    if count < 2:
        notes.append(f"{count} source items: nothing to resample, so there are no intervals")
        found["figures"] = {name: {"low": None, "high": None, "draws": 0} for name in FIGURES}
        return found
    values = draw_figures(predictions, clusters, draws, seed)
    found["figures"] = {name: _interval(name, values[name], notes) for name in FIGURES}
    return found


def _interval(name: str, values: Floats, notes: list[str]) -> dict[str, Any]:
    known = values[np.isfinite(values)]
    missing = len(values) - len(known)
    if len(known) < LEAST_SHARE * len(values):
        notes.append(f"{name} is undefined in {missing:,} of {len(values):,} draws: it has no interval")
        return {"low": None, "high": None, "draws": len(known)}
    if missing:
        notes.append(
            f"{name} is undefined in {missing:,} of {len(values):,} draws, which are left out of its interval"
        )
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return {"low": float(low), "high": float(high), "draws": len(known)}


def interval_of(found: Mapping[str, Any], name: str) -> tuple[float, float] | None:
    """Return the ends of a figure's interval out of what `intervals` made, or None."""
    ends = found.get("figures", {}).get(name)
    return None if ends is None or ends["low"] is None else (ends["low"], ends["high"])
