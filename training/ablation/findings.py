"""What an ablation's intervals say, in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from training.report.naming import METRIC_TITLES

Kind = tuple[int, int]
"""On which side of 0 the intervals over seeds and over rows lie."""

_BOTH = "under both kinds of chance"
_SEEDS = "over seeds only"
_ROWS = "over the evaluated rows only"


def sentences(axis: Mapping[str, Any]) -> list[str]:
    """Return one sentence per comparison of an axis, as `training.ablation.results.collect` gives it."""
    return [
        f"{row['title']} against {against['title']}: {_verdict(against['metrics'])}"
        for row in axis["rows"]
        for against in row["against"]
    ]


def caveats(result: Mapping[str, Any]) -> list[str]:
    """Return what a reader must know before believing a difference."""
    seeds, draws = len(result["seeds"]), result["draws"]
    said = []
    if seeds == 1:
        said.append("One seed: no interval over seeds, and nothing is known of the training's own noise.")
    else:
        said.append(
            f"Intervals over seeds: 95 %, Student's t over {seeds} seeds, differences paired by seed; the "
            "same seed means the same order of rows, the same augmentation and the same initial weights."
        )
    if draws:
        said.append(
            f"Intervals over rows: 95 %, {draws:,} paired bootstrap draws of the {result['source_items']:,} "
            f"source items behind the {result['rows']:,} evaluated rows, of the difference averaged over "
            "seeds."
        )
    rows = [row for axis in result["axes"] for row in axis["rows"]]
    tests = sum(len(against["metrics"]) for row in rows for against in row["against"])
    if tests > 1:
        said.append(
            f"There are {tests} differences here. Were nothing different at all, about "
            f"{max(1, round(tests / 20))} of them would still have an interval without 0, of each kind."
        )
    return said


def _verdict(metrics: Mapping[str, Mapping[str, Any]]) -> str:
    groups: dict[tuple[str, str], list[str]] = {}
    open_ones = []
    for name, change in metrics.items():
        side, where = _where(change)
        if not side:
            open_ones.append(METRIC_TITLES[name])
            continue
        word = "above" if side > 0 else "below"
        groups.setdefault((word, where), []).append(f"{METRIC_TITLES[name]} ({100 * change['mean']:+.2f})")
    if not groups:
        return "no interval excludes 0."
    parts = [f"{word} it {where} in {_listed(names)}" for (word, where), names in groups.items()]
    if open_ones:
        parts.append(f"not told apart in {_listed(open_ones)}")
    return "; ".join(parts) + "."


def _where(change: Mapping[str, Any]) -> tuple[int, str]:
    seeds, rows = change["over_seeds"], change["over_rows"]
    if seeds and seeds == rows:
        return seeds, _BOTH
    if seeds and rows:
        # Cannot happen while both intervals hold the mean.
        return 0, ""
    return (seeds, _SEEDS) if seeds else (rows, _ROWS)


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
