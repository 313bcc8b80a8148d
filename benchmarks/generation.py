"""Rows per second of each way to generate both tables, side by side, as ratios.

``python -m benchmarks.generation [--jobs J...] [--models demo 100m] [--rounds N] [--save]``. For a job and a
model every way is loaded in a process of its own, and all stay loaded; in each round each of them generates
in turn, the others waiting, so that what else the machine does falls on all alike. A ratio is that of one
round, and the median over the rounds is reported.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from benchmarks.generation_models import parameters, write_glm, write_instructblip
from benchmarks.generation_variants import VARIANTS, Task, Texts, serve
from benchmarks.record import MemoryWatch, save
from pipeline.config import RunConfig, load_config
from pipeline.engines.installed import installed_build
from pipeline.run import prepare

JOBS = ("explanations", "captions")
MODELS = ("demo", "100m")
NEW_TOKENS = {"explanations": 64, "captions": 32}
"""Length of every text of the random models."""

ROWS = {"demo": (48, 10_000), "100m": (8, 64)}
"""Most rows of a round: one row at a time, and every other way."""

ONE, RAW = "one row at a time", "vLLM raw"


def main(argv: list[str] | None = None) -> None:
    """Measure and print; with ``--save`` also write ``benchmarks/results/generation-<date>.json``."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.generation", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--out", type=Path, default=Path("out/demo"), help="folder with the samples table")
    parser.add_argument("--config", type=Path, default=Path("configs/demo.yaml"), help="of the demo's models")
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=list(JOBS))
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--rows", type=int, help="most rows of a round, e.g. 16 for a quick look")
    parser.add_argument("--rounds", type=int, default=3, help="times that each way generates")
    parser.add_argument("--save", action="store_true", help="write the figures under benchmarks/results/")
    args = parser.parse_args(argv)
    results = []
    for model in args.models:
        for job in args.jobs:
            with tempfile.TemporaryDirectory(prefix="bench-generation-") as folder:
                task = make_task(job, model, args.config, args.out, Path(folder), args.rows)
                result = measure(task, model, args.variants, args.rounds)
            results.append(result)
            print(table(result), flush=True)
    if args.save:
        note = "ratios are medians over rounds in which all ways took turns on the same machine"
        print(save("generation", "generation", results, note, **facts()))


def make_task(job: str, model: str, config_file: Path, out: Path, folder: Path, rows: int | None) -> Task:
    """Return what is to be generated, the model written into ``folder`` where it is a random one."""
    config = load_config(config_file)
    if model != "demo":
        config = with_model(config, job, folder / "model")
    work = prepare(job, config, folder_with_samples(out, folder / "planned"))
    samples = [
        sample
        for shard in range(work.plan.shards)
        for sample in work.job.samples_of(work.samples, work.plan.entries(shard))
    ]
    requests = [work.job.request(sample, work.image_root) for sample in samples]
    tables = folder / "tables"
    tables.mkdir()
    return Task(job, config, out, requests[: rows or ROWS[model][1]], tables)


def with_model(config: RunConfig, job: str, folder: Path) -> RunConfig:
    """Return the configuration with a job's model replaced by a random one of fixed output length."""
    path = write_glm(folder) if job == "explanations" else write_instructblip(folder)
    name = config.job(job).model
    changed = config.models[name].model_dump()
    changed["path"] = str(path)
    changed["generation"]["max_new_tokens"] = NEW_TOKENS[job]
    changed["batch_size"] = 32
    return RunConfig.model_validate(
        config.model_dump() | {"models": {**config.model_dump()["models"], name: changed}}
    )


def folder_with_samples(out: Path, planned: Path) -> Path:
    """Return an output folder of its own with the same samples, so that nothing is planned in the user's."""
    planned.mkdir()
    (planned / "samples").symlink_to((out / "samples").resolve())
    return planned


def measure(task: Task, model: str, variants: list[str], rounds: int) -> dict[str, Any]:
    """Return the figures of one job on one model."""
    context = multiprocessing.get_context("spawn")
    workers: dict[str, tuple[Any, Any, MemoryWatch, float]] = {}
    try:
        for name in variants:
            mine, theirs = context.Pipe()
            process = context.Process(target=serve, args=(name, task, theirs), daemon=False)
            started = time.perf_counter()
            process.start()
            theirs.close()
            assert process.pid is not None
            watch = MemoryWatch(process.pid)
            watch.start()
            assert mine.recv() == "ready"
            workers[name] = process, mine, watch, time.perf_counter() - started
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in variants}
        texts: dict[str, Texts] = {}
        for _ in range(rounds):
            for name, (_, pipe, _, _) in workers.items():
                pipe.send(min(ROWS[model][0] if name == ONE else ROWS[model][1], len(task.requests)))
                seconds, texts[name] = pipe.recv()
                tokens = sum(count for _, count in texts[name].values())
                rates = {"rows_per_s": len(texts[name]) / seconds, "tokens_per_s": tokens / seconds}
                runs[name].append({"seconds": seconds, "rows": len(texts[name]), "tokens": tokens} | rates)
        peaks = {name: watch.peak / 1e6 for name, (_, _, watch, _) in workers.items()}
    finally:
        for process, pipe, watch, _ in workers.values():
            pipe.close()
            process.join(60)
            process.kill()
            watch.stop()
    return {
        "job": task.job,
        "model": model,
        "parameters": parameters(task.folder),
        "rows": len(task.requests),
        # The pipeline asks for equal prompts once; the other ways do not look.
        "distinct": len({(request.prompt, request.image) for request in task.requests}),
        "ways": {
            name: {
                "rows_per_s": statistics.median(run["rows_per_s"] for run in runs[name]),
                "tokens_per_s": statistics.median(run["tokens_per_s"] for run in runs[name]),
                "peak_mb": round(peaks[name]),
                "load_s": round(workers[name][3], 1),
                "equal_texts": equal(texts[name], texts[variants[0]]),
                "over_one_at_a_time": ratio(runs, name, ONE),
                "over_vllm_raw": ratio(runs, name, RAW),
                "runs": runs[name],
            }
            for name in variants
        },
    }


def equal(texts: Texts, others: Texts) -> str:
    """Return how many of the texts that both made are the same, as "n of m"."""
    shared = texts.keys() & others.keys()
    return f"{sum(texts[key][0] == others[key][0] for key in shared)} of {len(shared)}"


def ratio(runs: dict[str, list[dict[str, float]]], name: str, base: str) -> float | None:
    """Return the median over the rounds of one way's rows per second over another's."""
    if base not in runs:
        return None
    pairs = zip(runs[name], runs[base], strict=True)
    return round(statistics.median(mine["rows_per_s"] / theirs["rows_per_s"] for mine, theirs in pairs), 3)


def table(result: dict[str, Any]) -> str:
    """Return the figures as lines."""
    lines = [
        f"\n{result['job']}, {result['model']} model, {result['parameters'] / 1e6:.1f} M parameters, "
        f"{result['rows']} rows, {result['distinct']} of them distinct",
        f"{'':24} {'rows/s':>8} {'tokens/s':>9} {'/ one':>7} {'/ raw':>7} {'peak MB':>8} {'load s':>7}"
        "  same texts",
    ]
    for name, way in result["ways"].items():
        over = [
            f"{way[k]:.2f}" if way[k] is not None else "-" for k in ("over_one_at_a_time", "over_vllm_raw")
        ]
        lines.append(
            f"{name:24} {way['rows_per_s']:>8.2f} {way['tokens_per_s']:>9.0f} {over[0]:>7} {over[1]:>7} "
            f"{way['peak_mb']:>8,} {way['load_s']:>7.1f}  {way['equal_texts']}"
        )
    return "\n".join(lines)


def facts() -> dict[str, Any]:
    """Return how the figures were made."""
    build = installed_build()
    return {
        "command": " ".join(["python -m benchmarks.generation", *sys.argv[1:]]),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU",
        "versions": {name: version(name) for name in ("torch", "transformers")}
        | {"vllm": build.version if build else None},
    }


if __name__ == "__main__":
    main()
