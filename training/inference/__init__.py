"""Using a trained model: exported folders, the detector, predictions in bulk, the app."""

from training.inference.detector import Detector
from training.inference.pretrained import save_pretrained
from training.inference.verdict import Verdict

__all__ = ["Detector", "Verdict", "save_pretrained"]
