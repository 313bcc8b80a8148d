"""Checking one image file: whether it decodes to the last pixel, its size, and the name of its content."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pipeline.images import DEFAULT_MAX_PIXELS, ImageError, decode, opened
from pipeline.ingest.facts import ImageDefect, ImageFacts, Verdict

__all__ = ["IMAGE_KEY_DIGITS", "ImageDefect", "ImageFacts", "check_image", "judge_image", "judge_images"]

IMAGE_KEY_DIGITS = 32
"""Hex digits of sha256 that name an image: 128 bits, so no two of 10^12 images collide by chance."""


def check_image(path: str | Path, max_pixels: int = DEFAULT_MAX_PIXELS) -> ImageFacts:
    """Decode an image file in full and return its facts.

    Args:
        path: The file; symbolic links are followed.
        max_pixels: Largest width times height that is decoded.

    Raises:
        MissingImage, UnreadableImage, TruncatedImage, DecompressionBomb: See ``pipeline.images``.
    """
    with opened(path) as stream:
        decoded = decode(stream, path, max_pixels)
        stream.seek(0)
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    width, height = decoded.image.size
    return ImageFacts(digest[:IMAGE_KEY_DIGITS], width, height, decoded.mode, decoded.exif_rotated)


def judge_image(path: str, max_pixels: int) -> Verdict:
    """Return ``check_image``'s facts, or the defect as a value that travels between processes."""
    try:
        return check_image(path, max_pixels)
    except ImageError as error:
        return ImageDefect(error.code, str(error), error.lasting)
    except OSError as error:
        # The disk failed while reading: says nothing about the file's content.
        return ImageDefect("unreadable_image", f"{path}: cannot be read ({error})", lasting=False)


def judge_images(paths: list[str], max_pixels: int) -> list[Verdict]:
    """Return one verdict per path, in order; the unit of work of a pool worker."""
    return [judge_image(path, max_pixels) for path in paths]
