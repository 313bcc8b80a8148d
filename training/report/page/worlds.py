"""Which data an evaluation is about, told by the pictures' paths: a folder may have any name."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Literal

from schemas import TableError, open_table
from training.errors import DataError
from training.report.page.saved import Saved

World = Literal["newsroom", "dgm4", "other"]

_DEMO_MARKER = ".drawn-with"
"""Written into its folder by scripts/demo_world.sh."""

# The demo numbers its manipulated pictures 000123-01.jpg; DGM4's names end in their method.
_DEMO = re.compile(r"(?:DGM4/)?manipulation/[A-Za-z]+/\d{6}-\d{2}\.jpg")
_DGM4 = re.compile(
    r"(?:DGM4/)?(?:manipulation/(?:infoswap|simswap|StyleCLIP|HFGI)|"
    r"origin/(?:guardian|gardian|usa_today|washington_post|bbc))/.+"
)
_MOST = 0.9
"""Share of the pictures that must look so."""


def world_of(saved: Saved) -> World:
    """Return whose pictures the evaluated split has: the newsroom's, DGM4's, or others.

    Raises:
        DataError: The table cannot be read.
    """
    if (saved.image_root / _DEMO_MARKER).is_file():
        return "newsroom"
    counts: Counter[str] = Counter()
    try:
        table = open_table(saved.data, "samples")
        for batch in table.batches(["image_path"], split=saved.metrics["split"]):
            counts.update(map(kind_of, batch["image_path"].to_pylist()))
    except TableError as error:
        raise DataError(str(error)) from None
    return world_of_kinds(counts)


def world_of_kinds(counts: Counter[str]) -> World:
    """Return the world of pictures counted by `kind_of`."""
    edited = counts["newsroom"] + counts["edited"]
    if edited and counts["newsroom"] >= _MOST * edited:
        return "newsroom"
    alike = counts["edited"] + counts["origin"]
    return "dgm4" if counts["edited"] and alike >= _MOST * counts.total() else "other"


def kind_of(path: str) -> str:
    """Return whose picture a path below the image root looks like: newsroom, edited or origin, other."""
    name = Path(path).as_posix()
    if _DEMO.fullmatch(name):
        return "newsroom"
    if not _DGM4.fullmatch(name):
        return "other"
    return "origin" if "origin/" in name else "edited"
