"""Decoding image files: one function for all that look at pixels, so that all parts see the same picture.

The frame of reference is the picture as displayed: EXIF orientation applied. ``width``, ``height`` and every
box of ``samples`` are in that frame.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

import numpy as np
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

DEFAULT_MAX_PIXELS = 89_478_485
"""Pillow's own warning limit: a quarter of a gigabyte as 8-bit RGB."""

HARD_MAX_PIXELS = 2 * DEFAULT_MAX_PIXELS
"""Pillow refuses to open anything larger, whatever limit is asked for."""

_DECODERS = {
    "JPEG": JpegImagePlugin,
    "PNG": PngImagePlugin,
    "WEBP": WebPImagePlugin,
    "GIF": GifImagePlugin,
    "BMP": BmpImagePlugin,
    "TIFF": TiffImagePlugin,
    "PPM": PpmImagePlugin,
    "JPEG2000": Jpeg2KImagePlugin,
    "AVIF": AvifImagePlugin,
}
"""Named, as Pillow would load its plugins only when the common ones fail, and then all of them."""

# Pillow can open far more, e.g. EPS by running Ghostscript; a folder from elsewhere gets no such power.
FORMATS = tuple(name for name in _DECODERS if name in Image.OPEN)

_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation (Exif 2.3, tag 0x0112) to the operation that sets the picture upright."""

_TAIL_BYTES = 1024
_LFS_HEAD = b"version https://git-lfs"


class ImageError(Exception):
    """An image file cannot be used; the message names the file and the remedy.

    Attributes:
        code: The matching code of ``schemas.vocabulary.QUARANTINE_REASONS``.
        lasting: Whether the file's bytes are at fault, so that the verdict stands until the file changes.
    """

    code = "unreadable_image"

    def __init__(self, message: str, *, lasting: bool = False) -> None:
        super().__init__(message)
        self.lasting = lasting


class MissingImage(ImageError):
    """There is no such file."""

    code = "missing_image"


class UnreadableImage(ImageError):
    """The file is there but does not decode."""


class TruncatedImage(ImageError):
    """The file ends before the picture does."""

    code = "truncated_image"


class DecompressionBomb(ImageError):
    """The picture has more pixels than allowed."""

    code = "decompression_bomb"


@dataclass(frozen=True, slots=True)
class Decoded:
    """A decoded picture, upright, in the file's own mode.

    Attributes:
        image: The picture; all pixels are in memory.
        mode: Pillow mode of the file, e.g. ``RGB``, ``CMYK``, ``P``, ``I;16``.
        exif_rotated: Whether EXIF orientation turned or mirrored it.
    """

    image: Image.Image
    mode: str
    exif_rotated: bool


def open_rgb(path: str | Path, max_pixels: int = DEFAULT_MAX_PIXELS) -> Image.Image:
    """Return the picture in a file as 8-bit RGB, as displayed.

    EXIF orientation is applied, transparency is composited on white, palette, gray, CMYK and 16-bit files are
    converted. Of an animation, the first frame.

    Args:
        path: The image file; symbolic links are followed.
        max_pixels: Largest width times height that is decoded, at most ``HARD_MAX_PIXELS``.

    Raises:
        MissingImage: There is no such file.
        TruncatedImage: The file ends before the picture does.
        DecompressionBomb: More than ``max_pixels`` pixels.
        UnreadableImage: Anything else that keeps it from decoding.
    """
    with opened(path) as stream:
        decoded = decode(stream, path, max_pixels)
    with _typed(path, None):
        return to_rgb(decoded.image)


@contextlib.contextmanager
def opened(path: str | Path) -> Iterator[BufferedReader]:
    """Open a regular file for reading, with the errors of this module."""
    try:
        # A FIFO would block forever on open; only regular files are pictures.
        if not Path(path).is_file():
            if Path(path).exists():
                raise UnreadableImage(f"{path}: not a regular file; put the image itself there")
            raise MissingImage(f"{path}: no such file; check the image root, or fetch the missing images")
        stream = open(path, "rb")
    except FileNotFoundError as error:
        raise MissingImage(
            f"{path}: no such file; check the image root, or fetch the missing images"
        ) from error
    except (OSError, ValueError) as error:
        raise UnreadableImage(f"{path}: cannot be opened ({error}); check its permissions") from error
    with stream:
        yield stream


def decode(stream: BufferedReader, path: str | Path, max_pixels: int = DEFAULT_MAX_PIXELS) -> Decoded:
    """Decode every pixel of an open image file and set the picture upright.

    Args:
        stream: The open file, at its start.
        path: Its path, for messages.
        max_pixels: Largest width times height that is decoded.

    Raises:
        TruncatedImage: The file ends before the picture does.
        DecompressionBomb: More than ``max_pixels`` pixels, or a compressed text chunk of absurd size.
        UnreadableImage: Anything else that keeps it from decoding.
    """
    with _typed(path, stream):
        image: Image.Image = Image.open(stream, formats=FORMATS)
        check_pixels(path, *image.size, max_pixels)
        mode = image.mode
        # Asked before loading: Pillow sets TIFF files upright by itself and then forgets the tag.
        rotated = _orientation(image) != 1
        image.load()
        operation = _UPRIGHT.get(_orientation(image))
        if operation is not None:
            image = image.transpose(operation)
        return Decoded(image, mode, rotated)


def check_pixels(path: str | Path, width: int, height: int, max_pixels: int) -> None:
    """Raise ``DecompressionBomb`` when a picture has more than ``max_pixels`` pixels."""
    if width * height > max_pixels:
        raise DecompressionBomb(
            f"{path}: {width} x {height} is {width * height:,} pixels, more than the {max_pixels:,} allowed; "
            "shrink the image, or raise --max-pixels if you trust it"
        )


def to_rgb(image: Image.Image) -> Image.Image:
    """Return an 8-bit RGB version of a picture in any mode; transparency is composited on white."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        return _gray_from_deep(image).convert("RGB")
    if image.mode == "LAB":
        return _rgb_from_lab(image)
    if "transparency" in image.info or image.mode in ("RGBA", "RGBa", "LA", "La", "PA"):
        alpha = image.convert("RGBA")
        white = Image.new("RGBA", alpha.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, alpha).convert("RGB")
    return image.convert("RGB")


def _gray_from_deep(image: Image.Image) -> Image.Image:
    """Return an 8-bit gray picture of one with 16-bit, 32-bit or floating values.

    Pillow's own conversion clips at 255, which turns 16-bit pictures white.
    """
    values = np.nan_to_num(np.asarray(image).astype(np.float64))
    top = float(values.max(initial=0.0))
    if image.mode.startswith("I;16"):
        full = 65535.0
    elif image.mode == "F" and top <= 1.0:
        full = 1.0
    else:
        full = next((limit for limit in (255.0, 65535.0) if top <= limit), top)
    return Image.fromarray(np.rint(values.clip(0.0, full) * (255.0 / full)).astype(np.uint8))


def _rgb_from_lab(image: Image.Image) -> Image.Image:
    from PIL import ImageCms

    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    transform = ImageCms.buildTransformFromOpenProfiles(lab, srgb, "LAB", "RGB")
    converted = ImageCms.applyTransform(image, transform)
    assert converted is not None  # None only comes back for an in-place transform
    return converted


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 (upright) when there is none or the EXIF block is damaged."""
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # a broken EXIF block raises almost anything, and the picture is still fine
        return 1
    return value if value in _UPRIGHT else 1


@contextlib.contextmanager
def _typed(path: str | Path, stream: BufferedReader | None) -> Iterator[None]:
    """Turn whatever a decoder raises into the errors of this module."""
    try:
        yield
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise DecompressionBomb(f"{path}: {error}; shrink the image") from error
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, ValueError and more
        text = str(error)
        if "Decompressed data too large" in text or "too much memory used in text chunks" in text:
            raise DecompressionBomb(f"{path}: {text}; save the image again without its metadata") from error
        if stream is not None:
            _raise_by_content(path, stream, text, error)
        # An error with a number comes from the disk, not from the picture.
        lasting = getattr(error, "errno", None) is None and not isinstance(error, MemoryError)
        raise UnreadableImage(
            f"{path}: does not decode ({type(error).__name__}: {text}); fetch it again", lasting=lasting
        ) from error


def _raise_by_content(path: str | Path, stream: BufferedReader, text: str, error: Exception) -> None:
    """Raise the error that the file's first and last bytes speak for, if any."""
    size = stream.seek(0, 2)
    stream.seek(0)
    head = stream.read(64)
    stream.seek(max(0, size - _TAIL_BYTES))
    tail = stream.read()
    if size == 0:
        raise UnreadableImage(f"{path}: the file is empty; fetch it again", lasting=True) from error
    if head.startswith(_LFS_HEAD):
        raise UnreadableImage(
            f"{path}: a Git LFS pointer, not the image; run `git lfs pull`", lasting=True
        ) from error
    if "truncated" in text.lower() or _is_cut(head, tail, size):
        raise TruncatedImage(
            f"{path}: ends after {size:,} bytes, before the picture does; fetch it again", lasting=True
        ) from error
    if isinstance(error, UnidentifiedImageError):
        kinds = ", ".join(FORMATS)
        raise UnreadableImage(
            f"{path}: not an image of a known format ({kinds}); starts with {head[:12]!r}", lasting=True
        ) from error


def _is_cut(head: bytes, tail: bytes, size: int) -> bool:
    """Return whether a file of a known format lacks its end; asked only when it did not decode."""
    if head.startswith(b"\xff\xd8"):
        return b"\xff\xd9" not in tail
    if head.startswith(b"\x89PNG"):
        return b"IEND" not in tail
    if head.startswith(b"GIF8"):
        return not tail.rstrip(b"\0").endswith(b";")
    if head.startswith(b"RIFF"):
        return len(head) < 12 or int.from_bytes(head[4:8], "little") + 8 > size
    if head.startswith(b"BM"):
        return int.from_bytes(head[2:6], "little") > size
    return False
