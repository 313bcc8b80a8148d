"""What kind of file an annotation file is, which split it holds, and how its columns are named."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import UsageError
from pipeline.ingest.rows import FIELDS
from schemas.vocabulary import SPLITS

FORMATS = ("auto", "dgm4", "jsonl", "csv", "parquet")

_SUFFIXES = {
    ".json": "dgm4",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_SPLIT_WORD = re.compile(r"(?<![a-z])(train(?:ing)?|val(?:id(?:ation)?)?|test(?:ing)?)(?![a-z])")
_ALIASES = {"box": "fake_image_box", "positions": "fake_text_pos", "label": "fake_cls"}

COLUMNS = (*FIELDS, "split")
"""What a column of a foreign file can be mapped to."""


def format_of(path: Path, asked: str) -> str:
    """Return the format of a file: as asked, else by its suffix.

    Raises:
        UsageError: The suffix says nothing.
    """
    if asked != "auto":
        return asked
    suffix = path.suffix.lower()
    if suffix not in _SUFFIXES:
        raise UsageError(
            f"{path}: the suffix {suffix!r} is not one of {', '.join(_SUFFIXES)}; name the format by --format"
        )
    return _SUFFIXES[suffix]


def split_of(path: Path, asked: str | None) -> str:
    """Return the split a file holds: as asked, else from its name (``train.json``, ``dgm4_val_v2.json``).

    Raises:
        UsageError: The name holds no split, or several.
    """
    if asked is not None:
        return asked
    stem = path.stem.lower()
    found = {name for word in _SPLIT_WORD.findall(stem) for name in SPLITS if word.startswith(name)}
    if len(found) == 1 and "trainval" not in stem:
        return found.pop()
    problem = (
        "names more than one split" if found or "trainval" in stem else "does not say which split it holds"
    )
    raise UsageError(
        f"{path}: the file name {problem}; rename it (train, val or test in the name) or ingest it on its "
        f"own with --split {'|'.join(SPLITS)}"
    )


def parse_columns(mapping: str | None) -> dict[str, str]:
    """Parse ``id=uid,image=file`` into field name to column name.

    Raises:
        UsageError: Not of this form, or an unknown field (the message offers the nearest).
    """
    columns: dict[str, str] = {}
    for part in filter(None, (piece.strip() for piece in (mapping or "").split(","))):
        field, equals, column = (piece.strip() for piece in part.partition("="))
        field = _ALIASES.get(field, field)
        if not equals or not column:
            raise UsageError(f"--columns: {part!r} is not FIELD=COLUMN, e.g. id=uid,image=file,text=caption")
        if field not in COLUMNS:
            near = difflib.get_close_matches(field, COLUMNS, 1)
            remedy = f"did you mean {near[0]}?" if near else f"the fields are {', '.join(COLUMNS)}"
            raise UsageError(f"--columns: no field {field!r}; {remedy}")
        if field in columns:
            raise UsageError(f"--columns: field {field} is given twice ({columns[field]!r} and {column!r})")
        columns[field] = column
    return columns


def find_data(folder: Path) -> tuple[list[Path], Path]:
    """Find the annotation files and the image root in a DGM4 folder.

    Args:
        folder: The data folder itself, or its parent.

    Returns:
        The files train, val, test as far as they exist, and the folder to look up images in.

    Raises:
        UsageError: There are none.
    """
    places = (folder / "metadata", folder / "DGM4" / "metadata", folder / "metadata" / "metadata", folder)
    for place in places:
        files = [place / f"{split}.json" for split in SPLITS if (place / f"{split}.json").is_file()]
        if files:
            return files, folder
    looked = ", ".join(str(place) for place in places)
    raise UsageError(
        f"{folder}: no train.json, val.json or test.json (looked in {looked}); give the DGM4 folder, or "
        "name the files with --metadata"
    )


def check_files(files: Sequence[Path]) -> None:
    """Check that every annotation file exists and none is given twice.

    Raises:
        UsageError: Naming the file.
    """
    seen: dict[Path, Path] = {}
    for file in files:
        if not file.is_file():
            reason = "is a folder; name the annotation files in it" if file.is_dir() else "no such file"
            raise UsageError(f"{file}: {reason}")
        if file.resolve() in seen:
            raise UsageError(f"{file}: given twice (also as {seen[file.resolve()]}); name each file once")
        seen[file.resolve()] = file
