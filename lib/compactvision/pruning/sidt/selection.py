"""Which dimensions stay: from scores by block and kind to the masks that :func:`surgery.cut_dimensions` takes.

Types of dimensions are ranked apart, since their penalties and gradients differ. A share ``rho`` of ``n`` dimensions is
``round(rho * n)``, as Python rounds: half to even.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from compactvision import _checks as checks

Nested = Mapping[str, Mapping[str, Tensor]]
HEADED = ("qk", "v")
SCOPES = ("global", "layer", "head")


def select(
    scores: Nested, rho: float | Mapping[str, float], *, scope: str = "global", heads_may_go: bool = False
) -> dict[str, dict[str, Tensor]]:
    """Keep the dimensions of largest ``|score|``, kind by kind.

    The lowest ``round(rho * n)`` of the ``n`` dimensions go; where scores are equal, first those of earlier blocks,
    then of earlier heads, then of lower index. At least one dimension of each head stays, one of each hidden layer and
    of each input: the largest of these are passed over, and the next ones go in their place.

    Parameters
    ----------
    scores : mapping of str to mapping of str to Tensor
        By block and kind, as :func:`surgery.block_scores` gives them: (heads, size) for "qk" and "v", else (n,).
    rho : float or mapping of str to float
        Share that goes, in [0, 1); one for all kinds or one for each.
    scope : {"global", "layer", "head"}
        Ranks all blocks of a network together, or lets each block, or each head, lose the same share.
    heads_may_go : bool, default False
        Allows that all value dimensions of a head go; its queries and keys go with it then, whatever their share.
        The block keeps one head at least. Not for scores that heads share, nor with ``scope="head"``.

    Returns
    -------
    dict of str to dict of str to Tensor
        Boolean masks of the scores' shapes.

    Raises
    ------
    ValueError
        If scores are no such tensors or not finite, or an argument is outside its range.

    Examples
    --------
    >>> import torch
    >>> scores = {"a": {"hidden": torch.tensor([0.3, -0.9])}, "b": {"hidden": torch.tensor([0.1, 0.2])}}
    >>> select(scores, 0.5)
    {'a': {'hidden': tensor([False,  True])}, 'b': {'hidden': tensor([False,  True])}}
    """
    _refuse_scores(scores)
    checks.one_of(SCOPES, scope=scope)
    checks.flags(heads_may_go=heads_may_go)
    kinds = list(dict.fromkeys(kind for of_block in scores.values() for kind in of_block))
    shares = _shares(rho, kinds)
    if heads_may_go and scope == "head":
        raise ValueError("heads_may_go must be False where each head loses the same share")
    keep: dict[str, dict[str, Tensor]] = {name: {} for name in scores}
    for kind in sorted(kinds, key=lambda kind: kind != "v"):  # whether a head goes decides about its queries
        parts = {name: of_block[kind].detach().abs() for name, of_block in scores.items() if kind in of_block}
        alive = {name: _alive(keep[name].get("v"), part, kind) for name, part in parts.items()}
        guards = {name: _guards(part, kind, heads_may_go and kind == "v") for name, part in parts.items()}
        for name, mask in _ranked(parts, guards, shares[kind], scope, kind).items():
            keep[name][kind] = mask & alive[name]
    return {name: {kind: keep[name][kind] for kind in of_block} for name, of_block in scores.items()}


def random_scores(scores: Nested, generator: torch.Generator) -> dict[str, dict[str, Tensor]]:
    """Return scores of the same shapes, uniform in [0, 1): :func:`select` then picks at random over the network.

    Examples
    --------
    >>> import torch
    >>> drawn = random_scores({"a": {"qk": torch.ones(2, 4)}}, torch.Generator().manual_seed(0))
    >>> select(drawn, 0.25)["a"]["qk"].sum().item()
    6
    """
    _refuse_scores(scores)
    _refuse_generator(generator)
    return {
        name: {kind: torch.rand(score.shape, generator=generator) for kind, score in of_block.items()}
        for name, of_block in scores.items()
    }


def random_of_same_widths(keep: Nested, generator: torch.Generator) -> dict[str, dict[str, Tensor]]:
    """Return masks that keep as many dimensions of each head, hidden layer and input, but others, drawn at random.

    Examples
    --------
    >>> import torch
    >>> keep = {"a": {"qk": torch.tensor([[True, True, False], [True, False, False]])}}
    >>> random_of_same_widths(keep, torch.Generator().manual_seed(0))["a"]["qk"].sum(1).tolist()
    [2, 1]
    """
    _refuse_masks(keep)
    _refuse_generator(generator)
    return {
        name: {
            kind: _largest(torch.rand(mask.shape, generator=generator), mask.sum(-1, keepdim=True).cpu())
            for kind, mask in of_block.items()
        }
        for name, of_block in keep.items()
    }


def same_widths(scores: Nested, keep: Nested) -> dict[str, dict[str, Tensor]]:
    """Return masks of the same widths as ``keep`` that hold the largest ``|score|`` of each head or layer.

    With the widths of one ranking and the scores of another, what the widths are worth and what the choice inside them
    is worth can be told apart.

    Examples
    --------
    >>> import torch
    >>> scores, keep = {"a": {"hidden": torch.tensor([1.0, -3.0, 2.0])}}, {"a": {"hidden": torch.arange(3) < 1}}
    >>> same_widths(scores, keep)["a"]["hidden"]
    tensor([False,  True, False])
    """
    _refuse_scores(scores)
    _refuse_masks(keep)
    found: dict[str, dict[str, Tensor]] = {}
    for name, of_block in keep.items():
        for kind, mask in of_block.items():
            score = scores.get(name, {}).get(kind)
            if score is None or score.shape != mask.shape:
                raise ValueError(f"scores[{name!r}][{kind!r}] must be of the shape {tuple(mask.shape)} of its mask")
            ranked = _largest(score.detach().abs().cpu(), mask.sum(-1, keepdim=True).cpu())
            found.setdefault(name, {})[kind] = ranked.to(score.device)
    return found


def _ranked(
    parts: Mapping[str, Tensor], guards: Mapping[str, Tensor], rho: float, scope: str, kind: str
) -> dict[str, Tensor]:
    """Return the masks of one kind."""
    if scope == "global":
        sizes = [part.numel() for part in parts.values()]
        values, guard = (torch.cat([part.flatten() for part in each.values()]) for each in (parts, guards))
        split = _cut(values, guard, rho).split(sizes)
        return {name: mask.view(parts[name].shape) for name, mask in zip(parts, split, strict=True)}
    if scope == "head" and kind in HEADED:
        return {
            name: torch.stack([_cut(*head, rho) for head in zip(part, guards[name], strict=True)])
            for name, part in parts.items()
        }
    return {name: _cut(part.flatten(), guards[name].flatten(), rho).view(part.shape) for name, part in parts.items()}


def _cut(values: Tensor, guard: Tensor, rho: float) -> Tensor:
    """Return a mask of a flat tensor in which the lowest share of those without a guard is False."""
    order = torch.argsort(values, stable=True)
    order = order[~guard[order]][: round(rho * len(values))]
    mask = torch.ones_like(values, dtype=torch.bool)
    mask[order] = False
    return mask


def _guards(part: Tensor, kind: str, heads_may_go: bool) -> Tensor:
    """Return True at the dimension of each head, or of the layer, that may not go: the last in order."""
    rows = part if kind in HEADED and not heads_may_go else part.reshape(1, -1)
    last = torch.argsort(rows, dim=1, stable=True)[:, -1:]
    return (torch.zeros_like(rows, dtype=torch.bool).scatter(1, last, True)).view(part.shape)


def _alive(values: Tensor | None, part: Tensor, kind: str) -> Tensor:
    """Return False at the queries of heads without values."""
    if kind != "qk" or values is None or values.shape[0] != part.shape[0]:
        return torch.ones_like(part, dtype=torch.bool)
    return values.any(1, keepdim=True).expand(part.shape)


def _largest(values: Tensor, counts: Tensor) -> Tensor:
    """Return True at the largest ``counts`` (..., 1) of each row; of equal ones the later stay."""
    rank = values.argsort(dim=-1, stable=True).argsort(dim=-1)
    return rank >= values.shape[-1] - counts


def _shares(rho: float | Mapping[str, float], kinds: list[str]) -> dict[str, float]:
    shares = dict(rho) if isinstance(rho, Mapping) else dict.fromkeys(kinds, rho)
    missing = [kind for kind in kinds if kind not in shares]
    if missing:
        raise ValueError(f"rho must have a share for each kind, got none for {missing[0]!r}")
    for kind, share in shares.items():
        checks.numbers(**{f"rho ({kind})": share})
        if not 0 <= share < 1:
            raise ValueError(f"rho must be in [0, 1), got {share}")
    return {kind: float(share) for kind, share in shares.items()}


def _refuse_scores(scores: Nested) -> None:
    for name, score in _each("scores", scores):
        checks.floating(**{name: score})
        if not torch.isfinite(score).all():
            raise ValueError(f"{name} must be finite")


def _refuse_masks(keep: Nested) -> None:
    for name, mask in _each("keep", keep):
        if mask.dtype != torch.bool:
            raise ValueError(f"{name} must be of type bool, got {mask.dtype}")


def _each(argument: str, nested: Nested) -> list[tuple[str, Tensor]]:
    checks.mappings(**{argument: nested})
    found = []
    for block, of_block in nested.items():
        checks.mappings(**{f"{argument}[{block!r}]": of_block})
        for kind, tensor in of_block.items():
            name = f"{argument}[{block!r}][{kind!r}]"
            checks.tensors(**{name: tensor})
            if tensor.ndim != (2 if kind in HEADED else 1) or not tensor.numel():
                raise ValueError(f"{name} must be {'(heads, size)' if kind in HEADED else '(n,)'}, got "
                                 f"{checks.shown(tensor)}")  # fmt: skip
            found.append((name, tensor))
    if not found:
        raise ValueError(f"{argument} must hold tensors by block and kind, got none")
    return found


def _refuse_generator(generator: torch.Generator) -> None:
    checks.instances(torch.Generator, generator=generator)
