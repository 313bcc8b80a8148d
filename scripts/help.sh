#!/usr/bin/env bash
# Print the targets of the makefiles named, with the text behind `##`, under their `##@` headings.
set -euo pipefail
awk '
    /^##@/ { printf "\n%s\n", substr($0, 5) }
    /^[a-z-]+:.*## / {
        target = $0; sub(/:.*/, "", target)
        text = $0; sub(/.*## /, "", text)
        printf "  %-16s  %s\n", target, text
    }
' "$@"
