#!/usr/bin/env bash
# Train on this machine with all its GPUs, or on its processor cores.
#
#   scripts/train.sh ARGUMENTS OF training/train.py...
#
# LAUNCH="--config_file F ..."   arguments for accelerate launch instead
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# How long the launcher waits after a stop before it kills: writing a checkpoint to a slow disk takes a while.
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=${TORCH_ELASTIC_SHUTDOWN_TIMEOUT:-300}

launch=(${LAUNCH:-})
if ((${#launch[@]} == 0)); then
    gpus=0
    if command -v nvidia-smi >/dev/null; then
        # What torch sees, so that CUDA_VISIBLE_DEVICES counts. A broken driver means none.
        gpus=$(timeout 60 .venv/bin/python -c 'import torch; print(torch.cuda.device_count())' 2>/dev/null) || gpus=0
    fi
    cores=$(nproc)
    # A process per core, up to four: more would share too few rows of a step.
    processes=$((gpus > 0 ? gpus : cores < 4 ? cores : 4))
    if ((processes == 1)); then
        # Without the launcher between, a stop signal reaches the trainer and its exit code comes back.
        exec .venv/bin/python training/train.py "$@"
    elif ((gpus > 0)); then
        launch=(--config_file configs/accelerate/ddp.yaml --num_processes "$processes")
    else
        launch=(--config_file configs/accelerate/cpu.yaml --num_processes "$processes"
            --num_cpu_threads_per_process "$((cores / processes))")
    fi
fi
exec .venv/bin/accelerate launch "${launch[@]}" training/train.py "$@"
