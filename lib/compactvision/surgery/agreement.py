"""Compares a network that was cut with the masked one that it stands for, on the graph's own example."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from compactvision.measure.state import evaluating, inputs_from
from compactvision.surgery.gating import mask
from compactvision.surgery.layers import named_layers
from compactvision.surgery.outputs import output_tensors
from compactvision.surgery.plan import Plan


def refuse_disagreement(model: nn.Module, small: nn.Module, plan: Plan) -> None:
    """Raise a ``ValueError`` unless ``small`` computes what ``model`` does under the plan's mask.

    Outputs in evaluation mode may differ by the square root of the dtype's rounding unit, relative to the largest one.
    In training mode, where the network itself runs on the example with each image twice, the cut one has to give
    outputs of the same shapes.
    """
    if any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers())):
        return  # it holds no numbers that could be compared
    inputs = inputs_from(model, plan.graph.example_inputs)
    with evaluating(model), evaluating(small), mask(model, plan):
        expected = output_tensors(_run(model, inputs))
        if any(tensor.is_floating_point() and tensor.numel() and tensor.isnan().all() for tensor in expected):
            raise ValueError("model gives nothing but NaN on the graph's example, so a cut cannot be compared with it")
        found = _attempt(small, inputs, plan)
        if len(found) != len(expected) or any(_differ(*pair) for pair in zip(expected, found, strict=True)):
            raise ValueError(_text(f"computes something else {_place(model, small, inputs, plan)}"))
    _compare_in_training(model, small, inputs, plan)


def _run(model: nn.Module, inputs: tuple[Tensor, ...]) -> object:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return model(*inputs)


def _attempt(small: nn.Module, inputs: tuple[Tensor, ...], plan: Plan) -> list[Tensor]:
    """Run the cut network; what goes wrong is named with the module that was running."""
    running: list[str] = []
    try:
        with _watched(small, lambda path, args: running.append(path), running.pop):
            return output_tensors(_run(small, inputs))
    except Exception as error:
        raise ValueError(_text(f"fails in {(running or [''])[-1] or 'the model itself'!r}: {error}")) from error


def _text(what: str) -> str:
    return (
        f"plan: the cut network {what}; a number in its forward (in a view, a scale) stands for a number of channels. "
        "Take it from the tensor's shape, or leave what it stands for whole with graph.without"
    )


def _differ(expected: Tensor, found: Tensor) -> bool:
    if expected.shape != found.shape or expected.dtype != found.dtype:
        return True
    if not expected.is_floating_point() or expected.numel() == 0:
        return False  # counts and indices may jump by rounding
    bound = torch.finfo(expected.dtype).eps ** 0.5 * float(expected.nan_to_num(0, 0, 0).abs().max())
    return not torch.allclose(found, expected, rtol=0.0, atol=bound, equal_nan=True)


def _place(model: nn.Module, small: nn.Module, inputs: tuple[Tensor, ...], plan: Plan) -> str:
    """Return the first layer that reads something else in the cut network than in the masked one."""
    dense, cut = _read(model, inputs), _read(small, inputs)
    for name, layer in plan.graph.layers.items():
        if name not in dense or f"{name}:in" in cut:
            continue
        kept = plan.kept[layer.reads].to(dense[name].device)
        read = dense[name][..., kept] if layer.kind == "linear" else dense[name][:, kept]
        if name in cut and _differ(read, cut[name]):
            return f"from the input of layer {name!r} on"
    return "behind its last layer"


def _read(model: nn.Module, inputs: tuple[Tensor, ...]) -> dict[str, Tensor]:
    """Return what each module reads at its first call, by the name that stays the same in wrappers."""
    names = {path: name for name, path, _ in named_layers(model)}
    read: dict[str, Tensor] = {}

    def note(path: str, args: tuple) -> None:
        if path in names and args and isinstance(args[0], Tensor):
            read.setdefault(names[path], args[0].clone())

    with _watched(model, note, lambda: None):
        _run(model, inputs)
    return read


def _compare_in_training(model: nn.Module, small: nn.Module, inputs: tuple[Tensor, ...], plan: Plan) -> None:
    twice = tuple(torch.cat([tensor, tensor]) for tensor in inputs)
    with evaluating(model), evaluating(small):
        model.train()
        small.train()
        try:
            expected = output_tensors(_run(model, twice))
        except Exception:
            return  # it does not train on this example, so there is nothing to compare with
        found = _attempt(small, twice, plan)
        if [tensor.shape for tensor in found] != [tensor.shape for tensor in expected]:
            raise ValueError(_text("gives outputs of other shapes in training mode"))


@contextmanager
def _watched(model: nn.Module, enter: Callable, leave: Callable) -> Iterator[None]:
    """Call ``enter(path, args)`` before and ``leave()`` behind each module."""

    def before(path: str) -> Callable:
        def hook(module: nn.Module, args: tuple) -> None:
            enter(path, args)

        return hook

    def behind(module: nn.Module, args: tuple, output: object) -> None:
        leave()

    with ExitStack() as stack:
        for path, module in model.named_modules():
            stack.callback(module.register_forward_pre_hook(before(path)).remove)
            stack.callback(module.register_forward_hook(behind).remove)
        yield
