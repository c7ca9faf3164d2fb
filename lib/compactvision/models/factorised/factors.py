"""What every factorised layer is: factors instead of a kernel, and the dense layer that they stand for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from compactvision import _checks as checks

Size = int | Sequence[int]


class Factorised(nn.Module):
    """Base of layers that hold factors of a kernel and compute from them without building the kernel.

    A subclass gives :meth:`kernel`, :meth:`set_kernel_` and ``forward``, and the attribute ``ranks``. It is made from
    sizes and ranks (factors drawn at random), from a kernel (:meth:`from_kernel`), from a dense layer
    (:meth:`from_layer`) or from the :meth:`description` of another one.

    Parameters
    ----------
    ranks : sequence of int
        As asked for, each at least 1. A layer takes the largest that its sizes allow where more is asked for.

    Attributes
    ----------
    layer_name : str
        The class in descriptions and files.
    requested, ranks : tuple of int
        Ranks as asked for, and as they are.
    bias : nn.Parameter or None
        As in the dense layer.

    Raises
    ------
    ValueError
        If an entry of ``ranks`` is no whole number of at least 1, or there are more or fewer than the layer has.
    """

    layer_name: ClassVar[str]
    ranks: tuple[int, ...]
    bias: nn.Parameter | None

    def __init__(self, ranks: Size) -> None:
        super().__init__()
        self.requested = whole_numbers("ranks", ranks)

    @property
    def clipped(self) -> bool:
        """Whether some rank is smaller than was asked for."""
        return self.ranks != self.requested

    def kernel(self) -> Tensor:
        """Return the kernel that the factors stand for, with gradients."""
        raise NotImplementedError

    def set_kernel_(self, kernel: Tensor) -> None:
        """Set the factors to those of the kernel, as near as the ranks allow; no gradient goes through this."""
        raise NotImplementedError

    def check_kernel(self, kernel: Tensor) -> None:
        """Raise a ``ValueError`` unless a kernel has the shape of this layer's and holds numbers."""
        checks.floating(kernel=kernel)
        wanted = tuple(self.kernel().shape)
        if tuple(kernel.shape) != wanted:
            raise ValueError(f"kernel must have shape {wanted}, got {tuple(kernel.shape)}")

    def dense(self) -> nn.Module:
        """Return the dense layer with the rebuilt kernel and a copy of the bias."""
        raise NotImplementedError

    def description(self) -> dict[str, Any]:
        """Return the arguments of the constructor, expressible as JSON: all but the values of the parameters."""
        raise NotImplementedError

    @classmethod
    def from_description(cls, description: dict[str, Any]) -> Self:
        """Return a layer with other values and the same shapes as the one that was described.

        Raises
        ------
        ValueError
            If it is no description of such a layer.
        """
        foreign = sorted({"device", "dtype", "generator"} & set(description))
        if foreign:
            raise ValueError(f"description must not have the field {foreign[0]!r}")
        try:
            return cls(**description)
        except (TypeError, RuntimeError, OverflowError) as error:
            raise ValueError(f"description of {cls.layer_name}: {error}") from error

    @classmethod
    def from_kernel(cls, kernel: Tensor, ranks: Size, *, bias: Tensor | None = None, **options: Any) -> Self:
        """Factorise a kernel.

        Parameters
        ----------
        kernel : Tensor
            Weight of the dense layer: (C_out, C_in, K_h, K_w) or (C_out, C_in). The layer has its device and dtype.
        ranks : sequence of int
            As for the class; see ``ranks`` and ``clipped`` of the result for what became of them.
        bias : Tensor, optional
            Of shape (C_out,), copied.
        options
            Of the constructor: ``stride``, ``padding``, ``dilation`` and what the class has besides.

        Raises
        ------
        ValueError
            If the kernel has the wrong number of dimensions, is no floating-point tensor, or holds NaN or infinity,
            and as for the class.
        """
        if not isinstance(kernel, Tensor) or not kernel.is_floating_point() or kernel.is_complex():
            raise ValueError(f"kernel must be a floating-point tensor, got {getattr(kernel, 'dtype', type(kernel))}")
        sizes = cls._sizes_of(kernel)
        layer = cls(*sizes, ranks, bias=bias is not None, device=kernel.device, dtype=kernel.dtype, **options)
        if kernel.is_meta:
            return layer
        layer.set_kernel_(kernel)
        if bias is not None:
            if bias.shape != layer.bias.shape:
                raise ValueError(f"bias must have shape {tuple(layer.bias.shape)}, got {tuple(bias.shape)}")
            with torch.no_grad():
                layer.bias.copy_(bias)
        return layer

    @classmethod
    def from_layer(cls, layer: nn.Module, ranks: Size, **options: Any) -> Self:
        """Factorise a dense layer; its stride, padding, dilation, bias and training flag are taken over.

        Raises
        ------
        ValueError
            If the layer is of another kind, has groups or pads with anything but zeros, and as for
            :meth:`from_kernel`.
        """
        settings = cls._settings_of(layer)
        made = cls.from_kernel(layer.weight.detach(), ranks, bias=layer.bias, **settings, **options)
        made.train(layer.training)
        return made

    @classmethod
    def _sizes_of(cls, kernel: Tensor) -> tuple:
        raise NotImplementedError

    @classmethod
    def _settings_of(cls, layer: nn.Module) -> dict[str, Any]:
        raise NotImplementedError

    def _rank_text(self) -> str:
        return f"ranks={self.ranks}" + (f" (asked for {self.requested})" if self.clipped else "")


def whole_numbers(name: str, values: Size, *, least: int = 1) -> tuple[int, ...]:
    """Return whole numbers as a tuple; ``ValueError`` naming them where there is another value or one below ``least``.

    A single number stands for a tuple of one.
    """
    entries = tuple(values) if isinstance(values, Sequence) and not isinstance(values, str) else (values,)
    for entry in entries:
        if isinstance(entry, bool) or not isinstance(entry, int) or entry < least:
            raise ValueError(f"{name} must be whole numbers of at least {least}, got {values!r}")
    return entries
