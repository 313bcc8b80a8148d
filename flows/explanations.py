"""``python -m flows.explanations``: the explanations table as a Prefect flow.

It has one ChatGLM-family text per sample.
"""

from __future__ import annotations

import sys
from typing import Any, Literal

from prefect import flow

from flows.runs import RETRIES, RETRY_DELAY_S
from flows.shards import one_at_a_time
from flows.tables import write_table

NAME = "explanations"


@flow(
    name=NAME,
    flow_run_name=NAME + " of {out}",
    task_runner=one_at_a_time(),
    retries=RETRIES,
    retry_delay_seconds=RETRY_DELAY_S,
    persist_result=False,
)
def explanations(
    config: str,
    out: str,
    overrides: list[str] | None = None,
    new_version: bool = False,
    image_root: str | None = None,
    carry: bool = True,
    follow_samples: bool = False,
    workers: int | Literal["auto"] | None = None,
    hours: float | None = None,
) -> Any:
    """Write what is missing of the explanations table: one ChatGLM-family text per sample.

    Args:
        config: YAML file with models, prompts and generation parameters, e.g. configs/demo.yaml
        out: Output folder that holds the samples table; relative to the checkout
        overrides: Values of the configuration to replace, each as a.b=value, e.g. models.glm.batch_size=4
        new_version: Start a new version beside one that was made with other settings
        image_root: Folder of the images, if they were moved since ingest
        carry: Copy texts of older versions that were made from the same; else all are made anew
        follow_samples: Start a new version by itself when nothing but the samples has changed
        workers: Worker processes, each with the model loaded; auto is one per visible GPU; empty leaves it
            to the configuration
        hours: Stop at the next row after so many hours; the next run goes on from there
    """
    return write_table(
        NAME,
        config,
        out,
        overrides,
        new_version,
        image_root,
        carry=carry,
        follow_samples=follow_samples,
        workers=workers,
        hours=hours,
    )


if __name__ == "__main__":
    from flows.command import run_table

    sys.exit(run_table(NAME, explanations))
