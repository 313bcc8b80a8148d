"""Training pictures for the tiny InstructBLIP: worlds drawn once, kept in memory at the model's image size.

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

from demo.newsroom import Item, caption, distinct_pictures, generate_items, render

FIRST_TRAINING_SEED = (
    900_000_000  # worlds from here on are for training; no user and no test takes such a seed
)
WORLD_SIZE = 2_000  # rows per training world


@dataclass(frozen=True)
class Pictures:
    """Pictures with their reference captions.

    Attributes:
        pixels: uint8 (count, side, side, 3), RGB.
        captions: What the pixels show, manipulations included.
    """

    pixels: np.ndarray
    captions: list[str]


def draw_pictures(
    count: int, seed: int, side: int, *, workers: int | None = None, line: int | None = 0
) -> Pictures:
    """Draw distinct pictures of training worlds, a third of them with a swapped or altered face.

    Args:
        count: Number of pictures.
        seed: The same seed gives the same pictures for any number of workers.
        side: Pictures are resized to side x side pixels (bicubic), as the image processor does.
        workers: Processes that draw; all processors when None, 0 to draw in this one.
        line: Terminal line of the progress bar; None for no bar.
    """
    items = _items(count, seed)
    pixels = np.empty((count, side, side, 3), dtype=np.uint8)
    draw = functools.partial(_draw, side=side)
    workers = os.cpu_count() or 1 if workers is None else workers
    with tqdm(total=count, desc="drawing", position=line, disable=line is None) as bar:
        for index, picture in enumerate(_mapped(draw, items, workers)):
            pixels[index] = picture
            bar.update()
    return Pictures(pixels, [caption(item.scene) for item in items])


def _items(count: int, seed: int) -> list[Item]:
    items: list[Item] = []
    world = FIRST_TRAINING_SEED + 1_000 * seed
    while len(items) < count:
        items += distinct_pictures(list(generate_items(WORLD_SIZE, world)))
        world += 1
    return items[:count]


def _mapped(draw: "functools.partial[np.ndarray]", items: list[Item], workers: int) -> Iterator[np.ndarray]:
    if workers == 0:
        yield from map(draw, items)
        return
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield from pool.imap(draw, items, chunksize=32)


def _draw(item: Item, side: int) -> np.ndarray:
    return np.asarray(render(item).resize((side, side), Image.Resampling.BICUBIC))
