from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from pipeline.inspection.pictures import LONGEST_SIDE, MOST_BYTES, load, load_all
from tests.pipeline.inspection.tables import draw_picture


def decoded(picture):
    head, data = picture.uri.split(",", 1)
    assert head == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_a_picture_is_embedded_upright_in_the_size_of_its_file(tmp_path):
    draw_picture(tmp_path / "a.jpg", (200, 100), orientation=6)
    picture = load(tmp_path / "a.jpg")
    assert (picture.width, picture.height) == (100, 200)
    shown = decoded(picture)
    assert shown.size == (100, 200)
    # Turned by 90 degrees clockwise, the left half of the file is the upper half of the picture.
    upper, lower = shown.getpixel((50, 40)), shown.getpixel((50, 160))
    assert upper[0] > 150 > upper[2] and lower[2] > 150 > lower[0]


def test_metadata_of_the_file_is_left_behind(tmp_path):
    draw_picture(tmp_path / "a.jpg", (64, 64), orientation=3)
    assert not dict(decoded(load(tmp_path / "a.jpg")).getexif())


def test_a_large_picture_is_scaled_and_a_small_one_is_not(tmp_path):
    draw_picture(tmp_path / "large.png", (2000, 1000))
    draw_picture(tmp_path / "small.png", (30, 20))
    large = load(tmp_path / "large.png")
    assert (large.width, large.height) == (2000, 1000)
    assert decoded(large).size == (LONGEST_SIDE, LONGEST_SIDE // 2)
    assert decoded(load(tmp_path / "small.png")).size == (30, 20)


def test_even_noise_fits_its_share_of_the_page(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (700, 700, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    picture = load(tmp_path / "noise.png")
    assert len(base64.b64decode(picture.uri.split(",", 1)[1])) <= MOST_BYTES


@pytest.mark.parametrize("content", [None, b"", b"not a picture", b"\xff\xd8\xff\xe0 cut"])
def test_a_file_that_is_no_picture_gives_a_reason_without_the_folder(tmp_path, content):
    path = tmp_path / "a.jpg"
    if content is not None:
        path.write_bytes(content)
    picture = load(path)
    assert picture.uri is None
    assert picture.problem
    assert str(tmp_path) not in picture.problem


def test_without_a_root_every_picture_says_how_to_name_it():
    pictures = load_all(None, ["a.jpg", "b.jpg", "a.jpg"])
    assert set(pictures) == {"a.jpg", "b.jpg"}
    assert all("--image-root" in picture.problem for picture in pictures.values())
