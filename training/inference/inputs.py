"""What is to be judged: one pair, a folder of pictures with their texts, or a table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from training.errors import UsageError

if TYPE_CHECKING:
    import polars as pl

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".jp2", ".avif")
TABLES = (".csv", ".jsonl", ".parquet")


@dataclass(frozen=True)
class Item:
    """One pair to judge.

    Attributes:
        id: The table's ``id``, else the row's number from 0; of a folder the picture's name.
        image: The image file.
        text: The text shown with it; empty when there is none.
        problem: Why the pair cannot be judged, or None.
    """

    id: str
    image: Path
    text: str
    problem: str | None = None


def from_folder(folder: Path) -> list[Item]:
    """Return the pictures of a folder, by name, each with the text of the ``.txt`` file of the same stem.

    Raises:
        UsageError: There is no such folder, or no picture in it.
    """
    if not folder.is_dir():
        raise UsageError(f"--folder {folder}: no such folder")
    pictures = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())
    if not pictures:
        raise UsageError(f"--folder {folder}: no pictures in it; known are {', '.join(SUFFIXES)}")
    return [_beside(picture) for picture in pictures]


def _beside(picture: Path) -> Item:
    file = picture.with_suffix(".txt")
    try:
        return Item(picture.name, picture, file.read_text(encoding="utf-8-sig").strip())
    except FileNotFoundError:
        problem = f"{file.name} is missing: the text shown with the picture"
    except (OSError, UnicodeDecodeError) as error:
        problem = f"{file.name} cannot be read as UTF-8: {error}"
    return Item(picture.name, picture, "", problem)


def from_table(file: Path) -> list[Item]:
    """Return the rows of a table with columns image, text and perhaps id; paths start at the table's folder.

    Raises:
        UsageError: The file is missing, of another kind, damaged, without rows or without a needed column.
    """
    if not file.is_file():
        raise UsageError(f"--table {file}: no such file")
    table = _read(file)
    missing = [name for name in ("image", "text") if name not in table.columns]
    if missing:
        raise UsageError(
            f"--table {file}: no column {' and no column '.join(missing)}; it has "
            f"{', '.join(table.columns)}. Rename them to image and text"
        )
    if not table.height:
        raise UsageError(f"--table {file}: no rows")
    return list(_items(table, file.parent))


def _read(file: Path) -> pl.DataFrame:
    import polars as pl

    try:
        match file.suffix.lower():
            case ".csv":
                # Without types: a text of digits must stay a text.
                return pl.read_csv(file, infer_schema=False)
            case ".jsonl":
                return pl.read_ndjson(file, infer_schema_length=None)
            case ".parquet":
                return pl.read_parquet(file)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UsageError(f"--table {file} cannot be read: {error}") from None
    raise UsageError(f"--table {file}: the name must end in {', '.join(TABLES)}")


def _items(table: pl.DataFrame, folder: Path) -> Iterator[Item]:
    names = [name for name in ("id", "image", "text") if name in table.columns]
    for number, row in enumerate(table.select(names).iter_rows(named=True)):
        own = row.get("id")
        name = str(number) if own is None else str(own)
        image, text = row["image"], row["text"]
        problem = None
        if not isinstance(image, str) or not image:
            problem = f"image is {image!r}, not the path of a file"
        elif not isinstance(text, str):
            problem = f"text is {text!r}, not a text"
        path = folder / Path(str(image)).expanduser()
        yield Item(name, path, text if isinstance(text, str) else "", problem)
