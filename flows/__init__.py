"""Prefect flows over ``pipeline``: which shard runs when, with retries, records and a progress to look at.

``pipeline`` alone commits, skips and resumes shards. Prefect's state is a record of runs, and to lose it
is to lose no row.
"""

from flows.settings import apply_defaults

# Prefect reads its settings when it is imported, which every module of this package does later than this one.
apply_defaults()
