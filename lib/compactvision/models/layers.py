"""Layers that the networks share: the option-A shortcut as an explicit channel map, and He initialisation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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
        If an entry of ``source`` is below -1 or not below ``in_channels``, or ``stride`` is below 1.
    """

    source: Tensor

    def __init__(self, source: Sequence[int], in_channels: int, stride: int = 1) -> None:
        super().__init__()
        refuse_counts(stride=stride)
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
        entries = [int(entry) for entry in source]
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
        if x.shape[1] != self.in_channels:
            raise ValueError(f"input has {x.shape[1]} channels, this channel map reads {self.in_channels}")
        if self.stride > 1:
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
        If ``out_channels`` is below ``in_channels``.
    """
    if out_channels < in_channels:
        raise ValueError(f"out_channels={out_channels} is below in_channels={in_channels}; option A only adds channels")
    missing = out_channels - in_channels
    before = missing // 2
    source = [-1] * before + list(range(in_channels)) + [-1] * (missing - before)
    return ChannelMap(source, in_channels, stride)


def refuse_counts(**counts: int | None) -> None:
    """Raise a ``ValueError`` naming the first number that is below 1; None stands for a part that is left out."""
    for name, value in counts.items():
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")


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
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
        elif isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear", generator=generator)
        elif isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.ones_(module.weight)
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)
