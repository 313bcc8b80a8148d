"""The report of an evaluation as one self-contained HTML file, made from what the evaluation saved."""

from training.report.page.build import PAGE, write_page

__all__ = ["PAGE", "write_page"]
