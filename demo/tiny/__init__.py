"""Tiny models with the architecture and file format of the real ones, trained from scratch."""
