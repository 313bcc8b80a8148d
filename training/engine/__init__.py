"""The training loop and what it stands on: optimizer, checkpoints, stop signal, guard, trackers, meters."""
