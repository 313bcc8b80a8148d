from __future__ import annotations

import io
import itertools
import random
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageChops

from demo.newsroom import CAST, EXPRESSIONS, OBJECTS, PLACES, Item, Scene, encode, render
from demo.newsroom.draw import draw
from demo.newsroom.forgery import paste_traces
from demo.newsroom.view import choose_view, face_box, head_box

VIEW = replace(choose_view(random.Random(2)), width=256, height=256, cx=124.0, cy=108.0, unit=46.0)


def squashed(image: Image.Image) -> np.ndarray:
    return np.asarray(image.resize((64, 64)), dtype=np.float32)


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """Root mean square on the scale 0 to 255."""
    return float(np.sqrt(np.mean((one - other) ** 2)))


def test_a_picture_is_the_same_bytes_each_time_and_a_jpeg_of_the_views_size(items: list[Item]) -> None:
    for item in items[:12]:
        data = encode(item)
        assert encode(item) == data
        with Image.open(io.BytesIO(data)) as image:
            assert (image.format, image.mode, image.size) == (
                "JPEG",
                "RGB",
                (item.view.width, item.view.height),
            )
            assert ImageChops.difference(image, render(item)).getbbox() is None


def test_rows_with_one_image_path_show_one_picture(items: list[Item]) -> None:
    shared = {}
    for item in items:
        shared.setdefault(item.image, []).append(item)
    groups = [g for g in shared.values() if len(g) > 1][:8]
    assert groups
    for group in groups:
        assert len({encode(i) for i in group}) == 1


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_a_manipulated_picture_differs_from_the_original_in_its_box_only(
    items: list[Item], strength: float
) -> None:
    for item in [i for i in items if i.pasted][:20]:
        before = draw(item.original_scene, item.view)
        after = paste_traces(draw(item.scene, item.view), item.pasted, strength, item.trace_seed)
        x1, y1, x2, y2 = item.pasted
        left, top, right, bottom = ImageChops.difference(before, after).getbbox()
        assert x1 <= left and y1 <= top and right <= x2 and bottom <= y2


def test_swap_boxes_are_tight(items: list[Item]) -> None:
    shares = []
    for item in [i for i in items if "face_swap" in i.fake_cls][:20]:
        x1, y1, x2, y2 = item.pasted
        pixels = draw(item.scene, item.view), draw(item.original_scene, item.view)
        left, top, right, bottom = ImageChops.difference(*pixels).getbbox()
        shares.append((right - left) * (bottom - top) / ((x2 - x1) * (y2 - y1)))
    assert np.median(shares) > 0.85


def test_traces_grow_with_their_strength_and_vanish_at_zero(items: list[Item]) -> None:
    item = next(i for i in items if i.pasted)
    clean = draw(item.scene, item.view)
    pasted = [paste_traces(clean, item.pasted, s, item.trace_seed) for s in (0.0, 0.2, 0.5, 1.0)]
    steps = [distance(squashed(clean), squashed(p)) for p in pasted]
    assert steps[0] == 0.0
    assert steps == sorted(set(steps))


def test_traces_fade_out_towards_the_edge_of_the_box(items: list[Item]) -> None:
    for item in [i for i in items if i.pasted][:10]:
        clean = draw(item.scene, item.view)
        pasted = paste_traces(clean, item.pasted, 1.0, item.trace_seed)
        change = np.asarray(ImageChops.difference(clean, pasted).crop(item.pasted), dtype=np.int32)
        assert change[0].max() == change[-1].max() == change[:, 0].max() == change[:, -1].max() == 0
        assert np.median(change.max(axis=2)[change.shape[0] // 3 : -(change.shape[0] // 3)]) > 0


def test_faces_are_large_enough_to_read_when_squashed(items: list[Item]) -> None:
    for item in items:
        x1, _, x2, _ = face_box(item.view)
        assert (x2 - x1) / item.view.width >= 0.25


def test_views_vary_in_size_shape_framing_and_quality(items: list[Item]) -> None:
    views = [i.view for i in items]
    assert min(v.width for v in views) == 256 and max(v.width for v in views) == 640
    assert min(v.width / v.height for v in views) < 1 < 1.4 < max(v.width / v.height for v in views) + 0.05
    assert {v.side for v in views} == {-1, 1}
    assert min(v.quality for v in views) < 65 and max(v.quality for v in views) > 90


def scene(**change: object) -> Scene:
    return replace(Scene(0, 0, "calm", "cake", "street"), **change)


@pytest.mark.parametrize(
    ("values", "least"),
    [
        ([scene(expression=e) for e in EXPRESSIONS], 2.0),
        ([scene(object=o) for o in OBJECTS], 8.0),
        ([scene(place=p) for p in PLACES], 30.0),
        ([scene(person=i, face=i) for i in range(len(CAST))], 5.0),
    ],
)
def test_every_attribute_is_still_seen_at_64_pixels(values: list[Scene], least: float) -> None:
    pictures = [squashed(draw(s, VIEW)) for s in values]
    pairs = itertools.combinations(range(len(values)), 2)
    near = [(distance(pictures[a], pictures[b]), values[a], values[b]) for a, b in pairs]
    assert min(near, key=lambda pair: pair[0])[0] > least, min(near, key=lambda pair: pair[0])


def test_a_head_box_covers_every_head_it_is_asked_to_cover() -> None:
    boxes = [head_box(VIEW, p) for p in CAST]
    x1, y1, x2, y2 = head_box(VIEW, *CAST)
    assert (x1, y1) == (min(b[0] for b in boxes), min(b[1] for b in boxes))
    assert (x2, y2) == (max(b[2] for b in boxes), max(b[3] for b in boxes))
