"""Export a trained model: ``python training/export.py --checkpoint RUN --to FOLDER``.

Exit codes: 0 exported, 2 bad usage or bad input.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

# Run as a script, this folder stands first on the path, and `data`, `model` or `report` would be ours.
if sys.path and Path(sys.path[0]).resolve() == Path(__file__).resolve().parent:
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from training.errors import TrainingError  # noqa: E402


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    made = argparse.ArgumentParser(
        prog="python training/export.py",
        description="Write a self-contained folder of a trained model: weights, architecture, tokenizer and "
        "a model card. It is opened offline by Detector.from_pretrained and training/predict.py.",
    )
    made.add_argument(
        "--checkpoint",
        type=Path,
        required=True,
        metavar="D",
        help="a run's folder (its best checkpoint, else its last) or a checkpoint's folder",
    )
    made.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="folder that is to be made")
    made.add_argument("--replace", action="store_true", help="replace an earlier export in that folder")
    made.add_argument("--json", action="store_true", help="print the folder and its files as JSON")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    args = parser().parse_args(argv)
    try:
        from training.inference.pretrained import save_pretrained

        folder = save_pretrained(args.checkpoint, args.to, replace=args.replace)
    except TrainingError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(f"{error.filename or 'a file'}: {error.strerror or error}", file=sys.stderr)
        return 2
    files = {
        str(file.relative_to(folder)): file.stat().st_size
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }
    if args.json:
        json.dump({"folder": str(folder), "files": files}, sys.stdout)
        print()
        return 0
    for name, size in files.items():
        print(f"{size:>13,}  {folder / name}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
