"""Captions: one per distinct image content, whatever number of samples show it."""

from __future__ import annotations

from pathlib import Path

from pipeline.engines.base import Request, Result
from pipeline.jobs.base import Job, Row


class CaptionsJob(Job):
    """Ask the image-to-text model what each distinct picture shows."""

    table = "captions"
    key = "image_key"
    columns = ("image_key", "image_path")

    def request(self, sample: Row, image_root: Path) -> Request:
        """Return the instruction with the picture's path."""
        return Request(
            key=sample["image_key"],
            prompt=self.prompts["caption"].render(),
            image=image_root / sample["image_path"],
            seed=self.model.generation.seed,
        )

    def image_key(self, sample: Row) -> str | None:
        """Return the content hash of the picture."""
        return str(sample["image_key"])

    def row(self, sample: Row, result: Result, flags: list[str]) -> Row:
        """Return a row of ``captions``."""
        shared = self.generated(self.prompts["caption"], result, flags)
        return {"image_key": sample["image_key"], "caption": result.text, **shared}
