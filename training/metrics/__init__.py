"""The published protocol over arrays, and the corrected figures beside it."""

from training.metrics.by_type import by_type
from training.metrics.predictions import Predictions, concat
from training.metrics.protocol import Metrics, evaluate

__all__ = ["Metrics", "Predictions", "by_type", "concat", "evaluate"]
