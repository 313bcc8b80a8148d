"""From annotation files to ``samples`` and ``quarantine``.

``run.ingest`` does the whole job. This file imports nothing: each worker of the image pool imports the
package and must start fast.
"""
