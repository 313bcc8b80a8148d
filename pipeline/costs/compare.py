"""A bill beside the forecast that was made before it."""

from __future__ import annotations

from typing import Any

from pipeline.costs.intervals import added, certain, rounded, scaled


def against_forecast(bill: dict[str, Any], forecast: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return what the forecast said for the work of this bill, and how far off it was.

    The forecast is scaled to the keys that the run wrote, as a run may be stopped or shared between workers.
    Texts that were carried over or shared cost no time. The fixed part (the start and the load of the model)
    is counted when the run paid it.

    Returns:
        ``device_seconds`` and ``bytes`` with estimate, low and high; ``error_percent`` of the actual
        device-seconds (above 0: dearer than forecast); ``inside``: whether they lie in the interval. The same
        for the work without load and start, as ``working``. None without a forecast, or when the run wrote
        nothing.
    """
    if forecast is None or not bill["keys"] or not forecast["rows"]:
        return None
    keys, generated, devices = bill["keys"], bill["generated"], bill["devices"]
    rows = scaled(forecast["seconds_per_row"], generated * devices)
    fixed = forecast["fixed_seconds"] if bill["loads"] else certain(0.0)
    seconds = added(scaled(fixed, devices), rows)
    size = scaled(forecast["disk_bytes"], (keys + bill["carried"]) / forecast["rows"])
    actual = bill["device_seconds"]
    parts = bill["seconds"]
    working = devices * sum(parts[name] for name in ("decode", "generate", "gates", "write"))
    return {
        "made": forecast["made"],
        "keys": keys,
        "generated": generated,
        "device_seconds": rounded(seconds, 3),
        "error_percent": _percent(actual, seconds["estimate"]),
        "inside": seconds["low"] <= actual <= seconds["high"],
        "working": {
            "device_seconds": rounded(rows, 3),
            "error_percent": _percent(working, rows["estimate"]),
            "inside": rows["low"] <= working <= rows["high"],
        },
        "bytes": rounded(size),
        "bytes_error_percent": _percent(bill["bytes"], size["estimate"]),
    }


def _percent(actual: float, forecast: float) -> float | None:
    return round(100 * (actual / forecast - 1), 1) if forecast else None
