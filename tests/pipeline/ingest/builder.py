"""Builds DGM4 folders and other annotation files for tests, with real image files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image

from pipeline.ingest.run import Options, ingest
from schemas import open_table

TEXT = "The mayor of Lima smiles at the opening of a bridge"
FACE_IMAGE = "DGM4/manipulation/infoswap/{}.jpg"
ORIGIN_IMAGE = "DGM4/origin/guardian/0001/{}.jpg"


def row(number: int, fake_cls: str = "orig", **changes: Any) -> dict[str, Any]:
    """Return a valid DGM4 row; every number has an image of its own."""
    face = "face" in fake_cls
    return {
        "id": number,
        "image": (FACE_IMAGE if face else ORIGIN_IMAGE).format(number),
        "text": f"{TEXT} {number}",
        "fake_cls": fake_cls,
        "fake_image_box": [4, 6, 20, 22] if face else [],
        "fake_text_pos": [4] if "text" in fake_cls else [],
        "mtcnn_boxes": [[4, 6, 20, 22]],
    } | changes


def write_image(path: Path, size: tuple[int, int] = (40, 32), seed: int = 0, **save: Any) -> Path:
    """Write a small picture whose content depends on the seed; the suffix names the format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.linear_gradient("L").resize(size)
    tint = Image.new("L", size, seed * 37 % 256)
    Image.merge("RGB", (picture, tint, picture.transpose(Image.Transpose.ROTATE_180))).save(path, **save)
    return path


def write_images(root: Path, rows: list[Any]) -> None:
    """Write the image of every row below the root."""
    for number, each in enumerate(rows):
        write_image(root / each["image"], seed=number)


def write_json(path: Path, rows: Any) -> Path:
    """Write rows as a DGM4 annotation file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows))
    return path


def run(out: Path, *files: Path, root: Path | None = None, **options: Any) -> dict[str, Any]:
    """Ingest files, without their images when no root is given, and check that the rows add up."""
    summary = ingest(Options(metadata=files, out=out, image_root=root, skip_images=root is None, **options))
    assert summary["rows_read"] == summary["samples"] + summary["duplicates"] + summary["quarantined"]
    assert summary["quarantined"] == sum(summary["by_reason"].values())
    assert open_table(out, "samples").num_rows == summary["samples"]
    assert open_table(out, "quarantine").num_rows == summary["quarantined"]
    return summary


def ingest_rows(tmp_path: Path, rows: list[Any], **options: Any) -> dict[str, Any]:
    """Ingest rows as one train file, without images unless a root is given."""
    return run(tmp_path / "out", write_json(tmp_path / "train.json", rows), **options)


def samples(out: Path) -> list[dict[str, Any]]:
    """Return the samples, in order."""
    return open_table(out, "samples").to_arrow().to_pylist()


def quarantine(out: Path) -> list[dict[str, Any]]:
    """Return the quarantine, in order."""
    return open_table(out, "quarantine").to_arrow().to_pylist()
