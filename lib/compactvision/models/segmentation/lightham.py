"""SegNeXt's decoder: all places are written with a few shared bases, a matrix factorisation :cite:`guo2022segnext`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision.models.segmentation.heads import (
    enlarge,
    initialise_decoder_,
    refuse_channels,
    refuse_dropout,
    refuse_maps,
)

EPS = 1e-6  # in the multiplicative updates


def nmf(matrices: Tensor, bases: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Factorise non-negative matrices ``X ~ B C^T`` by multiplicative updates :cite:p:`geng2021hamburger`.

    Coefficients begin as the softmax over the bases of ``X^T B``. A step updates the coefficients, then the bases:
    ``C <- C * (X^T B) / (C B^T B)`` and ``B <- B * (X C) / (B C^T C)``. One update of the coefficients ends it.

    Parameters
    ----------
    matrices : Tensor
        X, (B, D, N), non-negative: N places with D channels each.
    bases : Tensor
        Where the bases begin, (B, D, R), non-negative.
    steps : int
        How many.

    Returns
    -------
    tuple of Tensor
        Bases (B, D, R) and coefficients (B, N, R).
    """
    checks.counts(steps=steps)
    checks.floating(matrices=matrices, bases=bases)
    for name, value in (("matrices", matrices), ("bases", bases)):
        if value.ndim != 3 or 0 in value.shape or not bool(((value >= 0) & value.isfinite()).all()):
            raise ValueError(f"{name} must be (B, ..., ...) of finite numbers >= 0, got {checks.shown(value)}")
    if bases.dtype != matrices.dtype:
        raise ValueError(f"bases must be {matrices.dtype} as matrices are, got {bases.dtype}")
    if bases.shape[:2] != matrices.shape[:2]:
        raise ValueError(f"bases must be (B, D, R) for matrices of {tuple(matrices.shape)}, got {tuple(bases.shape)}")
    return _factorise(matrices, bases, steps)


def _factorise(matrices: Tensor, bases: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    coefficients = torch.softmax(matrices.transpose(1, 2) @ bases, dim=-1)  # (B, N, R)
    for _ in range(steps):
        coefficients = _better_coefficients(matrices, bases, coefficients)
        below = bases @ (coefficients.transpose(1, 2) @ coefficients)
        bases = bases * (matrices @ coefficients) / (below + EPS)  # (B, D, R)
    return bases, _better_coefficients(matrices, bases, coefficients)


def _better_coefficients(matrices: Tensor, bases: Tensor, coefficients: Tensor) -> Tensor:
    below = coefficients @ (bases.transpose(1, 2) @ bases)
    return coefficients * (matrices.transpose(1, 2) @ bases) / (below + EPS)


class Hamburger(nn.Module):
    """``ReLU(x + lower(NMF(ReLU(upper(x)))))`` on maps (B, width, H, W).

    The bases are drawn anew in every pass, in evaluation too, so that two passes differ slightly: seed PyTorch's global
    generator, or hand one over in ``generator``.

    Parameters
    ----------
    width : int
        Channels.
    rank : int, default 16
        Number of bases.
    train_steps, eval_steps : int
        Updates in training and in evaluation; gradients pass through all of them.
    groups : int, default 32
        Of the GroupNorm.
    """

    def __init__(
        self, width: int, rank: int = 16, *, train_steps: int = 6, eval_steps: int = 7, groups: int = 32
    ) -> None:
        super().__init__()
        checks.counts(width=width, rank=rank, train_steps=train_steps, eval_steps=eval_steps)
        self.rank, self.train_steps, self.eval_steps = rank, train_steps, eval_steps
        self.generator: torch.Generator | None = None
        self.upper = nn.Conv2d(width, width, 1)
        self.lower = nn.Conv2d(width, width, 1, bias=False)
        self.norm = _group_norm(width, groups)

    def forward(self, x: Tensor) -> Tensor:
        """Return maps of the same shape."""
        matrices = F.relu(self.upper(x)).flatten(2)  # (B, D, N)
        drawn = torch.rand(
            len(x), x.shape[1], self.rank, device=x.device, dtype=matrices.dtype, generator=self.generator
        )
        steps = self.train_steps if self.training else self.eval_steps
        bases, coefficients = _factorise(matrices, F.normalize(drawn, dim=1), steps)
        rebuilt = (bases @ coefficients.transpose(1, 2)).reshape(x.shape)
        return F.relu(x + self.norm(self.lower(rebuilt)))


class LightHamHead(nn.Module):
    """All maps but the finest on one grid, squeezed, passed through :class:`Hamburger`, aligned and predicted.

    Logits stand on the grid of the *second* map; they are bilinearly enlarged to that of the first, so that all
    decoders give the same shape.

    Parameters
    ----------
    channels : sequence of int
        Widths of the maps, fine to coarse; at least two. The first map is not read.
    num_classes : int
        Channels of the logits.
    width : int, default 256
        Channels inside.
    rank : int, default 16
        Bases of the factorisation.
    groups : int, default 32
        Of the GroupNorms; divides ``width``.
    dropout : float, default 0.1
        Probability that a channel is dropped before the predictor.
    enlarged : bool, default True
        Whether the logits are enlarged to the grid of the first map.
    generator : torch.Generator, optional
        Source of the initial weights; PyTorch's global one by default. The bases of each pass come from the global one.

    Examples
    --------
    >>> decoder = LightHamHead((8, 16), num_classes=3, width=12, rank=4, groups=3).eval()
    >>> decoder([torch.zeros(1, 8, 10, 10), torch.zeros(1, 16, 5, 5)]).shape
    torch.Size([1, 3, 10, 10])
    """

    def __init__(
        self,
        channels: Sequence[int],
        num_classes: int,
        *,
        width: int = 256,
        rank: int = 16,
        groups: int = 32,
        dropout: float = 0.1,
        enlarged: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.channels = refuse_channels(channels, 2)
        checks.counts(num_classes=num_classes, width=width)
        refuse_dropout(dropout=dropout)
        checks.flags(enlarged=enlarged)
        checks.generators(generator=generator)
        self.enlarged = enlarged
        self.squeeze = _normed(sum(self.channels[1:]), width, groups)
        self.hamburger = Hamburger(width, rank, groups=groups)
        self.align = _normed(width, width, groups)
        self.dropout = nn.Dropout2d(dropout)
        self.predict = nn.Conv2d(width, num_classes, 1)
        initialise_decoder_(self, generator)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Map the pyramid, fine to coarse, to logits (B, num_classes, H_1, W_1), or on the second map's grid."""
        maps = refuse_maps(maps, self.channels, self)
        size = tuple(maps[1].shape[2:])
        together = torch.cat([enlarge(each, size) for each in maps[1:]], dim=1)
        logits = self.predict(self.dropout(self.align(self.hamburger(self.squeeze(together)))))
        return enlarge(logits, tuple(maps[0].shape[2:])) if self.enlarged else logits


def _normed(in_channels: int, out_channels: int, groups: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1, bias=False), _group_norm(out_channels, groups), nn.ReLU()
    )


def _group_norm(width: int, groups: int) -> nn.GroupNorm:
    checks.counts(groups=groups)
    if width % groups:
        raise ValueError(f"groups must divide the width {width}, got {groups}")
    return nn.GroupNorm(groups, width)
