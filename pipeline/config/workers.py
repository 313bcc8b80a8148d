"""How many workers write a table and what starts them; nothing of it changes a text."""

from __future__ import annotations

from pydantic import Field

from pipeline.config.section import Section


class RayConfig(Section):
    """Where workers run with runner: ray. All nodes see the output folder, the images and the models."""

    address: str | None = Field(
        default=None,
        description="cluster to run on: auto for the one of this machine, HOST:6379 from one of its nodes, "
        "or ray://HOST:10001 from elsewhere; null starts one on loopback that lasts as long as the run",
    )
    gpus_per_worker: float | None = Field(
        default=None,
        ge=0,
        description="GPUs that Ray reserves for a worker and shows to it, e.g. 0.5 for two on each; null: "
        "what its model occupies, 0 on a CPU or where the cluster has none; 0: each sees all of its node",
    )
    cpus_per_worker: float = Field(
        default=1.0,
        ge=0,
        description="cores that Ray reserves for a worker; as many threads compute in it where its model "
        "runs on a CPU",
    )
