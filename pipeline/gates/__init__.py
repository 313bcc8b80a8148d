"""Gates: checks of a generated text that leave a flag on its row."""

from pipeline.gates.text import flags_of

__all__ = ["flags_of"]
