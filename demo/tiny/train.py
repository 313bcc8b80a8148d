"""Train the shipped demo models: ``python -m demo.tiny.train`` (``make demo-models``).

The trainings run side by side, one processor core each, and replace the folders under ``demo/models`` when
they are done. Seeds and thread counts are fixed, so a second run on the same kind of processor gives the same
weights.
"""

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

MODELS = Path(__file__).resolve().parents[1] / "models"


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and train; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m demo.tiny.train", description=__doc__)
    parser.add_argument(
        "--out", type=Path, default=MODELS, help="folder of the checkpoints (default: %(default)s)"
    )
    parser.add_argument("--only", choices=("instructblip", "glm", "clip"), help="train one of the models")
    options = parser.parse_args(arguments)
    started = time.monotonic()
    jobs: dict[str, Callable[[Path, int], None]] = {
        "instructblip": _train_captioner,
        "glm": _train_chat,
        "clip": _train_clip,
    }
    chosen = {name: job for name, job in jobs.items() if options.only in (None, name)}
    context = multiprocessing.get_context("spawn")
    workers = {
        name: context.Process(target=job, args=(options.out / name, line))
        for line, (name, job) in enumerate(chosen.items())
    }
    for worker in workers.values():
        worker.start()
    for worker in workers.values():
        worker.join()
    failed = [name for name, worker in workers.items() if worker.exitcode != 0]
    if failed:
        print(f"training failed: {', '.join(failed)}; the message is above", file=sys.stderr)
        return 1
    print(f"{', '.join(chosen)} saved under {options.out} in {(time.monotonic() - started) / 60:.1f} minutes")
    return 0


def _train_captioner(folder: Path, line: int) -> None:
    _one_thread()
    from demo.tiny.train_captioner import train_captioner

    train_captioner(folder, line=line)


def _train_chat(folder: Path, line: int) -> None:
    _one_thread()
    from demo.tiny.train_chat import train_chat

    train_chat(folder, line=line)


def _train_clip(folder: Path, line: int) -> None:
    _one_thread()
    from demo.tiny.train_clip import train_clip

    train_clip(folder, line=line)


def _one_thread() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    torch.set_num_threads(1)


if __name__ == "__main__":
    raise SystemExit(main())
