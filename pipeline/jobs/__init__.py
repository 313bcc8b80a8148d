"""The two jobs: which rows of ``samples`` need a text, what is asked, and how the answer becomes a row."""

from __future__ import annotations

from pipeline.config import RunConfig
from pipeline.jobs.base import Job
from pipeline.jobs.captions import CaptionsJob
from pipeline.jobs.explanations import ExplanationsJob

JOBS: dict[str, type[Job]] = {"captions": CaptionsJob, "explanations": ExplanationsJob}

__all__ = ["JOBS", "Job", "make_job"]


def make_job(name: str, config: RunConfig) -> Job:
    """Return the job called ``captions`` or ``explanations`` under a configuration.

    Raises:
        UsageError: A prompt file, or the CLIP model of a gate, does not exist.
    """
    job = JOBS[name](config)
    if job.config.gates.clip is not None:
        # The gate itself would find out after a version was made and its first texts were paid for.
        from pipeline.gates.image_mismatch import check_clip

        check_clip(job.config.gates.clip)
    return job
