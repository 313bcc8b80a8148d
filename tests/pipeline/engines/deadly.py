"""A real vLLM whose process ends at chosen rows, and one whose device has less memory than it says.

``sitecustomize.py`` is what Python runs before anything else in a process that has it on its path. One takes
the guard away that keeps unknown token ids from vLLM: the id is then looked up in the embedding table, and
the error ends the process that the model runs in.
"""

from __future__ import annotations

from pathlib import Path

_PATCH = """
import sys

if any("pipeline.engines.vllm_host" in part for part in sys.orig_argv):
    import importlib.abc
    import importlib.util

    class Patch(importlib.abc.MetaPathFinder):
        def find_spec(self, name, path, target=None):
            if name != "MODULE":
                return None
            sys.meta_path.remove(self)
            spec = importlib.util.find_spec(name)
            load = spec.loader.exec_module

            def exec_module(module):
                load(module)
                change(module)

            spec.loader.exec_module = exec_module
            return spec

    sys.meta_path.insert(0, Patch())
"""

NO_GUARD = """
def change(module):
    start = module.Rows.__init__

    def no_guard(rows, *arguments):
        start(rows, *arguments)
        rows._vocabulary = 1 << 30

    module.Rows.__init__ = no_guard
""" + _PATCH.replace("MODULE", "pipeline.engines.vllm_rows")

LITTLE_MEMORY = """
def change(module):
    step = module.LLMEngine.step

    def cramped(engine):
        import torch

        rows = engine.get_num_unfinished_requests()
        if rows > ROWS:
            raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to compute {rows} rows")
        return step(engine)

    module.LLMEngine.step = cramped
""" + _PATCH.replace("MODULE", "vllm.v1.engine.llm_engine")


def on_path(monkeypatch, folder: Path, content: str) -> None:
    """Have the processes that start from now on run ``content`` first."""
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(content)
    monkeypatch.setenv("PYTHONPATH", str(folder))
