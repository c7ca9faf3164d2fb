"""Seconds to ablate every unit of a layer: cached features and re-run heads, against full passes with a hook.

Run ``python tests/benchmarks/unit_ablation.py [repeats]``. The ways are interleaved; medians, quartiles and the median
ratio of one run are printed. Both ways give the same predictions, which is checked.
"""

import statistics
import sys
import time
from functools import partial

import torch
from compactvision import hooks, models
from compactvision.explanation.unit_ablation import ablations, cache_layer
from compactvision.measure.state import evaluating

IMAGES = 512
CASES = {
    "small CNN, GAP head, 48 units": (lambda: models.small_cnn(24, (16, 32, 48, 48), norm=False), "features.10", 48),
    "small CNN, FC head, 48 units": (
        lambda: models.small_cnn(24, (16, 32, 48, 48), norm=False, head="fc"),
        "features.10",
        48,
    ),
    "ResNet-20, last block, 64 units": (lambda: models.resnet20(), "layer3.2", 64),
    "ResNet-20, second stage, 32 units": (lambda: models.resnet20(), "layer2.2", 32),
    "VGG-11-BN, last convolution, 64 of 512 units": (lambda: models.vgg11_bn(), "features.27", 64),
}


def full_passes(model, layer, batches, units):
    """Run the whole network once for every unit; also once as it is."""
    rows = []
    with evaluating(model):
        for unit in (None, *range(units)):
            edit = (lambda a: a) if unit is None else partial(ablations.zero_units, units=unit)
            with hooks.replace_output(model, layer, edit):
                rows.append(torch.cat([model(inputs).argmax(1) for inputs, _ in batches]))
    return torch.stack(rows[1:])


def cached(model, layer, batches, units):
    """Run the network once, then only what stands behind the layer."""
    cache = cache_layer(model, layer, batches)
    return ablations.predictions(cache, (partial(ablations.zero_units, units=unit) for unit in range(units)))


def main(repeats: int = 5) -> None:
    """Print the table."""
    torch.manual_seed(0)
    images, targets = torch.randn(IMAGES, 3, 32, 32), torch.zeros(IMAGES, dtype=torch.long)
    batches = list(zip(images.split(128), targets.split(128), strict=True))
    print(f"{IMAGES} images 3 x 32 x 32, {torch.get_num_threads()} threads, {repeats} repeats; median s (quartiles)")
    for name, (build, layer, units) in CASES.items():
        model = build()
        ways = {"full passes": full_passes, "cached": cached}
        seconds = {way: [] for way in ways}
        for _ in range(repeats):
            found = {}
            for way, function in ways.items():
                start = time.perf_counter()
                found[way] = function(model, layer, batches, units)
                seconds[way].append(time.perf_counter() - start)
            same = (found["full passes"] == found["cached"]).float().mean()
            assert same > 0.999, f"{name}: predictions agree on {same:.2%} only"
        line = []
        for values in seconds.values():
            low, middle, high = statistics.quantiles(values, n=4)
            line.append(f"{middle:7.2f} ({low:.2f}-{high:.2f})")
        ratio = statistics.median(a / b for a, b in zip(*seconds.values(), strict=True))
        print(f"{name:46s} full {line[0]}   cached {line[1]}   {ratio:6.1f} times faster", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
