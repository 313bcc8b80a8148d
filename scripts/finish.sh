#!/usr/bin/env bash
# Close a run: verify what was written, say where it is, show two examples of each table.
#
#   scripts/finish.sh OUT TABLE...
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

out=$1
shift
python=.venv/bin/python

printf '\nVerifying %s\n' "$out"
"$python" -m pipeline verify --out "$out"
for table in "$@"; do
    echo
    "$python" -m pipeline examples --out "$out" --table "$table" -n 2
done
