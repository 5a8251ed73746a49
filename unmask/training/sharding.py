"""A frozen backbone spread over the processes that train together, by PyTorch's FSDP2."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import nn

from unmask.attention import decoder_layers
from unmask.backbones import LoadedBackbone
from unmask.quantization import make_shardable


def shard(loaded: LoadedBackbone, device: str | None = None) -> None:
    """Keep of every block's frozen weights only this rank's part, gathered when the block runs.

    Once for a backbone, before adapters are put in: they are not sharded.

    Args:
        loaded: the backbone; on the CPU where it is larger than the device.
        device: where the parts go, and all that is not sharded; default: where it is.

    Raises:
        RuntimeError: without a process group.
    """
    if not dist.is_initialized():
        raise RuntimeError(
            "no process group: start with torchrun and call torch.distributed.init_process_group"
        )
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    place = loaded.model.device if device is None else torch.device(device)
    mesh = init_device_mesh(place.type, (dist.get_world_size(),))
    for layer in decoder_layers(loaded.model):
        make_shardable(layer, place)
        # Norms and biases are next to nothing, and the digest of the weights reads them.
        small = {parameter for parameter in layer.parameters() if parameter.ndim == 1}
        fully_shard(layer, mesh=mesh, reshard_after_forward=True, ignored_params=small)
    nn.Module.to(loaded.model, place)
