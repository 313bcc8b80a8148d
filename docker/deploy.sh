#!/bin/sh
# Make the work pool unless it is there, and put the deployments of prefect.yaml on the server; harmless to repeat.
# Runs in the folder that the workers have the checkout in, /app in our images.
#
# WORK_POOL (local) is the pool, WORK_POOL_TYPE (process) its type: process or kubernetes. A Kubernetes pool gets our
# template, and DEPLOYMENTS (all) go to it instead of the pool that prefect.yaml names.
set -eu

pool=${WORK_POOL:-local}
type=${WORK_POOL_TYPE:-process}

case $type in
    process) set -- ;;
    kubernetes) set -- --base-job-template docker/kubernetes/base-job-template.json ;;
    *)
        echo "error: WORK_POOL_TYPE=$type is not known; use process or kubernetes" >&2
        exit 2
        ;;
esac

if prefect work-pool inspect "$pool" >/dev/null 2>&1; then
    if [ "$type" = kubernetes ]; then
        prefect --no-prompt work-pool update "$pool" "$@"
    fi
else
    prefect --no-prompt work-pool create "$pool" --type "$type" "$@"
fi

if [ "$type" = process ]; then
    prefect --no-prompt deploy --all
else
    for name in ${DEPLOYMENTS:-captions explanations refresh}; do
        prefect --no-prompt deploy --name "$name" --pool "$pool"
    done
fi
