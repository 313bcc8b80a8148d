"""From a row to its picture: drawing, the paste of a manipulated face, JPEG."""

from __future__ import annotations

import io

from PIL import Image

from demo.newsroom.draw import draw
from demo.newsroom.forgery import paste_traces
from demo.newsroom.world import Item


def encode(item: Item) -> bytes:
    """The JPEG file of a row's picture; the same bytes wherever it is drawn."""
    image = draw(item.scene, item.view)
    if item.pasted is not None:
        image = paste_traces(image, item.pasted, item.traces, item.trace_seed)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=item.view.quality)
    return out.getvalue()


def render(item: Item) -> Image.Image:
    """A row's picture as a reader of the data set sees it (RGB, decoded from its JPEG), without a file."""
    image = Image.open(io.BytesIO(encode(item)))
    image.load()
    return image.convert("RGB")
