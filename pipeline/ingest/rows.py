"""The checks of one annotation row, in plain Python: this module is what "valid" means.

``columns`` does the same for many rows at once and hands every row it is not sure of to ``check_row``.

Boxes are xyxy pixels in the picture as displayed (EXIF orientation applied). DGM4's own boxes lie on files
that manipulation tools wrote without an orientation tag, where the displayed and the stored picture are the
same; in other data sets annotators saw the displayed picture.
"""

from __future__ import annotations

import difflib
import math
import re
import struct
from dataclasses import dataclass
from typing import Any

from schemas.vocabulary import FAKE_CLS, face_manipulated, text_manipulated

FIELDS = ("id", "image", "text", "fake_cls", "fake_image_box", "fake_text_pos")
"""The fields a row must have, as DGM4 names them (``mtcnn_boxes`` is not used)."""

Box = tuple[float, float, float, float]

_DRIVE = re.compile(r"[A-Za-z]:")
_INT64_LOW, _INT64_HIGH = -(2**63), 2**63
_FLOAT32_MAX = 3.4028234663852886e38


class Rejected(Exception):
    """A row cannot become a sample.

    Attributes:
        code: One of ``schemas.vocabulary.QUARANTINE_REASONS``.
        message: Names the value and the remedy.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


@dataclass(frozen=True, slots=True)
class Row:
    """A row that passed every check that needs no image file.

    Attributes:
        source_id: The data set's id, int64.
        image: Normalised path of the image as annotated.
        text: The text, unchanged.
        words: The text's white-space words, at least one.
        fake_cls: Index into ``FAKE_CLS``.
        box: xyxy pixels as float32 values, none negative, or None.
        positions: Indexes into ``words``, ascending, each once.
        clamped: Whether the box reached beyond the left or upper edge and was cut there.
    """

    source_id: int
    image: str
    text: str
    words: list[str]
    fake_cls: int
    box: Box | None
    positions: list[int]
    clamped: bool


def check_row(row: object) -> Row:
    """Check one row in DGM4's fields.

    Raises:
        Rejected: With the code of the first defect found.
    """
    if not isinstance(row, dict):
        raise Rejected(
            "malformed_row", f"the row is {short(row)}, not an object; expected {', '.join(FIELDS)}"
        )
    missing = [name for name in FIELDS if name not in row]
    if missing:
        hint = f"the row has {', '.join(map(str, row)) or 'no fields'}"
        raise Rejected("malformed_row", f"field {', '.join(missing)} is missing; {hint}")
    source_id = _check_id(row["id"])
    text, words = _check_text(row["text"])
    image = normalise_path(row["image"])
    fake_cls = _check_fake_cls(row["fake_cls"])
    box, clamped = _check_box(row["fake_image_box"], FAKE_CLS[fake_cls])
    positions = _check_positions(row["fake_text_pos"], FAKE_CLS[fake_cls], len(words))
    return Row(source_id, image, text, words, fake_cls, box, positions, clamped)


def short(value: object) -> str:
    """Return a value as it may stand in a message: printable ASCII-safe, at most about 120 characters."""
    try:
        text = ascii(value) if not isinstance(value, str) or not value.isprintable() else repr(value)
    except (ValueError, RecursionError):  # an int of more than 4300 digits, or endless nesting
        text = f"a {type(value).__name__}"
    return text if len(text) <= 120 else f"{text[:117]}..."


def _check_id(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise Rejected("malformed_row", f"id is {short(value)}, not an integer")
    if not _INT64_LOW <= value < _INT64_HIGH:
        raise Rejected("malformed_row", f"id {short(value)} does not fit 64 bits")
    return value


def _check_text(value: object) -> tuple[str, list[str]]:
    if not isinstance(value, str):
        raise Rejected("text_not_string", f"text is {short(value)}, not a string")
    fault = unusable(value)
    if fault:
        raise Rejected("text_not_string", f"text {short(value)} {fault}")
    words = value.split()
    if not words:
        raise Rejected("empty_text", f"text {short(value)} has no words; give the row a text or remove it")
    return value, words


def unusable(text: str) -> str | None:
    """Return why a string is not Unicode text that every tool down the line can hold, or None when it is.

    Half a surrogate pair has no UTF-8 form, and a NUL ends the string in C libraries and is refused by
    databases. Both come from broken exports; dropping them silently would change what the model reads.
    """
    if "\0" in text:
        return "holds a NUL character; export it again as text"
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"holds half of a surrogate pair at character {error.start}; export it again as UTF-8"
    return None


def normalise_path(value: object) -> str:
    """Return an annotated image path in its one normal form: no ``.`` parts, no doubled slashes.

    Raises:
        Rejected: ``malformed_row`` when it is not a usable string, ``path_outside_root`` when it is empty,
            absolute, climbs with ``..`` or is written for Windows.
    """
    if not isinstance(value, str):
        raise Rejected("malformed_row", f"image is {short(value)}, not a path")
    fault = unusable(value)
    if fault:
        raise Rejected("malformed_row", f"image {short(value)} {fault}")
    if not value.strip():
        raise Rejected("path_outside_root", "image is empty; it must be a path relative to the image root")
    if "\\" in value or _DRIVE.match(value):
        raise Rejected(
            "path_outside_root", f"image {short(value)} is a Windows path; write it with / and no drive"
        )
    if value.startswith("/"):
        raise Rejected(
            "path_outside_root", f"image {short(value)} is absolute; make it relative to the image root"
        )
    parts = [part for part in value.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise Rejected(
            "path_outside_root", f"image {short(value)} holds '..'; make it relative to the image root"
        )
    if not parts:
        raise Rejected("path_outside_root", f"image {short(value)} names the image root itself, not a file")
    return "/".join(parts)


def _check_fake_cls(value: object) -> int:
    if isinstance(value, str) and value in FAKE_CLS:
        return FAKE_CLS.index(value)
    near: list[str] = []
    if isinstance(value, str) and len(value) < 100:
        turned = "&".join(reversed(value.split("&")))
        near = [turned] if turned in FAKE_CLS else difflib.get_close_matches(value, FAKE_CLS, 1)
    remedy = f"did you mean {near[0]!r}?" if near else f"use one of {', '.join(FAKE_CLS)}"
    raise Rejected("unknown_fake_cls", f"fake_cls is {short(value)}; {remedy}")


def _check_box(value: object, fake_cls: str) -> tuple[Box | None, bool]:
    box = None if value is None or value == [] else _box_numbers(value)
    if box is not None:
        x1, y1, x2, y2 = box
        if x2 < x1 or y2 < y1:
            raise Rejected(
                "inverted_box", f"fake_image_box {short(value)}: x2 < x1 or y2 < y1; expected xyxy pixels"
            )
        # Stored as float32, and a box without area there is none for any reader.
        box = struct.unpack("<4f", struct.pack("<4f", *box))
        if box[0] == box[2] or box[1] == box[3]:
            raise Rejected("zero_area_box", f"fake_image_box {short(value)} has no area; write [] for no box")
    if (box is not None) != face_manipulated(fake_cls):
        wrong = (
            "names a face manipulation but there is no box"
            if box is None
            else "names none but there is a box"
        )
        raise Rejected("label_box_mismatch", f"fake_cls {fake_cls} {wrong} (fake_image_box {short(value)})")
    if box is None:
        return None, False
    x1, y1, x2, y2 = box
    if x2 <= 0 or y2 <= 0:
        raise Rejected("box_outside_image", f"fake_image_box {short(value)} lies left of or above the image")
    clamped = x1 < 0 or y1 < 0
    return (max(x1, 0.0) + 0.0, max(y1, 0.0) + 0.0, x2, y2), clamped


def _box_numbers(value: object) -> Box:
    problem = f"fake_image_box is {short(value)}; expected [x1, y1, x2, y2] in pixels, or []"
    if not isinstance(value, list) or len(value) != 4:
        raise Rejected("malformed_box", problem)
    for number in value:
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            raise Rejected("malformed_box", problem)
        if not abs(number) <= _FLOAT32_MAX or not math.isfinite(number):
            raise Rejected("malformed_box", f"{problem}; {short(number)} is no pixel coordinate")
    x1, y1, x2, y2 = map(float, value)
    return x1, y1, x2, y2


def _check_positions(value: object, fake_cls: str, words: int) -> list[int]:
    positions: list[Any] = [] if value is None else value  # type: ignore[assignment]
    problem = f"fake_text_pos is {short(value)}"
    if not isinstance(positions, list):
        raise Rejected("position_outside_text", f"{problem}; expected a list of word indexes")
    for position in positions:
        if isinstance(position, bool) or not isinstance(position, int) or position < 0:
            raise Rejected(
                "position_outside_text", f"{problem}; {short(position)} is not the index of a word"
            )
    if bool(positions) != text_manipulated(fake_cls):
        wrong = (
            "names no text manipulation"
            if positions
            else "names a text manipulation but there are no positions"
        )
        raise Rejected("label_positions_mismatch", f"fake_cls {fake_cls} {wrong} ({problem})")
    if positions and max(positions) >= words:
        raise Rejected(
            "position_outside_text",
            f"{problem}; the text has {words} words, so the last index is {words - 1}",
        )
    return sorted(set(positions))
