"""Pictures and pages about a training run."""
