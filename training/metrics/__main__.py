"""``python -m training.metrics --predictions F.npz [--json]``: score the arrays of any model."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from training.errors import TrainingError
from training.metrics import by_type, evaluate
from training.metrics.reading import load
from training.metrics.table import render

ARRAYS = """\
arrays of the npz file (N rows, T token places):
  fake_cls           (N,) strings, the nine classes of DGM4
  logits_binary      (N, 2) real, fake
  logits_multilabel  (N, 4) face_swap, face_attribute, text_swap, text_attribute
  box_pred_cxcywh    (N, 4) centre, width and height over the image, 0 to 1
  box_true_cxcywh    (N, 4) the same; zeros without a box
  logits_token       (N, T, 2) kept, manipulated
  token_label        (N, T) 1 manipulated, 0 kept, -100 ignored
  token_word         (N, T) index of the token's word, -1 (none) to 1e6 (optional: figures per word)
  sample_id, index   (N,) optional, not read; image_size (N, 2) neither

JSON: fractions from 0 to 1; notes say which figures are defined rather than measured. Exit codes: 0 done,
2 bad usage or input."""


def main(argv: Sequence[str] | None = None) -> int:
    """Score one file and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m training.metrics",
        description="Score predictions by the published DGM4 protocol and its corrections.",
        epilog=ARRAYS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--predictions", type=Path, required=True, metavar="F.npz", help="arrays, see below")
    parser.add_argument("--json", action="store_true", help="machine-readable result on stdout")
    args = parser.parse_args(argv)
    try:
        predictions, unread = load(args.predictions)
        metrics = evaluate(predictions)
        groups = by_type(predictions)
    except TrainingError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if unread:
        print(f"not read: {', '.join(unread)}", file=sys.stderr)
    result = {"rows": len(predictions), **metrics, "by_type": groups}
    print(json.dumps(result, indent=2, allow_nan=False) if args.json else render(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
