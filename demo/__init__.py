"""The demo: a DGM4-shaped synthetic news data set, and the tiny models trained on it."""
