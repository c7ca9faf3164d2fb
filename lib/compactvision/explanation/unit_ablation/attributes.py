"""What units look like from outside, Eq. (5): the attributes that the paper compares with the damage of ablation.

N images, U units, C classes. Attributes are read from the cached activation or the weights; none needs an ablation.
``class_drops`` measures the damage that they are meant to predict.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision.explanation.arguments import axes, booleans, classes
from compactvision.explanation.heads import LayerCache
from compactvision.measure.state import evaluating


def unit_means(activation: Tensor) -> Tensor:
    """Return each unit's average over the positions of each image: (N, U, ...) to (N, U)."""
    axes(activation=(activation, "N U ..."))
    checks.floating(activation=activation)
    return activation.flatten(2).mean(2) if activation.ndim > 2 else activation


def class_means(means: Tensor, targets: Tensor, num_classes: int) -> Tensor:
    """Return each unit's average over each class's images: (N, U) to (U, C) float64, NaN for a class without any."""
    axes(means=(means, "N U"), targets=(targets, "N"))
    classes(targets, num_classes)
    member = F.one_hot(targets, num_classes).double()  # (N, C)
    return (means.double().T @ member) / member.sum(0)


def selectivity(averages: Tensor) -> tuple[Tensor, Tensor]:
    """Return the class selectivity of Morcos et al. (2018) and the preferred class of each unit.

    ``(m_max - m_rest) / (m_max + m_rest)`` with ``m_max`` the largest class mean and ``m_rest`` the average of the
    other classes' means. In [0, 1] for units that are never negative; 1: one class only.

    Parameters
    ----------
    averages : (U, C) class means, NaN for classes to leave out; at least two classes.

    Returns
    -------
    (U,) float64, 0 where a unit is silent (leave those out of correlations), and (U,) int64.
    """
    axes(averages=(averages, "U C"))
    checks.floating(averages=averages)
    known = ~averages.isnan()  # (U, C)
    if int(known.sum(1).min()) < 2:
        raise ValueError("averages: a unit has fewer than two classes with images")
    largest, preferred = averages.nan_to_num(nan=-torch.inf).max(1)  # (U,)
    rest = (averages.nansum(1) - largest) / (known.sum(1) - 1)
    total = largest + rest
    score = torch.where(total == 0, 0.0, (largest - rest) / torch.where(total == 0, 1.0, total))
    return score, preferred


def filter_l1(convolution: nn.Conv2d | nn.Linear, norm: nn.BatchNorm2d | nn.BatchNorm1d | None = None) -> Tensor:
    """Return the sum of the absolute incoming weights of each unit: (U,).

    With ``norm``, weights are first scaled by its ``|gamma| / sqrt(variance + eps)``: those of the layer into which the
    normalisation would be folded, the meaningful ones, since the raw scale of a normalised filter has no effect.
    """
    checks.networks(convolution=convolution)
    if not isinstance(getattr(convolution, "weight", None), Tensor) or convolution.weight.ndim < 2:
        raise ValueError(f"convolution must be a layer with filters, got {checks.shown(convolution)}")
    norms = convolution.weight.detach().abs().flatten(1).sum(1)
    if norm is None:
        return norms
    checks.instances(nn.modules.batchnorm._BatchNorm, norm=norm)
    if norm.running_var is None:
        raise ValueError("norm: it keeps no running variance")
    if norm.running_var.device != norms.device:
        raise ValueError(f"norm must be on {norms.device} as the filters are, got {norm.running_var.device}")
    gamma = torch.ones_like(norms) if norm.weight is None else norm.weight.detach().abs()
    if len(gamma) != len(norms):
        raise ValueError(f"norm: {len(gamma)} channels behind {len(norms)} filters")
    return norms * gamma / (norm.running_var + norm.eps).sqrt()


def class_correlation(means: Tensor, probabilities: Tensor) -> Tensor:
    """Return Pearson's correlation over images of each unit with each class probability.

    Parameters
    ----------
    means : (N, U) unit means.
    probabilities : (N, C) softmax output of the network as it is.

    Returns
    -------
    (U, C) float64, NaN for a unit or a probability that is constant.
    """
    axes(means=(means, "N U"), probabilities=(probabilities, "N C"))
    a, p = (x.double() - x.double().mean(0) for x in (means, probabilities))
    constant = means.amax(0) == means.amin(0)  # (U,)
    rho = (a.T @ p) / torch.outer(a.norm(dim=0), p.norm(dim=0))
    return torch.where(constant[:, None], torch.nan, rho.clamp(-1, 1))


def mutual_information(means: Tensor, targets: Tensor, num_classes: int) -> Tensor:
    """Return the bits that [unit mean above its median] and the class share: (N, U) to (U,) float64."""
    axes(means=(means, "N U"), targets=(targets, "N"))
    checks.floating(means=means)
    classes(targets, num_classes)
    on = (means > means.median(0).values).double()  # (N, U); torch's median is the lower one of two middle values
    member = F.one_hot(targets, num_classes).double()  # (N, C)
    joint = torch.stack([(1 - on).T @ member, on.T @ member], 1) / len(targets)  # (U, 2, C)
    apart = joint.sum(1, keepdim=True) * joint.sum(2, keepdim=True)  # what it would be if they shared nothing
    bits = stats.entropy(*(table.flatten(1).cpu().numpy() for table in (joint, apart)), base=2, axis=1)
    return torch.from_numpy(bits).to(joint)


def concept_iou(activation: Tensor, masks: Tensor, top: float = 0.005, batch_size: int = 256) -> Tensor:
    """Return how well each unit's strongest responses cover each concept (Network Dissection).

    A unit's threshold is exceeded at a share ``top`` of all images and positions; its maps are enlarged bilinearly to
    the masks' size and cut there; intersection and union with the concept's pixels are counted over all images.

    Parameters
    ----------
    activation : (N, U, H, W).
    masks : (N, K, H', W') bool, the pixels of K concepts.
    top : share in (0, 1); 0.005 as in Bau et al. (2017).

    Returns
    -------
    (U, K) float64 in [0, 1], 0 where the union is empty; Bau et al. call a unit a detector above 0.04.
    """
    checks.numbers(top=top)
    checks.counts(batch_size=batch_size)
    if not 0 < top < 1:
        raise ValueError(f"top must lie in (0, 1), got {top}")
    axes(activation=(activation, "N U H W"), masks=(masks, "N K H' W'"))
    checks.floating(activation=activation)
    booleans(masks=masks)
    values = activation.transpose(0, 1).flatten(1)  # (U, N * H * W)
    above = max(1, round(top * values.shape[1]))
    threshold = values.topk(above + 1, dim=1).values[:, -1] if above < values.shape[1] else values.amin(1)  # (U,)
    both = torch.zeros(activation.shape[1], masks.shape[1], dtype=torch.float64, device=activation.device)
    responses = torch.zeros_like(both[:, :1])
    pixels = torch.zeros_like(both[0])  # (K,), of each concept
    for part, mask in zip(activation.split(batch_size), masks.split(batch_size), strict=True):
        maps = F.interpolate(part, size=mask.shape[-2:], mode="bilinear")  # (B, U, H', W')
        on = (maps > threshold[:, None, None]).transpose(0, 1).flatten(1).float()  # (U, B * H' * W')
        both += on @ mask.transpose(0, 1).flatten(1).float().T  # whole numbers below 2 ** 24: exact in float32
        responses += on.sum(1, keepdim=True)
        pixels += mask.sum((0, 2, 3))  # in parts: a sum of all at once would copy them as int64
    union = responses + pixels - both
    return torch.where(union > 0, both / union, 0.0)


def taylor_rise(cache: LayerCache, batch_size: int = 256) -> Tensor:
    """Return the first-order estimate of what zeroing each unit adds to each image's cross-entropy: (N, U).

    ``-sum(gradient * activation)`` over positions, from one backward pass through the head.
    """
    checks.instances(LayerCache, cache=cache)
    checks.counts(batch_size=batch_size)
    rises = []
    parts = (part.split(batch_size) for part in (cache.activation, cache.targets))
    with evaluating(cache.head.model):
        for batch, targets in zip(*parts, strict=True):
            with torch.enable_grad():
                leaf = batch.detach().requires_grad_()
                loss = F.cross_entropy(cache.head(leaf), targets, reduction="sum")
                (gradient,) = torch.autograd.grad(loss, leaf)
            product = gradient * batch  # (B, U, ...)
            rises.append(-(product.flatten(2).sum(2) if product.ndim > 2 else product))
    return torch.cat(rises)


# --- Correlations ---------------------------------------------------------------------------------------------------


def rank_correlation(x: Tensor, y: Tensor) -> float:
    """Return Spearman's correlation of two tensors of one shape, over the entries where neither is NaN.

    NaN where fewer than three entries are left or one side is constant.
    """
    checks.tensors(x=x, y=y)
    if torch.bool in (x.dtype, y.dtype):
        raise ValueError(f"x and y must be numbers, got {x.dtype} and {y.dtype}")
    if x.shape != y.shape:
        raise ValueError(f"x and y must have one shape, got {tuple(x.shape)} and {tuple(y.shape)}")
    known = ~(x.isnan() | y.isnan())
    a, b = (side[known].cpu().numpy() for side in (x, y))
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(stats.spearmanr(a, b).statistic)


def class_permutation_test(x: Tensor, y: Tensor, generator: torch.Generator, rounds: int = 999) -> tuple[float, float]:
    """Return Spearman's correlation of two (U, C) tables and its p-value when the classes are shuffled.

    The null gives the columns of ``y`` to other classes, all units alike: units that matter much or little keep that,
    and so does everything that units have in common. One-sided, ``(1 + rounds at least as high) / (1 + rounds)``; both
    are NaN where the correlation is not defined.
    """
    axes(x=(x, "U C"), y=(y, "U C"))
    checks.instances(torch.Generator, generator=generator)
    checks.counts(rounds=rounds)
    found = rank_correlation(x, y)
    shuffled = (torch.randperm(y.shape[1], generator=generator).to(y.device) for _ in range(rounds))
    higher = sum(rank_correlation(x, y[:, order]) >= found for order in shuffled)
    return found, found if math.isnan(found) else (1 + higher) / (1 + rounds)
