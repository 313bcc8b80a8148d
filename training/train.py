"""Train ASAP: ``accelerate launch training/train.py --config C [--data OUT] [--to RUN] [--set a.b=v ...]``.

Exit codes: 0 trained to the end, 1 a loss or the gradient was not finite, 2 bad usage or bad input,
3 interrupted and resumable.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

# Run as a script, this folder stands first on the path, and `data`, `model` or `report` would be ours.
if sys.path and Path(sys.path[0]).resolve() == Path(__file__).resolve().parent:
    sys.path[0] = str(Path(__file__).resolve().parents[1])
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("DO_NOT_TRACK", "1")

from training.config import Config, load_config  # noqa: E402
from training.errors import Interrupted, NonFiniteLoss, TrainingError  # noqa: E402
from training.failures import failed_elsewhere, is_lost_connection, is_shared, share, tell_failure  # noqa: E402

log = logging.getLogger("training")

_TELLING = 3.0
"""Seconds that a process which ends by itself may take to tell so."""


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    made = argparse.ArgumentParser(
        prog="accelerate launch training/train.py",
        description="Train the ASAP model on the committed shards of a pipeline's output folder.",
    )
    made.add_argument(
        "--config", type=Path, required=True, metavar="C", help="YAML file, e.g. of configs/training"
    )
    made.add_argument("--data", type=Path, metavar="OUT", help="folder of the tables (data.out)")
    made.add_argument(
        "--to", type=Path, metavar="RUN", help="folder of the run (default: runs/ and the config's name)"
    )
    made.add_argument(
        "--resume",
        nargs="?",
        const="true",
        default="auto",
        metavar="auto|true|false|DIR",
        help="auto (default): go on from RUN's latest whole checkpoint if there is one; true: there must be "
        "one; false: refuse a RUN that has some; or a checkpoint's folder",
    )
    made.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        dest="overrides",
        metavar="a.b=v",
        help="change configuration values, e.g. --set train.epochs=2 loss.lma.text=caption",
    )
    made.add_argument(
        "--dry-run",
        action="store_true",
        help="print the resolved configuration, parameters, steps and memory, and stop",
    )
    return made


def resolved(args: argparse.Namespace) -> Config:
    """Return the configuration that the arguments name."""
    overrides = list(args.overrides)
    if args.data is not None:
        overrides.append(f"data.out={args.data.expanduser().resolve()}")
    return load_config(args.config, overrides)


def run(args: argparse.Namespace) -> int:
    """Train, or show what would be trained; returns the exit code."""
    try:
        config = resolved(args)
    except TrainingError as error:
        # Every process reads the same files.
        raise share(error) from None
    run_dir: Path = (args.to or Path("runs") / config.name).expanduser()

    from training.engine.launch import dry_run, train
    from training.engine.processes import make_accelerator

    accelerator = make_accelerator(config)
    # open_clip tells every step of loading a model through the root logger, so only ours may inform.
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr, force=True)
    log.setLevel(logging.INFO if accelerator.is_main_process else logging.WARNING)
    if args.dry_run:
        for line in dry_run(config, run_dir, accelerator):
            accelerator.print(line)
        return 0
    train(config, run_dir, accelerator, args.resume)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    args = parser().parse_args(argv)
    # A process that waits for another one in a collective can only be asked from outside where it stands.
    with contextlib.suppress(AttributeError, OSError, ValueError):  # no such signal, no such stderr
        faulthandler.register(signal.SIGUSR1, all_threads=True)
    try:
        return run(args)
    except Interrupted as stop:
        return _ended(share(stop), 3)
    except NonFiniteLoss as error:
        return _ended(error, 1)
    except TrainingError as error:
        return _ended(error, 2)
    except OSError as error:
        return _ended(error, 2, f"{error.filename or 'a file'}: {error.strerror or error}")
    except RuntimeError as error:
        return _ended_by_another(error)
    except Exception:
        tell_failure(1)
        raise


def _ended(error: Exception, code: int, message: str | None = None) -> int:
    """Say why the run ends, process 0 for all where all of them know; return the exit code."""
    prefix = _rank_prefix()
    if not (prefix and is_shared(error)):
        print(f"{prefix}{message or error}", file=sys.stderr, flush=True)
    if not is_shared(error):
        tell_failure(code)
    return code


def _ended_by_another(error: RuntimeError) -> int:
    """Return the exit code where a collective failed as another process is gone; else raise the error."""
    lost = is_lost_connection(error)
    # The other side may be gone a moment before it has told why.
    code = failed_elsewhere(wait=_TELLING if lost else 0.0)
    if code is not None:
        why = "ended, because another process of the run has failed"
    elif lost:
        code = 3
        why = (
            "lost another process of the run, which was killed; go on from the last checkpoint with --resume"
        )
    else:
        tell_failure(1)
        raise error
    print(f"{_rank_prefix()}{why}", file=sys.stderr, flush=True)
    tell_failure(code)
    return code


def _rank_prefix() -> str:
    rank = os.environ.get("RANK", "0")
    return "" if rank == "0" else f"rank {rank}: "


if __name__ == "__main__":
    raise SystemExit(main())
