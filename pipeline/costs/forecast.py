"""A forecast: hours, device-hours, disk and money for what is still to be written of a table."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.carrying import Carrier
from pipeline.config import RunConfig
from pipeline.costs.estimate import LEVEL, per_row
from pipeline.costs.forecast_file import write_forecast
from pipeline.costs.intervals import Interval, added, certain, measured_once, rounded, scaled
from pipeline.costs.pilot import Pilot, run_pilot
from pipeline.costs.price import Price, devices_per_worker
from pipeline.costs.sampling import draw_rows, generated_share, pending_entries, walk
from pipeline.costs.sums import sum_gates
from pipeline.engines import get_engine, take_loads
from pipeline.errors import UsageError
from pipeline.run import identify, image_root_of
from pipeline.shards.fingerprint import fingerprint_of
from pipeline.shards.plan import Plan
from pipeline.stopping import StopRequest
from schemas.layout import table_dir, version_name

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Scope:
    """What a pilot stands for.

    Attributes:
        rows: Keys that are still to be written.
        generated: Share of them that the engine is asked for; the others are carried over or shared.
        shards: Shards they are in.
        workers: Worker processes that share them.
        devices: Devices of all workers together.
        fixed: Seconds each worker spends once: the start, the load of the model, the first batch.
        price: What a device costs.
    """

    rows: int
    generated: float
    shards: int
    workers: int
    devices: int
    fixed: float
    price: Price


def forecast_table(
    name: str,
    config: RunConfig,
    out: Path,
    *,
    rows: int,
    devices: int | None,
    image_root: Path | None,
    carry: bool,
    seed: int,
    stop: StopRequest,
) -> dict[str, Any]:
    """Run a pilot of a table and return the forecast; only the forecast's own file is written.

    Args:
        name: ``captions`` or ``explanations``.
        config: The run's configuration.
        out: Output folder with the ``samples`` table.
        rows: Rows of the pilot.
        devices: Devices that the run will have; None: those of one worker.
        image_root: Folder of the images, when they were moved since ingest.
        carry: Texts of older versions that were made from the same will be copied.
        seed: Another one draws other rows.
        stop: Asked between two rows.

    Raises:
        UsageError: There are no samples, or the devices cannot be shared out.
        Interrupted: A signal asked for a stop.
    """
    started = time.monotonic()
    identity = identify(name, config, out)
    job, samples = identity.job, identity.samples
    root = image_root_of(name, samples, image_root)
    fingerprint = fingerprint_of(identity.fields)
    version = table_dir(out, name) / version_name(fingerprint)
    plan = Plan(name, version) if version.is_dir() else None
    pending = walk(pending_entries(job, samples, plan), rows, seed)
    each = devices_per_worker(job.model)
    devices = devices or each
    if devices % each:
        raise UsageError(
            f"--devices {devices}: a worker of {job.config.model} needs {each} devices "
            "(vllm.tensor_parallel_size); give a multiple of it"
        )
    head = {
        "table": name,
        "version": version.name,
        "exists": plan is not None,
        "rows": pending.rows,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "engine": job.model.engine,
    }
    carrier = Carrier(out, name, version, identity.fields) if carry else None
    generated = generated_share(identity, carrier, pending.looked_at, root)
    if not generated:
        return {**head, **_nothing(Price.of(config))}
    planning = time.monotonic() - started
    load_started = time.monotonic()
    engine = get_engine(job.model)
    load = time.monotonic() - load_started
    take_loads(job.model)
    drawn = draw_rows(job, samples, pending.candidates, rows, root, seed=seed)
    pilot = run_pilot(job, identity.inputs, engine, drawn, out / "cache", stop)
    _warn_of_few(job.model.engine, len(drawn), pending.rows)
    fixed = planning + load + pilot.warm_up
    scope = Scope(pending.rows, generated, pending.shards, devices // each, devices, fixed, Price.of(config))
    forecast = {
        **head,
        **extrapolate(pilot, scope, seed=seed),
        "pilot_rows": len(drawn),
        "seed": seed,
        "device": str(engine),
        "load_seconds": round(load, 3),
    }
    write_forecast(version, forecast)
    return forecast


def extrapolate(pilot: Pilot, scope: Scope, *, seed: int) -> dict[str, Any]:
    """Return the forecast's numbers from a pilot."""
    row = per_row(pilot.seconds, pilot.rows, seed=seed)
    fixed = measured_once(scope.fixed)
    # Workers take whole shards: in the last round some of them may idle.
    rounds = math.ceil(scope.shards / scope.workers) * scope.workers / scope.shards
    hours = scaled(added(fixed, scaled(row, scope.rows * scope.generated * rounds / scope.workers)), 1 / 3600)
    device_hours = scaled(hours, scope.devices)
    text_bytes = max(0, pilot.data_bytes - pilot.files * pilot.empty_bytes)
    weights = np.maximum(np.asarray(pilot.sizes, float), 1.0)
    size = per_row(list(weights / weights.sum() * text_bytes), [1] * len(weights), seed=seed + 1)
    disk = added(certain(scope.shards * pilot.empty_bytes), scaled(size, scope.rows))
    ended, spent = sum(pilot.rows), pilot.times.total
    return {
        "interval": LEVEL,
        "devices": scope.devices,
        "workers": scope.workers,
        "shards": scope.shards,
        "generated_share": round(scope.generated, 4),
        "batches": len(pilot.rows),
        "fixed_seconds": rounded(fixed, 3),
        "seconds_per_row": row,
        "rows_per_second": round(1 / row["estimate"], 3) if row["estimate"] else None,
        "tokens_out_per_row": round(pilot.tokens_out / ended, 2),
        "tokens_per_second": round(pilot.tokens_out / sum(pilot.seconds), 2),
        "shares": {name: round(value / spent, 4) for name, value in pilot.times.as_dict().items()},
        "failed": pilot.failed,
        "quarantined": pilot.quarantined,
        "gates": sum_gates(pilot.gates),
        "hours": hours,
        "device_hours": device_hours,
        "disk_bytes": rounded(disk),
        **_cost(scope.price, device_hours),
    }


def total(forecasts: Sequence[dict[str, Any]], price: Price) -> dict[str, Any]:
    """Return the sums of some tables' forecasts, one after the other."""
    sums = {
        name: added(*(forecast[name] for forecast in forecasts))
        for name in ("hours", "device_hours", "disk_bytes")
    }
    return {**sums, "disk_bytes": rounded(sums["disk_bytes"]), **_cost(price, sums["device_hours"])}


def _cost(price: Price, device_hours: Interval) -> dict[str, Any]:
    known = price.per_device_hour is not None
    return {
        "cost": scaled(device_hours, price.per_device_hour or 0.0) if known else None,
        "currency": price.currency,
    }


def _nothing(price: Price) -> dict[str, Any]:
    none = certain(0.0)
    numbers: dict[str, Any] = {name: dict(none) for name in ("hours", "device_hours", "disk_bytes")}
    return {**numbers, "pilot_rows": 0, **_cost(price, none)}


def _warn_of_few(engine: str, drawn: int, pending: int) -> None:
    if engine == "vllm" and drawn < min(2000, pending):
        log.warning(
            "vLLM computes hundreds of rows at once, and a pilot of %d never fills it: the forecast is too "
            "dear. On a GPU give --rows 2000 or more",
            drawn,
        )
