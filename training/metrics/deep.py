"""Everything that is reported about predictions, as one JSON-ready mapping."""

from __future__ import annotations

from typing import Any

from training.metrics.bootstrap import Ints, intervals
from training.metrics.by_type import by_type
from training.metrics.calibration import calibration, margin, p_fake
from training.metrics.confusion import confusion
from training.metrics.operating import operating_points
from training.metrics.predictions import Predictions
from training.metrics.protocol import evaluate


def evaluate_deeply(predictions: Predictions, clusters: Ints, draws: int) -> dict[str, Any]:
    """Return what `evaluate` does, by_type, calibration, operating_points, confusion and intervals.

    Args:
        predictions: N rows.
        clusters: (N,) int from `cluster_index`.
        draws: Resamples for the intervals; 0 for none.

    Raises:
        DataError: The predictions cannot be scored.
    """
    found: dict[str, Any] = {"rows": len(predictions), **evaluate(predictions)}
    p, fake, notes = p_fake(predictions), predictions.is_fake, found["notes"]
    found["by_type"] = by_type(predictions)
    found["calibration"] = calibration(p, fake, notes)
    found["operating_points"] = operating_points(p, fake, margin(predictions) > 0, notes)
    found["confusion"] = confusion(predictions)
    found["intervals"] = intervals(predictions, clusters, draws, notes)
    return found
