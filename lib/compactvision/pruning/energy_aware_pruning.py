"""Energy-aware pruning: filters whose feature maps hold little energy go first :cite:p:`yeom2021energy`.

The energy of a filter is the nuclear norm, the sum of the singular values, of the feature maps that it makes. The
paper's abstract does not say how a filter's maps, one for each image, become the matrix whose singular values are
summed; both ways are here, and a third that looks at the weights instead. Equation numbers are those of the chapter.

:func:`energy` and :func:`rank` return importances for ``compactvision.surgery``::

    plan = surgery.make_plan(graph, energy(batches), keep_macs=0.6)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor, nn

from compactvision.measure import Batches
from compactvision.surgery import Importance, maps_behind, named_layers
from compactvision.surgery.behind import outputs_of

MODES = ("batch", "image", "weight")
METHODS = ("gram", "svd")
NO_LAYER = (
    "layers: none to score, for no layer was found whose output behind its activation another layer reads; name each "
    "layer and the module whose output to read, such as layers={'conv1': 'block1'}"
)


def nuclear_norm(matrices: Tensor, *, method: str = "gram") -> Tensor:
    """Return the nuclear norm of each matrix, the sum of its singular values, Eq. (1).

    Parameters
    ----------
    matrices : Tensor
        Matrices in the last two dimensions (..., P, Q), floating point.
    method : {"gram", "svd"}, default "gram"
        "svd" takes singular values. "gram" takes the square roots of the eigenvalues of the smaller of ``A A^T`` and
        ``A^T A`` in float64, on a CPU a share of the matrices on each core, which is several times faster; singular
        values below about 1e-8 of the largest are lost in its rounding. Where squares overflow, "svd" steps in.

    Returns
    -------
    Tensor
        Norms (...), in the dtype of ``matrices`` (float32 for half precision).

    Raises
    ------
    ValueError
        If there are fewer than two dimensions, a matrix is empty, an entry is not finite or ``method`` is unknown.

    Examples
    --------
    >>> nuclear_norm(torch.tensor([[3.0, 0.0], [0.0, 4.0]]))
    tensor(7.)
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    if matrices.ndim < 2 or 0 in matrices.shape[-2:]:
        raise ValueError(f"matrices must have shape (..., P, Q) with P, Q >= 1, got {tuple(matrices.shape)}")
    dtype = torch.float64 if matrices.dtype == torch.float64 else torch.float32

    def norms(a: Tensor) -> Tensor:
        if method == "gram":
            exact = a.to(torch.float64, memory_format=torch.contiguous_format)  # one copy, also of a transposed batch
            wide = a.shape[-2] <= a.shape[-1]
            gram = exact @ exact.mT if wide else exact.mT @ exact
            if gram.diagonal(dim1=-2, dim2=-1).sum().isfinite():
                return torch.linalg.eigvalsh(gram).clamp(min=0).sqrt().sum(-1)
        _refuse_not_finite("matrices", a)
        return torch.linalg.svdvals(a.to(dtype)).sum(-1)

    flat = matrices.reshape(-1, *matrices.shape[-2:])  # (N, P, Q)
    return _on_all_cores(norms, flat).reshape(matrices.shape[:-2]).to(dtype)


def _on_all_cores(function: Callable[[Tensor], Tensor], matrices: Tensor) -> Tensor:
    """Apply a function to a batch (N, P, Q), a share of it on each core: LAPACK takes small matrices one by one."""
    threads = torch.get_num_threads()
    if matrices.device.type != "cpu" or matrices.requires_grad or not 1 < threads <= len(matrices):
        return function(matrices)
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return torch.cat(list(pool.map(function, matrices.chunk(threads))))
    finally:
        torch.set_num_threads(threads)  # the threads of a pool set it for threads to come as well


def map_energy(maps: Tensor, *, mode: str = "batch", method: str = "gram") -> Tensor:
    """Return the energy of each channel of a batch of feature maps, Eq. (2) or Eq. (3).

    Parameters
    ----------
    maps : Tensor
        Feature maps (B, C, H, W), or activations of a linear layer (B, C).
    mode : {"batch", "image"}, default "batch"
        How a channel's maps become matrices. "batch", Eq. (2): one matrix (B, H W), a row for each image. "image",
        Eq. (3): one matrix (H, W) for each image, and the mean of their norms.
    method : {"gram", "svd"}, default "gram"
        See :func:`nuclear_norm`.

    Returns
    -------
    Tensor
        Energies (C,).

    Raises
    ------
    ValueError
        If ``maps`` has another number of dimensions, is empty or not finite; ``mode`` or ``method`` is unknown.

    Examples
    --------
    >>> maps = torch.eye(2).expand(4, 1, 2, 2)  # four images on which one channel draws the same diagonal
    >>> map_energy(maps), map_energy(maps, mode="image")
    (tensor([2.8284]), tensor([2.]))
    """
    maps = _four_dimensional(maps)
    if mode == "batch":
        return nuclear_norm(maps.transpose(0, 1).flatten(2), method=method)  # (C, B, H W) -> (C,)
    if mode == "image":
        return nuclear_norm(maps, method=method).mean(0)  # (B, C, H, W) -> (B, C) -> (C,)
    raise ValueError(f'mode must be "batch" or "image" for feature maps, got {mode!r}')


def filter_energy(weight: Tensor, *, method: str = "gram") -> Tensor:
    """Return the nuclear norm of each filter's weights, Eq. (1), which needs no data.

    Parameters
    ----------
    weight : Tensor
        Of a convolution (C_out, C_in, kH, kW), each filter as a matrix (C_in, kH kW); or of a linear layer
        (C_out, C_in), each row as a column, whose nuclear norm is its Euclidean norm.
    method : {"gram", "svd"}, default "gram"
        See :func:`nuclear_norm`.

    Returns
    -------
    Tensor
        Energies (C_out,).

    Raises
    ------
    ValueError
        If ``weight`` has another number of dimensions or is not finite, or ``method`` is unknown.
    """
    if weight.ndim not in (2, 4):
        raise ValueError(f"weight must be (C_out, C_in, kH, kW) or (C_out, C_in), got {tuple(weight.shape)}")
    matrices = weight.detach().flatten(2) if weight.ndim == 4 else weight.detach()[:, :, None]
    return nuclear_norm(matrices, method=method)


def map_rank(maps: Tensor) -> Tensor:
    """Return the mean rank of each channel's feature maps, the score of HRank :cite:p:`lin2020hrank`.

    Parameters
    ----------
    maps : Tensor
        Feature maps (B, C, H, W), or activations of a linear layer (B, C).

    Returns
    -------
    Tensor
        Mean ranks (C,), from 0 to min(H, W).

    Raises
    ------
    ValueError
        If ``maps`` has another number of dimensions, is empty or not finite.
    """
    maps = _four_dimensional(maps)
    _refuse_not_finite("maps", maps)
    return torch.linalg.matrix_rank(maps.float()).float().mean(0)  # (B, C) -> (C,)


def energy(
    batches: Batches | None, *, mode: str = "batch", layers: Mapping[str, str] | None = None, method: str = "gram"
) -> Importance:
    """Return the paper's importance: the energy of every channel, Eq. (2) or Eq. (3), averaged over batches.

    Parameters
    ----------
    batches : iterable of (Tensor, Tensor)
        Inputs and targets on the model's device; targets are not used. Gone through once for each call. Take training
        images: a network must not be chosen by the images that judge it. None for ``mode="weight"``.
    mode : {"batch", "image", "weight"}, default "batch"
        See :func:`map_energy` and :func:`filter_energy`. "batch" grows with the size of the batch, so all batches must
        have the same.
    layers : mapping of str to str, optional
        From a layer's name in the channel graph to the path of the module whose output is read; by default every
        layer is read behind its activation, as :func:`compactvision.surgery.maps_behind` finds it. For a residual
        stream: the last BatchNorm of a block to the activation behind the sum, or, where that activation is used
        several times, to the block.
    method : {"gram", "svd"}, default "gram"
        See :func:`nuclear_norm`.

    Raises
    ------
    ValueError
        If ``mode`` is unknown or batches are missing; when the importance is called: if there is no batch, the sizes
        differ in mode "batch", there is no layer to score, a layer is unknown, does not run or runs several times, or
        an activation is not finite.

    Examples
    --------
    >>> from compactvision import models, surgery
    >>> model = models.resnet20()
    >>> importance = energy([(torch.rand(4, 3, 32, 32), None)])
    >>> graph = surgery.channel_graph(model, (3, 32, 32)).only(kinds="inner")
    >>> surgery.make_plan(graph, importance, keep=0.75).widths["layer1.0.conv1"]
    12
    """
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
    if mode == "weight":
        return lambda model: _filter_energies(model, method)
    if batches is None:
        raise ValueError(f"batches: mode={mode!r} scores feature maps and needs images, got None")
    return _averaged(batches, layers, lambda maps: map_energy(maps, mode=mode, method=method), mode == "batch")


def rank(batches: Batches, *, layers: Mapping[str, str] | None = None) -> Importance:
    """Return HRank's importance :cite:p:`lin2020hrank`: the mean rank of every channel's maps, averaged over batches.

    Parameters
    ----------
    batches, layers
        See :func:`energy`; batches may differ in size.

    Examples
    --------
    >>> from compactvision import models
    >>> rank([(torch.rand(4, 3, 32, 32), None)])(models.resnet20())["layer1.0.bn1"].shape
    torch.Size([16])
    """
    return _averaged(batches, layers, map_rank, equal_sizes=False)


def _averaged(
    batches: Batches, layers: Mapping[str, str] | None, score: Callable[[Tensor], Tensor], equal_sizes: bool
) -> Importance:
    """Return an importance: a score of feature maps, averaged over batches by their sizes, and a layer's runs."""

    def importance(model: nn.Module) -> dict[str, Tensor]:
        sums, sizes = {}, []
        for inputs, _ in batches:
            found = maps_behind(model, inputs) if layers is None else outputs_of(model, inputs, layers)
            if not found:
                raise ValueError(NO_LAYER)
            for name, runs in found.items():
                of_batch = sum(_named(name, score, maps) for maps in runs) / len(runs)
                sums[name] = sums.get(name, 0) + inputs.shape[0] * of_batch
            sizes.append(inputs.shape[0])
        if not sizes:
            raise ValueError("batches must hold at least one batch, got none")
        if equal_sizes and len(set(sizes)) > 1:
            raise ValueError(
                f'batches: mode="batch" needs batches of one size, got {sorted(set(sizes))}; drop the last one'
            )
        return {name: total / sum(sizes) for name, total in sums.items()}

    return importance


def _named(name: str, score: Callable[[Tensor], Tensor], maps: Tensor) -> Tensor:
    try:
        return score(maps)
    except ValueError as error:
        raise ValueError(f"layer {name!r}: {error}") from None


def _filter_energies(model: nn.Module, method: str) -> dict[str, Tensor]:
    energies = {
        name: filter_energy(module.weight, method=method)
        for name, _, module in named_layers(model)
        if isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1)
    }
    if not energies:
        raise ValueError("model has no convolution without groups and no linear layer to score")
    return energies


def _four_dimensional(maps: Tensor) -> Tensor:
    if maps.ndim == 2:
        maps = maps[:, :, None, None]
    if maps.ndim != 4 or maps.numel() == 0:
        raise ValueError(f"maps must be (B, C, H, W) or (B, C), none of them 0, got {tuple(maps.shape)}")
    return maps


def _refuse_not_finite(name: str, values: Tensor) -> None:
    if not values.isfinite().all():
        raise ValueError(f"{name} must be finite, got {values[~values.isfinite()][0]}")
