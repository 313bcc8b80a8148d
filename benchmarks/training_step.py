"""One variant of the optimizer step, measured in this process: the last line it prints is a JSON object.

``python -m benchmarks.training_step --config C --rows-in DIR --steps N [--drawn ROWS] [--set a.b=v ...]``;
called by `benchmarks.training_variants`, once per variant.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import islice, repeat
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from benchmarks.record import resident
from benchmarks.training_drawn import drawn_batches
from benchmarks.training_operations import matrix_peak, operations_of
from training.config import Config, load_config
from training.data.batch import Batch
from training.data.loader import train_loader
from training.engine.assembly import Run, assemble, open_rows
from training.engine.meters import Speed, peak_memory_gib
from training.engine.processes import make_accelerator
from training.errors import TrainingError, UsageError

WARM_UP = 3
"""Steps before the clock starts; the first compiles, and kernels are chosen."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training_step")
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--rows-in", type=Path, required=True, help="folder of the joined rows")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument(
        "--drawn", type=int, default=0, help="take so many drawn rows per step instead of tables"
    )
    parser.add_argument("--set", nargs="+", action="extend", default=[], dest="overrides")
    args = parser.parse_args(argv)
    try:
        found = measure(args)
    except TrainingError as error:
        print(error, file=sys.stderr)
        return 2
    except torch.OutOfMemoryError as error:
        print(f"the device has too little memory: {str(error).partition('.')[0]}; "
              "lower --peak-rows or train.batch_size", file=sys.stderr)  # fmt: skip
        return 2
    print(json.dumps(found))
    return 0


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of the variant that the arguments name."""
    drawn = [f"train.batch_size={args.drawn}", "model.pretrained=null"] if args.drawn else []
    config = load_config(args.config, [*args.overrides, *drawn])
    accelerator = make_accelerator(config)
    needed = config.train.batch_size * (args.steps + WARM_UP)
    if args.drawn:
        run = assemble(config, accelerator, needed)
        micro = drawn_batches(run, args.drawn)
        steps: Iterator[Sequence[Batch]] = repeat(micro)
    else:
        rows = open_rows(config, config.data.train_splits, args.rows_in, accelerator)
        run = assemble(config, accelerator, len(rows))
        steps = _from_tables(run, config, rows, accelerator)
    before = _memory_before(accelerator.device)
    found = _timed(run, steps, args.steps)
    found |= {"peak GiB": peak_memory_gib(accelerator.device), "GiB before": before}
    if args.drawn:
        # Last, so that neither is in the times or in the memory.
        found["operations"] = operations_of(lambda: run.stepper.run(micro, 0, 0.4))
        found["peak per s"] = matrix_peak(accelerator.device, config.train.precision)
    return found


def _timed(run: Run, steps: Iterator[Sequence[Batch]], count: int) -> dict[str, Any]:
    """Run the warm-up and ``count`` timed steps; seconds per step, rows per second, share of waiting."""
    speed = Speed()
    times: list[float] = []
    first = loss = 0.0
    batches = speed.waiting_for(steps)
    mark = time.perf_counter()
    for number, micro in enumerate(islice(batches, WARM_UP + count)):
        result = run.stepper.run(micro, number, 0.4)  # its figures are read back: the device is done
        now = time.perf_counter()
        first = first or now - mark
        if number == WARM_UP - 1:
            speed.restart()
        elif number >= WARM_UP:
            times.append(now - mark)
            speed.add(result.rows)
        mark, loss = now, result.total
    if len(times) < count:
        raise UsageError(f"{len(times)} of {count} steps had rows; lower --steps or name larger tables")
    means = speed.read()
    return {
        "step s": statistics.median(times),
        "rows/s": means["speed/samples_per_s"],
        "waiting": means["speed/data_wait_share"],
        "first step s": first,
        "loss": loss,
    }


def _memory_before(device: torch.device) -> float:
    """Return the memory in use, in GiB, and let the peak start from here: loading took more for a moment."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device) / 2**30
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return resident(os.getpid()) / 2**30


def _from_tables(run: Run, config: Config, rows: Any, accelerator: Accelerator) -> Iterator[Sequence[Batch]]:
    """Yield the micro-batches of step after step, epoch after epoch, on the device."""
    epoch = 0
    while True:
        loader = train_loader(
            rows, run.tokenizer, config, epoch=epoch, pin_memory=accelerator.device.type == "cuda"
        )
        batches = iter(loader)
        while len(micro := [b.to(accelerator.device) for b in islice(batches, config.train.accumulate)]) == (
            config.train.accumulate
        ):
            yield micro
        epoch += 1


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    # Workers of an epoch that is given up would otherwise be waited for.
    os._exit(code)
