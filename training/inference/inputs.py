"""What is to be judged: one pair, a folder of pictures with their texts, or a table."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.errors import UsageError

if TYPE_CHECKING:
    import polars as pl

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".jp2", ".avif")
Row = dict[str, Any]

_COLUMNS = ("id", "image", "text")
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
    columns, rows = _read(file)
    missing = [name for name in ("image", "text") if name not in columns]
    if missing:
        raise UsageError(
            f"--table {file}: no column {' and no column '.join(missing)}; it has "
            f"{', '.join(columns)}. Rename them to image and text"
        )
    if not rows:
        raise UsageError(f"--table {file}: no rows")
    return list(_items(rows, file.parent))


def _read(file: Path) -> tuple[list[str], list[Row]]:
    """Return the names of the columns, and the rows with the needed ones."""
    import polars as pl

    try:
        match file.suffix.lower():
            case ".csv":
                # Without types: a text of digits must stay a text.
                return _rows_of(pl.read_csv(file, infer_schema=False))
            case ".jsonl":
                return _json_lines(file)
            case ".parquet":
                return _rows_of(pl.read_parquet(file))
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        raise UsageError(f"--table {file} cannot be read: {error}") from None
    raise UsageError(f"--table {file}: the name must end in {', '.join(TABLES)}")


def _rows_of(table: pl.DataFrame) -> tuple[list[str], list[Row]]:
    names = [name for name in _COLUMNS if name in table.columns]
    return table.columns, table.select(names).to_dicts()


def _json_lines(file: Path) -> tuple[list[str], list[Row]]:
    """Read JSON line by line: a table reader would make one type of a column, and texts of lists."""
    columns: dict[str, None] = {}
    rows: list[Row] = []
    with file.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise ValueError(f"line {number} is no JSON ({error})") from None
            if not isinstance(row, dict):
                raise ValueError(f"line {number} is no JSON object with image and text")
            columns |= dict.fromkeys(row)
            rows.append({name: row.get(name) for name in _COLUMNS})
    return list(columns), rows


def _items(rows: list[Row], folder: Path) -> Iterator[Item]:
    for number, row in enumerate(rows):
        own, image, text = row.get("id"), row["image"], row["text"]
        problem = _problem("image", image, "the path of a file") or _problem("text", text, "a text")
        yield Item(
            str(number) if own is None else str(own),
            folder / Path(image if isinstance(image, str) else "").expanduser(),
            text if isinstance(text, str) else "",
            problem and f"row {number} (the first is 0): {problem}",
        )


def _problem(column: str, value: object, wanted: str) -> str | None:
    if value is None or value == "":
        return f"its {column} is empty; give {wanted}"
    return None if isinstance(value, str) else f"its {column} is {value!r}, not {wanted}"
