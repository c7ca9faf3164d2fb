"""Layers that the networks share: the option-A shortcut as an explicit channel map, and He initialisation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compactvision import _checks as checks


class ChannelMap(nn.Module):
    """Parameter-free layer that says, for each output channel, which input channel it copies.

    The option-A shortcut of He et al. (2016) takes every second pixel and fills the missing channels with zeros.
    Writing it as a map keeps it expressible after channels have been cut on either side. The same layer selects the
    channels that a layer reads (all entries an index) and spreads a narrow output over a wider stream (some -1).

    Parameters
    ----------
    source : sequence of int
        One entry per output channel: index of the input channel that it copies, or -1 for a channel of zeros.
    in_channels : int
        Channels of the input.
    stride : int, default 1
        Every ``stride``-th pixel is kept in both directions, beginning with the first.

    Attributes
    ----------
    source : Tensor
        The map as an int64 buffer of shape (C_out,). Change it with :meth:`set_source`, not in place.

    Raises
    ------
    ValueError
        If an entry of ``source`` is below -1 or not below ``in_channels``, or ``stride`` is below 1; in ``forward`` if
        the input has other channels.
    """

    source: Tensor

    def __init__(self, source: Sequence[int], in_channels: int, stride: int = 1) -> None:
        super().__init__()
        checks.counts(stride=stride)
        self.stride = stride
        self.register_buffer("source", torch.empty(0, dtype=torch.long))
        self.set_source(source, in_channels)

    @property
    def out_channels(self) -> int:
        """Channels of the output."""
        return self.source.numel()

    @property
    def is_contiguous(self) -> bool:
        """Whether the map copies one run of neighbouring channels between two blocks of zeros (the fast path)."""
        return self._run is not None

    def set_source(self, source: Sequence[int], in_channels: int) -> None:
        """Replace the map; see the class for ``source`` and ``in_channels``."""
        checks.counts(in_channels=in_channels)
        if isinstance(source, (str, bytes)) or not isinstance(source, Iterable):
            raise ValueError(f"source must be a sequence of whole numbers, got {checks.shown(source)}")
        entries = list(source)
        for place, entry in enumerate(entries):
            checks.whole(**{f"source[{place}]": entry})
        entries = [int(entry) for entry in entries]
        for entry in entries:
            if not -1 <= entry < in_channels:
                raise ValueError(
                    f"source holds {entry}; entries must be -1 or an index below in_channels={in_channels}"
                )
        self.in_channels = in_channels
        self.source = torch.tensor(entries, dtype=torch.long, device=self.source.device)
        self._run = _single_run(entries)
        self._has_zeros = -1 in entries

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C_in, H, W) to (B, C_out, ceil(H / stride), ceil(W / stride)); stride 1 also (B, C_in) and others."""
        if not isinstance(x, Tensor) or x.layout != torch.strided or x.ndim < 2 or x.shape[1] != self.in_channels:
            raise ValueError(f"x must have the {self.in_channels} channels that the map reads, got {checks.shown(x)}")
        if self.stride > 1:
            if x.ndim != 4:
                raise ValueError(f"x must be (B, C, H, W) for a stride of {self.stride}, got {checks.shown(x)}")
            x = x[:, :, :: self.stride, :: self.stride]  # (B, C_in, H', W')
        pixels = (0, 0) * (x.dim() - 2)  # no padding in the dimensions behind the channels
        if self._run is not None:
            before, first, last, after = self._run
            return F.pad(x[:, first:last], (*pixels, before, after))  # (B, C_out, H', W')
        if not self._has_zeros:
            return x.index_select(1, self.source)  # (B, C_out, H', W')
        with_zero = F.pad(x, (*pixels, 0, 1))  # (B, C_in + 1, H', W'), the last channel is zero
        index = torch.where(self.source < 0, self.in_channels, self.source)  # (C_out,)
        return with_zero.index_select(1, index)  # (B, C_out, H', W')

    def extra_repr(self) -> str:
        """Channels and stride, for ``print(model)``."""
        return f"{self.in_channels}, {self.out_channels}, stride={self.stride}"

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        if not self.source.is_meta:
            self.set_source(self.source.tolist(), self.in_channels)


def _single_run(entries: list[int]) -> tuple[int, int, int, int] | None:
    """Return (zeros before, first, last + 1, zeros after) where the copied channels are one ascending run."""
    kept = [position for position, entry in enumerate(entries) if entry >= 0]
    if not kept:
        return None
    before, count = kept[0], len(kept)
    first = entries[before]
    if entries[before : before + count] != list(range(first, first + count)):
        return None
    return before, first, first + count, len(entries) - before - count


def option_a_shortcut(in_channels: int, out_channels: int, stride: int) -> ChannelMap:
    """Return the option-A shortcut: subsampled pixels, zero channels on both sides.

    With ``d = out_channels - in_channels``, ``d // 2`` zero channels stand before the copied ones and the rest behind
    them, as in the common CIFAR implementations (which write ``planes // 4`` on either side). The paper does not say
    where the zeros go; a network with all zeros behind computes the same up to an order of channels.

    Raises
    ------
    ValueError
        If ``out_channels`` is below ``in_channels``, or a count is below 1.
    """
    checks.counts(in_channels=in_channels, out_channels=out_channels)
    if out_channels < in_channels:
        raise ValueError(f"out_channels={out_channels} is below in_channels={in_channels}; option A only adds channels")
    missing = out_channels - in_channels
    before = missing // 2
    source = [-1] * before + list(range(in_channels)) + [-1] * (missing - before)
    return ChannelMap(source, in_channels, stride)


def refuse_images(x: Tensor, first: nn.Module) -> None:
    """Raise a ``ValueError`` where images are not (B, C, H, W) of the kind that a network's first convolution reads.

    What cannot be known of another layer in its place is not looked at.
    """
    channels, weight = getattr(first, "in_channels", None), getattr(first, "weight", None)
    if (
        not isinstance(x, Tensor)
        or x.layout != torch.strided
        or x.ndim != 4
        or channels not in (None, x.shape[1])
        or 0 in x.shape[2:]
    ):
        raise ValueError(f"x must be images (B, {channels or 'C'}, H, W), got {checks.shown(x)}")
    refuse_kind(weight, x=x)


def refuse_kind(weight: object, **values: Tensor) -> None:
    """Raise a ``ValueError`` where tensors are not of the type and on the device of a weight; autocast may convert."""
    for name, x in values.items():
        if x.layout != torch.strided:
            raise ValueError(f"{name} must be a dense tensor, got {checks.shown(x)}")
        if not isinstance(weight, Tensor) or (x.dtype, x.device) == (weight.dtype, weight.device):
            continue
        apart = x.device != weight.device or not x.is_floating_point()
        if apart or not torch.is_autocast_enabled(x.device.type):
            raise ValueError(
                f"{name} must be {weight.dtype} on {weight.device} as the network is, got {checks.shown(x)}"
            )


def initialise_(model: nn.Module, generator: torch.Generator | None = None) -> None:
    """Draw the weights of all convolutions and linear layers after He et al. (2015), in place.

    Convolutions: normal with variance ``2 / (k * k * C_out)`` (``2 / fan_out``). Linear layers: normal with variance
    ``1 / fan_in``. Biases are zero, BatchNorm scales one and shifts zero.

    Parameters
    ----------
    model : nn.Module
        Changed in place.
    generator : torch.Generator, optional
        Source of the random numbers; PyTorch's global one by default.

    Raises
    ------
    ValueError
        If ``model`` is no module or ``generator`` no generator of torch.
    """
    checks.networks(model=model)
    checks.generators(generator=generator)
    for module in model.modules():
        if getattr(getattr(module, "weight", None), "is_meta", False):
            continue  # it has no values to draw
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
        elif isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear", generator=generator)
        elif isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)) and module.weight is not None:  # affine
            nn.init.ones_(module.weight)
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)
