from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import ImageEnhance, ImageOps

from tests.training.data.building import photo
from training.data.augment import (
    OPERATIONS,
    flip_cxcywh,
    flip_xyxy,
    rand_augment,
    row_generator,
    strength,
)
from training.data.images import to_tensor


def test_a_box_stays_on_its_pixels_when_the_image_is_flipped():
    image = torch.zeros(1, 10, 20)
    image[:, 2:7, 3:9] = 1
    flipped = image.flip(-1)
    x1, y1, x2, y2 = flip_xyxy(torch.tensor([3.0, 2.0, 9.0, 7.0]), 20).int().tolist()
    assert flipped[:, y1:y2, x1:x2].all() and flipped.sum() == (y2 - y1) * (x2 - x1)
    cxcywh = torch.tensor([[6 / 20, 4.5 / 10, 6 / 20, 5 / 10]])
    cx, cy, w, h = flip_cxcywh(cxcywh)[0].tolist()
    assert [20 * (cx - w / 2), 10 * (cy - h / 2), 20 * (cx + w / 2), 10 * (cy + h / 2)] == pytest.approx(
        [x1, y1, x2, y2], abs=1e-4
    )
    assert torch.allclose(flip_cxcywh(flip_cxcywh(cxcywh)), cxcywh)


def test_the_operations_are_those_of_pillow():
    image = photo(32, 24).point(lambda value: 40 + value // 2)
    factor = strength(7)
    expected = [
        image,
        ImageOps.autocontrast(image),
        ImageOps.equalize(image),
        ImageEnhance.Brightness(image).enhance(factor),
        ImageEnhance.Sharpness(image).enhance(factor),
    ]
    assert len(OPERATIONS) == 5
    for operation, reference in zip(OPERATIONS, expected, strict=True):
        result = operation(to_tensor(image), 7.0)
        assert result.dtype == torch.uint8
        assert (result.int() - to_tensor(reference).int()).abs().max() <= 2, operation.__name__


def test_strength_spans_its_range_and_half_way_changes_nothing():
    assert [strength(m) for m in (0, 5, 10)] == pytest.approx([0.1, 1.0, 1.9])


def test_a_row_gets_the_same_augmentation_again_and_another_one_elsewhere():
    image = to_tensor(photo(16, 16))
    once = rand_augment(image, 2, 7, 0.5, row_generator(1, 2, 3))
    assert torch.equal(once, rand_augment(image, 2, 7, 0.5, row_generator(1, 2, 3)))
    draws = {row_generator(*key).random() for key in [(1, 2, 3), (2, 2, 3), (1, 3, 3), (1, 2, 4), (1, 3, 2)]}
    assert len(draws) == 5


def test_every_operation_is_drawn_and_none_without_operations():
    image = to_tensor(photo(16, 16).point(lambda value: 40 + value // 2))
    generator = np.random.default_rng(0)
    seen = {rand_augment(image, 1, 7, 1.0, generator).numpy().tobytes() for _ in range(60)}
    assert len(seen) == 5
    assert torch.equal(rand_augment(image, 0, 7, 1.0, generator), image)


def test_two_operations_are_applied_one_after_the_other():
    image = to_tensor(photo(16, 16).point(lambda value: 40 + value // 2))
    generator = np.random.default_rng(0)
    alone = {operation(image, 7.0).numpy().tobytes() for operation in OPERATIONS}
    seen = {rand_augment(image, 2, 7, 1.0, generator).numpy().tobytes() for _ in range(200)}
    assert alone < seen


@pytest.mark.parametrize("probability", [0.0, 0.5])
def test_a_drawn_operation_is_applied_with_its_probability(probability):
    image = to_tensor(photo(16, 16).point(lambda value: 40 + value // 2))
    generator = np.random.default_rng(0)
    results = [rand_augment(image, 1, 7, probability, generator) for _ in range(400)]
    changed = sum(not torch.equal(result, image) for result in results) / 400
    # One of the five operations changes nothing.
    assert changed == pytest.approx(0.8 * probability, abs=0.07)
