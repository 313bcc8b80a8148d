"""Judge pairs of image and text: ``python training/predict.py --checkpoint D --image F --text T``.

Exit codes: 0 all pairs were judged, or the reader of standard output left; 2 bad usage or bad input;
3 interrupted; 4 some pairs of many could not be judged; the others were.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

# Run as a script, this folder stands first on the path, and `data`, `model` or `report` would be ours.
if sys.path and Path(sys.path[0]).resolve() == Path(__file__).resolve().parent:
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from training.errors import DataError, TrainingError, UsageError  # noqa: E402

if TYPE_CHECKING:
    from training.inference.verdict import Verdict


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    made = argparse.ArgumentParser(
        prog="python training/predict.py",
        description="Say whether pictures and their texts were manipulated, how and where.",
    )
    add = made.add_argument
    add(
        "--checkpoint",
        type=Path,
        required=True,
        metavar="D",
        help="a run's folder, a checkpoint's, or one written by training/export.py",
    )
    what = made.add_mutually_exclusive_group(required=True)
    what.add_argument("--image", type=Path, metavar="F", help="one image file; needs --text")
    what.add_argument(
        "--folder", type=Path, metavar="DIR", help="pictures, each with a .txt file of the same stem"
    )
    what.add_argument(
        "--table",
        type=Path,
        metavar="F",
        help="CSV, JSONL or Parquet with columns image, text and perhaps id; paths start at its folder",
    )
    add("--text", metavar="T", help="the text shown with --image")
    add("--json", action="store_true", help="print JSON: an object for --image, else a line per pair")
    add("--to", type=Path, metavar="F", help="write the verdicts to F.jsonl, F.csv or F.parquet")
    add(
        "--overlay",
        type=Path,
        metavar="F",
        help="draw picture, box, verdict and words: an image file for --image, else a folder",
    )
    add(
        "--batch-size",
        type=int,
        default=32,
        metavar="N",
        help="pairs per forward pass (default: %(default)s)",
    )
    add("--device", default="auto", help="cpu, cuda, cuda:1; auto: the GPU where there is one")
    add("--quiet", action="store_true", help="no progress bar")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    args = parser().parse_args(argv)
    try:
        _check(args)
        code = _one(args) if args.image else _many(args)
        sys.stdout.flush()
        return code
    except TrainingError as error:
        print(error, file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader, such as head, has what it wanted. Python's own flush at exit must not complain either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 3 if args.to and not args.image else 0
    except OSError as error:
        print(f"{error.filename or 'a file'}: {error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; no file was written, start again", file=sys.stderr)
        return 3


def _check(args: argparse.Namespace) -> None:
    if args.image and args.text is None:
        raise UsageError("--image needs --text, the text shown with it")
    if not args.image and args.text is not None:
        raise UsageError("--text goes with --image only; a folder and a table bring their own texts")
    if args.batch_size < 1:
        raise UsageError(f"--batch-size is {args.batch_size}; it must be at least 1")
    for source, output in (("image", "overlay"), ("table", "to"), ("image", "to")):
        read, written = getattr(args, source), getattr(args, output)
        if read and written and read.resolve() == written.resolve():
            raise UsageError(f"--{output} {written}: is the --{source} itself; give another name")
    if args.to:
        from training.inference.outputs import check_output

        check_output(args.to)
    if args.overlay and args.image:
        from training.inference.overlay import can_save

        if not can_save(args.overlay):
            raise UsageError(
                f"--overlay {args.overlay}: not the name of an image file for colours; end it in .png or .jpg"
            )
    if args.overlay and args.folder and args.overlay.resolve() == args.folder.resolve():
        # A second start would judge the drawings.
        raise UsageError(f"--overlay {args.overlay}: is the --folder itself; give another folder")
    if args.overlay and not args.image and args.overlay.is_file():
        raise UsageError(f"--overlay {args.overlay}: is a file; give a folder for the pictures of many pairs")


def _one(args: argparse.Namespace) -> int:
    from training.inference.describe import describe
    from training.inference.detector import Detector
    from training.inference.inputs import Item
    from training.inference.outputs import open_output

    detector = Detector.from_pretrained(args.checkpoint, args.device)
    verdict = detector(args.image, args.text)
    if args.overlay:
        _draw(args.image, verdict, args.overlay)
    if args.to:
        with open_output(args.to) as writer:
            writer.add(Item("0", args.image, args.text), verdict)
    print(json.dumps(verdict.to_dict(), ensure_ascii=False) if args.json else describe(verdict))
    return 0


def _many(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from training.inference.describe import one_line
    from training.inference.detector import Detector
    from training.inference.inputs import from_folder, from_table
    from training.inference.outputs import json_row, open_output

    items = from_folder(args.folder) if args.folder else from_table(args.table)
    detector = Detector.from_pretrained(args.checkpoint, args.device)
    if args.overlay:
        args.overlay.mkdir(parents=True, exist_ok=True)
    verdicts = detector.stream(((i.image, i.text) for i in items if i.problem is None), args.batch_size)
    failed = 0
    digits = len(str(len(items) - 1))
    with ExitStack() as stack:
        writer = stack.enter_context(open_output(args.to)) if args.to else None
        # The bar is for people who watch; --quiet and pipes do without.
        hidden = args.quiet or not sys.stderr.isatty()
        for number, item in enumerate(tqdm(items, unit="pair", disable=hidden, file=sys.stderr)):
            found: Verdict | str
            if item.problem is not None:
                found = item.problem
            else:
                judged = next(verdicts)
                found = str(judged) if isinstance(judged, DataError) else judged
            if isinstance(found, str):
                failed += 1
                tqdm.write(f"{item.id}: {found}", file=sys.stderr)
            elif args.overlay:
                _draw(item.image, found, args.overlay / f"{number:0{digits}}-{item.image.stem}.png")
            if writer is not None:
                writer.add(item, found)
            if args.json:
                tqdm.write(json.dumps(json_row(item, found), ensure_ascii=False), file=sys.stdout)
            elif writer is None and not isinstance(found, str):
                tqdm.write(one_line(item, found), file=sys.stdout)
    print(f"{len(items)} pairs: {len(items) - failed} judged, {failed} failed", file=sys.stderr)
    return 4 if failed else 0


def _draw(image: Path, verdict: Verdict, to: Path) -> None:
    from training.inference.overlay import letters_lost, open_picture, overlay, save_picture

    if lost := letters_lost(verdict):
        print(f"{to}: {lost}; install one, such as the Noto fonts", file=sys.stderr)
    save_picture(overlay(open_picture(image), verdict), to)


if __name__ == "__main__":
    raise SystemExit(main())
