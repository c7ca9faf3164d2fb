"""What is had without any surgery: pictures of lower resolution, numbers of sixteen bits."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compactvision import measure


class AtResolution(nn.Module):
    """A network that sees its pictures at another size; maps that it gives are brought back to the size they had.

    Parameters
    ----------
    model : nn.Module
        The network.
    size : (int, int)
        Height and width of what it sees.
    example : Tensor
        A picture at its own size, (1, C, H, W), for which the sizes of the maps are found out.
    """

    def __init__(self, model: nn.Module, size: tuple[int, int], example: Tensor) -> None:
        super().__init__()
        self.model, self.size = model, size
        with torch.no_grad():
            found = copy.deepcopy(model).to("meta").eval()(example.to("meta"))
        self.maps: list[tuple[int, ...]] = []
        _each(found, self._note)

    def _note(self, tensor: Tensor) -> Tensor:
        self.maps.append(tuple(tensor.shape[2:]))
        return tensor

    def forward(self, x: Tensor) -> Any:
        """Return what the network gives for ``x`` (B, C, H, W) at its size."""
        smaller = F.interpolate(x, self.size, mode="bilinear", antialias=True, align_corners=False)
        maps = iter(self.maps)
        return _each(self.model(smaller), lambda tensor: _enlarged(tensor, next(maps)))


def _enlarged(tensor: Tensor, size: tuple[int, ...]) -> Tensor:
    if tensor.ndim != 4 or tensor.shape[2:] == size:
        return tensor
    return F.interpolate(tensor, size, mode="bilinear", align_corners=False)


class InFormat(nn.Module):
    """A copy of a network that computes in another floating-point format, and takes and gives float32."""

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.model, self.dtype = copy.deepcopy(model).to(dtype), dtype

    def forward(self, x: Tensor) -> Any:
        """Return what the network gives for ``x``, in float32."""
        return _each(self.model(x.to(self.dtype)), lambda tensor: tensor.float())


def _each(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Apply a function to the floating-point tensors of a network's output, whose form stays."""
    if isinstance(value, Tensor):
        return change(value) if value.is_floating_point() else value
    if isinstance(value, Mapping):
        return {name: _each(part, change) for name, part in value.items()}
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return type(value)(_each(part, change) for part in value)
    raise ValueError(f"the network gives a {type(value).__name__}, which this comparison cannot rescale")


def resolution_within(model: nn.Module, example: Tensor, macs: int) -> tuple[int, int]:
    """Return the largest height and width at which the whole network has at most so many MACs.

    The picture's proportions stay. Chosen by counting, which has no noise.

    Raises
    ------
    ValueError
        If the pictures are no maps, or the network takes them at no size that has so few.
    """
    if example.ndim != 4:
        raise ValueError(f"inputs of shape {tuple(example.shape[1:])} have no resolution")
    on_meta = copy.deepcopy(model).to("meta")
    height, width = example.shape[-2:]
    longest = max(height, width)
    low, high = 0, longest  # low: none or within; high: above
    while high - low > 1:
        middle = (low + high) // 2
        if _macs_at(on_meta, example, _scaled(height, width, middle)) <= macs:
            low = middle
        else:
            high = middle
    if low == 0 or _macs_at(on_meta, example, _scaled(height, width, low)) == 0:
        raise ValueError("the network takes no lower resolution with so few MACs")
    return _scaled(height, width, low)


def _scaled(height: int, width: int, longest: int) -> tuple[int, int]:
    share = longest / max(height, width)
    return max(1, round(height * share)), max(1, round(width * share))


def _macs_at(model: nn.Module, example: Tensor, size: tuple[int, int]) -> int:
    """Return the MACs at a size; 0 where the network fails, as it does where a map vanishes."""
    try:
        return measure.macs(model, (int(example.shape[1]), *size))
    except (ValueError, RuntimeError):
        return 0
