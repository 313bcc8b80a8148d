"""The ASAP model: open_clip towers, fusion by cross-attention, heads; momentum encoder and queues."""

from training.model.asap import AsapModel, build_model
from training.model.momentum import MomentumEncoder
from training.model.outputs import Features, Fused, ModelOutput
from training.model.queue import FeatureQueue

__all__ = [
    "AsapModel",
    "FeatureQueue",
    "Features",
    "Fused",
    "ModelOutput",
    "MomentumEncoder",
    "build_model",
]
