"""The two jobs: which rows of ``samples`` need a text, what is asked, and how the answer becomes a row."""

from __future__ import annotations

from pipeline.config import RunConfig
from pipeline.jobs.base import Job
from pipeline.jobs.captions import CaptionsJob
from pipeline.jobs.explanations import ExplanationsJob

JOBS: dict[str, type[Job]] = {"captions": CaptionsJob, "explanations": ExplanationsJob}

__all__ = ["JOBS", "Job", "make_job"]


def make_job(name: str, config: RunConfig) -> Job:
    """Return the job called ``captions`` or ``explanations`` under a configuration."""
    return JOBS[name](config)
