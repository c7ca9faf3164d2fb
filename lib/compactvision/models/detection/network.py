"""The detector: pyramid, shared head, and boxes from what its cells say."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision.measure.detection import Detections
from compactvision.measure.state import evaluating
from compactvision.models.detection.selection import select
from compactvision.models.layers import refuse_images, refuse_kind
from compactvision.models.segmentation.heads import refuse_channels, refuse_maps

PRIOR = 0.01
"""Probability that every class has in every cell before training: the bias of the logits is -4.6."""
GROUPS = 8


class Cells(NamedTuple):
    """What the A cells of all levels say, level after level, each row by row."""

    logits: Tensor  # (B, A, C)
    sides: Tensor  # (B, A, 4) distances from the centre to the left, upper, right and lower side, in pixels, > 0
    centres: Tensor  # (A, 2) as (x, y), in pixels
    strides: Tensor  # (A,) in pixels

    @property
    def boxes(self) -> Tensor:
        """Boxes (x0, y0, x1, y1) of all cells in pixels: (B, A, 4)."""
        return torch.cat([self.centres - self.sides[..., :2], self.centres + self.sides[..., 2:]], -1)


class Detector(nn.Module):
    """An anchor-free detector on any backbone, after FCOS (Tian et al. 2019).

    Pyramid: each map passes a 1 x 1 convolution to ``width`` channels, and gets the next coarser level, enlarged by
    copying, added (a feature pyramid network, Lin et al. 2017). Head, shared by all levels: two convolutions 3 x 3 with
    GroupNorm and ReLU, then one 3 x 3 for the logits and one for the distances to the four sides, softplus times the
    level's stride. Unlike in FCOS both share the two convolutions, there is no "centre-ness", and every level answers
    for objects of every size.

    Parameters
    ----------
    backbone : nn.Module
        Maps images (B, 3, H, W) to a list of maps, fine to coarse; :class:`SwinMaps`, for one.
    widths : sequence of int
        Channels of its maps.
    strides : sequence of int
        Pixels between neighbouring places of each map, rising.
    classes : int
        Number of classes.
    width : int, default 64
        Channels of pyramid and head, a multiple of 8.
    generator : torch.Generator, optional
        Source of the initial weights of pyramid and head; PyTorch's global one by default.

    Raises
    ------
    ValueError
        If an argument is of another kind or out of range, or, when called, the maps are not of these widths.

    Examples
    --------
    >>> from torchvision.models import SwinTransformer
    >>> from compactvision.models.detection import SwinMaps
    >>> maps = SwinMaps(SwinTransformer([4, 4], 48, [2, 2], [3, 6], [4, 4]))
    >>> detector = Detector(maps, maps.channels, maps.strides, classes=6)
    >>> cells = detector(torch.zeros(2, 3, 64, 64))
    >>> cells.logits.shape, cells.boxes.shape  # 16 x 16 + 8 x 8 cells
    (torch.Size([2, 320, 6]), torch.Size([2, 320, 4]))
    >>> [len(found.scores) for found in detector.predict(torch.zeros(2, 3, 64, 64))]  # untrained: nothing is sure
    [0, 0]
    """

    def __init__(
        self,
        backbone: nn.Module,
        widths: Sequence[int],
        strides: Sequence[int],
        classes: int,
        *,
        width: int = 64,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        checks.networks(backbone=backbone)
        self.widths = refuse_channels(widths)
        self.strides = _rising(strides, len(self.widths))
        checks.counts(classes=classes, width=width)
        if width % GROUPS:
            raise ValueError(f"width must be a multiple of {GROUPS}, got {width}")
        checks.generators(generator=generator)
        self.backbone, self.classes = backbone, classes
        self.laterals = nn.ModuleList(nn.Conv2d(each, width, 1) for each in self.widths)
        self.head = nn.Sequential(*_block(width), *_block(width))
        self.logits = nn.Conv2d(width, classes, 3, padding=1)
        self.sides = nn.Conv2d(width, 4, 3, padding=1)
        self._initialise(generator)

    def forward(self, x: Tensor) -> Cells:
        """Map images (B, 3, H, W) to what all cells say."""
        refuse_images(x, self.laterals)
        refuse_kind(self.laterals[0].weight, x=x)
        levels = self.pyramid(self.backbone(x))
        parts = [self._level(each, stride) for each, stride in zip(levels, self.strides, strict=True)]
        logits, sides, centres, strides = zip(*parts, strict=True)
        return Cells(torch.cat(logits, 1), torch.cat(sides, 1), torch.cat(centres), torch.cat(strides))

    def pyramid(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Map the backbone's maps to levels of equal width (B, width, H_i, W_i), fine to coarse."""
        maps = refuse_maps(maps, self.widths, self.laterals)
        levels = [lateral(each) for lateral, each in zip(self.laterals, maps, strict=True)]
        for place in reversed(range(len(levels) - 1)):
            coarse = F.interpolate(levels[place + 1], size=tuple(levels[place].shape[2:]), mode="nearest")
            levels[place] = levels[place] + coarse
        return levels

    def predict(
        self, images: Tensor, *, score: float = 0.05, overlap: float = 0.5, most: int = 100, candidates: int = 300
    ) -> list[Detections]:
        """Return the objects in images, found in evaluation mode without gradients.

        Parameters
        ----------
        images : Tensor
            (B, 3, H, W).
        score : float, default 0.05
            Detections are surer than this.
        overlap : float, default 0.5
            Of two of one class that overlap by more (intersection over union), the less sure one is dropped.
        most : int, default 100
            Detections kept in an image.
        candidates : int, default 300
            The surest pairs of cell and class of an image, which are compared with each other.

        Returns
        -------
        list of Detections
            One for each image: boxes (K, 4) inside the image, scores (K,) falling, classes (K,) int64.

        Raises
        ------
        ValueError
            If an argument is of another kind or out of range.
        """
        checks.floating(images=images)
        if images.ndim != 4:
            raise ValueError(f"images must be (B, 3, H, W), got {checks.shown(images)}")
        checks.finite(score=score, overlap=overlap)
        checks.counts(most=most, candidates=candidates)
        with evaluating(self):
            cells = self(images)
            return select(
                cells.logits.float().sigmoid(),
                cells.boxes.float(),
                (images.shape[2], images.shape[3]),
                score=score,
                overlap=overlap,
                most=most,
                candidates=candidates,
            )

    def _level(self, level: Tensor, stride: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        features = self.head(level)
        logits = self.logits(features).flatten(2).transpose(1, 2)  # (B, H W, C)
        sides = F.softplus(self.sides(features)).flatten(2).transpose(1, 2) * stride
        centres = cell_centres(level.shape[2], level.shape[3], stride, level.device)
        return logits, sides, centres, torch.full((len(centres),), float(stride), device=level.device)

    def _initialise(self, generator: torch.Generator | None) -> None:
        for module in [*self.laterals, *self.head, self.logits, self.sides]:
            if isinstance(module, nn.Conv2d):
                final = module is self.logits or module is self.sides
                if final:
                    nn.init.normal_(module.weight, std=0.01, generator=generator)
                else:
                    nn.init.kaiming_uniform_(module.weight, a=1, generator=generator)
                nn.init.zeros_(module.bias)
        nn.init.constant_(self.logits.bias, -math.log((1 - PRIOR) / PRIOR))


def cell_centres(rows: int, columns: int, stride: int, device: torch.device | None = None) -> Tensor:
    """Return the centres (rows * columns, 2) of a level's cells as (x, y) in pixels, row by row."""
    x = (torch.arange(columns, device=device, dtype=torch.float32) + 0.5) * stride
    y = (torch.arange(rows, device=device, dtype=torch.float32) + 0.5) * stride
    return torch.stack([x.repeat(rows), y.repeat_interleave(columns)], 1)


def _block(width: int) -> list[nn.Module]:
    return [nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(GROUPS, width), nn.ReLU()]


def _rising(strides: Sequence[int], count: int) -> tuple[int, ...]:
    if not isinstance(strides, (list, tuple)) or len(strides) != count:
        raise ValueError(f"strides must be {count} whole numbers, one for each map, got {checks.shown(strides)}")
    checks.counts(**{f"strides[{place}]": value for place, value in enumerate(strides)})
    if any(later <= sooner for sooner, later in itertools.pairwise(strides)):
        raise ValueError(f"strides must rise, got {checks.shown(strides)}")
    return tuple(strides)
