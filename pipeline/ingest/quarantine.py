"""The rows that were set aside, each with its code, a message and the row as it stood."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import pyarrow as pa

from pipeline.ingest.checking import Source
from pipeline.ingest.records import raw_json
from schemas.tables import QUARANTINE

_PIECE_ROWS = 5000


class Quarantine:
    """Collects rejected rows by file and row.

    Args:
        sources: The annotation files, in order.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources
        self._defects: list[dict[int, tuple[str, str]]] = [{} for _ in sources]
        self.by_reason: Counter[str] = Counter()

    def __len__(self) -> int:
        return sum(map(len, self._defects))

    def add(self, source: int, row: int, code: str, message: str) -> None:
        """Set a row aside.

        Args:
            source: Index of its file.
            row: 0-based index of the row in the file.
            code: One of ``QUARANTINE_REASONS``.
            message: Names the value and the remedy.
        """
        self._defects[source][row] = code, printable(message)
        self.by_reason[code] += 1

    def tables(self) -> Iterator[pa.Table]:
        """Yield the rows of the ``quarantine`` table, by file and row; raw rows are read again."""
        for source, defects in zip(self._sources, self._defects, strict=True):
            rows = sorted(defects)
            for start in range(0, len(rows), _PIECE_ROWS):
                piece = rows[start : start + _PIECE_ROWS]
                raw = source.pick(piece)
                yield pa.Table.from_pydict(
                    {
                        "source_file": [printable(str(source.path))] * len(piece),
                        "source_row": piece,
                        "reason": [defects[row][0] for row in piece],
                        "message": [defects[row][1] for row in piece],
                        "raw": [raw_json(raw[row]) for row in piece],
                    },
                    schema=QUARANTINE,
                )


def printable(text: str) -> str:
    """Return a text with what has no UTF-8 form (bytes of odd file names) as escapes."""
    return text.encode("utf-8", "backslashreplace").decode()
