"""Generating a table: prepare the version, write the shards that are missing, account for every row."""

from __future__ import annotations

import logging
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipeline.carrying import Carrier, TextInputs
from pipeline.carrying.whole import carry_shards
from pipeline.config import RunConfig
from pipeline.config.fingerprint import fingerprint_fields
from pipeline.costs.bill import metered
from pipeline.costs.price import Price
from pipeline.costs.sums import Bill, sum_gates
from pipeline.engines import get_engine
from pipeline.engines.choice import resolve_job
from pipeline.errors import EXIT_OK, EXIT_TOO_MANY_FAILURES, UsageError
from pipeline.generating import ShardReport
from pipeline.jobs import Job, make_job
from pipeline.progress import Progress
from pipeline.shards.plan import Plan, open_or_create
from pipeline.sharing import SharedWork, clear_claims
from pipeline.stopping import stop_on_signal
from schemas import SCHEMA_VERSION, NoSuchTable, Table, open_table
from schemas.reader import committed

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Summary:
    """What a run did; ``planned = written + failed + quarantined + skipped_existing``.

    Attributes:
        table: ``captions`` or ``explanations``.
        version: Name of the version's folder.
        path: The version's folder.
        planned: Keys in the plan.
        written: Rows this run wrote, the ``carried`` ones among them.
        failed: Keys this run left in the failures ledger.
        quarantined: Keys this run set aside.
        skipped_existing: Keys whose shards were committed before, or by other workers meanwhile.
        failed_total: Keys in the failures ledger of this version, earlier runs included.
        max_failed_share: Share of failures above which the exit code is 4.
        seconds: Time the run took.
        tokens_in: Prompt tokens read.
        tokens_out: Tokens generated.
        samples: Rows of ``samples`` the plan was made from.
        carried: Rows copied from an older version, as nothing they are made from has changed.
        shared: Keys that got what was generated for another key with the same prompt.
        generated: Keys the engine was asked for.
        images_saved: For ``captions``: samples that need no caption of their own, as an equal image has one.
        flags: Flag to rows that have it and were made in this run: those set aside too, not the carried ones.
        gates: What the gates noticed and did in this run; see ``pipeline.gates.policy.Judged``.
        bill: What the run cost; None when nothing was generated.
    """

    table: str
    version: str
    path: str
    planned: int
    written: int
    failed: int
    quarantined: int
    skipped_existing: int
    failed_total: int
    max_failed_share: float
    seconds: float
    tokens_in: int
    tokens_out: int
    samples: int
    carried: int
    shared: int
    generated: int
    images_saved: int
    flags: dict[str, int] = field(default_factory=dict)
    gates: dict[str, dict[str, int]] = field(default_factory=dict)
    bill: dict[str, Any] | None = None

    @property
    def exit_code(self) -> int:
        """0, or 4 when more keys failed than the configuration allows."""
        too_many = self.failed_total > self.max_failed_share * self.planned
        return EXIT_TOO_MANY_FAILURES if too_many else EXIT_OK

    def as_dict(self) -> dict[str, Any]:
        """Return the summary for ``--json``."""
        return asdict(self)


@dataclass(frozen=True)
class Work:
    """A prepared table: its plan, its job and the samples it reads.

    Attributes:
        plan: The plan of the version.
        job: The job that turns samples into requests and results into rows.
        samples: The version of ``samples`` the plan was made from.
        image_root: Folder that ``image_path`` starts at.
        inputs: What each text is made from beside its request.
        carrier: Where texts of older versions are looked for; None: nowhere.
        price: What a device costs.
    """

    plan: Plan
    job: Job
    samples: Table
    image_root: Path
    inputs: TextInputs
    price: Price = Price()
    carrier: Carrier | None = None


@dataclass(frozen=True)
class Identity:
    """What a configuration makes of the samples, before any version of it is on disk.

    Attributes:
        job: The job.
        samples: The current version of ``samples``.
        fields: Everything that changes results; they name the table's version.
    """

    job: Job
    samples: Table
    fields: dict[str, Any]

    @property
    def inputs(self) -> TextInputs:
        """What each text is made from beside its request."""
        # A text that is generated again is sampled, by numbers that follow from its key.
        sampled = self.job.model.generation.do_sample or self.job.config.gates.regenerates
        return TextInputs.of(self.fields, sampled=sampled)


def identify(name: str, config: RunConfig, out: Path) -> Identity:
    """Return the job of a table and what names its version; nothing is written but the cache of hashes.

    Raises:
        UsageError: There are no samples.
    """
    try:
        samples = open_table(out, "samples")
    except NoSuchTable as error:
        raise UsageError(f"{error}. Run `python -m pipeline ingest --data DIR --out {out}` first") from error
    config = resolve_job(config, name)
    fields = fingerprint_fields(config, name, out / "cache" / "weights.json")
    fields |= {"samples": samples.info["fingerprint"], "schema_version": SCHEMA_VERSION}
    return Identity(make_job(name, config), samples, fields)


def image_root_of(name: str, samples: Table, moved: Path | None) -> Path:
    """Return the folder of the images.

    Args:
        name: ``captions`` or ``explanations``; only captions need it to be there.
        samples: The samples.
        moved: Where it is now, when it was moved since ingest.

    Raises:
        UsageError: It is needed and not there.
    """
    root = moved or Path(str(samples.info.get("image_root", "")))
    if name == "captions" and not root.is_dir():
        raise UsageError(f"image root {str(root)!r} is not there; name the images' folder with --image-root")
    return root


def prepare(
    name: str,
    config: RunConfig,
    out: Path,
    *,
    new_version: bool = False,
    image_root: Path | None = None,
    follow_samples: bool = False,
    carry: bool = True,
) -> Work:
    """Open or create the version of a table that a configuration names.

    Args:
        name: ``captions`` or ``explanations``.
        config: The run's configuration.
        out: Output folder with the ``samples`` table.
        new_version: Allow a new version beside one made with other settings.
        image_root: Folder of the images, when they were moved since ingest.
        follow_samples: Allow a new version also when nothing but the samples has changed.
        carry: Copy texts of older versions that were made from the same; else all are made anew.

    Raises:
        UsageError: There are no samples, or they have no image keys.
        FingerprintMismatch: The current version was made with other settings.
    """
    identity = identify(name, config, out)
    job, samples, fields = identity.job, identity.samples, identity.fields
    info = {"samples_version": samples.version.name, "model": job.config.model}
    plan = open_or_create(
        out,
        name,
        fields,
        job.plan(samples),
        info=info,
        new_version=new_version,
        may_change=("samples",) if follow_samples else (),
    )
    made_from = str(plan.info["samples_version"])
    if made_from != samples.version.name:
        samples = open_table(out, "samples", version=made_from)
    return Work(
        plan,
        job,
        samples,
        image_root_of(name, samples, image_root),
        identity.inputs,
        Price.of(config),
        Carrier(out, name, plan.version, fields) if carry else None,
    )


def generate_table(
    name: str,
    config: RunConfig,
    out: Path,
    *,
    new_version: bool = False,
    image_root: Path | None = None,
    follow_samples: bool = False,
    carry: bool = True,
    as_worker: bool = False,
) -> Summary:
    """Write every shard of a table that is missing, with progress on stderr.

    Shards that other workers hold are waited for, or taken over when those are gone, so that the table is
    complete afterwards. Arguments and errors as in ``prepare``; ``as_worker`` says that whoever started this
    process has copied what older versions hold, and shows the progress.

    Raises:
        StorageError: The disk is full or cannot be written.
        Interrupted: SIGINT or SIGTERM came; what is committed stands, the same command resumes.
    """
    started = time.monotonic()
    reports: list[ShardReport] = []
    bill: Bill | None = None
    with stop_on_signal() as stop:

        def check() -> None:
            stop.check(f"{name}: {len(reports)} shards were written in this run; the same command resumes")

        with stop.nothing_in_hand():
            work = prepare(
                name,
                config,
                out,
                new_version=new_version,
                image_root=image_root,
                follow_samples=follow_samples,
                carry=carry,
            )
            check()
        plan = work.plan
        if not as_worker:
            reports += carry_shards(work, plan.pending(), stop)
        pending = plan.pending()
        done = plan.planned - sum(plan.shard_size(shard) for shard in pending)
        if pending:
            with stop.nothing_in_hand():
                # Before the clock of the progress starts, or its rate and time left would count the load.
                engine = get_engine(work.job.model)
            with (
                metered(work, reports, started) as meter,
                Progress(plan.planned, name, done=done, shown=not as_worker) as progress,
                SharedWork(work, pending, progress, stop, check) as shared,
            ):
                for report in shared.write_all(engine):
                    reports.append(report)
            bill = meter.bill
        else:
            clear_claims(plan)
            if not reports:
                log.info(
                    "%s: all %d rows of %s are there already, nothing to do",
                    *(name, plan.planned, plan.version.name),
                )
    return summarize(work, reports, time.monotonic() - started, bill)


def summarize(work: Work, reports: list[ShardReport], seconds: float, bill: Bill | None = None) -> Summary:
    """Return the summary of a run over a prepared table, from the shards it wrote."""
    plan = work.plan
    made = [report for report in reports if not report.skipped]
    written, failed = sum(r.rows for r in made), sum(r.failed for r in made)
    quarantined = sum(r.quarantined for r in made)
    gates = sum_gates([report.gates for report in made])
    shards, _ = committed(plan.version, plan.table)
    accounted = sum(shard.planned for shard in shards)
    return Summary(
        table=plan.table,
        version=plan.version.name,
        path=str(plan.version),
        planned=plan.planned,
        written=written,
        failed=failed,
        quarantined=quarantined,
        skipped_existing=accounted - written - failed - quarantined,
        failed_total=sum(shard.failures for shard in shards),
        max_failed_share=work.job.config.max_failed_share,
        seconds=round(seconds, 2),
        tokens_in=sum(r.tokens_in for r in made),
        tokens_out=sum(r.tokens_out for r in made),
        samples=work.samples.num_rows,
        carried=sum(r.carried for r in made),
        shared=sum(r.shared for r in made),
        generated=written + failed + quarantined - sum(r.carried + r.shared for r in made),
        images_saved=work.samples.num_rows - plan.planned if plan.table == "captions" else 0,
        flags={
            flag: n["kept"] + n["quarantined"] for flag, n in gates.items() if n["kept"] + n["quarantined"]
        },
        gates=gates,
        bill=bill,
    )
