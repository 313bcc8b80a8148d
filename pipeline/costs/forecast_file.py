"""Where a forecast is kept for the bills that come after it."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from pipeline.shards import atomic

log = logging.getLogger(__name__)

Forecast = dict[str, Any]


def forecast_path(version: Path) -> Path:
    """Return where a version's forecast lies: beside the tables, as the version may be yet to come."""
    table = version.parent
    return table.parent / "forecasts" / f"{table.name}-{version.name}.json"


def write_forecast(version: Path, forecast: Forecast) -> Path:
    """Keep a forecast in place of an older one of the same version; return its file."""
    path = forecast_path(version)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_bytes(path, json.dumps(forecast, indent=1, sort_keys=True).encode())
    return path


def read_forecast(version: Path) -> Forecast | None:
    """Return the forecast of a version, or None when there is none that can be read."""
    path = forecast_path(version)
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        log.warning("%s: not a readable forecast (%s); the bill stands alone", path, error)
        return None
    return found if isinstance(found, dict) else None
