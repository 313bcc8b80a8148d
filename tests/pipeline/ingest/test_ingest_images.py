from __future__ import annotations

import hashlib
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from pipeline.images import (
    FORMATS,
    DecompressionBomb,
    ImageError,
    MissingImage,
    TruncatedImage,
    UnreadableImage,
    open_rgb,
)
from pipeline.ingest.images import check_image
from tests.pipeline.ingest.builder import write_image
from tests.pipeline.ingest.defects import bomb_png

ORIENTATION = 0x0112


def save(path, image, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


def gradient(mode="RGB", size=(24, 16)):
    values = np.arange(size[0] * size[1]).reshape(size[1], size[0]) % 256
    gray = Image.fromarray(values.astype(np.uint8))
    return Image.merge("RGB", (gray, gray.rotate(180), gray.point(lambda v: v // 2))).convert(mode)


def assert_close(image, expected, tolerance=0):
    assert image.mode == "RGB"
    assert image.size == expected.size
    difference = np.abs(np.asarray(image, int) - np.asarray(expected.convert("RGB"), int))
    assert difference.max() <= tolerance


@pytest.mark.parametrize("suffix", ["png", "bmp", "gif", "tiff", "ppm", "webp", "jp2", "jpg"])
def test_every_common_format_is_read_under_any_name(tmp_path, suffix):
    path = save(tmp_path / f"a.{suffix}", gradient())
    renamed = path.rename(tmp_path / "b.jpg")
    facts = check_image(renamed)
    assert (facts.width, facts.height, facts.exif_rotated) == (24, 16, False)
    assert open_rgb(renamed).size == (24, 16)


def test_formats_that_run_other_programs_are_not_opened(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n")
    assert "EPS" not in FORMATS
    with pytest.raises(UnreadableImage, match="known format"):
        open_rgb(path)


def test_the_image_key_is_the_hash_of_the_bytes(tmp_path):
    path = write_image(tmp_path / "a.jpg", seed=1)
    assert check_image(path).image_key == hashlib.sha256(path.read_bytes()).hexdigest()[:32]
    assert check_image(write_image(tmp_path / "b.jpg", seed=2)).image_key != check_image(path).image_key


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff"])
def test_exif_orientation_is_applied_and_the_size_follows(tmp_path, orientation, suffix):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options = {"lossless": True} if suffix == "webp" else {"quality": 95} if suffix == "jpg" else {}
    path = save(tmp_path / f"a.{suffix}", gradient(), exif=exif, **options)
    with Image.open(path) as raw:
        expected = ImageOps.exif_transpose(raw).convert("RGB")
    facts, image = check_image(path), open_rgb(path)
    assert_close(image, expected)
    assert image.size == (facts.width, facts.height) == ((16, 24) if orientation >= 5 else (24, 16))
    assert facts.exif_rotated == (orientation > 1)


@pytest.mark.parametrize("value", [0, 9, 99])
def test_an_orientation_that_does_not_exist_is_ignored(tmp_path, value):
    exif = Image.Exif()
    exif[ORIENTATION] = value
    facts = check_image(save(tmp_path / "a.jpg", gradient(), exif=exif))
    assert (facts.width, facts.height, facts.exif_rotated) == (24, 16, False)


def test_a_damaged_exif_block_does_not_cost_the_picture(tmp_path):
    path = save(tmp_path / "a.jpg", gradient(), exif=b"Exif\0\0MM\0*\xff\xff\xff\xff garbage")
    assert (check_image(path).width, check_image(path).exif_rotated) == (24, False)


def test_gray_and_one_bit_pictures_become_rgb(tmp_path):
    for mode in ("L", "1"):
        path = save(tmp_path / f"{mode}.png", gradient(mode))
        assert check_image(path).mode == mode
        assert_close(open_rgb(path), gradient(mode))


def test_cmyk_becomes_rgb(tmp_path):
    path = save(tmp_path / "a.jpg", Image.new("CMYK", (8, 8), (0, 255, 255, 0)), quality=95)
    assert check_image(path).mode == "CMYK"
    assert_close(open_rgb(path), Image.new("RGB", (8, 8), (255, 0, 0)), tolerance=3)


def test_a_palette_becomes_its_colours(tmp_path):
    picture = Image.new("P", (4, 4), 1)
    picture.putpalette([0, 0, 0, 10, 200, 30])
    path = save(tmp_path / "a.png", picture)
    assert check_image(path).mode == "P"
    assert open_rgb(path).getpixel((2, 2)) == (10, 200, 30)


@pytest.mark.parametrize(
    "alpha, expected", [(0, (255, 255, 255)), (255, (200, 40, 0)), (51, (244, 212, 204))]
)
def test_transparency_is_composited_on_white(tmp_path, alpha, expected):
    path = save(tmp_path / "a.png", Image.new("RGBA", (4, 4), (200, 40, 0, alpha)))
    assert open_rgb(path).getpixel((0, 0)) == pytest.approx(expected, abs=1)


def test_gray_with_alpha_is_composited_on_white(tmp_path):
    path = save(tmp_path / "a.png", Image.new("LA", (4, 4), (0, 0)))
    assert open_rgb(path).getpixel((0, 0)) == (255, 255, 255)


def test_a_transparent_palette_entry_is_white(tmp_path):
    picture = Image.new("P", (4, 4), 1)
    picture.putpalette([0, 0, 0, 10, 200, 30])
    path = save(tmp_path / "a.gif", picture, transparency=1)
    assert open_rgb(path).getpixel((0, 0)) == (255, 255, 255)


def test_a_transparent_colour_of_an_rgb_file_is_white(tmp_path):
    path = save(tmp_path / "a.png", Image.new("RGB", (4, 4), (9, 9, 9)), transparency=(9, 9, 9))
    assert open_rgb(path).getpixel((0, 0)) == (255, 255, 255)


def test_sixteen_bit_gray_keeps_its_shades(tmp_path):
    values = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    path = save(tmp_path / "a.png", Image.fromarray(values))
    assert check_image(path).mode.startswith("I")
    shades = np.asarray(open_rgb(path))[..., 0].ravel()
    assert np.abs(shades - np.linspace(0, 255, 64)).max() <= 1


@pytest.mark.parametrize("top, white", [(1.0, 255), (255.0, 255), (1000.0, 4)])
def test_floating_point_pictures_are_scaled_by_their_range(tmp_path, top, white):
    path = save(tmp_path / "a.tiff", Image.fromarray(np.array([[0.0, top]], np.float32)))
    assert [open_rgb(path).getpixel((x, 0))[0] for x in (0, 1)] == [0, white]


def test_nan_in_a_floating_point_picture_is_black(tmp_path):
    path = save(tmp_path / "a.tiff", Image.fromarray(np.array([[np.nan, 1.0]], np.float32)))
    assert [open_rgb(path).getpixel((x, 0))[0] for x in (0, 1)] == [0, 255]


def test_lab_becomes_rgb(tmp_path):
    path = save(tmp_path / "a.tiff", Image.new("LAB", (4, 4), (255, 128, 128)))
    assert min(open_rgb(path).getpixel((0, 0))) >= 250


def test_of_an_animation_the_first_frame_counts(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    path = save(tmp_path / "a.gif", frames[0], save_all=True, append_images=frames[1:])
    assert open_rgb(path).getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "gif", "bmp", "tiff", "jp2"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.95])
def test_a_file_that_was_cut_is_never_accepted_and_mostly_called_so(tmp_path, suffix, share):
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    path = save(tmp_path / f"a.{suffix}", Image.fromarray(noise))
    content = path.read_bytes()
    path.write_bytes(content[: max(8, int(len(content) * share))])
    with pytest.raises(ImageError) as caught:
        check_image(path)
    if suffix in ("jpg", "png", "webp", "gif", "bmp"):
        assert isinstance(caught.value, TruncatedImage)
        assert "fetch it again" in str(caught.value)


def test_what_is_wrong_with_a_file_is_told_by_its_content(tmp_path):
    path = tmp_path / "a.jpg"
    for content, word in [
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n", "git lfs pull"),
        (b"<html>not here</html>", "known format"),
        (bytes(1000), "known format"),
    ]:
        path.write_bytes(content)
        with pytest.raises(UnreadableImage, match=word) as caught:
            check_image(path)
        assert caught.value.lasting
        assert str(path) in str(caught.value)


def test_a_file_of_random_bytes_behind_any_signature_is_an_image_error(tmp_path):
    random = np.random.default_rng(1)
    heads = [
        b"\xff\xd8\xff\xe0",
        b"\x89PNG\r\n\x1a\n",
        b"GIF89a",
        b"RIFF\x10\0\0\0WEBPVP8 ",
        b"BM",
        b"II*\0",
        b"P6 9",
    ]
    for number in range(140):
        path = tmp_path / "a.jpg"
        path.write_bytes(heads[number % len(heads)] + random.bytes(int(random.integers(0, 300))))
        with pytest.raises(ImageError):
            open_rgb(path)


def test_the_pixel_limit_is_checked_before_decoding(tmp_path):
    path = write_image(tmp_path / "a.jpg", (100, 50))
    assert check_image(path, max_pixels=5000).width == 100
    with pytest.raises(DecompressionBomb, match="100 x 50"):
        check_image(path, max_pixels=4999)
    path.write_bytes(bomb_png(60_000, 60_000))
    with pytest.raises(DecompressionBomb):
        open_rgb(path)


def test_a_text_chunk_that_explodes_is_a_bomb(tmp_path):
    def chunk(kind, content):
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    path = save(tmp_path / "a.png", gradient())
    content = path.read_bytes()
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(50_000_000)))
    path.write_bytes(content[:33] + text + content[33:])
    with pytest.raises(DecompressionBomb, match="metadata"):
        check_image(path)


def test_a_missing_file_a_folder_and_a_pipe_are_told_apart(tmp_path):
    with pytest.raises(MissingImage):
        open_rgb(tmp_path / "none.jpg")
    with pytest.raises(UnreadableImage, match="regular file"):
        open_rgb(tmp_path)
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(UnreadableImage, match="regular file"):
        open_rgb(tmp_path / "pipe.jpg")


def test_links_are_followed_and_dangling_ones_are_missing(tmp_path):
    target = write_image(tmp_path / "elsewhere" / "a.jpg")
    (tmp_path / "link.jpg").symlink_to(target)
    (tmp_path / "broken.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    assert check_image(tmp_path / "link.jpg") == check_image(target)
    for name in ("broken.jpg", "loop.jpg"):
        with pytest.raises(ImageError):
            check_image(tmp_path / name)


def test_a_compressed_tiff_cut_in_the_middle_is_refused(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    path = save(tmp_path / "a.tiff", Image.fromarray(noise), compression="tiff_lzw")
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(ImageError):
        check_image(path)
