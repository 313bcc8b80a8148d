"""Writes a world to disk in DGM4's layout."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Iterator, Sequence
from pathlib import Path

from demo.newsroom.picture import encode
from demo.newsroom.scene import caption, caption_facts
from demo.newsroom.world import Item

WORTH_A_POOL = 100
"""Fewer pictures are drawn sooner in one process than a pool takes to start."""


def _relative(item: Item) -> str:
    return item.image.removeprefix("DGM4/")


def _draw_to(job: tuple[str, Item]) -> str:
    target, item = job
    Path(target).write_bytes(encode(item))
    return target


def distinct_pictures(items: Sequence[Item]) -> list[Item]:
    """One row per picture, the first that shows it."""
    first: dict[str, Item] = {}
    for item in items:
        first.setdefault(item.image, item)
    return list(first.values())


def write_metadata(items: Sequence[Item], out: Path) -> None:
    """Writes `metadata/{train,val,test}.json`, each a list with one row per line."""
    folder = out / "metadata"
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "val", "test"):
        rows = [json.dumps(i.annotation, ensure_ascii=False) for i in items if i.split == split]
        body = "[\n" + ",\n".join(rows) + "\n]\n" if rows else "[]\n"
        (folder / f"{split}.json").write_text(body, encoding="utf-8")


def write_ground_truth(items: Sequence[Item], file: Path) -> None:
    """Writes one JSON line per picture: `image`, `split`, `caption`, `facts` of what it shows."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8") as out:
        for item in distinct_pictures(items):
            line = {
                "image": item.image,
                "split": item.split,
                "caption": caption(item.scene),
                "facts": caption_facts(item.scene),
            }
            out.write(json.dumps(line, ensure_ascii=False) + "\n")


def write_pictures(items: Sequence[Item], out: Path, workers: int = 1) -> Iterator[str]:
    """Draws every picture once and writes it below `out`.

    Args:
        items: Rows of a world.
        out: The data folder (it plays the part of `DGM4/`).
        workers: Number of processes; the files are the same for any number.

    Yields:
        The path of each file written, in the order of the rows.
    """
    jobs = [(str(out / _relative(item)), item) for item in distinct_pictures(items)]
    for folder in sorted({Path(target).parent for target, _ in jobs}):
        folder.mkdir(parents=True, exist_ok=True)
    if workers <= 1 or len(jobs) < WORTH_A_POOL:
        yield from map(_draw_to, jobs)
        return
    # Fresh processes: a fork of a program that runs threads (torch, a flow) may hang.
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield from pool.imap(_draw_to, jobs, chunksize=16)
