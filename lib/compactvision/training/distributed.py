"""The processes of a run: one, or as many as torchrun started.

The model is not wrapped. After each backward pass the gradients are summed over the processes, each weighted by its
share of the samples, so that every process holds the gradient of the mean loss over the whole global batch, an uneven
last batch included.
"""

import atexit
import os
from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class Group:
    """A view on torch's default process group; with one process every method hands back its input.

    All methods are collective: every process calls them in the same order.
    """

    def __init__(self, rank: int = 0, world: int = 1):
        self.rank, self.world = rank, world

    @property
    def first(self) -> bool:
        """Whether this process writes checkpoints and shows the bar."""
        return self.rank == 0

    def shard(self, batches: Iterable) -> Iterable:
        """Cut this process's piece out of each global batch, where the source can do so; else hand on the source.

        A source without ``shard`` is expected to differ between processes already (DistributedSampler).
        """
        if self.world > 1 and hasattr(batches, "shard"):
            return batches.shard(self.rank, self.world)
        return batches

    def broadcast_(self, model: nn.Module, *, parameters: bool = True) -> None:
        """Give every process the parameters and buffers (or the buffers alone) of the first."""
        if self.world > 1:
            tensors = [p.data for p in model.parameters()] if parameters else []
            for tensor in tensors + list(model.buffers()):
                plain = tensor.contiguous()
                dist.broadcast(plain, src=0)
                tensor.copy_(plain)

    def average_gradients_(
        self, parameters: Sequence[nn.Parameter], loss: Tensor, samples: int
    ) -> tuple[Tensor, int | Tensor]:
        """Replace gradients by their mean over processes, weighted by samples.

        Parameters
        ----------
        parameters : sequence of Parameter
            The same on every process. A parameter without gradient on all processes keeps none.
        loss : Tensor, scalar
            Mean loss over this process's samples, detached.
        samples : int
            Samples of this process, >= 0.

        Returns
        -------
        tuple of Tensor and int (or a 0-dim Tensor with several processes)
            Mean loss over all samples, and their number.
        """
        if self.world == 1:
            return loss, samples
        totals = torch.stack([loss.double() * samples, torch.tensor(float(samples), device=loss.device).double()])
        dist.all_reduce(totals)
        share = samples / totals[1]
        for dtype in sorted({p.dtype for p in parameters}, key=str):
            self._average([p for p in parameters if p.dtype == dtype], share)
        return (totals[0] / totals[1]).to(loss.dtype), totals[1]

    @staticmethod
    def _average(parameters: Sequence[nn.Parameter], share: Tensor) -> None:
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        present = grads[0].new_tensor([p.grad is not None for p in parameters])  # (P,)
        flat = torch.cat([g.reshape(-1) for g in grads] + [present]) * share.to(present.dtype)  # (weights + P,)
        dist.all_reduce(flat)
        *pieces, present = flat.split([p.numel() for p in parameters] + [len(parameters)])
        for i, (parameter, grad, piece) in enumerate(zip(parameters, grads, pieces, strict=True)):
            if parameter.grad is not None or present[i] > 0:
                parameter.grad = grad.copy_(piece.view(grad.shape))

    def sum(self, values: Sequence[float], device: torch.device) -> list[float]:
        """Sum of each value over the processes."""
        if self.world == 1:
            return list(values)
        totals = torch.tensor(values, dtype=torch.float64, device=device)
        dist.all_reduce(totals)
        return totals.tolist()

    def gather(self, value: Any) -> list:
        """Return the value of every process, in the order of ranks."""
        if self.world == 1:
            return [value]
        values = [None] * self.world
        dist.all_gather_object(values, value)
        return values


def current(device: torch.device) -> Group:
    """Return the group that this process belongs to.

    An initialised default process group is used as it is. Where there is none, but torchrun's environment variables
    announce several processes, one is initialised (gloo for the CPU, nccl for CUDA) and closed when the process ends.
    """
    if not dist.is_available():
        return Group()
    if not dist.is_initialized() and "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        atexit.register(_close)
    return Group(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else Group()


def _close() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()
