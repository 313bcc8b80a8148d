"""Evaluates one trained run in a process of its own: ``python -m training.ablation.worker``.

A process of its own has its own threads and devices, and gives its memory back.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from training.errors import TrainingError


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate a checkpoint and return the exit code: 0 done, 2 bad input."""
    made = argparse.ArgumentParser(prog="python -m training.ablation.worker", description=__doc__)
    made.add_argument("--checkpoint", type=Path, required=True, metavar="RUN", help="a run's folder")
    made.add_argument("--data", type=Path, required=True, metavar="OUT", help="folder of the tables")
    made.add_argument("--split", required=True, help="split to evaluate")
    made.add_argument("--to", type=Path, required=True, metavar="DIR", help="folder to write")
    args = made.parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)

    from training.engine.evaluating import evaluate_checkpoint

    try:
        # The comparison draws its own resamples, the same for all runs.
        evaluate_checkpoint(args.checkpoint, args.data, args.split, args.to, draws=0)
    except TrainingError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
