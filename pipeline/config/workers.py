"""How many workers write a table and what starts them; nothing of it changes a text."""

from __future__ import annotations

from pydantic import Field

from pipeline.config.section import Section


class RayConfig(Section):
    """Where workers run with runner: ray. All nodes see the output folder, the images and the models."""

    address: str | None = Field(
        default=None,
        description="cluster to run on: auto for the one of this machine, HOST:6379, or ray://HOST:10001; "
        "null starts one that lasts as long as the run",
    )
    gpus_per_worker: float | None = Field(
        default=None,
        ge=0,
        description="GPUs that Ray reserves for a worker; null: what its model occupies, 0 where it runs on "
        "a CPU",
    )
    cpus_per_worker: float = Field(default=1.0, ge=0, description="cores that Ray reserves for a worker")
