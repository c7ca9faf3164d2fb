"""Ranks of the published code (``ranks.toml``) as formats, and what they amount to when counted."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib import resources

import torch
from torch import nn

from compactvision import _checks as checks
from compactvision import measure, models
from compactvision.models.factorised import Factorised

from .formats import TensorTrain, decompose, known

SPLITS = {16: (4, 4), 32: (8, 4), 64: (8, 8), 128: (16, 8), 256: (16, 16), 512: (32, 16)}
"""How the published code splits output channels; input channels are split the other way round."""


@dataclass(frozen=True)
class Published:
    """One table of ranks.

    Attributes
    ----------
    network : str
        "resnet32" and so on, for 10 classes, or torchvision's "resnet18" and "resnet50".
    side : int
        Height and width of the images.
    said : str
        The reduction that the published table of results gives.
    ranks : tuple of (str, tuple of int)
        Patterns of layers' names and their ranks; a later one overrides an earlier one.
    """

    network: str
    side: int
    said: str
    ranks: tuple[tuple[str, tuple[int, ...]], ...]

    def build(self) -> nn.Module:
        """Return the dense network without values, on the meta device."""
        with torch.device("meta"):
            if self.side == 224:
                return models.imagenet(self.network)
            return getattr(models, self.network)()

    def formats(self, model: nn.Module) -> dict[str, TensorTrain]:
        """Return the formats of the network's layers; a Tucker-2 kernel counts as a train with the same ranks."""
        checks.networks(model=model)
        convolutions = {name: module for name, module in model.named_modules() if isinstance(module, nn.Conv2d)}
        found = {}
        for name, module in convolutions.items():
            ranks = [ranks for pattern, ranks in self.ranks if fnmatchcase(name, pattern)]
            if not ranks:
                continue
            if len(ranks[-1]) == 2:
                found[name] = TensorTrain(ranks[-1])
            else:
                out, into = SPLITS[module.out_channels], SPLITS[module.in_channels][::-1]
                found[name] = TensorTrain(ranks[-1], out, into)
        return found


@dataclass(frozen=True)
class Counts:
    """What a table of ranks amounts to: the whole network, and its decomposed layers alone.

    Attributes
    ----------
    parameters, macs, layer_macs : tuple of (int, int)
        Of the dense network and of the decomposed one; ``layer_macs`` of the decomposed layers alone.
    clipped : tuple of str
        Layers whose ranks are larger than their sizes allow.
    larger : tuple of str
        Layers with more parameters than the dense ones.
    """

    parameters: tuple[int, int]
    macs: tuple[int, int]
    layer_macs: tuple[int, int]
    clipped: tuple[str, ...]
    larger: tuple[str, ...]

    @property
    def factors(self) -> tuple[float, float, float]:
        """Dense over decomposed: parameters, multiply-accumulates, and those of the decomposed layers alone."""
        pairs = self.parameters, self.macs, self.layer_macs
        return tuple(dense / small for dense, small in pairs)


def count(table: Published) -> Counts:
    """Count a published table of ranks; nothing is computed but shapes.

    Examples
    --------
    >>> from compactvision.factorization.admm_tensor_train import published
    >>> counts = published.count(published.TABLES["ResNet-32, TT"])
    >>> counts.parameters, [round(factor, 3) for factor in counts.factors]
    ((464154, 166664), [2.785, 1.465, 1.47])
    """
    checks.instances(Published, table=table)
    dense = table.build()
    formats = table.formats(dense)
    return counted(dense, decompose(dense, formats), formats, table.side)


def counted(dense: nn.Module, small: nn.Module, formats: Mapping[str, TensorTrain], side: int) -> Counts:
    """Return the counts of a network and its decomposed copy for images of (3, side, side)."""
    checks.networks(dense=dense, small=small)
    formats = known(formats)
    checks.counts(side=side)
    held = dict(dense.named_modules()).keys() & dict(small.named_modules()).keys()
    unknown = [name for name in formats if name not in held]
    if unknown:
        raise ValueError(f"formats: not both networks have a layer {unknown[0]!r}")
    shape = (3, side, side)
    by_name = [measure.macs_by_module(model, shape, cumulative=True) for model in (dense, small)]
    pairs = {name: (dense.get_submodule(name), small.get_submodule(name)) for name in formats}
    return Counts(
        parameters=(measure.parameters(dense), measure.parameters(small)),
        macs=(by_name[0][""], by_name[1][""]),
        layer_macs=tuple(sum(counts[name] for name in formats) for counts in by_name),
        clipped=tuple(name for name, (_, new) in pairs.items() if isinstance(new, Factorised) and new.clipped),
        larger=tuple(name for name, (old, new) in pairs.items() if measure.parameters(new) > measure.parameters(old)),
    )


def _read() -> dict[str, Published]:
    text = resources.files(__package__).joinpath("ranks.toml").read_text(encoding="utf-8")
    return {
        name: Published(
            row["network"],
            row["side"],
            row["said"],
            tuple((pattern, tuple(ranks)) for pattern, *ranks in row["ranks"]),
        )
        for name, row in tomllib.loads(text).items()
    }


TABLES: dict[str, Published] = _read()
"""The ten tables by name."""
