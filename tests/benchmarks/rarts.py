"""Seconds and passes of an iteration of RARTS against DARTS of first and second order and the other rivals.

Run ``PYTHONPATH=lib:tests python tests/benchmarks/rarts.py [repeats] [iterations]``. On the super-network of the small
cells and on DARTS's toy network (26,958 parameters), methods in turn, medians of the ratios to second-order DARTS in
the same round. Passes are counted, not assumed.
"""

import statistics
import sys

import torch
from compactvision.models.cells import SuperNetwork, dense_edges
from compactvision.search import rarts, small_cells

BATCH, SIZE = 64, 16


def networks():
    """The two super-networks."""
    small = SuperNetwork(small_cells.PLACES, small_cells.OPERATIONS, small_cells.CHANNELS, small_cells.CELLS, stem=1)
    return {"small cells": small, "DARTS toy": SuperNetwork(dense_edges(2), channels=4, cells=3)}


def rounds(network, repeats, iterations):
    """Seconds of an iteration and its passes by method, in each round."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = network.to(device)
    batch = torch.randn(BATCH, 3, SIZE, SIZE, device=device), torch.arange(BATCH, device=device) % 10
    found = []
    for _ in range(repeats + 1):
        row = {}
        for method, passes in rarts.loop.PASSES.items():
            made = rarts.search(network, [batch], [batch], method, passes=passes * iterations)
            assert made.passes == passes * iterations
            row[method] = made.seconds / iterations, made.passes // iterations
        found.append(row)
    return found[1:]  # the first warms up


def main(repeats: int = 5, iterations: int = 3) -> None:
    """Print a table for each network."""
    for name, network in networks().items():
        found = rounds(network, repeats, iterations)
        print(f"{name}: {torch.get_num_threads()} threads, batches of {BATCH}, {SIZE} x {SIZE} pixels")
        for method in rarts.loop.METHODS:
            seconds = statistics.median(row[method][0] for row in found)
            ratio = statistics.median(row[method][0] / row["darts_second"][0] for row in found)
            passes = found[0][method][1]
            share = passes / found[0]["darts_second"][1]
            told = f"{1000 * seconds:6.0f} ms, {ratio:.2f} of second order (passes {share:.2f})"
            print(f"  {method:13s} {passes} passes, {told}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
