"""TT-SVD of ResNet-18's kernels against tensorly, and a TT convolution against the dense one and against rebuilding.

Run ``python tests/benchmarks/tensor_trains.py [repeats]``. Ways are interleaved; medians of one run and the median of
the pairs' ratios are printed.
"""

import statistics
import sys
import time

import tensorly
import torch
import torch.nn.functional as F
from compactvision import measure
from compactvision.factorization.admm_tensor_train import published
from compactvision.models.factorised import TTConv2d, to_modes, tt_svd, tt_tensor
from tensorly.decomposition import tensor_train
from torch import nn


def seconds(ways, repeats):
    """Seconds of each way in each round, the ways in turn; a round before the first warms up."""
    found = {name: [] for name in ways}
    for repeat in range(repeats + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            if repeat:
                found[name].append(time.perf_counter() - start)
    return found


def table(found, reference, unit=1.0, digits=3):
    """Print medians, and the median of the ratios to the reference of the same round."""
    for name, values in found.items():
        ratio = statistics.median(a / b for a, b in zip(values, found[reference], strict=True))
        print(f"  {name:34s} {unit * statistics.median(values):10.{digits}f}   {ratio:6.2f} x {reference}")


def projections(repeats):
    """Decompose the sixteen kernels of ResNet-18 with the published ranks."""
    generator = torch.Generator().manual_seed(0)
    for name in ("ResNet-18, TT special", "ResNet-18, TT general"):
        ranks = published.TABLES[name]
        dense = ranks.build()
        kernels = []
        for layer, train in ranks.formats(dense).items():
            shape = dense.get_submodule(layer).weight.shape
            kernel = torch.randn(shape, generator=generator)
            kernels.append((to_modes(kernel, train.out_modes or shape[:1], train.in_modes or shape[1:2]), train.ranks))

        def ours(kernels=kernels):
            return [tt_svd(tensor, ranks) for tensor, ranks in kernels]

        def theirs(kernels=kernels):
            with tensorly.backend_context("pytorch"):
                return [tensor_train(tensor, rank=[1, *ranks, 1]) for tensor, ranks in kernels]

        def numpys(kernels=kernels):
            return [tensor_train(tensor.numpy(), rank=[1, *ranks, 1]) for tensor, ranks in kernels]

        worst = max(
            float((tt_tensor(a) - tt_tensor(list(b))).norm() / tt_tensor(a).norm())
            for a, b in zip(ours(), theirs(), strict=True)
        )
        print(f"TT-SVD of 16 kernels, {name}; largest relative difference {worst:.1e}; seconds")
        table(
            seconds({"this package": ours, "tensorly, PyTorch": theirs, "tensorly, NumPy": numpys}, repeats),
            "tensorly, PyTorch",
        )


def forward(repeats):
    """Run one convolution as a train, as a train rebuilt in every pass, and dense."""
    generator = torch.Generator().manual_seed(0)
    for channels, side, batch in ((64, 56, 4), (256, 14, 16), (512, 7, 16)):
        conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        x = torch.randn(batch, channels, side, side, generator=generator)
        layers = {
            "train, one mode a side": TTConv2d.from_layer(conv, (round(0.45 * channels),) * 2),
            "train, two modes a side": TTConv2d.from_layer(
                conv,
                (round(channels**0.5) - 1, *(round(0.45 * channels),) * 2, round(channels**0.5) - 1),
                out_modes=split(channels),
                in_modes=split(channels)[::-1],
            ),
        }
        ways = {"dense": lambda conv=conv, x=x: conv(x)}
        for name, layer in layers.items():
            ways[name] = lambda layer=layer, x=x: layer(x)
            ways[f"{name}, rebuilt"] = lambda layer=layer, x=x: F.conv2d(x, layer.kernel(), None, 1, 1)
        whole = measure.macs(conv, tuple(x.shape[1:]))
        parts = ", ".join(f"{measure.macs(layer, tuple(x.shape[1:])) / whole:.2f}" for layer in layers.values())
        print(f"{channels} channels, {side} pixels, batch {batch}; MACs of the trains {parts} of the dense ones; ms")
        with torch.no_grad():
            table(seconds(ways, repeats), "dense", 1e3, 2)


def split(channels):
    """Return two factors near the root, the larger one first."""
    large = next(
        size for size in range(int(channels**0.5), channels + 1) if size**2 >= channels and channels % size == 0
    )
    return large, channels // large


def main(repeats=7):
    """Print both tables."""
    print(f"{torch.get_num_threads()} threads, {repeats} repeats")
    projections(repeats)
    forward(repeats)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
