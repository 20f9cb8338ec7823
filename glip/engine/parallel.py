"""One process or many: who this is, how weights are shared, and how they are gathered again."""

from collections.abc import Mapping
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from glip.errors import ConfigError
from glip.models.glip import GlipBlock


def make_accelerator(precision: str, trackers: tuple[str, ...], folder: str) -> Accelerator:
    """Accelerate's view of this process; on a machine without an accelerator processes talk through gloo."""
    return Accelerator(
        cpu=not torch.accelerator.is_available(),
        mixed_precision="no" if precision == "fp32" else precision,
        log_with=list(trackers) or None,
        project_dir=folder,
    )


def distribute(model: nn.Module, accelerator: Accelerator, *, sharded: bool, has_unused: bool = False) -> nn.Module:
    """The model as it is called in training.

    Args:
        model: on this process's device.
        accelerator: this process's.
        sharded: whether weights are split between processes (FSDP2), each block by itself, or copied (DDP).
        has_unused: whether some parameters get no gradient, which DDP must then look for in each step.

    Raises:
        ConfigError: weights are to be split for one process alone.
    """
    if accelerator.num_processes == 1:
        if sharded:
            raise ConfigError("sharded: weights are split between processes, but there is one; start with torchrun")
        return model
    if not sharded:
        return DistributedDataParallel(
            model,
            device_ids=None if accelerator.device.type == "cpu" else [accelerator.local_process_index],
            broadcast_buffers=False,
            find_unused_parameters=has_unused,
        )
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    for module in model.modules():
        if isinstance(module, GlipBlock):
            fully_shard(module, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


def whole(value: Any) -> Any:
    """Tensors as one process alone would have them, in any nest of dicts, lists and tuples; all processes must call."""
    if isinstance(value, DTensor):
        return value.full_tensor()
    if isinstance(value, Mapping):
        return {key: whole(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(whole(inner) for inner in value)
    return value


@torch.no_grad()
def fill(target: Tensor, source: Tensor) -> None:
    """Copy a whole tensor into one that may be split between processes."""
    if isinstance(target, DTensor):
        from torch.distributed.tensor import distribute_tensor

        source = distribute_tensor(source.to(target.device, target.dtype), target.device_mesh, target.placements)
    target.copy_(source)
