"""Seconds to propagate a batch's relevance through VGG-16: ours against zennit's composite with the same rule.

Run ``python tests/benchmarks/lrp_pruning.py [repeats]``. Both use the z+ rule without biases for every convolution and
linear layer, hand one unit to each target, run on random weights and end at the pixels; first it is checked that they
agree. The ways are interleaved; medians of one run and the median ratio are printed. The aim for the ratio is 1.
"""

import statistics
import sys
import time

import torch
from compactvision import models
from compactvision.pruning import lrp_pruning as lrp
from zennit.attribution import Gradient
from zennit.composites import LayerMapComposite
from zennit.rules import Norm, ZPlus
from zennit.types import AvgPool, Convolution, Linear

IMAGES, PIXELS = 8, 224


def theirs(model, images, seeds):
    """Relevance of the pixels by zennit."""
    layers = [
        (AvgPool, Norm()),
        (Convolution, ZPlus(zero_params="bias")),
        (Linear, ZPlus(zero_params="bias")),
    ]
    with Gradient(model, LayerMapComposite(layers)) as attributor:
        return attributor(images, seeds)[1]


def main(repeats: int = 3) -> None:
    """Print the table."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    model = models.imagenet("vgg16").eval().to(device)
    images = torch.rand(IMAGES, 3, PIXELS, PIXELS, device=device)
    classes = torch.arange(IMAGES, device=device)
    seeds = torch.eye(1000, device=device)[classes]
    ways = {
        "compactvision": lambda: lrp.relevance(model, images, classes).inputs,
        "zennit": lambda: theirs(model, images, seeds),
    }
    a, b = (run() for run in ways.values())  # also warms up
    apart = float((a - b).abs().sum() / b.abs().sum())
    seconds = {name: [] for name in ways}
    for _ in range(repeats):
        for name, run in ways.items():
            start = time.perf_counter()
            run().cpu()
            seconds[name].append(time.perf_counter() - start)
    where = f"{device.type}, {torch.get_num_threads()} threads"
    print(f"{IMAGES} images of {PIXELS} x {PIXELS}, VGG-16, {where}, {repeats} repeats; apart by {apart:.1e}")
    for name, values in seconds.items():
        print(f"  {name:14s} median {statistics.median(values):6.2f} s   ({min(values):.2f} to {max(values):.2f})")
    ratios = [x / y for x, y in zip(*seconds.values(), strict=True)]
    print(f"  ratio          median {statistics.median(ratios):6.2f}     ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
