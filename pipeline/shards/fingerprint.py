"""What makes two runs the same run: a flat dictionary of everything that changes results, and its hash.

Batch size, device and worker count are not in it. When the fields on disk and the fields now differ, the run
refuses and names each field with both values, so that outputs of two configurations never mix in one version.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pipeline.errors import FingerprintMismatch

Fields = dict[str, Any]


def fingerprint_of(fields: Mapping[str, Any]) -> str:
    """Return 64 hex digits over the fields, whatever their order."""
    return hashlib.sha256(json.dumps(fields, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def flatten(fields: Mapping[str, Any], prefix: str = "") -> Fields:
    """Return nested fields as one level with dotted names."""
    flat: Fields = {}
    for name, value in fields.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return field name to (value before, value now) for every field that differs; a missing one is None."""
    old, new = flatten(before), flatten(now)
    return {
        name: (old.get(name), new.get(name))
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    }


def refuse_to_mix(
    table: str, version: str, before: Mapping[str, Any], now: Mapping[str, Any], *, exists: bool
) -> None:
    """Raise because the current version was made with other settings.

    Args:
        table: Name of the table.
        version: Name of the current version.
        before: Fields of the current version.
        now: Fields of this run.
        exists: Whether a version with this run's fields exists already, so that switching back costs nothing.

    Raises:
        FingerprintMismatch: Always; names every changed field with both values and offers ``--new-version``.
    """
    changed = differences(before, now)
    lines = [f"  {name}: {old!r} on disk, {new!r} now" for name, (old, new) in changed.items()]
    remedy = (
        "A version with these settings exists; --new-version makes it current again"
        if exists
        else "--new-version starts a new version beside it (the old one stays readable)"
    )
    raise FingerprintMismatch(
        f"{table}: the current version {version} was made with other settings:\n"
        + "\n".join(lines)
        + f"\n{remedy}, "
        "or put the old settings back to go on with it.",
        changed,
    )
