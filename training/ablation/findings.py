"""What an ablation's intervals say, in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from training.report.naming import METRIC_TITLES

Kind = tuple[int, int]
"""On which side of 0 the intervals over seeds and over rows lie."""

_BOTH = "under both kinds of chance"
_SEEDS = "over seeds only"
_ROWS = "over the evaluated rows only (may be seed noise)"


def sentences(axis: Mapping[str, Any]) -> list[str]:
    """Return one sentence per comparison of an axis, as `training.ablation.results.collect` gives it."""
    return [
        f"{row['title']} against {against['title']}: {_verdict(against['metrics'])}"
        for row in axis["rows"]
        for against in row["against"]
    ]


def caveats(result: Mapping[str, Any]) -> list[str]:
    """Return what a reader must know before believing a difference."""
    draws = result["draws"]
    differences = [
        against["metrics"] for axis in result["axes"] for row in axis["rows"] for against in row["against"]
    ]
    counts = sorted({change["n"] for metrics in differences for change in metrics.values()})
    said = []
    if counts and counts[-1] > 1:
        over = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]} (see n)"
        said.append(
            f"Intervals over seeds: 95 %, Student's t over {over} seeds, differences paired by seed; the "
            "same seed means the same order of rows, the same augmentation and the same initial weights."
        )
    if counts and counts[0] == 1:
        which = "One seed" if len(counts) == 1 else "Where n is 1"
        said.append(f"{which}: no interval over seeds, and nothing is known of the training's own noise.")
    if draws:
        said.append(
            f"Intervals over rows: 95 %, {draws:,} paired bootstrap draws of the {result['source_items']:,} "
            f"source items behind the {result['rows']:,} evaluated rows, of the difference averaged over "
            "seeds. They hold the trained models fixed: a difference that only this interval tells from 0 "
            "says that these models differ, and may be the noise of their seeds; the more rows, the oftener."
        )
    tests = sum(change["low"] is not None for metrics in differences for change in metrics.values())
    if tests > 1:
        said.append(
            f"There are {tests} differences with an interval over seeds. Were nothing different at all, "
            f"about {max(1, round(tests / 20))} of these intervals would still exclude 0. For the intervals "
            "over rows there is no such count: training noise alone moves many of them off 0."
        )
    return said


def code_warnings(result: Mapping[str, Any]) -> list[str]:
    """Return a warning if the compared runs were trained with different code."""
    versions: dict[str, None] = {}
    for run in result["runs"]:
        noted = run.get("code") or [{"code": "not noted", "commit": None}]
        versions |= dict.fromkeys(_version(each) for each in noted)
    if len(versions) < 2:
        return []
    return [
        f"The runs were made with {len(versions)} versions of the code ({'; '.join(versions)}): a difference "
        "may be the code's. ablation.json says which run had which; remove a run's folder to train it anew."
    ]


def _version(noted: Mapping[str, Any]) -> str:
    return f"{noted['code']}, commit {noted['commit']}" if noted.get("commit") else str(noted["code"])


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
