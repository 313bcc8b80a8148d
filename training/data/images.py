"""Image files to square tensors, as displayed: EXIF orientation applied, transparency on white."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageCms
from torch import Tensor

from training.errors import DataError

MEAN = (0.48145466, 0.4578275, 0.40821073)
"""CLIP's channel means (Radford et al. 2021; open_clip's OPENAI_DATASET_MEAN)."""

DEVIATION = (0.26862954, 0.26130258, 0.27577711)
"""CLIP's channel deviations (OPENAI_DATASET_STD)."""

Image.init()  # Pillow registers its formats only when asked, and not every build has all of them
# The formats ingest accepts; Pillow knows more, some of which start other programs.
_ACCEPTED = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
_FORMATS = tuple(name for name in _ACCEPTED if name in Image.OPEN)
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TURNED = 5  # orientations from here on swap width and height

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Picture:
    """A decoded picture.

    Attributes:
        image: RGB, of the target size.
        width: Width of the upright original in pixels.
        height: Its height.
    """

    image: Image.Image
    width: int
    height: int


def load_square(path: Path, size: int, sample_id: str) -> Picture:
    """Decode a file and resize it to a square, bicubic, without keeping its aspect.

    Args:
        path: The image file.
        size: Side of the square in pixels.
        sample_id: Row that needs it, for messages.

    Raises:
        DataError: The file is missing or does not decode.
    """
    try:
        return read_square(path, size)
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, ValueError and more
        raise DataError(
            f"{path}: the image of sample {sample_id} does not decode ({type(error).__name__}: {error}); "
            "check data.image_root, or put the image back and run python -m pipeline ingest again"
        ) from error


def refuse_replaced(
    picture: Picture, noted: tuple[int | None, int | None], path: Path, sample_id: str
) -> None:
    """Raise DataError when a picture has not the width and height that ingest noted (None: not known)."""
    size = (picture.width, picture.height)
    if None not in noted and noted != size:
        raise DataError(
            f"{path}: {size[0]} x {size[1]} pixels, but sample {sample_id} was read as "
            f"{noted[0]} x {noted[1]}; the file has changed, run python -m pipeline ingest again"
        )


def read_square(path: Path, size: int) -> Picture:
    """Return what `load_square` does; errors are the decoder's own, of any kind."""
    with warnings.catch_warnings():
        # Ingest has judged the number of pixels; Pillow's own hard limit still raises.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(path, formats=_FORMATS) as image:
            return _square(image, size)


def square_of(image: Image.Image, size: int) -> Picture:
    """Return a picture in memory as `read_square` returns a file; the picture itself stays as it is."""
    return _square(image.copy(), size)


def decode_jpeg(content: bytes) -> Tensor:
    """Return (3, H, W) uint8 of a JPEG file's bytes."""
    with Image.open(BytesIO(content), formats=("JPEG",)) as image:
        return to_tensor(image.convert("RGB"))


def to_tensor(image: Image.Image) -> Tensor:
    """Return (3, H, W) uint8 of an RGB picture."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def normalise(images: Tensor) -> Tensor:
    """Return float32 of (..., 3, H, W) uint8 images, with CLIP's mean and deviation."""
    mean = torch.tensor(MEAN, device=images.device).view(3, 1, 1)
    deviation = torch.tensor(DEVIATION, device=images.device).view(3, 1, 1)
    return images.float().div_(255).sub_(mean).div_(deviation)


def _square(image: Image.Image, size: int) -> Picture:
    width, height = image.size
    # A JPEG can be decoded at 1/2, 1/4 or 1/8 of its size at a fraction of the time. At least twice the
    # target is kept, so that the bicubic filter still averages over real pixels.
    reduced = image.draft(image.mode, (2 * size, 2 * size))
    image.load()
    if reduced is None:
        # Pillow sets TIFF files upright by itself, then forgets their tag; what counts is what is left to do.
        width, height = image.size
    orientation = _orientation(image)
    # Reduced sides are rounded up: 4097 pixels become 513, of which 512.125 are the picture.
    box = None if reduced is None else _turned_box(reduced[1], image.size, orientation)
    upright = image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image
    square = to_rgb(upright).resize((size, size), Image.Resampling.BICUBIC, box=box)
    return Picture(square, *((height, width) if orientation >= _TURNED else (width, height)))


def _turned_box(box: Box, size: tuple[int, int], orientation: int) -> Box:
    """Return where a box x1, y1, x2, y2 of a picture of that size lies once the picture is upright."""
    (x1, y1, x2, y2), (width, height) = box, size
    if orientation in (2, 3, 7, 8):
        x1, x2 = width - x2, width - x1
    if orientation in (3, 4, 6, 7):
        y1, y2 = height - y2, height - y1
    return (y1, x1, y2, x2) if orientation >= _TURNED else (x1, y1, x2, y2)


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 (upright) when there is none or the EXIF block is damaged."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # a broken EXIF block raises almost anything, and the picture is still fine
        return 1
    return value if value in _UPRIGHT else 1


def to_rgb(image: Image.Image) -> Image.Image:
    """Return a picture of any mode as RGB, as the model sees it: transparency on white, deep values scaled.

    Args:
        image: Of any mode that Pillow has: palette, CMYK, LAB, 16-bit, float and so on. It is not turned; its
            EXIF orientation must have been applied.
    """
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        return _from_deep(image).convert("RGB")
    if image.mode == "LAB":
        source, target = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        transform = ImageCms.buildTransform(source, target, "LAB", "RGB")
        converted = ImageCms.applyTransform(image, transform)
        assert converted is not None  # None only comes back for a transform in place
        return converted
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")


def _from_deep(image: Image.Image) -> Image.Image:
    """Return 8-bit gray of 16-bit, 32-bit or floating values, which Pillow itself would clip at 255."""
    values = np.nan_to_num(np.asarray(image).astype(np.float64))
    top = float(values.max(initial=0.0))
    if image.mode.startswith("I;16"):
        full = 65535.0
    elif image.mode == "F" and top <= 1.0:
        full = 1.0
    else:
        full = next((limit for limit in (255.0, 65535.0) if top <= limit), top)
    return Image.fromarray(np.rint(values.clip(0.0, full) * (255.0 / full)).astype(np.uint8))
