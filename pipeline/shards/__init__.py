"""Shards: planned once, committed atomically, verified from their files alone."""
