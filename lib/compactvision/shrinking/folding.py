"""BatchNorm folded into the convolutions in front of it, as exporters do: what a network costs when it is used."""

from __future__ import annotations

import copy

from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from compactvision import _checks as checks
from compactvision._failures import run
from compactvision.measure import ExampleInputs, evaluating
from compactvision.measure.state import inputs_from


def folded(model: nn.Module, example_inputs: ExampleInputs) -> nn.Module:
    """Return a copy in evaluation mode whose BatchNorms are part of the convolutions that feed them.

    Folded is a ``BatchNorm2d`` that reads, once in a forward pass, just what one convolution has written; others stay.
    The outputs are the same but for rounding.

    Parameters
    ----------
    model : nn.Module
        Run once on the example in evaluation mode and left as it was.
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
    small = copy.deepcopy(model)
    names = {module: name for name, module in small.named_modules()}
    for norm, conv in _pairs(small, example_inputs).items():
        _put(small, names[conv], fuse_conv_bn_eval(conv.eval(), norm.eval()))
        _put(small, names[norm], nn.Identity())
    return small.eval()


def _pairs(model: nn.Module, example_inputs: ExampleInputs) -> dict[nn.Module, nn.Module]:
    """Return for each BatchNorm that can be folded the convolution in front of it."""
    convs = [module for module in model.modules() if type(module) is nn.Conv2d]
    others = [module for module in model.modules() if type(module) is not nn.Conv2d and not any(module.children())]
    written: dict[int, nn.Module] = {}
    held: list[object] = []  # so that no other tensor gets the id of one that was seen
    read: dict[int, list[nn.Module]] = {}
    runs: dict[nn.Module, int] = {}

    def behind(module: nn.Module, args: tuple, output: Tensor) -> None:
        held.append(output)
        written[id(output)] = module

    def before(module: nn.Module, args: tuple) -> None:
        runs[module] = runs.get(module, 0) + 1
        for each in args:
            held.append(each)
            read.setdefault(id(each), []).append(module)

    handles = [conv.register_forward_hook(behind) for conv in convs]
    handles += [module.register_forward_pre_hook(before) for module in [*convs, *others]]
    try:
        with evaluating(model):
            run(model, *inputs_from(model, example_inputs), name="example_inputs")
    finally:
        for handle in handles:
            handle.remove()
    found = {}
    for key, conv in written.items():
        readers = read.get(key, [])
        if len(readers) == 1 and _folds(readers[0]) and runs[conv] == runs[readers[0]] == 1:
            found[readers[0]] = conv
    return found


def _folds(module: nn.Module) -> bool:
    return type(module) is nn.BatchNorm2d and module.track_running_stats


def _put(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)
