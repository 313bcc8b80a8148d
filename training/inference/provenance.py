"""What a model card says about objective and licence, from the configuration and the towers' folder."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from training.config.sections import LossConfig

_ROOT = Path(__file__).resolve().parents[2]
_LOCAL = "local-dir:"
_TAGS = {
    "openai": ("mit", "MIT (OpenAI CLIP); its own model card advises against untested deployment"),
    "laion": ("mit", "MIT (LAION's OpenCLIP weights)"),
}
_NOTES = ("LICENSE", "LICENCE", "LICENSE.txt", "LICENCE.txt", "LICENSE.md", "LICENCE.md")
_ASAP = "ASAP (CVPR 2025, [arXiv 2412.12718](https://arxiv.org/abs/2412.12718))"
_TEXTS = {
    "both": "captions and explanations",
    "caption": "captions",
    "explanation": "explanations",
}


@dataclass(frozen=True)
class Licence:
    """Of the towers' weights.

    Attributes:
        tag: As model hubs write it; ``other`` when it is not known.
        text: For people.
    """

    tag: str
    text: str


def objective(loss: LossConfig) -> str:
    """Return the sentence on what was minimised in training."""
    parts = []
    if loss.lma.text != "none":
        parts.append(f"LMA over {_TEXTS[loss.lma.text]}")
    if loss.mgca.mode != "none":
        parts.append(f"MGCA ({loss.mgca.mode})")
    if loss.pmm.mode != "none":
        negatives = ""
        if loss.pmm.mode == "infonce":
            negatives = ", hard negatives" if loss.pmm.hnp else ", random negatives"
        parts.append(f"PMM ({loss.pmm.mode}{negatives})")
    if not parts:
        return "It was trained with the baseline objective L_DGM alone (that of HAMMER, CVPR 2023)."
    listed = parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
    whole = "all modules" if len(parts) == 3 else "a part"
    return f"It was trained with L_DGM (that of HAMMER, CVPR 2023) and {listed}: {whole} of {_ASAP}."


def towers_licence(towers: str, weights: str | None) -> Licence:
    """Return the licence of the weights that training started from.

    Args:
        towers: ``model.towers``.
        weights: ``model.pretrained``.
    """
    if towers.startswith(_LOCAL):
        folder = Path(towers.removeprefix(_LOCAL)).expanduser()
        if folder.resolve().is_relative_to(_ROOT / "demo" / "models"):
            return Licence("apache-2.0", "Apache-2.0 (this repository's demo towers)")
        return _noted(folder) or Licence("other", "see its source; its folder holds no licence note")
    if weights is None:
        return Licence("apache-2.0", "none of another party; they began as random numbers")
    tag, text = next(
        (both for tag, both in _TAGS.items() if weights.startswith(tag)), ("other", "see its source")
    )
    return Licence(tag, text)


def _noted(folder: Path) -> Licence | None:
    """Return what a folder's licence file, or the front matter of its card, says."""
    for name in _NOTES:
        if (folder / name).is_file():
            text = (folder / name).read_text(encoding="utf-8", errors="replace")
            first = next((line.strip(" #*") for line in text.splitlines() if line.strip(" #*")), "")
            return Licence(_tag_of(text), f"{first[:80] or 'see'} (file {name} of its folder)")
    card = folder / "README.md"
    if card.is_file():
        text = card.read_text(encoding="utf-8", errors="replace")
        front = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
        found = re.search(r"^licen[cs]e:[ ]*(\S+)", front[1], re.MULTILINE) if front else None
        if found:
            tag = found[1].strip("'\"").lower()
            return Licence(tag, f"{tag} (its own model card)")
    return None


def _tag_of(text: str) -> str:
    head = text[:600].lower()
    if "apache license" in head:
        return "apache-2.0"
    return (
        "mit" if "mit license" in head or "permission is hereby granted, free of charge" in head else "other"
    )
