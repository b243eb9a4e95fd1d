"""One run on several devices: torchrun starts a process for each, and each holds a share of the model.

Weights, gradients and moments are cut up layer by layer (FSDP: Zhao et al., 2023), and the examples of a batch are
dealt out. The first process decides what is done, and alone writes; the others follow it. Without torchrun there
is one process, and nothing here does anything.
"""

from __future__ import annotations

import fcntl
import gc
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor, nn


PATIENCE = timedelta(days=1)
"""For the first process, which may wait for another writer; who fails ends all at once, through torchrun."""


def count() -> int:
    """Return how many processes, and so devices, share the runs of this one."""
    return int(os.environ["WORLD_SIZE"]) if "TORCHELASTIC_RUN_ID" in os.environ else 1


def launch() -> str | None:
    """Return what torchrun calls this launch of the processes, the same when it starts them again; None without it."""
    return os.environ["TORCHELASTIC_RUN_ID"] if count() > 1 else None


def number() -> int:
    """Return which of them this process is, from 0."""
    return int(os.environ["RANK"]) if count() > 1 else 0


def process_device() -> torch.device:
    """Return the device of this process; on a CPU, as many threads as the job was given.

    Called when the libraries are loaded: they stay, so collecting garbage need not look at them again.
    """
    import torch

    gc.freeze()

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    if not torch.cuda.is_available():
        return torch.device("cpu")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)  # the same seed, the same record, where kernels can
    torch.cuda.set_device(number() if count() > 1 else _own_card())
    return torch.device("cuda")


@cache
def _own_card() -> int:
    import torch

    cards = [str(torch.cuda.get_device_properties(place).uuid) for place in range(torch.cuda.device_count())]
    return claimed(cards, Path(tempfile.gettempdir()))


_claims: list[TextIO] = []
"""Open as long as the process lives, for so long last the system's locks on them."""


def claimed(cards: Sequence[str], folder: Path) -> int:
    """Return the place of a card that no other process of this machine has claimed; where none is free, any.

    Jobs beside each other would all take the first; those that are more than there are cards share them.
    """
    for place, card in enumerate(cards):
        try:
            file = (folder / f"peftstudy-{card}").open("a")
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # claimed, or another user's
            continue
        _claims.append(file)
        return place
    return os.getpid() % len(cards)


@contextmanager
def together(device: torch.device) -> Iterator[None]:
    """Meet the other processes, if there are any, and part from them when the block has ended well.

    One that fails ends without a farewell, which the others would have to answer; torchrun ends them.
    """
    import torch

    if count() > 1:
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        # The store outlasts a start of the processes, and in it the addresses of those that ended.
        store, rank, size = next(torch.distributed.rendezvous("env://"))
        store = torch.distributed.PrefixStore(f"start-{os.environ['TORCHELASTIC_RESTART_COUNT']}", store)
        torch.distributed.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=PATIENCE)
    yield
    if count() > 1:
        torch.distributed.destroy_process_group()


def generators(device: torch.device) -> list[Tensor]:
    """Return the state of a GPU's generator, alone; nothing of a CPU, whose generator is torch's own."""
    import torch

    return [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []


def set_generator(device: torch.device, states: Sequence[Tensor]) -> None:
    """Put a GPU's generator where `generators` found it.

    Older checkpoints hold those of all GPUs that were visible then, in their order; now there may be fewer.
    """
    import torch

    if states and device.type == "cuda":
        torch.cuda.set_rng_state(states[min(device.index, len(states) - 1)].cpu(), device)


def tell(value: Any = None) -> Any:
    """Return what the first process tells; it alone gives a value."""
    import torch

    told = [value]
    if count() > 1:
        torch.distributed.broadcast_object_list(told)
    return told[0]


def any_of(*statements: bool) -> list[bool]:
    """Return for each statement whether it is true in any of the processes."""
    return [bool(number) for number in _reduced(list(map(float, statements)), "MAX")] if count() > 1 else [*statements]


def _reduced(values: list[float], how: str) -> list[float]:
    import torch

    found = torch.tensor(values)
    torch.distributed.all_reduce(found, getattr(torch.distributed.ReduceOp, how))
    return found.tolist()


def add_up(tensor: Tensor) -> Tensor:
    """Return the sum of the processes' tensors."""
    import torch

    if count() > 1:
        torch.distributed.all_reduce(tensor)
    return tensor


def deal(parts: Sequence[np.ndarray]) -> Iterator[tuple[np.ndarray, int]]:
    """Yield the parts of a batch that this process computes, and the factor on each one's loss.

    The factors make up for the mean over processes that FSDP takes of gradients. All processes compute as many
    parts, for each gathers the weights that the others hold: where parts are short, an example that counts 0 stands in.
    """
    for start in range(0, len(parts), count()):
        mine = start + number()
        yield (parts[mine], count()) if mine < len(parts) else (parts[0][:1], 0)


def shard(model: nn.Module) -> None:
    """Leave to this process its share of the model's weights; each layer is whole while it computes."""
    if count() == 1:
        return
    import torch
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from transformers.modeling_layers import GradientCheckpointingLayer

    device = next(model.parameters()).device.type
    mesh = init_device_mesh(device, (torch.distributed.get_world_size(),))
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not _share_parameters(model, layers):
        # The last layer gives what the head reads, a view; nobody writes into it.
        warnings.filterwarnings("ignore", "FSDP2-wrapped module", UserWarning)
        for layer in layers:
            fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)


def _share_parameters(model: nn.Module, layers: list[nn.Module]) -> bool:
    """Whether a layer has a parameter in common with another, or with the rest: such can only be cut up together."""
    within = {id(module) for layer in layers for module in layer.modules()}
    rest = [module for module in model.modules() if id(module) not in within]
    owners = [{id(parameter) for parameter in layer.parameters()} for layer in layers]
    owners.append({id(parameter) for module in rest for parameter in module.parameters(recurse=False)})
    return sum(map(len, owners)) > len(set().union(*owners))


def whole(tensor: Tensor) -> Tensor:
    """Return a tensor with the shares of all processes."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def share(tensor: Tensor, like: Tensor) -> Tensor:
    """Return of a whole tensor what this process holds, cut as `like` is."""
    if not hasattr(like, "full_tensor") or tensor.shape != like.shape:
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements)


def whole_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return an optimizer's state dict with whole moments."""
    state = optimizer.state_dict()
    return state | {"state": {key: _each(whole, moments) for key, moments in state["state"].items()}}


def share_state(state: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return of a whole state dict what this process' optimizer holds."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    cut = {key: _each(lambda t, key=key: share(t, parameters[key]), moments) for key, moments in state["state"].items()}
    return {**state, "state": cut}


def _each(change: Any, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: change(tensor) for name, tensor in tensors.items()}
