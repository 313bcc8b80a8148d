#!/usr/bin/env bash
# Draw the demo world into the folder named, unless it is there already.
#
#   scripts/demo_world.sh DIR
#
# WORLD_SAMPLES (400), WORLD_SEED (7) and WORLD_SPLITS (of train, val and test: "0.8 0.1 0.1") choose another world.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly world=$1
readonly partial=$world.partial
readonly stamp=$world/.drawn-with
arguments=(--samples "${WORLD_SAMPLES:-400}" --seed "${WORLD_SEED:-7}")
if [[ -n ${WORLD_SPLITS:-} ]]; then
    read -ra splits <<<"$WORLD_SPLITS"
    arguments+=(--splits "${splits[@]}")
fi
# The drawing code counts as well, so that a newer checkout draws its own world.
recipe="${arguments[*]} code $(cat demo/newsroom/*.py | sha256sum | cut -c1-16)"

if [[ -f $stamp && $(<"$stamp") == "$recipe" ]]; then
    exit 0
fi
if [[ -d $world && ! -f $stamp ]]; then
    echo "demo-world: $world was not drawn by this command; it is used as it is." >&2
    exit 0
fi
# Drawn beside and renamed, so that an interrupted drawing is never taken for a world.
rm -rf "$partial"
.venv/bin/python -m demo.newsroom --out "$partial" "${arguments[@]}"
echo "$recipe" >"$partial/.drawn-with"
rm -rf "$world"
mv "$partial" "$world"
echo "demo-world: $world"
