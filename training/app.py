"""A page to try a trained model: ``python training/app.py --checkpoint RUN``.

Exit codes: 0 ended by Ctrl-C or SIGTERM, 2 bad usage or bad input.
"""

from __future__ import annotations

import argparse
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
        prog="python training/app.py",
        description="Serve a page on this machine: drop a picture, type its text, see what was found.",
    )
    made.add_argument(
        "--checkpoint",
        type=Path,
        required=True,
        metavar="D",
        help="a run's folder, a checkpoint's, or one written by training/export.py",
    )
    made.add_argument(
        "--examples",
        type=Path,
        metavar="OUT",
        help="folder of the tables: samples to click on",
    )
    made.add_argument("--split", default="test", help="split the examples are from (default: %(default)s)")
    made.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    made.add_argument("--port", type=int, default=7860, help="0: any free one (default: %(default)s)")
    made.add_argument("--device", default="auto", help="cpu, cuda, cuda:1; auto: the GPU where there is one")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    args = parser().parse_args(argv)
    try:
        from training.inference.app import is_loopback, read_examples, serve
        from training.inference.detector import Detector

        examples = read_examples(args.examples, args.split) if args.examples else []
        detector = Detector.from_pretrained(args.checkpoint, args.device)
        if not is_loopback(args.host):
            print(
                f"--host {args.host}: everyone who reaches this machine can use the page; it has no password",
                file=sys.stderr,
            )
        serve(detector, examples, args.host, args.port)
    except TrainingError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(f"{error.filename or 'a file'}: {error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
