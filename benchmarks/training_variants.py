"""The optimizer step in several settings, each in a process of its own."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.training_runs import Settings, Table, compiler_missing, run_json
from training.config import load_config

STEP_VARIANTS: dict[str, tuple[str, ...]] = {
    "float32": ("train.precision=float32",),
    "bfloat16": ("train.precision=bfloat16",),
    "float32, recomputed blocks": ("train.precision=float32", "model.checkpoint_blocks=true"),
    "float32, 2 micro-batches": ("train.precision=float32", "train.accumulate=2"),
    "float32, compiled": ("train.precision=float32", "train.compile=true"),
    "bfloat16, compiled": ("train.precision=bfloat16", "train.compile=true"),
}
PLAIN = ("train.compile=false", "train.accumulate=1", "model.checkpoint_blocks=false", "train.trackers=[]")


def measure_steps(settings: Settings) -> Table:
    """Time the step of the configuration on rows of the tables, in each variant."""
    base = load_config(settings.config)
    table = Table(
        f"Optimizer steps: {settings.steps} timed, {base.train.batch_size} rows, {base.data.workers} workers",
        "rows/s",
        "step s is the median. On a CPU, peak GiB is all of the process, most of it libraries; step GiB is "
        "what the steps added. first step s includes compiling.",
    )
    for name, overrides in STEP_VARIANTS.items():
        if reason := _left_out(overrides, settings):
            table.note += f" {name}: left out, {reason}."
            continue
        rows = [f"data.out={settings.data}", *overrides]
        found = _run(settings, f"steps, {name}", ["--config", str(settings.config)], rows)
        table.add(name, **_columns(found))
    return table


def measure_peak(settings: Settings) -> Table:
    """Time steps on drawn tensors and compare their operations with the device's matrix peak."""
    config = load_config(settings.peak_config)
    precision = "bfloat16" if torch.cuda.is_available() else config.train.precision
    table = Table(
        f"Share of the matrix peak: {config.model.towers.rpartition('/')[2]}, {config.model.image_size} px, "
        f"{settings.peak_rows} drawn rows per step, {precision}",
        "rows/s",
        "Operations are those of all matrix products of the real step (forward, backward, momentum model), "
        "counted by torch.utils.flop_counter; the peak is that of square products in the same process.",
    )
    for name in ("not compiled", "compiled"):
        overrides = [f"train.precision={precision}", f"train.compile={str(name == 'compiled').lower()}"]
        if reason := _left_out(overrides, settings):
            table.note += f" {name}: left out, {reason}."
            continue
        where = ["--config", str(settings.peak_config), "--drawn", str(settings.peak_rows)]
        found = _run(settings, f"drawn rows, {name}", where, overrides)
        achieved = found["operations"] / found["step s"]
        table.add(
            name,
            **_columns(found),
            **{
                "TFLOP per step": found["operations"] / 1e12,
                "TFLOP/s": achieved / 1e12,
                "peak TFLOP/s": found["peak per s"] / 1e12,
                "share": achieved / found["peak per s"],
            },
        )
    return table


def _left_out(overrides: list[str] | tuple[str, ...], settings: Settings) -> str | None:
    if "train.compile=true" not in overrides:
        return None
    return "--quick" if settings.quick else compiler_missing()


def _run(settings: Settings, name: str, where: list[str], overrides: list[str]) -> dict[str, Any]:
    arguments = [*where, "--rows-in", str(settings.scratch / "joined"), "--steps", str(settings.steps)]
    return run_json("benchmarks.training_step", [*arguments, "--set", *PLAIN, *overrides], name)


def _columns(found: dict[str, Any]) -> dict[str, Any]:
    return {
        "rows/s": found["rows/s"],
        "step s": found["step s"],
        "waiting": found["waiting"],
        "peak GiB": found["peak GiB"],
        "step GiB": found["peak GiB"] - found["GiB before"],
        "first step s": found["first step s"],
        "loss": found["loss"],
    }
