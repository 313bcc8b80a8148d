#!/bin/sh
# Make the work pool unless it is there, and put the deployments of prefect.yaml on the server; harmless to repeat.
# Runs in the folder that the workers have the checkout in, /app in our images.
set -eu

pool=${WORK_POOL:-local}
prefect work-pool inspect "$pool" >/dev/null 2>&1 ||
    prefect --no-prompt work-pool create "$pool" --type process
prefect --no-prompt deploy --all
