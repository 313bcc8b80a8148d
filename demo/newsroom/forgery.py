"""The traces that pasting a face leaves: a colour shift, softness, noise, a JPEG grid that does not match."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from demo.newsroom.view import Box


def _mask(size: tuple[int, int]) -> Image.Image:
    """Opaque in the middle, soft towards the edge, zero on the edge; L, of the given size."""
    width, height = size
    edge = max(2, round(0.05 * min(size)))
    mask = Image.new("L", size, 0)
    box = (edge, edge, width - 1 - edge, height - 1 - edge)
    ImageDraw.Draw(mask).rounded_rectangle(box, radius=0.45 * min(size), fill=255)
    mask = mask.filter(ImageFilter.BoxBlur(edge * 0.7))
    return mask


def paste_traces(image: Image.Image, box: Box, strength: float, seed: int) -> Image.Image:
    """Makes the content of a box look pasted.

    Args:
        image: RGB picture that already shows the new face.
        box: Where it was pasted, in pixels; nothing outside changes.
        strength: 0 leaves no trace, 1 leaves traces plain to the eye.
        seed: Chooses the kind of traces.

    Returns:
        The picture with traces, a new image.
    """
    if strength <= 0:
        return image
    rng = np.random.default_rng(seed)
    patch = image.crop(box)
    shrink = 1.0 - rng.uniform(0.2, 0.5) * strength
    small = (max(1, round(patch.width * shrink)), max(1, round(patch.height * shrink)))
    soft = patch.resize(small, Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    soft.save(buffer, "JPEG", quality=int(95 - rng.uniform(25, 50) * strength))
    soft = Image.open(buffer).convert("RGB").resize(patch.size, Image.Resampling.BICUBIC)
    pixels = np.asarray(soft, dtype=np.float32)
    gain = 1.0 + strength * rng.uniform(-0.12, 0.12, 3).astype(np.float32)
    noise = rng.standard_normal(pixels.shape[:2], dtype=np.float32)[..., None] * (
        strength * np.float32(rng.uniform(2, 8))
    )
    pixels = np.clip(pixels * gain + noise, 0, 255).astype(np.uint8)
    result = image.copy()
    result.paste(Image.fromarray(pixels), box[:2], _mask(patch.size))
    return result
