"""Single records: parsing them, giving them DGM4's field names, and keeping them as they stood."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import orjson

from pipeline.ingest.rows import FIELDS, short


def lenient_json(data: bytes | str) -> Any:
    """Parse JSON with NaN, infinities, endless integers and half surrogate pairs; of equal keys the last."""
    return json.loads(data, parse_int=_parse_int)


def _parse_int(digits: str) -> int | float:
    # Python refuses to convert more than 4300 digits; no field holds such a number, so infinity does as well.
    return int(digits) if len(digits) < 4000 else float(digits)


def translate(record: Any, columns: Mapping[str, str]) -> Any:
    """Return a record in DGM4's fields; what is not an object is returned as it is, to be rejected.

    Args:
        record: A record of the file.
        columns: Field to column name, where they differ.
    """
    if not isinstance(record, dict):
        return record
    row = {field: record[name] for field in FIELDS if (name := columns.get(field, field)) in record}
    row.setdefault("fake_image_box", [])
    row.setdefault("fake_text_pos", [])
    if "id" not in row and isinstance(row.get("image"), str):
        row["id"] = number_of(row["image"])
    elif "id" in row:
        row["id"] = _as_id(row["id"])
    row["fake_image_box"] = _as_list(row["fake_image_box"])
    row["fake_text_pos"] = (
        [_as_int(item) for item in row["fake_text_pos"]] if _is_list(row) else row["fake_text_pos"]
    )
    return row


def number_of(text: str) -> int:
    """Return a stable number from 0 to 2^63 - 1 for a text id."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def _is_list(row: dict[str, Any]) -> bool:
    row["fake_text_pos"] = _as_list(row["fake_text_pos"])
    return isinstance(row["fake_text_pos"], list)


def _as_id(value: Any) -> Any:
    if isinstance(value, str) and value.strip():
        try:
            return int(value)
        except ValueError:
            return number_of(value)
    return _as_int(value)


def _as_int(value: Any) -> Any:
    # A column of integers with gaps comes back as floats from many tools.
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _as_list(value: Any) -> Any:
    """Return the list that a cell holds; a cell that is no list is returned as it is, to be rejected."""
    if not isinstance(value, str):
        return value
    if not value.strip():
        return []
    try:
        return lenient_json(value)
    except (ValueError, RecursionError):
        return value


def raw_json(record: Any) -> str:
    """Return a record as JSON text for the quarantine, whatever is in it."""
    try:
        text = orjson.dumps(record).decode()
        # orjson writes NaN and infinity as null, which would hide the defect.
        if "null" not in text:
            return text
    except (orjson.JSONEncodeError, TypeError):
        pass
    try:
        # ASCII escapes keep half surrogate pairs readable; dates and bytes of a Parquet file become text.
        return json.dumps(record, default=str)
    except (ValueError, TypeError, RecursionError):
        return json.dumps(short(record))
