"""Evaluating a model on a split, over all processes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from training.config import Config
from training.data.batch import Batch
from training.engine.sharding import gathered
from training.engine.signals import StopSignal
from training.errors import UsageError
from training.metrics import Predictions, evaluate
from training.metrics.collect import Collector


@torch.no_grad()
def predict(
    model: nn.Module,
    loader: Iterable[Batch],
    accelerator: Accelerator,
    *,
    box_threshold: float,
    stop: StopSignal | None = None,
) -> tuple[Predictions | None, bool]:
    """Run a model over this process's part of a split and bring all parts together.

    Args:
        model: Without distributed wrappers: processes may have different numbers of batches.
        loader: This process's batches, from `eval_loader`.
        accelerator: Precision and device.
        box_threshold: Predict no box where the probability of a face manipulation is lower.
        stop: Polled after every batch; the evaluation is given up as soon as it is set anywhere.

    Returns:
        The predictions on rank 0 (None elsewhere, or when given up), and whether it was given up.
    """
    was_training = model.training
    model.eval()
    collector = Collector(box_threshold)
    with gathered(model, accelerator):
        for batch in loader:
            if stop is not None and stop.requested:
                break
            moved = batch.to(accelerator.device)
            with accelerator.autocast():
                output = model(moved.image, moved.text)
            collector.add(moved, output)
    model.train(was_training)
    if stop is not None and stop.agreed(accelerator.device):
        return None, True
    return collector.gather(accelerator), False


def box_threshold(config: Config) -> float:
    """Return the probability of a face manipulation below which no box is predicted."""
    return 0.0 if config.loss.dgm.box_on_negatives else config.model.box_threshold


def figures(predictions: Predictions) -> dict[str, float]:
    """Return the scalar metrics of predictions, fractions of 1."""
    found: dict[str, Any] = evaluate(predictions)
    return {name: float(value) for name, value in found.items() if isinstance(value, int | float)}


def watched(metrics: dict[str, float], name: str) -> float:
    """Return the metric that names the best checkpoint.

    Raises:
        UsageError: There is no metric of that name.
    """
    if name not in metrics:
        raise UsageError(f"train.best_metric: no metric {name!r}; there are {', '.join(sorted(metrics))}")
    return metrics[name]
