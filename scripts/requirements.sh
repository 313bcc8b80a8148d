#!/usr/bin/env bash
# Recompile requirements/cpu.txt and gpu.txt from the *.in files; options go to uv (--upgrade, -P NAME).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

for engine in cpu gpu; do
    .venv/bin/python -m uv pip compile --quiet requirements/common.in "requirements/engine-$engine.in" \
        --override requirements/overrides.txt \
        --no-emit-index-url --no-emit-find-links --no-header --no-annotate \
        --python-version 3.11 --python-platform x86_64-unknown-linux-gnu \
        --output-file "requirements/$engine.txt" "$@"
    printf 'requirements/%s.txt: %s packages\n' "$engine" "$(grep -c == "requirements/$engine.txt")"
done
