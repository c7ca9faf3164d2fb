"""The baseline that looks at images but does not train: truncation where it does not show in the outputs.

Activation-whitened SVD (Yuan et al. 2023; Wang et al. 2024): with ``S = E[x x^T]`` over the pixels of some images, the
error ``W S^(1/2)`` is truncated in place of ``W``, so directions that inputs never take cost nothing. Where BatchNorm
follows and its statistics are renewed, a constant error is taken out again; ``S`` may then be a covariance.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision._failures import run
from compactvision.measure import evaluating
from compactvision.measure.state import placement
from compactvision.models.factorised import Factorised

from .formats import TensorTrain, weights


@dataclass(frozen=True)
class Whitened:
    """A tensor train with one mode for the input channels, fitted to the inputs that were seen.

    Parameters
    ----------
    train : TensorTrain
        ``in_modes`` must not split the channels.
    root : Tensor
        ``S^(1/2)``, (C_in, C_in), symmetric and positive.
    """

    train: TensorTrain
    root: Tensor

    def project(self, kernel: Tensor) -> Tensor:
        """Return the kernel behind truncation of the whitened one, of the same ranks."""
        checks.floating(kernel=kernel)
        if kernel.dim() not in (2, 4) or kernel.shape[1] != len(self.root):
            shape = f"(C_out, {len(self.root)}, ...)"
            raise ValueError(
                f"kernel must be that of a convolution or a linear layer, {shape}, got {checks.shown(kernel)}"
            )
        wide = kernel.double() if kernel.dtype == torch.float64 else kernel.float()
        root = self.root.to(wide)
        near = self.train.project(_times(wide, root))
        return _times(near, torch.linalg.inv(root)).contiguous().to(kernel.dtype)

    def layer(self, dense: nn.Module) -> Factorised:
        """Return the factorised layer: the projected kernel has the ranks, so its own cores are exact."""
        made = self.train.layer(dense)
        made.set_kernel_(self.project(dense.weight.detach()))
        return made


def whitened(
    model: nn.Module,
    formats: Mapping[str, TensorTrain],
    batches: Iterable,
    *,
    ridge: float = 1e-3,
    centred: bool = False,
) -> dict[str, Whitened]:
    """Return formats that weigh a kernel's error by the inputs that the layer reads.

    Parameters
    ----------
    model : nn.Module
        Run in evaluation mode and left as it was.
    formats : mapping of str to TensorTrain
        By the layer's name, input channels not split.
    batches : iterable of Tensor or of (Tensor, ...)
        Images (B, C, H, W), a few hundred; what follows them (labels) is not looked at.
    ridge : float, default 0.001
        Share of the mean second moment that is added to each channel's, positive.
    centred : bool, default False
        Whether the mean of each channel is taken out first.

    Raises
    ------
    ValueError
        If a format splits the input channels, there is no batch, ``ridge`` is not positive, or a layer is unknown or
        does not run.

    Examples
    --------
    >>> from compactvision import data, models
    >>> from compactvision.factorization.admm_tensor_train import TensorTrain, formats, whitening
    >>> model = models.pretrained("resnet20_glyphs")
    >>> trains = {"layer1.0.conv1": TensorTrain((8, 8))}
    >>> found = whitening.whitened(model, trains, data.load("glyphs", n=32).batches(32))
    >>> formats.projected(model, found).layer1[0].conv1.weight.equal(model.layer1[0].conv1.weight)
    False
    """
    checks.materialised(model=model)
    checks.finite(ridge=ridge)
    checks.flags(centred=centred)
    if not ridge > 0:
        raise ValueError(f"ridge must be positive, got {ridge}")
    checks.mappings(formats=formats)
    checks.instances(TensorTrain, **{f"formats[{name!r}]": train for name, train in formats.items()})
    split = [name for name, train in formats.items() if train.in_modes is not None and len(train.in_modes) > 1]
    if split:
        raise ValueError(f"formats: layer {split[0]!r} splits its input channels into {formats[split[0]].in_modes}")
    if isinstance(batches, (str, bytes, Mapping)) or not isinstance(batches, Iterable):
        raise ValueError(f"batches must be tensors or tuples that begin with one, got {checks.shown(batches)}")
    moments = _second_moments(model, formats, batches, centred)
    roots = {}
    for name, moment in moments.items():
        size = moment.diagonal().mean()
        moment = moment + ridge * size * torch.eye(len(moment), dtype=moment.dtype)
        if not moment.isfinite().all():
            raise ValueError(f"model, batches, ridge: the moments of layer {name!r} are not finite")
        values, vectors = torch.linalg.eigh(moment)
        roots[name] = (vectors * values.clamp(min=float(ridge * size) / 2).sqrt()) @ vectors.T
    return {name: Whitened(train, roots[name].float()) for name, train in formats.items()}


def _second_moments(
    model: nn.Module, formats: Mapping[str, TensorTrain], batches: Iterable, centred: bool
) -> dict[str, Tensor]:
    sums: dict[str, Tensor] = {}  # of the products of two channels, the last one of which is always 1
    handles = []
    for name in weights(model, formats):

        def add(module: nn.Module, args: tuple, name: str = name) -> None:
            x = args[0].detach().double()
            rows = x.transpose(0, 1).flatten(1) if isinstance(module, nn.Conv2d) else x.flatten(0, -2).T
            rows = torch.cat([rows, torch.ones_like(rows[:1])])
            sums[name] = sums.get(name, 0) + (rows @ rows.T).cpu()

        handles.append(model.get_submodule(name).register_forward_pre_hook(add))
    try:
        read = 0
        with torch.no_grad(), evaluating(model):
            for batch in batches:
                images = batch[0] if isinstance(batch, (tuple, list)) and batch else batch
                checks.tensors(batches=images)
                if images.numel() == 0:
                    raise ValueError(f"batches must hold images, got an empty batch of shape {tuple(images.shape)}")
                read += 1
                run(model, images.to(placement(model)[0]), name="batches")
    finally:
        for handle in handles:
            handle.remove()
    if not read:
        raise ValueError("batches must hold at least one batch, got none")
    silent = [name for name in formats if name not in sums]
    if silent:
        raise ValueError(f"formats: layer {silent[0]!r} does not run")
    if not centred:
        return {name: total[:-1, :-1] for name, total in sums.items()}
    return {
        name: total[:-1, :-1] - torch.outer(total[:-1, -1], total[:-1, -1]) / total[-1, -1]
        for name, total in sums.items()
    }


def _times(kernel: Tensor, matrix: Tensor) -> Tensor:
    """Multiply the input channels of a kernel (O, I, ...) by a symmetric matrix (I, I)."""
    return torch.einsum("oi...,ij->oj...", kernel, matrix)
