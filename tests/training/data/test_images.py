from __future__ import annotations

import numpy as np
import pytest
import torch
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from PIL import Image
from torchvision.transforms.v2 import functional

from pipeline.images import open_rgb
from tests.training.data.building import photo
from training.data.images import load_square, normalise, square_of, to_rgb, to_tensor
from training.errors import DataError


def pixels(path, size):
    return to_tensor(load_square(path, size, "s1").image).int()


def full_decoding(path, size):
    """Decode as ingest does, at full size, then resize."""
    return to_tensor(open_rgb(path).resize((size, size), Image.Resampling.BICUBIC)).int()


def test_decoding_a_large_jpeg_at_reduced_size_stays_close_to_decoding_it_whole(tmp_path):
    path = tmp_path / "large.jpg"
    photo(1400, 900).save(path, quality=95)
    with Image.open(path) as image:
        image.draft(image.mode, (128, 128))
        assert image.size[0] < 1400  # the short cut is taken for this picture
    difference = (pixels(path, 64) - full_decoding(path, 64)).abs()
    assert difference.float().mean() < 1.0 and difference.max() <= 6
    picture = load_square(path, 64, "s1")
    assert (picture.width, picture.height) == (1400, 900)


def texture(width, height):
    """Return a picture whose detail is about as fine as a 64-pixel square can show, at full contrast."""
    random = np.random.default_rng(7)
    coarse = Image.fromarray(random.integers(0, 256, (height // 24, width // 24, 3), dtype=np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 5, 6, 7, 8])
def test_a_reduced_jpeg_of_an_odd_size_is_not_shifted(tmp_path, orientation):
    path = tmp_path / "odd.jpg"
    exif = Image.Exif()
    exif[0x0112] = orientation
    # 8 * 128 + 1: decoded at an eighth, the picture is 128.125 pixels wide and the file says 129.
    texture(1025, 1041).save(path, quality=95, subsampling="4:4:4", exif=exif)
    difference = (pixels(path, 64) - full_decoding(path, 64)).abs()
    assert difference.float().mean() < 3 and difference.max() <= 12  # shifted: 15 and 91
    picture = load_square(path, 64, "s1")
    assert (picture.width, picture.height) == ((1025, 1041) if orientation < 5 else (1041, 1025))


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_picture_is_read_as_displayed(tmp_path, orientation, suffix):
    path = tmp_path / f"turned.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo(40, 24).save(path, exif=exif, quality=95)
    picture = load_square(path, 32, "s1")
    assert (picture.width, picture.height) == ((40, 24) if orientation < 5 else (24, 40))
    assert open_rgb(path).size == (picture.width, picture.height)
    assert torch.equal(pixels(path, 32), full_decoding(path, 32))
    with Image.open(path) as image:
        in_memory = square_of(image, 32)
    assert (in_memory.width, in_memory.height) == (picture.width, picture.height)
    assert in_memory.image.tobytes() == picture.image.tobytes()


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "CMYK", "1", "I;16", "LAB"])
def test_every_mode_gives_the_colours_that_ingest_saw(tmp_path, mode):
    path = tmp_path / "picture.tif"
    if mode == "I;16":
        values = np.linspace(0, 65535, 24 * 40).reshape(24, 40).astype(np.uint16)
        Image.fromarray(values).save(path)
    elif mode == "LAB":
        Image.frombytes("LAB", (40, 24), photo(40, 24).tobytes()).save(path)
    else:
        image = photo(40, 24)
        if mode in ("LA", "RGBA"):
            image = image.convert("RGBA")
            image.putalpha(photo(40, 24, 5).convert("L"))
        image = image.convert(mode)
        if mode == "P":
            path = path.with_suffix(".png")
            image.info["transparency"] = 3
        image.save(path)
    assert torch.equal(pixels(path, 16), full_decoding(path, 16))
    with Image.open(path) as image:
        assert to_rgb(image).mode == "RGB" and to_rgb(image).tobytes() == open_rgb(path).tobytes()


@pytest.mark.parametrize("content", [None, b"", b"no image at all", b"%!PS-Adobe-3.0 EPSF-3.0\n"])
def test_what_does_not_decode_names_file_sample_and_remedy(tmp_path, content):
    path = tmp_path / "broken.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"broken\.jpg: the image of sample s1 .*pipeline ingest"):
        load_square(path, 16, "s1")


def test_a_cut_off_jpeg_is_refused_also_at_reduced_size(tmp_path):
    path = tmp_path / "cut.jpg"
    photo(1400, 900).save(path, quality=95)
    path.write_bytes(path.read_bytes()[:-8000])
    with pytest.raises(DataError, match="truncated"):
        load_square(path, 32, "s1")


def test_normalising_follows_clip():
    images = torch.randint(0, 256, (2, 3, 5, 4), dtype=torch.uint8)
    expected = functional.normalize(images / 255, OPENAI_DATASET_MEAN, OPENAI_DATASET_STD)
    assert torch.allclose(normalise(images), expected, atol=1e-6)
    assert normalise(images).dtype == torch.float32
