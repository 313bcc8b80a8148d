"""Fonts for pictures with text: matplotlib's own, and the machine's for scripts that it lacks."""

from __future__ import annotations

import shutil
import subprocess
import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import islice
from pathlib import Path

import matplotlib
from matplotlib.ft2font import FT2Font
from PIL import ImageFont

_FOLDERS = (
    Path("/usr/share/fonts"),
    Path("/usr/local/share/fonts"),
    Path("~/.local/share/fonts"),
    Path("/System/Library/Fonts"),
    Path("/Library/Fonts"),
)
_KNOWN = ("Noto*", "DejaVuSans*", "Arial Unicode*", "FreeSans*", "wqy*", "Droid*Fallback*", "unifont*")
_MOST = 40
_SECONDS = 5
_INVISIBLE = ("Cc", "Cf", "Zs")


def font_of(text: str, size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Return a font that has every letter of a text, else the usual one, which draws boxes for some.

    Args:
        text: What is to be drawn.
        size: Pixels.
        bold: Asked for; a font of another script may have one weight only.
    """
    needed = _visible(text)
    # The bold file has fewer letters than the regular one.
    own = next((file for file in (_own(bold), _own(False)) if not needed - _letters(file)), None)
    return _open(str(own or _found(frozenset(needed), bold) or _own(bold)), size)


def undrawable(text: str) -> str:
    """Return the letters, each once, that no font here has; words are drawn in one font each."""
    lost: dict[str, None] = {}
    for word in text.split():
        needed = _visible(word)
        if needed - _letters(_own(False)) and _found(frozenset(needed), False) is None:
            lost |= dict.fromkeys(letter for letter in word if letter in needed - _letters(_own(False)))
    return "".join(lost)


def scripts_of(letters: str) -> list[str]:
    """Return the scripts of letters as Unicode's names of them begin: CJK, DEVANAGARI, THAI."""
    return sorted({unicodedata.name(letter, "UNNAMED").split()[0].split("-")[0] for letter in letters})


def _visible(text: str) -> set[str]:
    return {
        letter
        for letter in text
        if unicodedata.category(letter) not in _INVISIBLE and not "\ufe00" <= letter <= "\ufe0f"
    }


def _own(bold: bool) -> Path:
    # matplotlib brings these files along, so every machine draws the same letters.
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name


@lru_cache(maxsize=64)
def _open(file: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(file, size)


@lru_cache(maxsize=64)
def _letters(file: Path) -> frozenset[str]:
    """Return what a scalable font has; nothing for a file that is none."""
    try:
        font = FT2Font(str(file))
        return frozenset(map(chr, font.get_charmap())) if font.scalable else frozenset()
    except (OSError, RuntimeError, ValueError):
        return frozenset()


@lru_cache(maxsize=1024)
def _found(needed: frozenset[str], bold: bool) -> Path | None:
    rarest = max(needed)  # the letters of other scripts have the larger numbers
    candidates = islice(_candidates(rarest), _MOST)
    good = [file for file in candidates if not needed - _letters(file)]
    weight = "bold" if bold else "regular"
    return min(
        good, key=lambda file: (weight not in file.stem.lower(), "serif" in file.stem.lower()), default=None
    )


def _candidates(letter: str) -> Iterable[Path]:
    return _of_fontconfig(letter) if shutil.which("fc-list") else _of_folders()


@lru_cache(maxsize=256)
def _of_fontconfig(letter: str) -> tuple[Path, ...]:
    command = ["fc-list", f":charset={ord(letter):x}", "file"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(sorted(Path(line.strip().rstrip(":").strip()) for line in told.splitlines() if line.strip()))


def _of_folders() -> Iterator[Path]:
    for folder in _FOLDERS:
        for pattern in _KNOWN:
            yield from sorted(
                file
                for file in folder.expanduser().rglob(pattern)
                if file.suffix.lower() in (".ttf", ".otf", ".ttc")
            )
