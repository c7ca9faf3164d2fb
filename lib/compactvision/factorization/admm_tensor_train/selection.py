"""Ranks for a target: how many times fewer parameters or multiply-accumulates the whole network is to have."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision import measure
from compactvision._failures import run
from compactvision.measure import ExampleInputs, evaluating
from compactvision.measure.state import inputs_from
from compactvision.models.factorised import to_modes, tt_parameters

from .formats import TensorTrain

_HALVINGS = 40


@dataclass(frozen=True)
class Selection:
    """Ranks that were found, and what they amount to.

    Attributes
    ----------
    formats : dict of str to TensorTrain
        By layer; a layer that would not become smaller is left out, and stays dense.
    total, dense : int
        Parameters or multiply-accumulates of the network then, and as it is.
    knob : float
        What was searched: the share of the channels, or the relative error allowed at each cut.
    """

    formats: dict[str, TensorTrain]
    total: int
    dense: int
    knob: float

    @property
    def factor(self) -> float:
        """How many times smaller the network becomes."""
        return self.dense / self.total


@dataclass(frozen=True)
class _Layer:
    """A convolution with the pixels of its input and its output, for one image, all calls together."""

    kernel: Tensor
    pixels_in: int
    pixels_out: int

    def cost(self, ranks: tuple[int, int] | None, count: str) -> int:
        """Return parameters or multiply-accumulates; of the dense layer for None."""
        out, into, area = self.kernel.shape[0], self.kernel.shape[1], self.kernel[0, 0].numel()
        if ranks is None:
            dense = self.kernel.numel()
            return dense if count == "parameters" else dense * self.pixels_out
        if count == "parameters":
            return tt_parameters((out, area, into), ranks)
        return ranks[1] * into * self.pixels_in + (area * ranks[0] * ranks[1] + out * ranks[0]) * self.pixels_out


def decomposable(model: nn.Module, example_inputs: ExampleInputs) -> list[str]:
    """Return the convolutions that the paper decomposes: all with more than one weight a channel pair but the first.

    In the order in which they run. Those with groups are left out, and so are 1 x 1 shortcuts and linear layers.

    Parameters
    ----------
    model : nn.Module
        Run once in evaluation mode and left as it was.
    example_inputs : Tensor, tuple of int or tuple of Tensor
        Input with a batch dimension, or the shape (C, H, W) of one image.

    Examples
    --------
    >>> from compactvision import models
    >>> from compactvision.factorization.admm_tensor_train import selection
    >>> len(selection.decomposable(models.resnet20(), (3, 32, 32)))
    18
    """
    checks.networks(model=model)
    convolutions = [
        (name, module) for name, module in _calls(model, example_inputs, nn.Conv2d) if math.prod(module.kernel_size) > 1
    ]
    return [name for name, module in convolutions[1:] if module.groups == 1 and module.padding_mode == "zeros"]


def select_ranks(
    model: nn.Module,
    example_inputs: ExampleInputs,
    *,
    factor: float,
    count: str = "macs",
    rule: str = "share",
    layers: Iterable[str] | None = None,
) -> Selection:
    """Find ranks with which the network becomes at least so many times smaller, by bisection of a single knob.

    The format has one mode for the output channels, one for the positions and one for the input channels. Both rules
    are the book's: the paper gives no way to its ranks.

    Parameters
    ----------
    model : nn.Module
        Run in evaluation mode and left as it was.
    example_inputs : Tensor, tuple of int or tuple of Tensor
        Input with a batch dimension, or the shape (C, H, W) of one image.
    factor : float
        Above 1; of the whole network, with all that is not decomposed.
    count : {"macs", "parameters"}, default "macs"
        What is counted.
    rule : {"share", "error"}, default "share"
        "share": ranks are the same share of the channels everywhere, rounded. "error": ranks are the smallest with
        which each cut's error stays below the same share of the kernel's norm, so they follow the spectra.
    layers : iterable of str, optional
        Convolutions that may be decomposed; those of :func:`decomposable` by default.

    Returns
    -------
    Selection
        The largest ranks that reach the factor. Where one step of the knob is too much for all layers, the first ones
        in which it fits take it.

    Raises
    ------
    ValueError
        If an argument is unknown or out of its range, a layer is no convolution that runs, or ranks of 1 do not reach
        the factor.

    Examples
    --------
    >>> from compactvision import models
    >>> from compactvision.factorization.admm_tensor_train import select_ranks
    >>> found = select_ranks(models.resnet20(100), (3, 32, 32), factor=2.3, count="parameters")
    >>> found.total, found.formats["layer3.2.conv2"].ranks
    (119086, (34, 34))
    """
    checks.networks(model=model)
    checks.numbers(factor=factor)
    if not 1 < factor < math.inf:
        raise ValueError(f"factor must be above 1 and finite, got {factor}")
    for name, value, known in (("count", count, ("macs", "parameters")), ("rule", rule, tuple(_RULES))):
        if value not in known:
            raise ValueError(f"{name} must be one of {known}, got {value!r}")
    if layers is not None and (isinstance(layers, str) or not hasattr(layers, "__iter__")):
        raise ValueError(f"layers must be names of layers, got {checks.shown(layers)}")
    chosen = decomposable(model, example_inputs) if layers is None else list(layers)
    found = _measured(model, example_inputs, chosen)
    dense = measure.parameters(model) if count == "parameters" else measure.macs(model, example_inputs)
    ranks_at = _RULES[rule](found)

    def selection(ranks: dict[str, tuple[int, int]], knob: float) -> Selection:
        saved = {name: found[name].cost(None, count) - found[name].cost(pair, count) for name, pair in ranks.items()}
        formats = {name: TensorTrain(ranks[name]) for name, less in saved.items() if less > 0}
        return Selection(formats, dense - sum(saved[name] for name in formats), dense, knob)

    low, high = 0.0, 1.0  # the cost rises with the knob: ranks at ``low`` reach the factor, those at ``high`` do not
    if selection(ranks_at(low), low).factor < factor:
        raise ValueError(f"factor: ranks of 1 reach {selection(ranks_at(low), low).factor:.3f}, not {factor}")
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if selection(ranks_at(middle), middle).factor >= factor else (low, middle)
    ranks, above = ranks_at(low), ranks_at(high)
    for name in ranks:  # the last step of the knob, as many layers of it as there is room for
        raised = ranks | {name: above[name]}
        ranks = raised if selection(raised, low).factor >= factor else ranks
    return selection(ranks, low)


def _shares(layers: dict[str, _Layer]) -> Callable[[float], dict[str, tuple[int, int]]]:
    def ranks(knob: float) -> dict[str, tuple[int, int]]:
        return {
            name: tuple(max(1, math.floor(knob * size + 0.5)) for size in layer.kernel.shape[:2])
            for name, layer in layers.items()
        }

    return ranks


def _errors(layers: dict[str, _Layer]) -> Callable[[float], dict[str, tuple[int, int]]]:
    tails = {name: _tails(layer.kernel) for name, layer in layers.items()}

    def ranks(knob: float) -> dict[str, tuple[int, int]]:
        allowed = 1 - knob  # relative error of a cut: knob 0 allows all of it
        return {name: tuple(max(1, int((tail > allowed).sum())) for tail in pair) for name, pair in tails.items()}

    return ranks


_RULES = {"share": _shares, "error": _errors}


def _tails(kernel: Tensor) -> tuple[Tensor, Tensor]:
    """Return, for both cuts, what is lost with ranks of 0, 1, 2 and so on, as a share of the kernel's norm."""
    tensor = to_modes(kernel, kernel.shape[:1], kernel.shape[1:2]).double()  # (O, K_h K_w, I)
    lost = []
    for matrix in (tensor.flatten(1), tensor.flatten(0, 1)):  # (O, K_h K_w I), (O K_h K_w, I)
        energy = torch.linalg.svdvals(matrix).square()
        lost.append((energy.flip(0).cumsum(0).flip(0) / energy.sum().clamp(min=1e-300)).sqrt())
    return lost[0], lost[1]


def _measured(model: nn.Module, example_inputs: ExampleInputs, names: Sequence[str]) -> dict[str, _Layer]:
    modules, pixels = dict(model.named_modules()), {}
    for name in names:
        checks.texts(**{"a name in layers": name})
        if not isinstance(modules.get(name), nn.Conv2d) or modules[name].groups != 1:
            raise ValueError(f"layers: {name!r} is no convolution without groups of this network")
    for name, _, x, out in _calls(model, example_inputs, nn.Conv2d, shapes=True):
        before, after = pixels.get(name, (0, 0))
        pixels[name] = before + math.prod(x[2:]), after + math.prod(out[2:])
    silent = [name for name in names if name not in pixels]
    if silent:
        raise ValueError(f"layers: {silent[0]!r} does not run")
    return {name: _Layer(modules[name].weight.detach(), *pixels[name]) for name in names}


def _calls(model: nn.Module, example_inputs: ExampleInputs, kind: type, *, shapes: bool = False) -> list[tuple]:
    """Return name and module of every layer of a kind, in the order of their calls; with the shapes of each call."""
    calls, handles = [], []
    for name, module in model.named_modules():
        if isinstance(module, kind):

            def note(module: nn.Module, args: tuple, out: Tensor, name: str = name) -> None:
                calls.append((name, module, args[0].shape, out.shape))

            handles.append(module.register_forward_hook(note))
    try:
        with evaluating(model):
            run(model, *(x[:1] for x in inputs_from(model, example_inputs)), name="example_inputs")
    finally:
        for handle in handles:
            handle.remove()
    return calls if shapes else list({name: (name, module) for name, module, *_ in calls}.values())
