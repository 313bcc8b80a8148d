"""Augmentation of a training image: a flip with its box, and RandAugment without geometry.

The operations are those that leave a face where its box says it is. Sources: RandAugment (Cubuk et al. 2020);
the five operations, and that a drawn one is applied half the time, are the published protocol's.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

_AUGMENT = 0x6175676D  # keeps these streams apart from those that order rows


def row_generator(seed: int, epoch: int, index: int) -> np.random.Generator:
    """Return the random numbers of one row in one epoch, whichever process draws them."""
    return np.random.default_rng([_AUGMENT, seed, epoch, index])


def flip_xyxy(box: Tensor, width: float) -> Tensor:
    """Mirror boxes left to right.

    Args:
        box: (..., 4) xyxy in pixels.
        width: Width of the image in pixels.
    """
    x1, y1, x2, y2 = box.unbind(-1)
    return torch.stack([width - x2, y1, width - x1, y2], -1)


def flip_cxcywh(box: Tensor) -> Tensor:
    """Mirror boxes left to right; ``box`` is (..., 4) cxcywh, 0 to 1."""
    cx, cy, w, h = box.unbind(-1)
    return torch.stack([1 - cx, cy, w, h], -1)


def strength(magnitude: float) -> float:
    """Return the factor of brightness and sharpness: 0.1 at magnitude 0, 1.9 at 10; 1 changes nothing."""
    return magnitude / 10 * 1.8 + 0.1


def _identity(image: Tensor, _: float) -> Tensor:
    return image


def _autocontrast(image: Tensor, _: float) -> Tensor:
    return transforms.autocontrast(image)


def _equalize(image: Tensor, _: float) -> Tensor:
    return transforms.equalize(image)


def _brightness(image: Tensor, magnitude: float) -> Tensor:
    return transforms.adjust_brightness(image, strength(magnitude))


def _sharpness(image: Tensor, magnitude: float) -> Tensor:
    return transforms.adjust_sharpness(image, strength(magnitude))


OPERATIONS: tuple[Callable[[Tensor, float], Tensor], ...] = (
    _identity,
    _autocontrast,
    _equalize,
    _brightness,
    _sharpness,
)


def rand_augment(
    image: Tensor, operations: int, magnitude: float, probability: float, generator: np.random.Generator
) -> Tensor:
    """Draw operations and apply each with a probability, one after the other.

    Args:
        image: (3, H, W) uint8.
        operations: How many are drawn; one may be drawn twice.
        magnitude: 0 to 10, see `strength`.
        probability: That a drawn operation is applied.
        generator: Source of the choice.
    """
    for choice in generator.integers(len(OPERATIONS), size=operations):
        if generator.random() < probability:
            image = OPERATIONS[choice](image, magnitude)
    return image
