"""Deeper networks that start as the function of a trained one."""

from __future__ import annotations

import torch
from torch import nn

from compactvision import _checks as checks
from compactvision.models.resnet import ResNet


def deepened(model: ResNet, blocks: int, *, generator: torch.Generator | None = None) -> ResNet:
    """Return a deeper network that gives the same logits, to be trained on (Chen et al. 2016, "Net2Net").

    The blocks of each stage are spread evenly over the deeper stage. The blocks between them are new and start as
    identities: the scale of their last BatchNorm is zero, and what reaches their last ReLU is not negative.

    Parameters
    ----------
    model : ResNet
        Left as it was.
    blocks : int
        Blocks in each stage of the deeper network, at least as many as in ``model``.
    generator : torch.Generator, optional
        Source of the new blocks' weights.

    Raises
    ------
    ValueError
        If ``model`` is another network, or ``blocks`` is smaller than the model's.
    """
    if not isinstance(model, ResNet):
        raise ValueError(f"model must be a ResNet of this package, got {checks.shown(model)}")
    checks.materialised(model=model)
    checks.counts(blocks=blocks)
    checks.generators(generator=generator)
    stem, first = model.conv1, model.layer2[0].shortcut
    present = len(model.layer1)
    if blocks < present:
        raise ValueError(f"blocks must be at least the model's {present}, got {blocks}")
    options = {"in_channels": stem.in_channels, "width": stem.out_channels, "generator": generator}
    shortcut = "B" if isinstance(first, nn.Sequential) else "A"
    deeper = ResNet(blocks, model.fc.out_features, shortcut=shortcut, **options)
    for name, module in deeper.named_children():
        if not name.startswith("layer"):
            module.load_state_dict(getattr(model, name).state_dict())
            continue
        for block in module:
            nn.init.zeros_(block.bn2.weight)
        for number, block in enumerate(getattr(model, name)):
            module[number * blocks // present].load_state_dict(block.state_dict())
    return deeper.train(model.training)
