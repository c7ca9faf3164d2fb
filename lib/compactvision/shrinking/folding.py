"""BatchNorm folded into the convolutions in front of it, as exporters do: what a network costs when it is used."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from compactvision import _checks as checks
from compactvision._failures import run
from compactvision.measure import ExampleInputs, evaluating
from compactvision.measure.state import inputs_from
from compactvision.models.factorised.replace import replace_
from compactvision.surgery.outputs import output_tensors


def folded(model: nn.Module, example_inputs: ExampleInputs) -> nn.Module:
    """Return a copy in evaluation mode whose BatchNorms are part of the convolutions that feed them.

    Folded is a ``BatchNorm2d`` that reads, once in a forward pass, just what one convolution has written, where nothing
    else looks at that output or at the weights of the two: no function, no hook, not the network's own output. Others
    stay. The outputs are the same but for rounding; where they are not on the example, nothing is folded.

    Parameters
    ----------
    model : nn.Module
        Run on the example in evaluation mode and left as it was.
    example_inputs : Tensor, tuple of int or tuple of Tensor
        Input with a batch dimension, or the shape (C, H, W) of one image.

    Raises
    ------
    ValueError
        If ``model`` is no module on a device that holds numbers, or fails on the example.

    Examples
    --------
    >>> from torch import nn
    >>> from compactvision import shrinking
    >>> shrinking.folded(nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.BatchNorm2d(2)), (1, 4, 4))
    Sequential(
      (0): Conv2d(1, 2, kernel_size=(1, 1), stride=(1, 1))
      (1): Identity()
    )
    """
    checks.materialised(model=model)
    inputs = inputs_from(model, example_inputs)
    small = copy.deepcopy(model).eval()
    watch = _Watch(small)
    wanted = watch.run(inputs)
    names = {module: name for name, module in small.named_modules()}
    for norm, conv in watch.pairs().items():
        replace_(small, names[conv], fuse_conv_bn_eval(conv, norm))
        replace_(small, names[norm], nn.Identity())
    return small if _answers_alike(small, inputs, wanted) else copy.deepcopy(model).eval()


def _answers_alike(small: nn.Module, inputs: tuple[Tensor, ...], wanted: list[Tensor]) -> bool:
    try:
        with evaluating(small):
            found = output_tensors(small(*inputs))
    except Exception:  # it asks the layers for what the folded ones no longer have
        return False
    return not any(_apart(one, other) for one, other in zip(found, wanted, strict=True))


def _apart(found: Tensor, wanted: Tensor) -> bool:
    if found.shape != wanted.shape or not wanted.is_floating_point() or not wanted.numel():
        return found.shape != wanted.shape
    bound = torch.finfo(wanted.dtype).eps ** 0.5 * float(wanted.nan_to_num(0, 0, 0).abs().max())
    return not torch.allclose(found, wanted, rtol=0.0, atol=bound, equal_nan=True)


_FORM = frozenset(
    {"__get__", "dim", "is_complex", "is_contiguous", "is_floating_point", "numel", "size"}
)  # of no values


class _Watch(TorchFunctionMode):
    """Sees who reads what the convolutions of a network write: modules, functions, the network's own output."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.leaves = [m for m in model.modules() if _may_fold(m) or not any(m.children())]
        self.inside = 0  # convolutions and BatchNorms that are running
        self.held: list[object] = []  # so that no other tensor gets the id of one that was seen
        self.written: dict[int, nn.Module] = {}
        self.readers: dict[int, list[nn.Module]] = {}
        self.runs: dict[nn.Module, int] = {}
        self.touched: set[int] = set()

    def run(self, inputs: tuple[Tensor, ...]) -> list[Tensor]:
        """Return copies of the network's outputs."""
        handles = [leaf.register_forward_pre_hook(self._before, with_kwargs=True) for leaf in self.leaves]
        handles += [leaf.register_forward_hook(self._behind) for leaf in self.leaves if _may_fold(leaf)]
        try:
            with evaluating(self.model), self:
                found = output_tensors(run(self.model, *inputs, name="example_inputs"))
        finally:
            for handle in handles:
                handle.remove()
        self._touch(found)
        return [tensor.detach().clone() for tensor in found]

    def pairs(self) -> dict[nn.Module, nn.Module]:
        """Return for each BatchNorm that can be folded the convolution in front of it."""
        found = {}
        for key, conv in self.written.items():
            norm, *others = self.readers.get(key, [None])
            alone = not others and key not in self.touched and type(conv) is nn.Conv2d
            if alone and type(norm) is nn.BatchNorm2d and norm.track_running_stats and self._free(conv, norm):
                found[norm] = conv
        return found

    def _free(self, *layers: nn.Module) -> bool:
        """Whether layers ran once, have no hooks, and no function outside of them looked at their tensors."""
        tensors = [tensor for layer in layers for tensor in (*layer.parameters(), *layer.buffers())]
        looked_at = any(id(tensor) in self.touched for tensor in tensors)
        hooks = any(layer._forward_hooks or layer._forward_pre_hooks for layer in layers)
        return not looked_at and not hooks and all(self.runs[layer] == 1 for layer in layers)

    def _before(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        self.runs[module] = self.runs.get(module, 0) + 1
        self.inside += _may_fold(module)
        for each in tree_leaves((args, kwargs)):
            self.held.append(each)
            self.readers.setdefault(id(each), []).append(module)

    def _behind(self, module: nn.Module, args: tuple, output: Tensor) -> None:
        self.inside -= 1
        self.held.append(output)
        self.written[id(output)] = module

    def _touch(self, values: object) -> None:
        for each in tree_leaves(values):
            self.held.append(each)
            self.touched.add(id(each))

    def __torch_function__(
        self, function: Callable, types: object, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        of_its_form = getattr(function, "__name__", "") in _FORM and not isinstance(result, Tensor)
        if not self.inside and not of_its_form:
            self._touch((args, kwargs or {}))
        return result


def _may_fold(module: nn.Module) -> bool:
    return type(module) in (nn.Conv2d, nn.BatchNorm2d)
