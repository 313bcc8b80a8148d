"""Settings of Prefect that the flows choose; a variable that the caller has set always wins."""

from __future__ import annotations

import os

DEFAULTS = {
    # Nothing here reports anything to anyone.
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    # For flows called from Python without an API; the commands start a server of their own (local_server.py).
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
}

SHARD_RETRIES = 2
"""Attempts after the first one that a shard gets when its task raised."""

SHARD_RETRY_DELAYS_S = (2.0, 15.0)
"""Seconds before each of these attempts."""

MAX_FAILED_SHARDS = 3
"""Shards that may fail for good before a run ends: by then it is not the data."""

SUBMITTED_AHEAD = 2
"""Shard tasks that Prefect knows of at a time: one runs, one waits, however many the plan has."""

PROGRESS_EVERY_S = 5.0
"""Seconds between two updates of the progress artifact."""

PROGRESS_PAUSE_S = 600.0
"""Seconds without updates after one that failed."""

SERVER_START_TIMEOUT_S = 300.0
"""Wait for the temporary server; a first start creates a database, and the machine may be busy."""


def apply_defaults() -> None:
    """Put ``DEFAULTS`` into the environment of this process and its children."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
