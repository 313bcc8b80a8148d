"""Starting fast."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from typing import Any


class _NoPandas:
    """An import hook under which pandas is not there."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name == "pandas":
            raise ModuleNotFoundError("pandas is kept out of this command", name=name)
        return None


@contextlib.contextmanager
def without_pandas() -> Iterator[None]:
    """Keep Arrow from importing pandas.

    Arrow does so on the first array it makes, in case it is given a pandas object. The import takes longer
    than those of Arrow and numpy together, and ingest has no pandas data. It asks once, so later calls are
    spared too; ``to_pandas`` still works. Nothing changes when pandas is loaded already.
    """
    if "pandas" in sys.modules:
        yield
        return
    hook = _NoPandas()
    sys.meta_path.insert(0, hook)
    try:
        import pyarrow as pa

        pa.array([0])
        yield
    finally:
        sys.meta_path.remove(hook)
