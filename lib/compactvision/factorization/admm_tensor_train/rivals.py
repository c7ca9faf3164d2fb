"""Rivals of the tensor train: Tucker-2, CP and the tensor ring, projected by tensorly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compactvision import _checks as checks
from compactvision.models.factorised import TTConv2d, from_modes, to_modes
from compactvision.models.factorised.threads import few_threads


@dataclass(frozen=True)
class Tucker:
    """Kernels of Tucker-2: a small kernel between two matrices, ``W = C x_1 A x_2 B``; convolutions only.

    The set is that of the tensor train with the ranks ``(out_rank, in_rank)`` and one mode on either side. What differs
    is the projection: higher-order orthogonal iteration in place of one SVD behind the other. It needs tensorly.
    """

    out_rank: int
    in_rank: int

    def project(self, kernel: Tensor) -> Tensor:
        """Return the kernel behind tensorly's ``partial_tucker``."""
        _four(kernel)
        core, (a, b) = self._factors(kernel)
        return _closed("op,pqx,iq->oxi", (a, core.flatten(2), b), kernel)

    def layer(self, dense: nn.Module) -> TTConv2d:
        """Return the three convolutions, as the layer of a tensor train with the same kernel."""
        checks.materialised(dense=dense)
        made = TTConv2d.from_layer(dense, (self.out_rank, self.in_rank))
        core, (a, b) = self._factors(dense.weight.detach())
        values = a[None], core.flatten(2).transpose(1, 2), b.T[:, :, None]  # (1, O, p), (p, K_h K_w, q), (q, I, 1)
        with torch.no_grad():
            for held, value in zip(made.cores, values, strict=True):
                held.copy_(value)
        return made

    def _factors(self, kernel: Tensor) -> tuple[Tensor, list[Tensor]]:
        from tensorly.decomposition import partial_tucker

        ranks = [min(self.out_rank, kernel.shape[0]), min(self.in_rank, kernel.shape[1])]
        with few_threads(kernel), _tensorly():
            (core, factors), _ = partial_tucker(kernel.detach().float(), modes=[0, 1], rank=ranks, init="svd")
        return core, factors


@dataclass(frozen=True)
class CP:
    """Kernels that are a sum of ``rank`` products of three vectors (C_out, K_h K_w, C_in); it needs tensorly.

    The projection is alternating least squares from a fixed start, so it need not find the nearest one.
    """

    rank: int

    def project(self, kernel: Tensor) -> Tensor:
        """Return the kernel of :meth:`factors`."""
        return _closed("or,pr,ir->opi", self.factors(kernel), kernel)

    def factors(self, kernel: Tensor) -> list[Tensor]:
        """Return the matrices (C_out, rank), (K_h K_w, rank), (C_in, rank) by tensorly's ``parafac``.

        The three vectors of a term are equally long: else training them on is unstable.
        """
        _four(kernel)
        from tensorly.decomposition import parafac

        try:
            with few_threads(kernel), _tensorly():
                found = parafac(_tensor(kernel), self.rank, n_iter_max=50, init="svd", random_state=0).factors
                return _even(found, [matrix.norm(dim=0) for matrix in found])
        except torch.linalg.LinAlgError as error:
            raise ValueError(f"kernel has a lower rank than the {self.rank} terms that it is asked for") from error

    def parameters(self, kernel: Tensor) -> int:
        """Return the numbers in the three matrices."""
        _four(kernel)
        return self.rank * (kernel.shape[0] + kernel[0, 0].numel() + kernel.shape[1])


@dataclass(frozen=True)
class Ring:
    """Kernels that are a tensor ring: a train whose ends meet, ``r_0 = r_d``, closed by a trace; it needs tensorly.

    ``ranks`` are ``r_0, r_1, r_2`` of the modes (C_out, K_h K_w, C_in).
    """

    ranks: tuple[int, int, int]

    def project(self, kernel: Tensor) -> Tensor:
        """Return the kernel of :meth:`factors`."""
        return _closed("aob,bpc,cia->opi", self.factors(kernel), kernel)

    def factors(self, kernel: Tensor) -> list[Tensor]:
        """Return the cores (r_0, C_out, r_1), (r_1, K_h K_w, r_2), (r_2, C_in, r_0) by tensorly's ``tensor_ring``.

        Their norms are equal.
        """
        _four(kernel)
        from tensorly.decomposition import tensor_ring

        with few_threads(kernel), _tensorly():
            found = tensor_ring(_tensor(kernel), [*self.ranks, self.ranks[0]]).factors
            return _even(found, [core.norm() for core in found])

    def parameters(self, kernel: Tensor) -> int:
        """Return the numbers in the three cores."""
        _four(kernel)
        sizes = kernel.shape[0], kernel[0, 0].numel(), kernel.shape[1]
        closed = (*self.ranks, self.ranks[0])
        return sum(left * size * right for left, size, right in zip(closed[:-1], sizes, closed[1:], strict=True))


def _four(kernel: Tensor) -> None:
    """Refuse what is no kernel of a convolution, for formats that know no other."""
    checks.floating(kernel=kernel)
    if kernel.dim() != 4 or not kernel.numel() or not kernel.isfinite().all():
        raise ValueError(f"kernel must be finite, of shape (C_out, C_in, K_h, K_w), got {checks.shown(kernel)}")


def _tensor(kernel: Tensor) -> Tensor:
    return to_modes(kernel.detach(), kernel.shape[:1], kernel.shape[1:2]).float()  # (C_out, K_h K_w, C_in)


def _even(factors: Sequence[Tensor], norms: Sequence[Tensor]) -> list[Tensor]:
    """Return factors scaled to equal norms; their product stays."""
    norms = [norm.clamp(min=torch.finfo(norm.dtype).tiny) for norm in norms]
    mean = torch.stack([norm.log() for norm in norms]).mean(0).exp()
    return [factor * (mean / norm) for factor, norm in zip(factors, norms, strict=True)]


def _closed(rule: str, factors: Sequence[Tensor], like: Tensor) -> Tensor:
    """Return the kernel that factors stand for, with the shape and dtype of another."""
    with few_threads(like):
        near = torch.einsum(rule, *factors)
    return from_modes(near, *like.shape[:2], like.shape[2:]).to(like.dtype).contiguous()


def _tensorly():
    import tensorly

    return tensorly.backend_context("pytorch", local_threadsafe=True)
