"""Texts are made again only when what they were made from has changed."""

from __future__ import annotations

from pipeline.carrying.carrier import Carrier
from pipeline.carrying.division import Division, divide
from pipeline.carrying.inputs import TextInputs

__all__ = ["Carrier", "Division", "TextInputs", "divide"]
