"""How fast training is on this machine: reading rows, optimizer steps, processes.

``python -m benchmarks.training [--parts P,...] [--steps N] [--config C] [--data OUT] [--quick] [--save]``
measures side by side in one run and prints a table per question, each row with its ratio to the first:

    loader     rows per second from pictures and from the image cache, by worker processes; large JPEG files
               decoded at a reduced size against decoded in full
    step       optimizer steps: time, rows per second, share of waiting for data, peak memory; in float32 and
               bfloat16, compiled or not, with recomputed blocks, with two micro-batches
    processes  the real ``accelerate launch training/train.py`` with one process and with two
    peak       steps on drawn tensors: share of the matrix peak that the same process measures

Exit code 2 after bad usage or bad input. ``--save`` writes the figures under benchmarks/results/.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

# As make does: threads that spin while they wait slow small models down on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch  # noqa: E402

from benchmarks.record import RESULTS, machine  # noqa: E402
from benchmarks.training_loader import measure_loader, measure_pictures  # noqa: E402
from benchmarks.training_processes import measure_processes  # noqa: E402
from benchmarks.training_runs import Settings, Table  # noqa: E402
from benchmarks.training_variants import measure_peak, measure_steps  # noqa: E402
from training.config import load_config  # noqa: E402
from training.errors import TrainingError, UsageError  # noqa: E402

PARTS: dict[str, tuple[Callable[[Settings], Table], ...]] = {
    "loader": (measure_loader, measure_pictures),
    "step": (measure_steps,),
    "processes": (measure_processes,),
    "peak": (measure_peak,),
}
DEMO = Path("configs/training/demo.yaml")
FULL = Path("configs/training/dgm4.yaml")
TABLES = Path("out/train-world-tables")


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.training",
        description="Measure training on this machine, side by side in one run.",
    )
    made.add_argument(
        "--parts",
        default=",".join(PARTS),
        metavar="P,...",
        help="loader, step, processes, peak; all by default",
    )
    made.add_argument("--steps", type=_positive, metavar="N", help="steps that are timed (30; --quick: 5)")
    made.add_argument(
        "--config", type=Path, default=DEMO, metavar="C", help=f"of loader, step and processes ({DEMO})"
    )
    made.add_argument(
        "--peak-config", type=Path, metavar="C", help=f"of peak (on CUDA {FULL}, else that of --config)"
    )
    made.add_argument(
        "--peak-rows", type=_positive, metavar="N", help="rows per step of peak (on CUDA 128, else 16)"
    )
    made.add_argument(
        "--data", type=Path, default=TABLES, metavar="OUT", help=f"folder of the tables ({TABLES})"
    )
    made.add_argument("--quick", action="store_true", help="few steps, nothing compiled: a first impression")
    made.add_argument("--save", action="store_true", help="write the figures under benchmarks/results/")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    args = parser().parse_args(argv)
    try:
        parts = chosen(args.parts)
        with tempfile.TemporaryDirectory(prefix="bench-training-") as folder:
            settings = settings_of(args, Path(folder))
            if set(parts) != {"peak"} and not (settings.data / "samples").is_dir():
                raise UsageError(
                    f"--data {settings.data}: no tables there; make train-tables draws and writes "
                    f"{TABLES}, or name a folder that make captions explanations wrote"
                )
            load_config(settings.config)
            load_config(settings.peak_config)
            tables = []
            for measure in (measure for part in parts for measure in PARTS[part]):
                tables.append(measure(settings))
                print(f"{tables[-1].text()}\n", flush=True)
        if args.save:
            print("\n".join(map(str, save(tables, settings))))
    except TrainingError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def chosen(parts: str) -> list[str]:
    """Return the named parts in their fixed order.

    Raises:
        UsageError: A name is unknown.
    """
    names = [name.strip() for name in parts.split(",") if name.strip()]
    if unknown := [name for name in names if name not in PARTS] or ([] if names else ["nothing"]):
        raise UsageError(f"--parts {parts!r}: {unknown[0]} is no part; the parts are {', '.join(PARTS)}")
    return [name for name in PARTS if name in names]


def settings_of(args: argparse.Namespace, scratch: Path) -> Settings:
    """Return what the measurements share; ``scratch`` is an empty folder."""
    cuda = torch.cuda.is_available()
    return Settings(
        config=args.config,
        data=args.data.expanduser().resolve(),
        steps=args.steps or (5 if args.quick else 30),
        quick=args.quick,
        scratch=scratch,
        peak_config=args.peak_config or (FULL if cuda else args.config),
        peak_rows=args.peak_rows or (128 if cuda else 16),
    )


def save(tables: Sequence[Table], settings: Settings) -> list[Path]:
    """Write the figures with date and machine as JSON and as Markdown; return the files."""
    today = datetime.date.today().isoformat()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    base = RESULTS / f"training-{device}-{today}"
    base.parent.mkdir(exist_ok=True)
    about_machine = machine() | {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU",
        "torch": torch.__version__,
    }
    note = (
        "other programs may have shared the cores; ratios within a table are nearer to the truth than times"
    )
    record: dict[str, Any] = {
        "benchmark": "training",
        "date": today,
        "machine": about_machine,
        "config": str(settings.config),
        "peak_config": str(settings.peak_config),
        "steps": settings.steps,
        "note": note,
        "tables": [{"title": t.title, "note": t.note, "rows": t.rows} for t in tables],
    }
    base.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
    about = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in about_machine.items())
    text = [f"# Training, {today}", f"{about}. {settings.steps} steps of {settings.config}; {note}."]
    text += [table.text(heading="## ") for table in tables]
    base.with_suffix(".md").write_text("\n\n".join(text) + "\n")
    return [base.with_suffix(".json"), base.with_suffix(".md")]


def _positive(value: str) -> int:
    if not value.isdecimal() or int(value) < 1:
        raise argparse.ArgumentTypeError(f"{value!r} is no whole number from 1 on")
    return int(value)


if __name__ == "__main__":
    sys.exit(main())
