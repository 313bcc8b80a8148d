"""Ablations: ``python training/ablate.py --config C --axis modules --seeds 3 [--data OUT] --to DIR``.

Exit codes: 0 all runs trained, evaluated and compared, 1 runs failed (the others are compared), 2 bad usage
or bad input, 3 interrupted and resumable.
"""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

# Run as a script, this folder stands first on the path, and `data`, `model` or `report` would be ours.
if sys.path and Path(sys.path[0]).resolve() == Path(__file__).resolve().parent:
    sys.path[0] = str(Path(__file__).resolve().parents[1])
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("DO_NOT_TRACK", "1")

from training.errors import Interrupted, TrainingError, UsageError  # noqa: E402

log = logging.getLogger("training")

AXES = """\
axes (--axis may be given several times; the first row is the reference of its axis):
  modules     baseline (L_DGM alone), + LMA, + LMA + MGCA, full
  lma_text    none, caption, explanation, both; without MGCA and PMM, as published
  hnp         hard or random negative patches, on the full model
  mgca_mode   none, distill, bias, supervise, on the full model
  KEY=v1,v2   any configuration key, e.g. loss.mgca.beta=1,2,4

Variants with the same resolved configuration are trained once. The same command goes on where it was stopped;
axes of earlier starts in DIR stay in the tables.
DIR gets ablation.json, ablation.md, ablation.html, a plot per axis, and runs/."""


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    made = argparse.ArgumentParser(
        prog="python training/ablate.py",
        description="Train variants of a configuration with several seeds, evaluate and compare them.",
        epilog=AXES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--config", type=Path, required=True, metavar="C", help="YAML file: the full model")
    made.add_argument("--axis", action="append", required=True, metavar="AXIS", help="what varies, see below")
    made.add_argument(
        "--seeds", type=int, default=3, metavar="N", help="runs per variant (default: %(default)s)"
    )
    made.add_argument(
        "--data",
        type=Path,
        metavar="OUT",
        help="folder of the tables (default: data.out of the configuration)",
    )
    made.add_argument("--to", type=Path, required=True, metavar="DIR", help="folder of the ablation")
    made.add_argument("--split", default="test", help="split to compare on (default: %(default)s)")
    made.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        dest="overrides",
        metavar="a.b=v",
        help="change configuration values for all variants",
    )
    made.add_argument(
        "--jobs", type=int, default=1, metavar="J", help="trainings at the same time (default: %(default)s)"
    )
    made.add_argument(
        "--bootstrap",
        type=int,
        default=1000,
        metavar="B",
        help="draws of the evaluated rows for the second interval; 0: none (default: %(default)s)",
    )
    made.add_argument(
        "--launch", default="", metavar="'...'", help="arguments for accelerate launch, e.g. --config_file F"
    )
    made.add_argument("--dry-run", action="store_true", help="print the runs and what is done, and stop")
    return made


def run(args: argparse.Namespace) -> int:
    """Train, evaluate and compare; returns the exit code."""
    from training.ablation.axes import parse_axes
    from training.ablation.launching import shares, visible_devices
    from training.ablation.plan import check_numbers, check_stamps, make_plan
    from training.ablation.runner import Runner, evaluated, only_one
    from training.config import load_config

    check_numbers(args.seeds, args.jobs, args.bootstrap)
    base = load_config(args.config, args.overrides)
    given = args.data or base.data.out
    if given is None:
        raise UsageError(
            f"no tables: {args.config} has no data.out; add --data OUT, the folder that the pipeline wrote"
        )
    data, to = given.expanduser().resolve(), args.to.expanduser().resolve()
    axes = parse_axes(args.axis, base)
    plan = make_plan(args.config, args.overrides, axes, args.seeds, data, args.split, to)
    check_stamps(plan)
    if args.dry_run:
        for each in plan.runs:
            print(f"{'done' if evaluated(each, args.split) else 'to do':<6} {each.name}")
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with only_one(to):
        runner = Runner(
            plan,
            data,
            args.split,
            shares(args.jobs, cores, visible_devices()),
            shlex.split(args.launch),
        )
        runner.run()

        # They load matplotlib and polars, which a stopped or refused ablation does not need.
        from training.ablation.earlier import with_earlier_axes
        from training.ablation.results import collect
        from training.ablation.writing import write_all

        if not any(evaluated(each, args.split) for each in plan.runs):
            log.error("all %d runs failed: there is nothing to compare", len(plan.runs))
            return 1
        plan = with_earlier_axes(plan, args.config, args.overrides, data, args.split, to)
        result = collect(plan, data, args.split, args.bootstrap, runner.failures)
        changed = {"changed for all": ", ".join(args.overrides)} if args.overrides else {}
        result["about"] = {"configuration": str(args.config), **changed}
        for path in write_all(result, to):
            print(path)
    return 1 if runner.failures else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    args = parser().parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    log.setLevel(logging.INFO)
    try:
        return run(args)
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        return 3
    except TrainingError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(f"{error.filename or 'a file'}: {error.strerror or error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    raise SystemExit(main())
