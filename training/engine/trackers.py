"""Where records go: RUN/log.jsonl always; TensorBoard, Weights & Biases and MLflow if configured."""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self

from training.config import Config, dump_config
from training.engine.files import finite, write_json, write_text
from training.errors import Interrupted, UsageError

Outcome = Literal["finished", "stopped", "failed"]
"""How a run ended: trained to its end, stopped and resumable, or with an error."""


class Tracker(Protocol):
    """Takes records."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Take the values of an optimizer step, e.g. ``{"loss/bic": 0.7}``."""

    def close(self, outcome: Outcome) -> None:
        """Hand over what is still held back, and how the run ended."""


class Trackers:
    """Sends records to every configured place; does nothing on ranks other than 0.

    Args:
        config: The run's configuration; it is stored with the trackers.
        run_dir: RUN.
        is_main: Whether this is rank 0.
        resumed_step: Step of the checkpoint the run goes on from; later records are dropped, since they will
            be made again.

    Raises:
        UsageError: A configured tracker is not installed or does not start.
    """

    def __init__(self, config: Config, run_dir: Path, is_main: bool = True, resumed_step: int = 0) -> None:
        self._trackers: list[Tracker] = []
        if not is_main:
            return
        run_dir.mkdir(parents=True, exist_ok=True)
        others = [_OTHERS[name](config, run_dir, resumed_step) for name in config.train.trackers]
        self._trackers = [JsonLines(run_dir / "log.jsonl", resumed_step), *others]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.close("stopped" if issubclass(kind, Interrupted | KeyboardInterrupt) else "failed")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Record the values of an optimizer step."""
        for tracker in self._trackers:
            tracker.log(step, values)

    def close(self, outcome: Outcome = "finished") -> None:
        """Finish every tracker; later records are ignored."""
        while self._trackers:
            self._trackers.pop().close(outcome)


def check_trackers(config: Config) -> None:
    """Look whether the configured trackers are installed, without starting them.

    Raises:
        UsageError: One is not.
    """
    for name in config.train.trackers:
        if name not in sys.modules and importlib.util.find_spec(name) is None:
            raise _not_installed(name, name)


class JsonLines:
    """One JSON object per record: ``step``, ``time`` (seconds since 1970) and the values.

    NaN and infinity become null, since JSON has no name for them.
    """

    def __init__(self, path: Path, resumed_step: int) -> None:
        if path.exists():
            _drop_later(path, resumed_step)
        self._stream = path.open("a", encoding="utf-8")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Append a record and hand it to the system, so that it survives the process."""
        record = {"step": step, "time": round(time.time(), 3), **finite(values)}
        self._stream.write(json.dumps(record) + "\n")
        self._stream.flush()

    def close(self, outcome: Outcome) -> None:
        """Close the file."""
        self._stream.close()


def _drop_later(path: Path, resumed_step: int) -> None:
    """Keep whole records up to a step; a line that a dying process cut short is dropped too.

    A run that starts anew keeps nothing: what is there comes from an attempt that died before its first
    checkpoint.
    """
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if resumed_step else ():
        try:
            if json.loads(line)["step"] <= resumed_step:
                kept.append(f"{line}\n")
        except (ValueError, KeyError, TypeError):
            continue
    write_text(path, "".join(kept))


class TensorBoard:
    """Event files in RUN/tensorboard; events after the resumed step are hidden."""

    def __init__(self, config: Config, run_dir: Path, resumed_step: int) -> None:
        _module("tensorboard", "tensorboard")
        writer = _module("torch.utils.tensorboard", "tensorboard").SummaryWriter
        self._writer = writer(str(run_dir / "tensorboard"), purge_step=resumed_step + 1)
        self._writer.add_text("config", f"```yaml\n{dump_config(config)}```", resumed_step)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Add one point per value."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self, outcome: Outcome) -> None:
        """Flush and close the event file."""
        self._writer.close()


class WandB:
    """A run of Weights & Biases; its id is kept in RUN/wandb.json so that a resumed run goes on.

    Records carry the step as a value of their own. wandb's own step may only rise, and would drop, without a
    word, what a run that went on from an earlier checkpoint logs again.
    """

    _STEP = "optimizer_step"

    def __init__(self, config: Config, run_dir: Path, resumed_step: int) -> None:
        wandb = _module("wandb", "wandb")
        stored = _stored_id(run_dir / "wandb.json", resumed_step)
        try:
            self._run = wandb.init(
                project="asap",
                name=config.name,
                dir=str(run_dir),
                id=stored,
                resume="allow" if stored else None,
                config=config.model_dump(mode="json"),
            )
        except Exception as error:
            raise UsageError(
                f"train.trackers names wandb, which does not start: {error}; run wandb login, set "
                f"WANDB_MODE=offline, or take it out, e.g. --set train.trackers=[]"
            ) from error
        self._run.define_metric(self._STEP)
        self._run.define_metric("*", step_metric=self._STEP)
        write_json(run_dir / "wandb.json", {"id": self._run.id})

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Send a record."""
        self._run.log({self._STEP: step, **values})

    def close(self, outcome: Outcome) -> None:
        """Wait until everything is sent; a run that did not finish is shown as failed."""
        self._run.finish(exit_code={"finished": 0, "stopped": 3, "failed": 1}[outcome])


class MLflow:
    """A run of MLflow; its id is kept in RUN/mlflow.json so that a resumed run goes on."""

    def __init__(self, config: Config, run_dir: Path, resumed_step: int) -> None:
        self._mlflow = _module("mlflow", "mlflow")
        stored = _stored_id(run_dir / "mlflow.json", resumed_step)
        try:
            self._mlflow.set_experiment("asap")
            run = self._mlflow.start_run(run_id=stored, run_name=None if stored else config.name)
        except Exception as error:
            raise UsageError(
                f"train.trackers names mlflow, which does not start: {error}; set MLFLOW_TRACKING_URI, or "
                f"take it out, e.g. --set train.trackers=[]"
            ) from error
        write_json(run_dir / "mlflow.json", {"id": run.info.run_id})
        self._mlflow.log_text(dump_config(config), "config.yaml")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Send a record."""
        self._mlflow.log_metrics(dict(values), step=step)

    def close(self, outcome: Outcome) -> None:
        """Mark the run as finished, stopped or failed; going on marks it as running again."""
        self._mlflow.end_run(
            status={"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}[outcome]
        )


_OTHERS: dict[str, Any] = {"tensorboard": TensorBoard, "wandb": WandB, "mlflow": MLflow}


def _stored_id(path: Path, resumed_step: int) -> str | None:
    """Return the id that an earlier part of the same run left; a run that starts anew gets a new one."""
    if resumed_step == 0 or not path.is_file():
        return None
    return str(json.loads(path.read_text(encoding="utf-8"))["id"])


def _module(name: str, package: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise _not_installed(package, error.name) from None


def _not_installed(package: str, module: str | None) -> UsageError:
    return UsageError(
        f"train.trackers names {package}, which needs the module {module}: pip install {package}, or take it "
        "out, e.g. --set train.trackers=[]"
    )
