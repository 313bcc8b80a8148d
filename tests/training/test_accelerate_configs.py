from __future__ import annotations

from pathlib import Path

import pytest
from accelerate import FullyShardedDataParallelPlugin
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import DistributedType
from accelerate.utils.launch import prepare_multi_gpu_env
from open_clip.transformer import ResidualAttentionBlock
from torch.distributed.fsdp import CPUOffloadPolicy

from tests.training.launching import CONFIGS, fsdp_settings
from training.model.attention import Block

FILES = sorted(CONFIGS.glob("*.yaml"))


def test_every_way_to_launch_is_there() -> None:
    known = {"cpu", "ddp", "fsdp", "fsdp-multi-node", "multi-node", "single-gpu"}
    assert {file.stem for file in FILES} == known


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_accelerate_takes_the_file(file: Path) -> None:
    config = load_config_from_file(str(file))
    assert isinstance(config, ClusterConfig)
    assert config.num_processes >= 1 and config.num_processes % config.num_machines == 0
    assert config.mixed_precision == "no", "train.precision decides"


@pytest.mark.parametrize(
    ("name", "kind", "machines"),
    [
        ("cpu", DistributedType.MULTI_GPU, 1),
        ("single-gpu", DistributedType.NO, 1),
        ("ddp", DistributedType.MULTI_GPU, 1),
        ("fsdp", DistributedType.FSDP, 1),
        ("multi-node", DistributedType.MULTI_GPU, 2),
        ("fsdp-multi-node", DistributedType.FSDP, 2),
    ],
)
def test_the_launcher_reads_what_the_name_says(name: str, kind: DistributedType, machines: int) -> None:
    given = ["--config_file", str(CONFIGS / f"{name}.yaml"), "training/train.py"]
    args, defaults, _ = _validate_launch_command(launch_command_parser().parse_args(given))
    assert defaults.distributed_type == kind
    assert args.use_fsdp == (kind == DistributedType.FSDP)
    assert args.multi_gpu == (kind == DistributedType.MULTI_GPU)
    assert args.num_machines == machines
    assert bool(args.use_cpu) == (name == "cpu")


@pytest.mark.parametrize(("name", "reshard"), [("fsdp", True), ("fsdp-multi-node", False)])
def test_sharding_wraps_the_blocks_of_towers_and_fusion(
    monkeypatch: pytest.MonkeyPatch, name: str, reshard: bool
) -> None:
    for setting, value in fsdp_settings(name).items():
        monkeypatch.setenv(setting, value)
    plugin = FullyShardedDataParallelPlugin()
    assert plugin.fsdp_version == 2 and plugin.reshard_after_forward is reshard
    assert not isinstance(plugin.cpu_offload, CPUOffloadPolicy) and not plugin.activation_checkpointing
    assert plugin.transformer_cls_names_to_wrap == [ResidualAttentionBlock.__name__, Block.__name__]


@pytest.mark.parametrize("name", ["multi-node", "fsdp-multi-node"])
def test_each_machine_s_launcher_knows_its_place(name: str) -> None:
    given = ["--config_file", str(CONFIGS / f"{name}.yaml"), "--main_process_ip", "host0"]
    given += ["--num_machines", "4", "--num_processes", "32", "--machine_rank", "3", "training/train.py"]
    args, _, _ = _validate_launch_command(launch_command_parser().parse_args(given))
    environment = prepare_multi_gpu_env(args)
    assert (args.nnodes, args.nproc_per_node, args.node_rank) == ("4", "8", 3)
    assert (args.rdzv_endpoint, args.rdzv_backend) == ("host0:29500", "static")
    assert ("FSDP_VERSION" in environment) == name.startswith("fsdp")
