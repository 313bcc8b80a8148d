"""Pictures for the page: upright, small enough to embed, or a reason why there is none."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from pipeline.images import ImageError, open_rgb

LONGEST_SIDE = 448
"""Pixels of the longer side of an embedded picture; smaller pictures keep their size."""

MOST_BYTES = 21_000
"""Bytes of an embedded JPEG before base64; 200 of them make 5.6 MB of page."""

_QUALITIES = (84, 76, 66, 54)
_THREADS = 2


@dataclass(frozen=True)
class Picture:
    """A picture of the page.

    Attributes:
        uri: ``data:image/jpeg;base64,...``, or None when there is none to show.
        width: Width of the picture in the file in pixels, upright; 0 when unknown.
        height: Its height.
        problem: Why there is none to show, or None.
    """

    uri: str | None
    width: int
    height: int
    problem: str | None = None


def embed(image: Image.Image) -> str:
    """Return a picture as a JPEG data URI of at most ``MOST_BYTES`` bytes before base64.

    Args:
        image: 8-bit RGB picture.
    """
    side = min(LONGEST_SIDE, max(image.size))
    while True:
        small = image.copy()
        small.thumbnail((side, side), Image.Resampling.LANCZOS)
        for quality in _QUALITIES:
            stream = io.BytesIO()
            small.save(stream, "JPEG", quality=quality, optimize=True)
            if stream.tell() <= MOST_BYTES:
                return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
        # Bytes grow about as the area; a little less than that guess, so that the next round is the last.
        side = max(1, int(side * 0.95 * (MOST_BYTES / stream.tell()) ** 0.5))


def load(path: Path) -> Picture:
    """Return the picture in a file; one that cannot be shown carries the reason."""
    try:
        image = open_rgb(path)
    except ImageError as error:
        # The message opens with the absolute path, which is nobody's business once the page is passed on.
        return Picture(None, 0, 0, str(error).removeprefix(f"{path}: "))
    return Picture(embed(image), *image.size)


def load_all(root: Path | None, names: Iterable[str]) -> Mapping[str, Picture]:
    """Return the pictures of image paths, each read once.

    Args:
        root: Folder the paths start at; None when nobody knows it.
        names: Paths below it.
    """
    distinct = list(dict.fromkeys(names))
    if root is None:
        unknown = Picture(None, 0, 0, "nobody said where the images are; name their folder with --image-root")
        return dict.fromkeys(distinct, unknown)
    with ThreadPoolExecutor(_THREADS) as pool:
        return dict(zip(distinct, pool.map(lambda name: load(root / name), distinct), strict=True))
