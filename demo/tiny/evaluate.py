"""Measure the shipped demo models on a world they were not trained on: ``python -m demo.tiny.evaluate``."""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from demo.newsroom import distinct_pictures, generate_items
from demo.tiny.data_pictures import FIRST_TRAINING_SEED
from demo.tiny.measure import Figures, measure_captions, measure_explanations
from demo.tiny.train import MODELS
from pipeline.config.models import GenerationConfig, ModelConfig
from pipeline.engines import get_engine

UNSEEN_SEED = 2611
REQUIRED = {"attributes right": 0.95, "captions right": 0.75, "changes named": 0.95}


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, measure, print; returns 0 when the required figures are reached, else 1."""
    parser = argparse.ArgumentParser(prog="python -m demo.tiny.evaluate", description=__doc__)
    parser.add_argument(
        "--seed", type=int, default=UNSEEN_SEED, help="seed of the world (default: %(default)s)"
    )
    parser.add_argument("--samples", type=int, default=1000, help="rows of the world (default: %(default)s)")
    parser.add_argument(
        "--models", type=Path, default=MODELS, help="folder of the checkpoints (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    parser.add_argument("--mistakes", type=int, default=0, help="wrong outputs to show per model")
    options = parser.parse_args(arguments)
    if not 0 <= options.seed < FIRST_TRAINING_SEED:
        parser.error(
            f"--seed {options.seed}: give 0 to {FIRST_TRAINING_SEED - 1}; the rest is for training worlds"
        )
    captions, explanations = measure(options.models, options.samples, options.seed)
    if options.json:
        report = {"seed": options.seed, "samples": options.samples}
        print(
            json.dumps(
                report | {"captions": _values(captions), "explanations": _values(explanations)}, indent=2
            )
        )
    else:
        print(f"World of seed {options.seed}, {options.samples} rows. Models: {options.models}")
        for title, figures in (("Captions", captions), ("Explanations", explanations)):
            print(f"\n{title}\n{_table(figures)}")
            print("".join(f"\n{mistake}\n" for mistake in figures.mistakes[: options.mistakes]), end="")
    shares = captions.shares | explanations.shares
    short = [name for name, value in REQUIRED.items() if shares[name].value < value]
    for name in short:
        print(f"{name}: {shares[name]}, required {100 * REQUIRED[name]:.0f} %", file=sys.stderr)
    return 1 if short else 0


def measure(models: Path, samples: int, seed: int) -> tuple[Figures, Figures]:
    """The figures of captions and explanations on a world of `samples` rows."""
    items = list(generate_items(samples, seed))
    captioner = get_engine(model_config(models / "instructblip"))
    with tempfile.TemporaryDirectory(prefix="newsroom-") as folder:
        captions = measure_captions(distinct_pictures(items), captioner, Path(folder))
    return captions, measure_explanations(items, get_engine(model_config(models / "glm")))


def model_config(folder: Path) -> ModelConfig:
    """How a shipped model is loaded: float32 on the CPU, greedy."""
    caption = folder.name == "instructblip"
    return ModelConfig(
        path=str(folder),
        kind="instructblip" if caption else "chat",
        dtype="float32",
        device="cpu",
        batch_size=32,
        generation=GenerationConfig(max_new_tokens=48 if caption else 96),
    )


def _table(figures: Figures) -> str:
    width = max(len(name) for name in figures.shares)
    return "\n".join(f"  {name:<{width}}  {share}" for name, share in sorted(figures.shares.items()))


def _values(figures: Figures) -> dict[str, dict[str, float]]:
    return {
        name: {"share": round(share.value, 5), "right": share.right, "total": share.total}
        for name, share in sorted(figures.shares.items())
    }


if __name__ == "__main__":
    raise SystemExit(main())
