"""From annotated paths to image files and what is in them."""

from __future__ import annotations

import contextlib
import logging
import stat
import time
from collections.abc import Sequence
from pathlib import Path

from pipeline.images import DecompressionBomb, check_pixels
from pipeline.ingest.cache import ImageCache, Stamp
from pipeline.ingest.facts import CheckedImages, ImageDefect, ImageFacts, Verdict
from pipeline.ingest.paths import Resolver
from pipeline.ingest.pool import judge_all
from pipeline.progress import Progress
from pipeline.stopping import stop_on_signal

log = logging.getLogger(__name__)

_SAVE_EVERY = 60.0
"""Seconds between two saves of the cache: what a killed run has to decode again."""


def check_images(
    images: Sequence[str], root: Path, out: Path, *, max_pixels: int, workers: int | None
) -> CheckedImages:
    """Find and check the files of distinct annotated paths.

    Args:
        images: Normalised annotated paths, each once.
        root: Image root, absolute.
        out: Output folder, for the cache.
        max_pixels: Largest width times height that is decoded.
        workers: Processes; see ``pool.judge_all``.

    Raises:
        Interrupted: A signal asked for a stop; the verdicts so far are in the cache.
    """
    result = CheckedImages()
    cache = ImageCache(out)
    resolver = Resolver(root)
    to_check: dict[str, Stamp] = {}
    annotated: dict[str, list[str]] = {}
    with Progress(len(images), "finding images", unit="images") as progress:
        for image in images:
            found = resolver.find(image)
            progress.update()
            if found is None:
                result.verdicts[image] = ImageDefect(
                    "missing_image",
                    f"{image}: no such file below {root}; check --image-root, or fetch it",
                    False,
                )
                continue
            relative, status = found
            result.found[image] = relative
            if not stat.S_ISREG(status.st_mode):
                result.verdicts[image] = ImageDefect(
                    "unreadable_image", f"{relative}: not a regular file", False
                )
                continue
            path, stamp = f"{root}/{relative}", (status.st_size, status.st_mtime_ns)
            known = cache.get(path, stamp)
            if known is not None:
                result.verdicts[image] = _within(known, path, max_pixels)
                result.cached += 1
            else:
                to_check[path] = stamp
                annotated.setdefault(path, []).append(image)
    _decode(to_check, annotated, result, cache, max_pixels, workers)
    return result


def _decode(
    to_check: dict[str, Stamp],
    annotated: dict[str, list[str]],
    result: CheckedImages,
    cache: ImageCache,
    max_pixels: int,
    workers: int | None,
) -> None:
    """Decode files and record the verdicts under every annotated path that means them."""
    saved = time.monotonic()
    try:
        with (
            stop_on_signal() as stop,
            Progress(len(to_check), "checking images", unit="images") as progress,
            # Closed at once on a stop, so that no worker goes on with what nobody waits for.
            contextlib.closing(judge_all(list(to_check), max_pixels, workers)) as verdicts,
        ):
            for path, verdict in verdicts:
                cache.put(path, to_check[path], verdict)
                for image in annotated[path]:
                    result.verdicts[image] = verdict
                result.checked += 1
                progress.update(failed=isinstance(verdict, ImageDefect))
                if time.monotonic() - saved > _SAVE_EVERY:
                    cache.save()
                    saved = time.monotonic()
                stop.check("Nothing was written but the image cache; the same command goes on from there")
    finally:
        cache.save()


def _within(verdict: Verdict, path: str, max_pixels: int) -> Verdict:
    """Return a cached verdict under this run's pixel limit, which may be lower than when it was found."""
    if isinstance(verdict, ImageFacts):
        try:
            check_pixels(path, verdict.width, verdict.height, max_pixels)
        except DecompressionBomb as error:
            return ImageDefect(error.code, str(error), False)
    return verdict
