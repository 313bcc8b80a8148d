"""Finding the file that an annotated image path means.

The first part of DGM4's paths, ``DGM4/``, is the data folder, which people rename, and its archives unpack
into doubled folders (``infoswap/infoswap/x.jpg``). So an annotated path is tried as it stands, then without
its first part, and in either form any folder may stand twice. Symbolic links are followed: the owner of the
disk made them.
"""

from __future__ import annotations

import os
import unicodedata
from functools import lru_cache
from pathlib import Path

_CONTENT_FOLDERS = ("origin", "manipulation")


class Resolver:
    """Finds image files below an image root; looks every folder up once.

    Args:
        root: The image root.
    """

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self._folders = lru_cache(maxsize=None)(self._find_folders)

    def find(self, image: str) -> tuple[str, os.stat_result] | None:
        """Find the file of a normalised annotated path.

        Returns:
            Its path relative to the root (POSIX) and its stat, or None when there is no such file.
        """
        folder, _, name = image.rpartition("/")
        for place in self._folders(folder):
            for form in _forms(name):
                relative = f"{place}/{form}" if place else form
                try:
                    return relative, os.stat(f"{self.root}/{relative}")
                except (OSError, ValueError):
                    continue
        return None

    def _find_folders(self, folder: str) -> list[str]:
        """Return the folders that an annotated folder may mean, relative to the root, likeliest first."""
        parts = folder.split("/") if folder else []
        tries = [parts]
        if parts and (parts[0].lower() == "dgm4" or (len(parts) > 1 and parts[1] in _CONTENT_FOLDERS)):
            tries.append(parts[1:])
        places: list[str] = []
        for attempt in tries:
            found = [""]
            for part in attempt:
                found = [place for parent in found for place in self._children(parent, part)]
            # The fewer doubled folders, the closer to what is annotated.
            places += sorted(
                (place for place in found if place not in places), key=lambda place: place.count("/")
            )
        return places

    def _children(self, parent: str, name: str) -> list[str]:
        children = []
        for form in _forms(name):
            once = f"{parent}/{form}" if parent else form
            if os.path.isdir(f"{self.root}/{once}"):
                children.append(once)
                if os.path.isdir(f"{self.root}/{once}/{form}"):
                    children.append(f"{once}/{form}")
        return children


def _forms(name: str) -> tuple[str, ...]:
    """Return the spellings of a name: archives from a Mac hold accents as separate characters."""
    if name.isascii():
        return (name,)
    return tuple(
        dict.fromkeys((name, unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name)))
    )
