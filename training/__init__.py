"""The ASAP trainer: reads the committed shards of the pipeline, trains, evaluates. Imports only `schemas`."""
