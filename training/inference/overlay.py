"""The picture with the predicted box, the verdict and the text with its flagged words, as one picture."""

from __future__ import annotations

import os
import textwrap
import uuid
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from training.data.images import to_rgb
from training.engine.files import TEMPORARY_PREFIX
from training.errors import TrainingError
from training.inference.describe import NAMES, not_read, percent
from training.inference.fonts import font_of, scripts_of, undrawable
from training.inference.verdict import Verdict

_INK, _SOFT, _PAPER, _RULE = "#1b1f24", "#5c6670", "#ffffff", "#e3e7eb"
_FAKE, _REAL = "#c62828", "#2e7d32"
_MARK, _MARK_INK = "#ffd9d4", "#8e1b1b"
_NARROWEST, _WIDEST, _TALLEST = 560, 1400, 1600
_MARGIN = 24


def open_picture(path: Path | str) -> Image.Image:
    """Return an image file as displayed, upright, in the colours that the model sees (RGB)."""
    with Image.open(path) as image:
        image.load()
        try:
            upright = ImageOps.exif_transpose(image)
        except Exception:  # a broken EXIF block raises almost anything, and the picture is still fine
            upright = image
        return to_rgb(upright)


def letters_lost(verdict: Verdict) -> str | None:
    """Return the sentence on letters of the text that no font of this machine has, or None."""
    lost = undrawable(" ".join(word for word, _ in verdict.words))
    if not lost:
        return None
    return f"no font here has the letters of {', '.join(scripts_of(lost))}: boxes stand for them"


def boxed(picture: Image.Image, verdict: Verdict) -> Image.Image:
    """Return the picture at a size that reads well, with the predicted box drawn on it.

    Args:
        picture: Upright, of the size the verdict names.
        verdict: Of this picture.
    """
    shown, scale = _shown(picture)
    if verdict.box is not None:
        draw = ImageDraw.Draw(shown)
        x1, y1, x2, y2 = (value * scale for value in verdict.box)
        width = max(3, round(shown.width / 220))
        # A light edge on both sides keeps the line visible on any background.
        draw.rectangle((x1 - width, y1 - width, x2 + width, y2 + width), outline="white", width=3 * width)
        draw.rectangle((x1, y1, x2, y2), outline=_FAKE, width=width)
        _tag(draw, "edited face?", x1 - width, y1 - width, shown.size)
    return shown


def overlay(picture: Image.Image, verdict: Verdict) -> Image.Image:
    """Return `boxed` with a panel under it: the verdict, the four types, the text with flagged words.

    Args:
        picture: Upright, of the size the verdict names.
        verdict: Of this picture.
    """
    shown = boxed(picture, verdict)
    width = max(shown.width, _NARROWEST)
    panel = _panel(verdict, width)
    page = Image.new("RGB", (width, shown.height + panel.height), _PAPER)
    page.paste(shown, ((width - shown.width) // 2, 0))
    page.paste(panel, (0, shown.height))
    return page


def can_save(path: Path) -> bool:
    """Tell whether the format that a name ends in takes pictures such as these: by writing a small one."""
    Image.init()
    kind = Image.EXTENSION.get(path.suffix.lower())
    if kind not in Image.SAVE:
        return False
    try:
        Image.new("RGB", (32, 32)).save(BytesIO(), kind)
    except Exception:  # a format that knows no colours, or a library that is not there, raises as it likes
        return False
    return True


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write a picture in the format its name ends in, whole or not at all.

    Raises:
        TrainingError: The disk refuses.
    """
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{uuid.uuid4().hex[:8]}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            picture.save(temporary)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise TrainingError(f"{path} could not be written: {error}") from error


def _shown(picture: Image.Image) -> tuple[Image.Image, float]:
    scale = min(max(1.0, _NARROWEST / picture.width), _TALLEST / picture.height)
    scale = min(scale, _WIDEST / picture.width)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.LANCZOS), scale


def _tag(draw: ImageDraw.ImageDraw, text: str, x: float, y: float, size: tuple[int, int]) -> None:
    font = _font(15, bold=True)
    wide, high = draw.textlength(text, font=font) + 14, 24
    left = min(max(0.0, x), size[0] - wide)
    top = y - high if y >= high else min(max(0.0, y), size[1] - high)
    draw.rectangle((left, top, left + wide, top + high), fill=_FAKE)
    draw.text((left + 7, top + high / 2), text, font=font, fill="white", anchor="lm")


def _panel(verdict: Verdict, width: int) -> Image.Image:
    # Twice: the first pass only finds the height, on a canvas of no importance.
    height = _draw_panel(ImageDraw.Draw(Image.new("RGB", (width, 1))), verdict, width)
    panel = Image.new("RGB", (width, height), _PAPER)
    _draw_panel(ImageDraw.Draw(panel), verdict, width)
    return panel


def _draw_panel(draw: ImageDraw.ImageDraw, verdict: Verdict, width: int) -> int:
    colour, word = (_FAKE, "Manipulated") if verdict.is_fake else (_REAL, "Not manipulated")
    y = 20.0
    draw.text((_MARGIN, y), word, font=_font(28, bold=True), fill=colour)
    draw.text(
        (width - _MARGIN, y + 8),
        f"probability {percent(verdict.p_fake)}",
        font=_font(17),
        fill=_SOFT,
        anchor="ra",
    )
    y = _draw_types(draw, verdict, width, y + 54)
    draw.line((_MARGIN, y, width - _MARGIN, y), fill=_RULE, width=2)
    y = _draw_words(draw, verdict, width, y + 16)
    if verdict.words_not_read:
        draw.text((_MARGIN, y), not_read(verdict), font=_font(15), fill=_SOFT)
        y += 24
    if lost := letters_lost(verdict):
        for line in textwrap.wrap(lost, max(20, (width - 2 * _MARGIN) // 9)):
            draw.text((_MARGIN, y), line, font=_font(15), fill=_SOFT)
            y += 24
    return round(y + 12)


def _draw_types(draw: ImageDraw.ImageDraw, verdict: Verdict, width: int, y: float) -> float:
    gap = 20
    column = (width - 2 * _MARGIN - gap) / 2
    for n, (name, p) in enumerate(verdict.types.items()):
        x, top = _MARGIN + (n % 2) * (column + gap), y + (n // 2) * 34
        strong = name in verdict.named
        bar = x + 96
        end = x + column - 52
        font = _font(16, bold=strong)
        draw.text((x, top + 10), NAMES[name], font=font, fill=_INK, anchor="lm")
        draw.rounded_rectangle((bar, top + 4, end, top + 16), 6, fill=_RULE)
        if (filled := (end - bar) * p) >= 1:
            colour = _FAKE if strong else "#9aa5b1"
            draw.rounded_rectangle((bar, top + 4, bar + filled, top + 16), min(6, filled / 2), fill=colour)
        draw.text((x + column, top + 10), f"{p:.0%}", font=font, fill=_INK, anchor="rm")
    return y + (len(verdict.types) + 1) // 2 * 34 + 6


def _draw_words(draw: ImageDraw.ImageDraw, verdict: Verdict, width: int, y: float) -> float:
    flagged = set(verdict.flagged)
    x, line = float(_MARGIN), 34
    space = draw.textlength(" ", font=_font(20))
    for position, (word, _) in enumerate(verdict.words):
        font = font_of(word, 20, bold=position in flagged)
        for piece in _pieces(draw, word, font, width - 2 * _MARGIN - 8):
            wide = draw.textlength(piece, font=font)
            if x > _MARGIN and x + wide > width - _MARGIN:
                x, y = float(_MARGIN), y + line
            if position in flagged:
                draw.rounded_rectangle((x - 4, y - 1, x + wide + 4, y + 27), 5, fill=_MARK)
            draw.text((x, y), piece, font=font, fill=_MARK_INK if position in flagged else _INK)
            x += wide + space
    return y + line + 6


def _pieces(draw: ImageDraw.ImageDraw, word: str, font: ImageFont.FreeTypeFont, most: float) -> list[str]:
    """Cut a word that is wider than a line."""
    pieces = [""]
    for letter in word:
        if pieces[-1] and draw.textlength(pieces[-1] + letter, font=font) > most:
            pieces.append("")
        pieces[-1] += letter
    return pieces


def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    return font_of("", size, bold)
