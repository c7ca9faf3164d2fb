"""The operations of cell-based networks by name, as DARTS (Liu et al. 2019) and NAT++ (Guo et al. 2021) define them.

Every operation keeps the channels. With ``stride=2`` it halves the map (an odd side is rounded up). Convolutions come
as ReLU, convolution, BatchNorm; a separable one does depthwise and pointwise twice, a dilated one once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compactvision import _checks as checks

NONE, SKIP = "none", "skip_connect"
DARTS_OPERATIONS = (  # in the order of the published code: ties go to the first
    NONE,
    "max_pool_3x3",
    "avg_pool_3x3",
    SKIP,
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
NAT_OPERATIONS = (
    "max_pool_3x3",
    "max_pool_5x5",
    "avg_pool_3x3",
    "avg_pool_5x5",
    SKIP,
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
    "conv_1x1",
    "conv_3x3",
    "conv_5x5",
    NONE,
)


class Zero(nn.Module):
    """Nothing arrives: zeros of the shape that the other operations have."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to zeros (B, C, H / stride, W / stride)."""
        return torch.zeros_like(x[..., :: self.stride, :: self.stride])


class FactorizedReduce(nn.Module):
    """Halve a map without skipping pixels: two 1 x 1 convolutions of stride 2, one of them a pixel further.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels before and after; of an odd ``out_channels`` the second convolution makes the larger part.
    affine : bool, default True
        Whether the BatchNorm behind it has weights.
    """

    def __init__(self, in_channels: int, out_channels: int, affine: bool = True) -> None:
        super().__init__()
        half = out_channels // 2
        self.conv1 = nn.Conv2d(in_channels, half, 1, stride=2, bias=False)
        self.conv2 = nn.Conv2d(in_channels, out_channels - half, 1, stride=2, bias=False)
        self.bn = nn.BatchNorm2d(out_channels, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C_in, H, W) to (B, C_out, ceil(H / 2), ceil(W / 2))."""
        x = F.relu(x)
        height, width = x.shape[-2:]
        further = F.pad(x[:, :, 1:, 1:], (0, width % 2, 0, height % 2))  # an odd side ends between two pixels
        return self.bn(torch.cat([self.conv1(x), self.conv2(further)], 1))


def relu_conv_bn(
    in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1, affine: bool = True
) -> nn.Module:
    """Return ReLU, a convolution without bias and BatchNorm."""
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(out_channels, affine=affine),
    )


def _depthwise(channels: int, kernel: int, stride: int, dilation: int, affine: bool) -> list[nn.Module]:
    padding = dilation * (kernel // 2)
    return [
        nn.ReLU(),
        nn.Conv2d(channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False),
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels, affine=affine),
    ]


def _separable(kernel: int) -> Callable[[int, int, bool], nn.Module]:
    def build(channels: int, stride: int, affine: bool) -> nn.Module:
        once = _depthwise(channels, kernel, stride, 1, affine)
        return nn.Sequential(*once, *_depthwise(channels, kernel, 1, 1, affine))

    return build


def _dilated(kernel: int) -> Callable[[int, int, bool], nn.Module]:
    return lambda channels, stride, affine: nn.Sequential(*_depthwise(channels, kernel, stride, 2, affine))


def _convolution(kernel: int) -> Callable[[int, int, bool], nn.Module]:
    return lambda channels, stride, affine: relu_conv_bn(channels, channels, kernel, stride, affine)


def _average(kernel: int) -> Callable[[int, int, bool], nn.Module]:
    return lambda _, stride, __: nn.AvgPool2d(kernel, stride, kernel // 2, count_include_pad=False)


def _maximum(kernel: int) -> Callable[[int, int, bool], nn.Module]:
    return lambda _, stride, __: nn.MaxPool2d(kernel, stride, kernel // 2)


def _skip(channels: int, stride: int, affine: bool) -> nn.Module:
    return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels, affine)


_BUILDERS: dict[str, Callable[[int, int, bool], nn.Module]] = {
    NONE: lambda _, stride, __: Zero(stride),
    SKIP: _skip,
    **{f"max_pool_{k}x{k}": _maximum(k) for k in (3, 5)},
    **{f"avg_pool_{k}x{k}": _average(k) for k in (3, 5)},
    **{f"sep_conv_{k}x{k}": _separable(k) for k in (3, 5)},
    **{f"dil_conv_{k}x{k}": _dilated(k) for k in (3, 5)},
    **{f"conv_{k}x{k}": _convolution(k) for k in (1, 3, 5)},
}
OPERATIONS = tuple(_BUILDERS)


def as_operations(operations: Iterable[str], name: str = "operations") -> tuple[str, ...]:
    """Return names of operations; ``ValueError`` where one is unknown or there twice, or there is none."""
    if isinstance(operations, (str, bytes, type)) or not hasattr(operations, "__iter__"):
        raise ValueError(f"{name} must be names of operations, got {checks.shown(operations)}")
    found = tuple(operations)
    checks.one_of(OPERATIONS, **{f"{name}[{index}]": each for index, each in enumerate(found)})
    if not found or len(set(found)) < len(found):
        raise ValueError(f"{name} must be different names, got {found}")
    return found


def operation(name: str, channels: int, stride: int = 1, *, affine: bool = True) -> nn.Module:
    """Return the operation of a name.

    Parameters
    ----------
    name : str
        One of :data:`OPERATIONS`.
    channels : int
        Channels in and out.
    stride : int, default 1
        1 or 2.
    affine : bool, default True
        Whether its BatchNorms have weights; those of a super-network have none.

    Raises
    ------
    ValueError
        For an unknown name, another stride, or a count below 1.

    Examples
    --------
    >>> import torch
    >>> operation("sep_conv_3x3", 8, stride=2)(torch.zeros(1, 8, 6, 6)).shape
    torch.Size([1, 8, 3, 3])
    """
    checks.one_of(OPERATIONS, name=name)
    checks.counts(channels=channels)
    checks.flags(affine=affine)
    checks.whole(stride=stride)
    if stride not in (1, 2):
        raise ValueError(f"stride must be 1 or 2, got {stride}")
    if stride == 2 and name == SKIP and channels < 2:
        raise ValueError(f"channels must be at least 2 for a skip that halves the map, got {channels}")
    return _BUILDERS[name](channels, stride, affine)
