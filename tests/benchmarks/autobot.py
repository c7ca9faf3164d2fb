"""Seconds of an epoch of learning gates, against an epoch of plain training of the same network on the same batches.

Run ``python tests/benchmarks/autobot.py [images] [repeats]``. Both go forward and backward through the same ResNet-20;
learning gates multiplies activations and computes the budget besides, but needs no gradients of weights. The two are
interleaved; medians of one run and the median of the pairs' ratios are printed.
"""

import copy
import statistics
import sys
import time

import torch
from compactvision import models, surgery, training
from compactvision.pruning import autobot

BATCH = 64
PAUSE = 0.05  # seconds before each measurement: OpenMP's threads keep their cores busy for a while when they are done


def main(images: int = 640, repeats: int = 5) -> None:
    """Print the table."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(images, 3, 32, 32, generator=generator).to(device)
    y = torch.randint(0, 10, (images,), generator=generator).to(device)
    batches = list(zip(x.split(BATCH), y.split(BATCH), strict=True))
    model = models.resnet20(generator=generator).to(device)
    graph = surgery.channel_graph(model, (3, 32, 32), residual="scatter")
    operations = autobot.count_operations(graph, convention="thop")
    plain = copy.deepcopy(model)
    optimizer = torch.optim.SGD(plain.parameters(), lr=1e-4, momentum=0.9)  # small, so that the network stays normal

    def gates() -> None:
        autobot.learn_gates(model, graph, batches, operations=operations, steps=len(batches))

    def weights() -> None:
        training.fit(plain, batches, epochs=1, optimizer=optimizer, progress=False)

    ways = {"plain": weights, "autobot": gates}
    seconds = {name: [] for name in ways}
    for repeat in range(repeats + 1):
        for name, way in ways.items():
            time.sleep(PAUSE)
            start = time.perf_counter()
            way()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if repeat:  # the first round warms up
                seconds[name].append(time.perf_counter() - start)
    print(f"ResNet-20, {images} images in batches of {BATCH}, {device.type}, {torch.get_num_threads()} threads")
    for name, values in seconds.items():
        print(f"{name:8s} median {statistics.median(values):.3f} s of {repeats}")
    ratios = [a / b for a, b in zip(seconds["autobot"], seconds["plain"], strict=True)]
    print(f"autobot / plain, median of the pairs: {statistics.median(ratios):.2f}; allowed 1.5")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
