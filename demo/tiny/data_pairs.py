"""Training pairs for the tiny CLIP: unmanipulated pictures of training worlds, and what happened in them.

Imports no torch, so that the drawing processes start fast.
"""

import functools
import multiprocessing
import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image
from tqdm import tqdm

from demo.newsroom import Item, Scene, generate_items, render
from demo.tiny.data_pictures import FIRST_TRAINING_SEED, WORLD_SIZE

FIRST_PAIR_SEED = FIRST_TRAINING_SEED + 50_000_000  # far from the worlds of the other trainings


@dataclass(frozen=True)
class Pairs:
    """Unmanipulated pictures with their stories.

    Attributes:
        pixels: uint8 (count, side, side, 3), RGB.
        scenes: What happened; `demo.newsroom.write` tells it in any number of ways.
    """

    pixels: np.ndarray
    scenes: list[Scene]


def draw_pairs(
    count: int, seed: int, side: int, *, workers: int | None = None, line: int | None = 0
) -> Pairs:
    """Draw unmanipulated pictures of training worlds.

    Args:
        count: Number of pictures.
        seed: The same seed gives the same pictures for any number of workers.
        side: Pictures are resized to side x side pixels (bicubic), as the preprocessing of the model does.
        workers: Processes that draw; all processors when None, 0 to draw in this one.
        line: Terminal line of the progress bar; None for no bar.
    """
    items = pristine_items(count, FIRST_PAIR_SEED + 1_000 * seed)
    workers = os.cpu_count() or 1 if workers is None else workers
    pixels = np.empty((count, side, side, 3), dtype=np.uint8)
    with tqdm(total=count, desc="drawing", position=line, disable=line is None) as bar:
        for index, picture in enumerate(drawn(items, side, workers)):
            pixels[index] = picture
            bar.update()
    return Pairs(pixels, [item.scene for item in items])


def pristine_items(count: int, world: int) -> list[Item]:
    """The first `count` unmanipulated rows of the worlds of seed `world`, `world + 1` and so on."""
    items: list[Item] = []
    while len(items) < count:
        items += [item for item in generate_items(WORLD_SIZE, world) if item.fake_cls == "orig"]
        world += 1
    return items[:count]


def drawn(items: list[Item], side: int, workers: int = 0) -> Iterator[np.ndarray]:
    """The pictures of rows, uint8 (side, side, 3), drawn by this process or by `workers` others."""
    draw = functools.partial(_draw, side=side)
    if workers == 0:
        yield from map(draw, items)
        return
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield from pool.imap(draw, items, chunksize=32)


def _draw(item: Item, side: int) -> np.ndarray:
    return np.asarray(render(item).resize((side, side), Image.Resampling.BICUBIC))
