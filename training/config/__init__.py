"""Configuration of a training run: YAML files plus ``--set`` overrides -> checked, immutable values."""

from training.config.compare import changed_keys
from training.config.load import dump_config, load_config
from training.config.sections import Config

__all__ = ["Config", "changed_keys", "dump_config", "load_config"]
