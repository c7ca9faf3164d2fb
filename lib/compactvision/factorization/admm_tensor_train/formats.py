"""What a kernel is to become: a tensor train or a rival of it, each with its projection.

A format is one line of a table *layer -> format*, which training and decomposition share, so that what is decomposed is
what training prepared. Kernels are (C_out, C_in, K_h, K_w) of a convolution or (C_out, C_in) of a linear layer.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision.models.factorised import (
    Factorised,
    TTConv2d,
    TTLinear,
    from_modes,
    to_modes,
    tt_svd,
    tt_tensor,
    with_layers,
)
from compactvision.models.factorised.threads import few_threads

from .rivals import Tucker


class Format(Protocol):
    """What training needs of a format: the projection on the kernels that have it."""

    def project(self, kernel: Tensor) -> Tensor:
        """Return a kernel of this format near the given one, of the same shape and dtype."""


@dataclass(frozen=True)
class TensorTrain:
    """Kernels whose tensor has ranks of at most these, Eq. (1) and (2).

    Parameters
    ----------
    ranks : sequence of int
        From the output channels to the input channels; clipped where a kernel allows less.
    out_modes, in_modes : sequence of int, optional
        How channels are split, as for :class:`~compactvision.models.factorised.TTConv2d`.

    Examples
    --------
    >>> import torch
    >>> from compactvision.factorization.admm_tensor_train import TensorTrain
    >>> kernel = torch.randn(32, 16, 3, 3)
    >>> train = TensorTrain((8, 6))
    >>> near = train.project(kernel)
    >>> torch.linalg.matrix_rank(near.flatten(1)).item(), torch.allclose(train.project(near), near, atol=1e-5)
    (8, True)
    """

    ranks: Sequence[int]
    out_modes: Sequence[int] | None = None
    in_modes: Sequence[int] | None = None

    def project(self, kernel: Tensor) -> Tensor:
        """Return the kernel behind TT-SVD, :func:`~compactvision.models.factorised.tt_svd`."""
        checks.floating(kernel=kernel)
        if kernel.dim() not in (2, 4):
            raise ValueError(f"kernel must have two or four dimensions, got {tuple(kernel.shape)}")
        out_modes = self.out_modes or kernel.shape[:1]
        in_modes = self.in_modes or kernel.shape[1:2]
        with few_threads(kernel):
            if kernel.dim() == 2:
                return tt_tensor(tt_svd(kernel.reshape(*out_modes, *in_modes), self.ranks)).reshape(kernel.shape)
            near = tt_tensor(tt_svd(to_modes(kernel, out_modes, in_modes), self.ranks))
            return from_modes(near, *kernel.shape[:2], kernel.shape[2:]).contiguous()

    def layer(self, dense: nn.Module) -> Factorised:
        """Return the factorised layer of a convolution or a linear layer, by TT-SVD of its kernel."""
        kind = TTLinear if isinstance(dense, nn.Linear) else TTConv2d
        return kind.from_layer(dense, self.ranks, out_modes=self.out_modes, in_modes=self.in_modes)


def decompose(model: nn.Module, formats: Mapping[str, TensorTrain | Tucker]) -> nn.Module:
    """Return a copy of a network with the named layers factorised; everything else is as it was.

    Parameters
    ----------
    model : nn.Module
        Left as it was.
    formats : mapping of str to TensorTrain or Tucker
        By the layer's name. Ranks that a layer does not allow are clipped: see ``ranks`` and ``requested`` of the new
        layers, or print them.

    Raises
    ------
    ValueError
        If a name is unknown or stands for a layer that cannot be factorised; the layer is named.

    Examples
    --------
    >>> from compactvision import measure, models
    >>> from compactvision.factorization.admm_tensor_train import TensorTrain, decompose
    >>> model = models.pretrained("resnet20_glyphs")
    >>> small = decompose(model, {"layer3.0.conv2": TensorTrain((20, 20)), "layer3.1.conv1": TensorTrain((20, 20))})
    >>> measure.parameters(model) - measure.parameters(small)
    61408
    """
    checks.networks(model=model)
    checks.mappings(formats=formats)
    for name, format_ in formats.items():
        if isinstance(format_, type) or not callable(getattr(format_, "layer", None)):
            raise ValueError(f"formats[{name!r}] must be a TensorTrain or Tucker, got {checks.shown(format_)}")

    def changed(name: str):
        def change(layer: nn.Module) -> nn.Module:
            try:
                return formats[name].layer(layer)
            except ValueError as error:
                raise ValueError(f"formats: layer {name!r}: {error}") from error

        return change

    return with_layers(model, {name: changed(name) for name in formats})


def projected(model: nn.Module, formats: Mapping[str, Format]) -> nn.Module:
    """Return a copy of a network whose named kernels are projected, still dense: it computes as the factorised one.

    Raises
    ------
    ValueError
        If the network has no layer of a name, or it has no weight.
    """
    model = copy.deepcopy(model)
    with torch.no_grad():
        for name, weight in weights(model, formats).items():
            weight.copy_(formats[name].project(weight))
    return model


def distances(model: nn.Module, formats: Mapping[str, Format]) -> dict[str, float]:
    """Return, by layer, how far a kernel is from its projection: ``|W - P(W)| / |W|``, 0 for a kernel of the format.

    Raises
    ------
    ValueError
        As for :func:`projected`.
    """
    checks.materialised(model=model)
    found = {}
    for name, weight in weights(model, formats).items():
        kernel = weight.detach().contiguous()
        size = kernel.norm()
        if not size.isfinite():
            raise ValueError(f"model: the kernel of layer {name!r} is not finite")
        found[name] = float((kernel - formats[name].project(kernel)).norm() / size) if size > 0 else 0.0
    return found


def weights(model: nn.Module, formats: Mapping[str, Format]) -> dict[str, nn.Parameter]:
    """Return the weights of the named layers.

    Raises
    ------
    ValueError
        If ``formats`` is empty, the network has no layer of a name, or it is no convolution or linear layer.
    """
    checks.networks(model=model)
    if not known(formats):
        raise ValueError("formats must name at least one layer, got none")
    modules = dict(model.named_modules())
    for name in formats:
        if name not in modules:
            raise ValueError(f"formats: the network has no layer {name!r}")
        if not isinstance(modules[name], (nn.Conv2d, nn.Linear)):
            raise ValueError(
                f"formats: layer {name!r} must be an nn.Conv2d or nn.Linear, got {type(modules[name]).__name__}"
            )
        if getattr(modules[name], "groups", 1) != 1:
            raise ValueError(f"formats: layer {name!r} must have groups=1, got {modules[name].groups}")
    return {name: modules[name].weight for name in formats}


def known(formats: Mapping[str, Format]) -> dict[str, Format]:
    """Return a copy of a table of formats; ``ValueError`` where an entry cannot project."""
    checks.mappings(formats=formats)
    for name, format_ in formats.items():
        if isinstance(format_, type) or not callable(getattr(format_, "project", None)):
            raise ValueError(f"formats[{name!r}] must be a format such as TensorTrain, got {checks.shown(format_)}")
    return dict(formats)
