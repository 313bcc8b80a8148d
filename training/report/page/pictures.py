"""Pictures for the page: upright, small enough to embed, or a reason why there is none."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from training.data.images import load_square
from training.errors import DataError

LONGEST_SIDE = 336
"""Pixels of the longer side of an embedded picture."""

MOST_BYTES = 24_000
"""Bytes of an embedded JPEG before base64; the gallery has at most 33 pictures, about 1 MB in all."""

_QUALITIES = (84, 74, 62, 48, 34)


@dataclass(frozen=True)
class Thumbnail:
    """A picture of the page.

    Attributes:
        uri: ``data:image/jpeg;base64,...``, or None when there is none to show.
        width: Width of the picture in the file in pixels, upright.
        height: Its height.
        problem: Why there is none to show, or empty.
    """

    uri: str | None
    width: int
    height: int
    problem: str = ""


def thumbnail(root: Path, name: str, sample_id: str, size: tuple[int, int]) -> Thumbnail:
    """Return the picture of a sample; one that cannot be shown carries the reason.

    Args:
        root: Folder of the pictures.
        name: Path below it.
        sample_id: Row that needs it.
        size: Width and height that the evaluation saw, for a picture that is not there.
    """
    try:
        picture = load_square(root / name, LONGEST_SIDE, sample_id)
    except DataError as error:
        # The message names the folder, which is nobody's business once the page is passed on.
        reason = str(error).removeprefix(f"{root / name}: ").replace(f"{root}/", "")
        return Thumbnail(None, *size, reason.split("; ")[0])
    scale = min(1.0, LONGEST_SIDE / max(picture.width, picture.height))
    shape = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return Thumbnail(_embedded(picture.image.resize(shape)), picture.width, picture.height)


def _embedded(image: Image.Image) -> str:
    for quality in _QUALITIES:
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=quality, optimize=True)
        if stream.tell() <= MOST_BYTES:
            break
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
