"""What the tiny CLIP sees, and how trivial the world is for it: ``python -m demo.tiny.probe``.

Two questions about the frozen towers, answered on worlds that they were not trained on. First, what do they
know: does a picture find its own text, and can a linear classifier read person, expression, thing and place
from their features? Second, do the features of picture and text, side by side, already give a manipulation
away? They should not: manipulations are to be found by comparing the two, which a linear classifier of the
features side by side cannot do.
"""

# mypy: disable-error-code="import-untyped"

import argparse
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import open_clip
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.nn import functional

from demo.newsroom import Item, distinct_pictures, generate_items
from demo.tiny.data_pairs import drawn
from demo.tiny.data_pictures import FIRST_TRAINING_SEED
from demo.tiny.train import MODELS
from demo.tiny.train_clip import normalized

UNSEEN_SEED = 2611
ATTRIBUTES = ("person", "expression", "object", "place")
BATCH = 256
Runner = Callable[[np.ndarray], tuple[torch.Tensor, ...]]


@dataclass(frozen=True)
class Features:
    """Frozen features of the rows of a world; all arrays have one line per row.

    Attributes:
        items: The rows.
        image: Feature of the picture, length 1.
        text: Feature of the text, length 1.
        patches: Mean of the last layer's patches.
    """

    items: list[Item]
    image: np.ndarray
    text: np.ndarray
    patches: np.ndarray

    @property
    def fake(self) -> np.ndarray:
        """Whether a row is manipulated."""
        return np.array([item.fake_cls != "orig" for item in self.items])

    def inputs(self) -> dict[str, np.ndarray]:
        """The inputs that the classifiers of manipulations get, by name."""
        both = np.hstack([self.image, self.text])
        return {
            "picture": self.image,
            "text": self.text,
            "picture and text": both,
            "picture, text and patches": np.hstack([both, self.patches]),
            "picture times text": self.image * self.text,
        }

    def rows(self, wanted: np.ndarray) -> "Features":
        """The rows at which `wanted` is true."""
        items = [item for item, want in zip(self.items, wanted, strict=True) if want]
        return Features(items, self.image[wanted], self.text[wanted], self.patches[wanted])


def frozen_features(towers: Path, items: list[Item]) -> Features:
    """Draw the pictures of rows and run both towers over them."""
    model = open_clip.create_model(f"local-dir:{towers}", force_custom_text=True).eval()
    tokenizer = open_clip.get_tokenizer(f"local-dir:{towers}")
    shown = distinct_pictures(items)
    side = model.visual.image_size[0]
    pixels = np.stack(list(drawn(shown, side)))
    image, patches = _in_batches(pixels, lambda part: _look(model, normalized(part)))
    (text,) = _in_batches(
        np.array([item.text for item in items]),
        lambda part: (model.encode_text(tokenizer(list(part)), normalize=True),),
    )
    number = {item.image: index for index, item in enumerate(shown)}
    places = [number[item.image] for item in items]
    return Features(items, image[places], text, patches[places])


def retrieval(features: Features, batch: int) -> tuple[float, float]:
    """Shares of unmanipulated pictures that find their own text in a batch, and of texts their picture."""
    plain = features.rows(~features.fake)
    found: list[tuple[float, float]] = []
    for start in range(0, len(plain.items) - batch + 1, batch):
        likeness = plain.image[start : start + batch] @ plain.text[start : start + batch].T
        own = np.arange(batch)
        found.append(((likeness.argmax(1) == own).mean(), (likeness.argmax(0) == own).mean()))
    to_text, to_picture = np.mean(found, axis=0)
    return float(to_text), float(to_picture)


def attribute_accuracy(known: Features, unseen: Features) -> dict[str, dict[str, float]]:
    """Accuracy of linear classifiers of each attribute of unmanipulated rows, from each of three features."""
    known, unseen = known.rows(~known.fake), unseen.rows(~unseen.fake)
    shares = {}
    for name in ATTRIBUTES:
        labels, truth = ([getattr(i.scene, name) for i in part.items] for part in (known, unseen))
        shares[name] = {
            source: float(_fitted(getattr(known, source), labels).score(getattr(unseen, source), truth))
            for source in ("image", "patches", "text")
        }
    return shares


def manipulation_auc(known: Features, unseen: Features) -> dict[str, dict[str, float]]:
    """AUC of linear classifiers of manipulated rows, by input; over all rows and for each kind alone.

    One classifier per input, trained on all rows; a kind is measured against all unmanipulated rows.
    """
    kinds = {
        "all": unseen.fake,
        "face only": np.array(["face" in i.fake_cls and "text" not in i.fake_cls for i in unseen.items]),
        "text only": np.array(["text" in i.fake_cls and "face" not in i.fake_cls for i in unseen.items]),
    }
    areas: dict[str, dict[str, float]] = {}
    tests = unseen.inputs()
    for name, values in known.inputs().items():
        scores = _fitted(values, known.fake).predict_proba(tests[name])[:, 1]
        areas[name] = {
            kind: float(roc_auc_score(unseen.fake[rows], scores[rows]))
            for kind, chosen in kinds.items()
            for rows in [chosen | ~unseen.fake]
        }
    return areas


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, measure, print; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m demo.tiny.probe", description=__doc__)
    parser.add_argument("--towers", type=Path, default=MODELS / "clip", help="folder (default: %(default)s)")
    parser.add_argument("--samples", type=int, default=4000, help="rows of each of two worlds: %(default)s")
    parser.add_argument("--seed", type=int, default=UNSEEN_SEED, help="world to learn from: %(default)s")
    parser.add_argument("--test-seed", type=int, help="world to measure on (default: the next seed)")
    options = parser.parse_args(arguments)
    seeds = (options.seed, options.seed + 1 if options.test_seed is None else options.test_seed)
    if not all(0 <= seed < FIRST_TRAINING_SEED for seed in seeds):
        parser.error(f"seeds {seeds}: give 0 to {FIRST_TRAINING_SEED - 1}; the rest is for training worlds")
    known, unseen = (
        frozen_features(options.towers, list(generate_items(options.samples, seed))) for seed in seeds
    )
    print(f"worlds of {options.samples} rows, seeds {seeds[0]} (learning) and {seeds[1]} (measuring)")
    batch = min(BATCH, int((~unseen.fake).sum()))
    to_text, to_picture = retrieval(unseen, batch)
    print(f"\nretrieval among {batch}: picture to text {to_text:.1%}, text to picture {to_picture:.1%}")
    print("\nlinear probe (accuracy)    picture   patches    text")
    for name, right in attribute_accuracy(known, unseen).items():
        print(f"  {name:22} {right['image']:9.1%} {right['patches']:9.1%} {right['text']:7.1%}")
    print("\nmanipulated? (AUC)             all   face only   text only")
    for name, area in manipulation_auc(known, unseen).items():
        print(f"  {name:26} {area['all']:6.3f} {area['face only']:11.3f} {area['text only']:11.3f}")
    return 0


def _look(model: open_clip.CustomTextCLIP, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    found = model.visual.forward_intermediates(
        pixels, indices=1, normalize_intermediates=True, output_fmt="NLC"
    )
    image = functional.normalize(found["image_features"], dim=-1)
    return image, found["image_intermediates"][-1].mean(1)


def _in_batches(values: np.ndarray, run: Runner) -> list[np.ndarray]:
    with torch.inference_mode():
        parts = [run(values[start : start + BATCH]) for start in range(0, len(values), BATCH)]
    return [torch.cat(columns).numpy() for columns in zip(*parts, strict=True)]


def _fitted(values: np.ndarray, labels: Sequence[object] | np.ndarray) -> Pipeline:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300)).fit(values, labels)


if __name__ == "__main__":
    raise SystemExit(main())
