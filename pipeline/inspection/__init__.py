"""One HTML page of a run for a person to look through: pictures, texts, flags, failures, figures.

>>> from pipeline.inspection import Options, write_page
>>> write_page(Options(out=Path("out/demo"), to=Path("report.html")))  # doctest: +SKIP
"""

from pipeline.inspection.report import Options, write_page

__all__ = ["Options", "write_page"]
