"""What ingest records about image files. Plain data, so that reading annotations need not load a decoder."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What is known of a usable image file.

    Attributes:
        image_key: First 32 hex digits of the sha256 of the file's bytes.
        width: Pixels, as displayed (EXIF orientation applied).
        height: Pixels, as displayed.
        mode: Pillow mode of the file before conversion to RGB.
        exif_rotated: Whether EXIF orientation turns or mirrors the picture.
    """

    image_key: str
    width: int
    height: int
    mode: str
    exif_rotated: bool


@dataclass(frozen=True, slots=True)
class ImageDefect:
    """Why an image file cannot be used.

    Attributes:
        code: Code of the quarantine.
        message: Names the file and the remedy.
        lasting: Whether the file's bytes are at fault, so that the verdict stands until the file changes.
    """

    code: str
    message: str
    lasting: bool


Verdict = ImageFacts | ImageDefect


@dataclass
class CheckedImages:
    """Verdicts on the image files of a data set.

    Attributes:
        found: Annotated path to the file's path relative to the image root.
        verdicts: Annotated path to facts or defect.
        checked: Number of files decoded in this run.
        cached: Number of files whose verdict an earlier run left.
    """

    found: dict[str, str] = field(default_factory=dict)
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    checked: int = 0
    cached: int = 0
