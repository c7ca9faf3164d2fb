"""The part of a network behind one of its layers, as a function of that layer's output.

Ablating U units with the layer's output at hand costs U runs of the part behind it and none of the part before. The
part is run by the model's own ``forward``: modules that were finished before the layer's output existed are not run
again but give NaN, and the layer gives what it is told. If anything but the layer reached the output, NaN would show.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision._failures import run
from compactvision.explanation.arguments import axes, chosen
from compactvision.explanation.evidence import check_floating
from compactvision.hooks import capture
from compactvision.measure.batches import classified, pairs
from compactvision.measure.state import evaluating, placement

_NOT_ALONE = (
    "the output also depends on what comes before it by another way (a shortcut, perhaps); name a layer that "
    "everything passes through, such as the output of a whole block"
)


class Head:
    """The part of a model behind a layer: maps the layer's output to the model's.

    Parameters
    ----------
    model : nn.Module
        Left as it was; the head reads its weights at every call.
    layer : str
        Name of a module as ``model.named_modules()`` gives it, called exactly once in a forward pass.
    example_inputs : Tensor
        Some inputs (B, ...), for one run of the model that finds out what comes before the layer.

    Attributes
    ----------
    activation, output : Tensor
        The layer's output (B, U, ...) and the model's (B, ...) for ``example_inputs``, in evaluation mode.

    Raises
    ------
    ValueError
        If ``example_inputs`` are no floating-point numbers, ``layer`` is unknown, does not run exactly once or gives
        no tensor (B, U, ...), or the model's output does not follow from the layer's output alone.
    """

    def __init__(self, model: nn.Module, layer: str, example_inputs: Tensor) -> None:
        checks.networks(model=model)
        modules = dict(model.named_modules())
        if not isinstance(layer, str) or layer not in modules or not layer:
            raise ValueError(f"layer: {layer!r} is no module of this {type(model).__name__}")
        check_floating(example_inputs, "example_inputs")
        axes(example_inputs=(example_inputs, "B ..."))
        self.model, self.layer = model, layer
        self._module = modules[layer]
        self._input = example_inputs[:1].new_full((1, *example_inputs.shape[1:]), torch.nan)
        self._written: set[nn.Module | None] = set()  # modules (None: the input) whose output is written to behind them
        with evaluating(model):
            finished, self.output = _trace(model, example_inputs, self._module)
            self.activation, self._before = self._read(finished, len(example_inputs))
            self._check()

    def __call__(self, activation: Tensor) -> Tensor:
        """Map the layer's output (B, U, ...) to the model's output (B, ...), in the model's current mode."""
        axes(activation=(activation, "B U ..."))
        try:
            return self._replay(activation, lambda module, x: x.clone() if module in self._written else x)
        except (RuntimeError, IndexError) as error:
            own = self.activation
            if (activation.shape[1:], activation.dtype, activation.device) == (own.shape[1:], own.dtype, own.device):
                raise
            raise ValueError(
                f"activation must be as the layer's output, {own.dtype} {('B', *own.shape[1:])} on {own.device}, "
                f"got {checks.shown(activation)}"
            ) from error

    def _replay(self, activation: Tensor, hand: Callable[[nn.Module | None, Tensor], Tensor]) -> Tensor:
        """Run the model on what ``hand`` makes of each module's output and of the input, whose module is None."""
        count = len(activation)
        with ExitStack() as stack:
            for module, output in self._before:
                stack.enter_context(_forward(module, hand, output.expand(count, *output.shape[1:])))
            stack.enter_context(_forward(self._module, hand, activation))
            return self.model(hand(None, self._input.expand(count, *self._input.shape[1:])))

    def _read(self, finished: list[tuple[nn.Module, object]], count: int) -> tuple[Tensor, list]:
        """Return the layer's output, and what each module that ended before it gives in a replay."""
        ends = [place for place, (module, _) in enumerate(finished) if module is self._module]
        if len(ends) != 1:
            raise ValueError(
                f"layer: {self.layer!r} runs {len(ends)} times in a forward pass, not once; name the block around it "
                "or a module behind it"
            )
        activation = finished[ends[0]][1]
        if not isinstance(activation, Tensor) or activation.ndim < 2 or len(activation) != count:
            raise ValueError(f"layer: {self.layer!r} gives no tensor (B, U, ...) for a batch of {count} inputs")
        later = {module for module, _ in finished[ends[0] :]}
        outputs: dict[nn.Module, list] = {}
        for module, output in finished[: ends[0]]:
            outputs.setdefault(module, []).append(output)
        before = []
        for module, given in outputs.items():
            fits = all(isinstance(output, Tensor) and output.shape[:1] == (count,) for output in given)
            if fits and module not in later and len({output.shape for output in given}) == 1:
                before.append((module, given[0].new_full((1,) * given[0].ndim, torch.nan).expand_as(given[0][:1])))
        return activation, before

    def _check(self) -> None:
        """Compare a replay with the traced run, and find out which modules' outputs are written to."""
        if not isinstance(self.output, Tensor):
            raise ValueError(f"model: it returns a {type(self.output).__name__}, not a tensor of logits")
        handed: list[tuple[nn.Module | None, Tensor]] = []

        def hand(module: nn.Module | None, output: Tensor) -> Tensor:
            handed.append((module, output.clone()))
            return handed[-1][1]

        try:
            again = self._replay(self.activation, hand)
        except RuntimeError as error:
            raise ValueError(f"layer: what comes behind {self.layer!r} cannot be run alone: {error}") from error
        if again.isnan().any() or not torch.allclose(again, self.output, rtol=1e-4, atol=1e-5):
            raise ValueError(f"layer: {self.layer!r}: {_NOT_ALONE}")
        self._written = {module for module, output in handed if output.is_inference() or output._version}


def _trace(model: nn.Module, example_inputs: Tensor, layer: nn.Module) -> tuple[list[tuple[nn.Module, object]], Tensor]:
    """Run the model; return every module call in the order in which they ended, with its output, and the model's."""
    finished: list[tuple[nn.Module, object]] = []

    def note(module: nn.Module, _: object, output: object) -> None:
        kept = output.clone() if module is layer and isinstance(output, Tensor) else output
        finished.append((module, kept))

    with ExitStack() as stack:
        for module in model.modules():
            if not isinstance(module, torch.jit.ScriptModule):  # takes no hooks
                stack.callback(module.register_forward_hook(note).remove)
        output = run(model, example_inputs, name="example_inputs")
    return finished, output


@contextmanager
def _forward(module: nn.Module, hand: Callable[[nn.Module, Tensor], Tensor], output: Tensor) -> Iterator[None]:
    """Let a module give what ``hand`` makes of it and an output, inside the block."""
    own = vars(module).get("forward")
    module.forward = lambda *_, **__: hand(module, output)
    try:
        yield
    finally:
        if own is None:
            del module.forward
        else:
            module.forward = own


@dataclass(frozen=True, eq=False)
class LayerCache:
    """A layer's output for every image, computed once, and the part of the network behind it.

    Attributes
    ----------
    head : maps activations (B, U, ...) to logits (B, C).
    activation : (N, U, ...), usually (N, U, H, W).
    logits : (N, C) of the network as it is.
    targets : (N,) int64.
    """

    head: Head
    activation: Tensor
    logits: Tensor
    targets: Tensor

    @property
    def units(self) -> int:
        """Number of units U."""
        return self.activation.shape[1]

    @property
    def num_classes(self) -> int:
        """Number of classes C."""
        return self.logits.shape[1]

    @property
    def correct(self) -> Tensor:
        """Whether the network as it is recognises each image: (N,) bool."""
        return self.logits.argmax(1) == self.targets

    def subset(self, images: Tensor) -> LayerCache:
        """Return the cache of some images, by numbers (M,), negative ones from the end, or a mask (N,) bool."""
        picked = chosen(len(self.targets), self.targets.device, images=images)
        parts = {name: getattr(self, name)[picked] for name in ("activation", "logits", "targets")}
        if len(parts["targets"]) == 0:
            raise ValueError("images: no image is left")
        return replace(self, **parts)


def cache_layer(model: nn.Module, layer: str, batches: Iterable[tuple[Tensor, Tensor]]) -> LayerCache:
    """Run the model once over the images and keep a layer's output: all that an ablation of that layer needs.

    Parameters
    ----------
    model : nn.Module
        Run in evaluation mode, left as it was.
    layer : str
        Name of an activation function, a pooling behind it or a whole block, through which everything passes.
    batches : iterable of (Tensor, Tensor)
        Inputs and int64 targets (B,), best in a fixed order and without augmentation.

    Raises
    ------
    ValueError
        If the layer is a convolution, a linear layer or a normalisation (its output is no unit's last word), if
        :class:`Head` cannot run what follows alone, or there are no images.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from compactvision.explanation.unit_ablation import cache_layer
    >>> model = nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(3, 2))
    >>> cache = cache_layer(model, "0", [(torch.rand(5, 3, 1, 1), torch.tensor([0, 0, 1, 1, 1]))])
    >>> cache.units, cache.num_classes, tuple(cache.activation.shape)
    (3, 2, (5, 3, 1, 1))
    """
    checks.networks(model=model)
    checks.texts(layer=layer)
    module = dict(model.named_modules()).get(layer)
    if isinstance(module, (nn.modules.conv._ConvNd, nn.Linear, nn.modules.batchnorm._NormBase)):
        raise ValueError(
            f"layer: {layer!r} is a {type(module).__name__}; name the activation function after it, since zero before "
            "that is not zero behind it. Where that is no module (F.relu), name the pooling or the block behind it"
        )
    device, _ = placement(model)
    head, parts = None, []
    with evaluating(model):
        for inputs, targets in pairs(batches, device):
            check_floating(inputs)
            axes(inputs=(inputs, "B ..."))
            if head is None:
                head = Head(model, layer, inputs[:4])
            with capture(model, layer) as captured:
                logits = run(model, inputs, name="batches")
            classified(logits, targets, len(parts))
            parts.append((captured[layer], logits, targets))
    if head is None:
        raise ValueError("batches: there is no image")
    activation, logits, targets = (torch.cat(part) for part in zip(*parts, strict=True))
    return LayerCache(head, activation, logits, targets)
