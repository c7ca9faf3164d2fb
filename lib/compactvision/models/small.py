"""A small convolutional network for runs that must end within seconds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision.models.layers import initialise_, refuse_images


class SmallCNN(nn.Module):
    """A chain of 3 x 3 convolutions with optional BatchNorm, ReLU, 2 x 2 max-poolings and a linear classifier.

    Parameters
    ----------
    num_classes : int, default 10
        Outputs of the last layer.
    widths : sequence of int, default (16, 32, 64)
        Channels of each convolution.
    norm : bool, default True
        BatchNorm after each convolution (which then has no bias).
    head : {"gap", "fc"}, default "gap"
        Global average pooling before the linear layer, or all positions flattened into it.
    dropout : float, default 0.0
        Probability of dropout before the linear layer, in [0, 1).
    pool : sequence of int, optional
        Indices of the convolutions that a max-pooling follows; all but the last by default.
    in_channels : int, default 3
        Channels of the images.
    size : int, default 32
        Height and width of the images; matters for ``head="fc"`` only.
    generator : torch.Generator, optional
        Source of the initial weights (He et al. 2015); PyTorch's global one by default.

    Raises
    ------
    ValueError
        If an argument is out of its range.
    """

    def __init__(
        self,
        num_classes: int = 10,
        widths: Sequence[int] = (16, 32, 64),
        *,
        norm: bool = True,
        head: str = "gap",
        dropout: float = 0.0,
        pool: Sequence[int] | None = None,
        in_channels: int = 3,
        size: int = 32,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        checks.counts(num_classes=num_classes, in_channels=in_channels, size=size)
        if isinstance(widths, str) or not isinstance(widths, Sequence) or len(widths) == 0:
            raise ValueError(f"widths must be a non-empty sequence of whole numbers, got {checks.shown(widths)}")
        pooled = _validate(widths, head, dropout, range(len(widths) - 1) if pool is None else pool, size)
        layers: list[nn.Module] = []
        channels = in_channels
        for index, width in enumerate(widths):
            layers.append(nn.Conv2d(channels, width, 3, padding=1, bias=not norm))
            if norm:
                layers.append(nn.BatchNorm2d(width))
            layers.append(nn.ReLU())
            if index in pooled:
                layers.append(nn.MaxPool2d(2))
            channels = width
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1) if head == "gap" else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        positions = 1 if head == "gap" else (size >> len(pooled)) ** 2
        self.classifier = nn.Linear(channels * positions, num_classes)
        initialise_(self, generator)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to logits (B, num_classes)."""
        refuse_images(x, self.features[0])
        x = self.avgpool(self.features(x))  # (B, widths[-1], 1, 1), or (B, widths[-1], H', W') with head="fc"
        return self.classifier(self.dropout(torch.flatten(x, 1)))


def _validate(widths: Sequence[int], head: str, dropout: float, pool: Iterable[int], size: int) -> set[int]:
    """Check arguments that depend on one another; return the convolutions that a max-pooling follows."""
    checks.counts(**{f"widths[{place}]": 0 if width is None else width for place, width in enumerate(widths)})
    if head not in ("gap", "fc"):
        raise ValueError(f'head must be "gap" or "fc", got {head!r}')
    checks.numbers(dropout=dropout)
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must be in [0, 1), got {dropout}")
    places = list(pool) if isinstance(pool, Iterable) else [pool]
    if isinstance(pool, (str, bytes)) or any(
        type(place) is not int or not 0 <= place < len(widths) for place in places
    ):
        raise ValueError(f"pool must hold indices of widths (0 to {len(widths) - 1}), got {checks.shown(pool)}")
    pooled = set(places)
    if size >> len(pooled) < 1:
        raise ValueError(f"size={size} is too small for {len(pooled)} max-poolings")
    return pooled


def small_cnn(num_classes: int = 10, widths: Sequence[int] = (16, 32, 64), **options) -> SmallCNN:
    """Return a small CNN; ``options`` are those of :class:`SmallCNN`.

    Counts: 24,346 parameters, 2,802,304 MACs.
    """
    return SmallCNN(num_classes, widths, **options)
