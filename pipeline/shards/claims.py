"""Leases as plain files: which worker is at which piece of work, and what became of workers that died.

::

    claims/shard-00003.json           who writes the shard; created if absent, never changed
    claims/worker-9f2c01ab77de.json   that worker's sign of life: a count that only it raises, and its figures

A worker whose process is seen to be gone loses its claims at once. One that cannot be seen from here (another
machine, another container) loses them when its count has not changed for its lease, measured by the
observer's own monotonic clock: the clocks of two machines are never compared.

Claims save work and guard nothing. Two workers may come to believe that they hold the same one, e.g. when one
was stopped for longer than its lease; what they write is kept whole by the marker alone.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pipeline.shards import atomic
from pipeline.shards.workers import Worker
from pipeline.storage import storage_errors

log = logging.getLogger(__name__)

DEFAULT_LEASE_S = 300.0
BEATS_PER_LEASE = 10
LONGEST_PAUSE_S = 5.0
TOLD_EVERY_S = 1.0
"""Seconds between two signs of life that a worker gives because it has news."""


class ClaimLost(Exception):
    """Another worker took the claim over; this worker's work on it is not needed any more."""


class Claims:
    """What this worker holds in one folder, and what others hold; may be used from several threads.

    It is a context: leaving it gives everything back. While it holds something, a thread gives signs of life.
    """

    def __init__(
        self,
        folder: Path,
        lease_s: float = DEFAULT_LEASE_S,
        figures: Callable[[], dict[str, Any]] | None = None,
    ) -> None:
        """Hold nothing, and write nothing yet.

        Args:
            folder: Where the claims lie; created with the first one.
            lease_s: Seconds without a sign of life after which others may take this worker's claims over.
            figures: Says what this worker has done so far; its signs of life show that, for people.
        """
        self.folder = folder
        self.me = Worker.this(lease_s)
        self._lock = threading.RLock()
        self._held: set[str] = set()
        self._seen: dict[str, tuple[Any, float]] = {}
        self._figures = figures
        self._beat = 0
        self._beaten = time.monotonic()
        self._end = threading.Event()
        self._heart: threading.Thread | None = None

    def take(self, name: str) -> bool:
        """Claim a piece of work unless another worker holds it.

        A claim of a worker that is gone, or gave no sign of life for its lease, is taken over.

        Args:
            name: Of the work, e.g. ``shard-00003``.

        Returns:
            Whether this worker holds it now.

        Raises:
            StorageError: The claim cannot be written, e.g. because the disk is full.
        """
        with self._lock, storage_errors(self.folder):
            if name in self._held:
                return True
            if not self._create(name):
                holder = self._read(name)
                # A network file system may say that it exists because of this very call, made twice.
                if holder != self.me:
                    if not self._stale(name, holder) or not self._replace(name, holder):
                        return False
                    log.info("%s is taken over from %s", name, holder or "a worker that left no name")
            self._held.add(name)
            self._seen.pop(name, None)
            return True

    def release(self, name: str) -> None:
        """Give a claim back; nothing happens when it was lost."""
        with self._lock:
            if name in self._held and self._mine(name):
                with contextlib.suppress(OSError):
                    self._path(name).unlink()
            self._held.discard(name)

    def holds(self, name: str) -> bool:
        """Return whether this worker still holds a claim; looks at the disk only after a long silence."""
        with self._lock:
            # A process that was stopped, e.g. by Ctrl-Z, may come to this line before its next sign of life.
            if time.monotonic() - self._beaten > self.me.lease_s / 2:
                self.beat()
            return name in self._held

    def holder(self, name: str) -> str:
        """Return who holds a claim and when it last gave a sign of life, as far as it was seen from here."""
        with self._lock:
            worker = self._read(name)
            if worker is None:
                return "nobody that can be read"
            _, since = self._seen.get(name, (None, time.monotonic()))
            return (
                f"{worker}, last sign of life {time.monotonic() - since:.0f} s ago, taken over after "
                f"{worker.lease_s:.0f} s without one"
            )

    def beat(self) -> None:
        """Give a sign of life, and note which claims were lost meanwhile."""
        with self._lock:
            self._beat += 1
            try:
                self._write_worker()
                self._beaten = time.monotonic()
            except OSError as error:
                log.warning(
                    "%s: no sign of life could be written (%s); others take over after %g s",
                    self.folder,
                    error,
                    self.me.lease_s,
                )
            for name in [name for name in self._held if not self._mine(name)]:
                log.warning("%s was taken over by another worker: %s", name, self.holder(name))
                self._held.discard(name)

    def tell(self) -> None:
        """Give a sign of life early, as there is news; not more often than once a second."""
        if self._heart is not None and time.monotonic() - self._beaten > TOLD_EVERY_S:
            self.beat()

    def clear(self) -> None:
        """Remove the claims of all workers: for when nothing is left to do."""
        with contextlib.suppress(OSError):
            for path in list(self.folder.iterdir()):
                path.unlink(missing_ok=True)
        self.close()
        with contextlib.suppress(OSError):
            self.folder.rmdir()

    def close(self) -> None:
        """Give everything back and end the signs of life."""
        self._end.set()
        heart = self._heart
        if heart is not None and heart is not threading.current_thread():
            heart.join(timeout=5)
        with self._lock:
            for name in list(self._held):
                self.release(name)
            if heart is not None:
                with contextlib.suppress(OSError):
                    self._worker_path(self.me.worker).unlink(missing_ok=True)
                    self.folder.rmdir()  # only the last worker finds it empty
            self._heart = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _create(self, name: str) -> bool:
        if self._heart is None:
            self._announce()
            self._end.clear()
            self._heart = threading.Thread(target=self._live, daemon=True, name="claims")
            self._heart.start()
        content = json.dumps(self.me.as_dict()).encode()
        try:
            return atomic.create_bytes(self._path(name), content, durable=False)
        except FileNotFoundError:  # the last of the other workers removed the folder
            self._announce()
            return atomic.create_bytes(self._path(name), content, durable=False)

    def _announce(self) -> None:
        for attempt in range(10):
            self.folder.mkdir(exist_ok=True)
            try:
                return self._write_worker()
            except FileNotFoundError:
                if attempt == 9:
                    raise

    def _live(self) -> None:
        pause = min(self.me.lease_s / BEATS_PER_LEASE, LONGEST_PAUSE_S)
        while not self._end.wait(pause):
            self.beat()

    def _stale(self, name: str, holder: Worker | None) -> bool:
        if holder is not None and holder.gone():
            return True
        sign = (holder, self._sign_of(holder) if holder is not None else None)
        last, since = self._seen.get(name, (None, 0.0))
        if sign != last:
            self._seen[name] = (sign, time.monotonic())
            return False
        lease_s = holder.lease_s if holder is not None else self.me.lease_s
        return time.monotonic() - since > lease_s

    def _replace(self, name: str, holder: Worker | None) -> bool:
        """Put this worker in the place of a stale one, unless another was faster."""
        # To take over is itself claimed, so that of several observers only one does it; one that dies here
        # leaves a claim that is stale in its turn.
        right = f"{name}-after-{holder.worker if holder is not None else 'unknown'}"
        if not self.take(right):
            return False
        try:
            if self._read(name) != holder:
                return False
            content = json.dumps(self.me.as_dict()).encode()
            atomic.write_bytes(self._path(name), content, durable=False)
        finally:
            self.release(right)
        if holder is not None and not self._claims_of(holder):
            with contextlib.suppress(OSError):
                self._worker_path(holder.worker).unlink(missing_ok=True)
        return True

    def _claims_of(self, holder: Worker) -> bool:
        return any(_worker_in(p) == holder for p in self.folder.glob("*.json") if not _is_worker(p))

    def _mine(self, name: str) -> bool:
        return self._read(name) == self.me

    def _read(self, name: str) -> Worker | None:
        return _worker_in(self._path(name))

    def _sign_of(self, holder: Worker) -> bytes | None:
        try:
            return self._worker_path(holder.worker).read_bytes()
        except OSError:
            return None

    def _write_worker(self) -> None:
        figures = {} if self._figures is None else {"figures": self._figures()}
        content = json.dumps({**self.me.as_dict(), "beat": self._beat, **figures}).encode()
        atomic.write_bytes(self._worker_path(self.me.worker), content, durable=False)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def _worker_path(self, worker: str) -> Path:
        return self.folder / f"worker-{worker}.json"


def _is_worker(path: Path) -> bool:
    return path.name.startswith("worker-")


def _worker_in(path: Path) -> Worker | None:
    try:
        return Worker.from_dict(json.loads(path.read_bytes()))
    except (OSError, ValueError):
        return None
