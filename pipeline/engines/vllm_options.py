"""From the configuration to vLLM's own: engine arguments, environment, devices; what cannot work is refused.

Nothing here imports vLLM, so that wrong usage is said at once.
"""

from __future__ import annotations

import importlib.util
import json
import os
import struct
import sys
from pathlib import Path
from typing import Any

from pipeline.config.gates import HOTTEST
from pipeline.config.models import ModelConfig
from pipeline.engines.checkpoint import read_json
from pipeline.engines.installed import Build, installed_build
from pipeline.errors import UsageError

_GIB = 2**30

_STORED = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def check_usage(config: ModelConfig) -> Build:
    """Return the installed build of vLLM, after checking that it can run a configuration on this machine.

    Raises:
        UsageError: vLLM is not installed, a device is not here, or it cannot generate as asked for.
    """
    build = installed_build()
    if build is None:
        raise UsageError(
            "engine: vllm needs vLLM, which is not installed; run `make setup`, or set engine: transformers"
        )
    if config.generation.num_beams > 1:
        raise UsageError(
            f"generation.num_beams: {config.generation.num_beams}: vLLM here has no beam search; set "
            f"num_beams: 1, or engine: transformers"
        )
    if config.generation.do_sample and not 0.01 <= config.generation.temperature <= HOTTEST:
        raise UsageError(
            f"generation.temperature: {config.generation.temperature:g}: vLLM takes 0.01 to {HOTTEST:g}; "
            f"change it, or set engine: transformers"
        )
    if config.kind == "instructblip" and config.generation.repetition_penalty != 1.0:
        raise UsageError(
            f"generation.repetition_penalty: {config.generation.repetition_penalty:g}: for captions vLLM "
            f"penalises the words of the instruction too, transformers only those of the caption; set "
            f"repetition_penalty: 1, or engine: transformers"
        )
    wanted = config.device.partition(":")[0]
    here = {"cpu": "cpu", "gpu": "cuda"}[build.kind]
    if wanted not in ("auto", here):
        other = {"cpu": "`make setup ENGINE=cpu`", "cuda": "`make setup ENGINE=gpu`"}.get(wanted)
        raise UsageError(
            f"device: {config.device}: the installed vLLM {build.version} is built for {here}; set device: "
            f"auto" + (f", run {other}" if other else "") + ", or set engine: transformers"
        )
    _check_devices(config, build)
    return build


def _check_devices(config: ModelConfig, build: Build) -> None:
    parts, first = config.vllm.tensor_parallel_size, _first_device(config)
    if build.kind == "cpu":
        # vLLM binds each part to a memory node of its own, unless the user binds threads by hand.
        nodes = len(list(Path("/sys/devices/system/node").glob("node[0-9]*"))) or 1
        if parts > nodes and os.environ.get("VLLM_CPU_OMP_THREADS_BIND", "auto") == "auto":
            raise UsageError(
                f"vllm.tensor_parallel_size: {parts}, but this vLLM is built for CPUs and the machine has "
                f"{nodes} memory node(s), of which each part needs one; set it to {nodes}"
            )
        return
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        raise UsageError(
            "the installed vLLM is built for GPUs and no CUDA device is here; run on a machine with one, run "
            "`make setup ENGINE=cpu`, or set engine: transformers"
        )
    if first + parts > count:
        raise UsageError(
            f"vllm.tensor_parallel_size: {parts} from device: {config.device} on, but {count} CUDA device(s) "
            f"are here; set a smaller one"
        )


def _first_device(config: ModelConfig) -> int:
    return int(config.device.partition(":")[2] or 0)


def engine_arguments(config: ModelConfig, folder: Path, build: Build) -> dict[str, Any]:
    """Return the keyword arguments of vLLM's ``EngineArgs`` for a checked configuration and folder."""
    options, on_cpu, chat = config.vllm, build.kind == "cpu", config.kind == "chat"
    cache = options.kv_cache_gib if options.kv_cache_gib is not None else (1.0 if on_cpu else None)
    arguments: dict[str, Any] = {
        "model": str(folder),
        # Prompts come as token ids and answers leave as token ids.
        "skip_tokenizer_init": True,
        # The checkpoint's own sampling settings are not taken over.
        "generation_config": "vllm",
        "trust_remote_code": config.trust_remote_code,
        "load_format": "safetensors",
        "dtype": config.dtype if config.dtype != "auto" else stored_dtype(folder),
        "seed": 0,
        "tensor_parallel_size": options.tensor_parallel_size,
        "gpu_memory_utilization": options.gpu_memory_utilization,
        # -1: as much as the model was made for and the attention cache holds.
        "max_model_len": options.max_model_len or -1,
        "enable_prefix_caching": _or(options.enable_prefix_caching, chat),
        "enforce_eager": _or(options.enforce_eager, on_cpu),
        "disable_log_stats": True,
    }
    if cache is not None:
        arguments["kv_cache_memory_bytes"] = int(cache * _GIB)
    for name in ("quantization", "max_num_seqs"):
        if (value := getattr(options, name)) is not None:
            arguments[name] = value
    if not chat:
        # Every picture is seen once, so a cache of preprocessed ones only costs memory and hashing.
        arguments |= {"mm_processor_cache_gb": 0, "limit_mm_per_prompt": {"image": 1}}
    return arguments


def _or(value: bool | None, default: bool) -> bool:
    return default if value is None else value


def rows_in_flight(config: ModelConfig, computed: int) -> int:
    """Return how many rows vLLM holds at once: those ``computed`` in a step, and some waiting for a place."""
    return config.vllm.in_flight or computed + max(1, computed // 4)


def stored_dtype(folder: Path) -> str:
    """Return the type a checkpoint's weights are stored in, as ``dtype: auto`` means it.

    vLLM's own ``auto`` turns float32 weights into a half precision.
    """
    config = read_json(folder / "config.json")
    named = config.get("dtype") or config.get("torch_dtype")
    if isinstance(named, str):
        return named.removeprefix("torch.")
    path = min(folder.glob("*.safetensors"))
    with path.open("rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    types = [tensor["dtype"] for name, tensor in header.items() if name != "__metadata__"]
    return next((_STORED[kind] for kind in types if kind in _STORED), "float32")


def environment(config: ModelConfig, build: Build) -> dict[str, str]:
    """Return the environment of the process that runs vLLM."""
    env = dict(os.environ)
    # A cache size from outside would win over the configuration's.
    env.pop("VLLM_CPU_KVCACHE_SPACE", None)
    env |= {
        "DO_NOT_TRACK": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        # The checkpoint is a folder on this machine; nothing has to be asked for.
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        # The scheduler runs in the process that we start and watch, not in another one behind it.
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        "PYTHONPATH": os.pathsep.join(
            filter(None, [str(Path(__file__).resolve().parents[2]), env.get("PYTHONPATH")])
        ),
    }
    env.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    if build.kind == "cpu":
        # Several parts, or another engine beside this one, would be bound to the same cores.
        env.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
        _preload_openmp(env)
    elif ":" in config.device:
        first, parts = _first_device(config), config.vllm.tensor_parallel_size
        visible = env.get("CUDA_VISIBLE_DEVICES", "").split(",")
        numbers = range(first, first + parts)
        env["CUDA_VISIBLE_DEVICES"] = ",".join(
            visible[n] if n < len(visible) and visible[n] else str(n) for n in numbers
        )
    return env


def _preload_openmp(env: dict[str, str]) -> None:
    """Let vLLM's kernels share torch's OpenMP library, as vLLM does for worker processes that it starts."""
    spec = importlib.util.find_spec("torch")
    loaded = env.get("LD_PRELOAD", "")
    if not sys.platform.startswith("linux") or spec is None or spec.origin is None or "omp" in loaded:
        return
    torch = Path(spec.origin).parent
    found = sorted(
        [*(torch.parent / "torch.libs").glob("libgomp*.so*"), *(torch / "lib").glob("libgomp*.so*")]
    )
    if found:
        env["LD_PRELOAD"] = ":".join(filter(None, [loaded, str(found[0])]))
