"""``python -m training.report.page --metrics DIR``: make report.html anew from a saved evaluation."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from training.errors import TrainingError
from training.report.page.build import write_page


def main(argv: Sequence[str] | None = None) -> int:
    """Write the page and return the exit code: 0 written, 2 bad usage or bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m training.report.page",
        description="Make an evaluation's report.html anew from its saved predictions, without the model.",
    )
    parser.add_argument(
        "--metrics", type=Path, required=True, metavar="DIR", help="folder that training/evaluate.py wrote"
    )
    parser.add_argument(
        "--data", type=Path, metavar="OUT", help="folder of the tables, if it was moved since the evaluation"
    )
    parser.add_argument(
        "--image-root", type=Path, metavar="DIR", help="folder of the pictures, if they were moved since"
    )
    args = parser.parse_args(argv)
    try:
        page = write_page(args.metrics, data=args.data, image_root=args.image_root)
    except TrainingError as error:
        print(error, file=sys.stderr)
        return 2
    print(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
