"""Sums over a version's bills and over its shards, for ``status`` and for summaries."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

FOLDER = "bills"
"""Folder of the bills in a version's folder: one file per run and process."""

_SUMMED = ("wall_seconds", "device_seconds", "keys", "rows", "tokens_in", "tokens_out")

Bill = dict[str, Any]


def sum_gates(counts: Iterable[Mapping[str, Mapping[str, int]]]) -> dict[str, dict[str, int]]:
    """Return the sums, per flag, of what the gates noticed and did."""
    total: dict[str, Counter[str]] = {}
    for shard in counts:
        for flag, numbers in shard.items():
            total.setdefault(flag, Counter()).update(numbers)
    return {flag: dict(numbers) for flag, numbers in total.items()}


def read_bills(version: Path) -> list[Bill]:
    """Return the bills of a table's version, oldest first; a file that is none is warned about."""
    bills = []
    for path in sorted((version / FOLDER).glob("*.json")):
        try:
            bill = json.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            log.warning("%s: not a readable bill (%s); it is left out of the sum", path, error)
            continue
        lacking = _lacking(bill)
        if lacking:
            log.warning("%s: not a bill of ours (%s); it is left out of the sum", path, lacking)
        else:
            bills.append(bill)
    return bills


def _lacking(bill: Any) -> str | None:
    """Return what keeps the content of a file from being summed; None for a bill."""
    if not isinstance(bill, dict):
        return f"it holds a {type(bill).__name__}, no JSON object"
    wrong = [name for name in _SUMMED if not _is_number(bill.get(name))]
    seconds = bill.get("seconds")
    if not (isinstance(seconds, dict) and all(map(_is_number, seconds.values()))):
        wrong.append("seconds")
    if "cost" not in bill or not (bill["cost"] is None or _is_number(bill["cost"])):
        wrong.append("cost")
    if "currency" not in bill:
        wrong.append("currency")
    return f"without usable {', '.join(wrong)}" if wrong else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def sum_bills(bills: Sequence[Bill]) -> Bill | None:
    """Return the sum of bills for ``status``, or None without any."""
    if not bills:
        return None
    total: Bill = {"runs": len(bills)} | {name: sum(bill[name] for bill in bills) for name in _SUMMED}
    seconds: Counter[str] = Counter()
    for bill in bills:
        seconds.update(bill["seconds"])
    wall = total["wall_seconds"]
    costs = [bill["cost"] for bill in bills if bill["cost"] is not None]
    device_seconds = total["device_seconds"]
    total |= {
        "wall_seconds": round(wall, 3),
        "device_seconds": round(device_seconds, 3),
        "shares": {name: round(value / wall, 4) if wall else 0.0 for name, value in seconds.items()},
        "rows_per_device_second": round(total["rows"] / device_seconds, 3) if device_seconds else 0.0,
        "tokens_per_device_second": round(total["tokens_out"] / device_seconds, 3) if device_seconds else 0.0,
        "cost": round(sum(costs), 6) if costs else None,
        "currency": bills[-1]["currency"],
    }
    return total


def merge_bills(bills: Sequence[Bill], wall_seconds: float) -> Bill | None:
    """Return one bill for workers that ran side by side, or None without any.

    Args:
        bills: One or more per worker, all of one table.
        wall_seconds: How long the run took that they were part of.
    """
    if not bills:
        return None
    added = (
        *("loads", "device_seconds", "shards", "keys", "rows", "failed", "quarantined"),
        *("carried", "shared", "generated", "tokens_in", "tokens_out", "bytes"),
    )
    total: Bill = {**bills[0], **{name: sum(bill[name] for bill in bills) for name in added}}
    seconds: Counter[str] = Counter()
    for bill in bills:
        seconds.update(bill["seconds"])
    worked = sum(bill["wall_seconds"] for bill in bills)
    device_seconds = total["device_seconds"] = round(total["device_seconds"], 3)
    costs = [bill["cost"] for bill in bills if bill["cost"] is not None]
    last = {bill["worker"]: bill["devices"] for bill in bills}
    outcomes = {bill["outcome"] for bill in bills}
    for name in ("host", "pid", "worker"):
        del total[name]
    return total | {
        "outcome": "done" if "done" in outcomes else next(iter(outcomes)),
        "workers": len(last),
        "devices": sum(last.values()),
        "wall_seconds": round(wall_seconds, 3),
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "shares": {name: round(value / worked, 4) if worked else 0.0 for name, value in seconds.items()},
        "rows_per_device_second": round(total["rows"] / device_seconds, 3) if device_seconds else 0.0,
        "tokens_per_device_second": round(total["tokens_out"] / device_seconds, 3) if device_seconds else 0.0,
        "gates": sum_gates(bill["gates"] for bill in bills),
        "cost": round(sum(costs), 6) if costs else None,
        # A forecast is for one worker; those of the workers' own bills stand beside these.
        "forecast": None,
    }
