"""Seconds of collaborative compression of a ResNet-20, and milliseconds of what it gives at equal MACs.

Run ``PYTHONPATH=lib:tests python tests/benchmarks/collaborative_compression.py [repeats]``. First the heuristic for one
layer of each stage, the scan of all its pairs, and for a small layer the slow oracle; then whole networks at half and a
quarter of the MACs, channels alone, ranks alone, both kinds and the scan, for one image and for a batch, interleaved
with the dense network: medians of the ratios of one run.
"""

import statistics
import sys
import time
from collections import Counter

import torch
from compactvision import data, measure, models, surgery
from compactvision.factorization import collaborative_compression as cc
from compactvision.models.factorised import SVDConv2d

from oracles import collaborative_compression as oracle

STEP = 0.03
ORACLE_CHANNELS = 12  # of the layer that the oracle gets, cut out of the first stage


def seconds(way, repeats=3):
    """Median seconds of a call; one before warms up."""
    found = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        way()
        found.append(time.perf_counter() - start)
    return statistics.median(found[1:])


def layers(graph, gradients, moments, repeats):
    """Print seconds for single layers."""
    kernels = cc.gradients.kernels(graph)
    for name in ("layer1.0.conv1", "layer2.1.conv1", "layer3.1.conv1"):
        kernel, gradient = kernels[name], gradients[name]
        path = seconds(lambda k=kernel, g=gradient: cc.removal_path(k, g, step=STEP), repeats)
        curve = seconds(lambda k=kernel, g=gradient: cc.sensitivity(k, g), repeats)
        scan = seconds(lambda k=kernel, m=moments[name]: cc.scanning.Search.of(k, m), repeats)
        print(f"  {name} {tuple(kernel.shape)}: path {path:.3f} s, curve {curve:.3f} s, scan of all pairs {scan:.3f} s")
    kernel, gradient = (
        part["layer1.0.conv1"][:ORACLE_CHANNELS, :ORACLE_CHANNELS].double() for part in (kernels, gradients)
    )
    fast = seconds(lambda: cc.removal_path(kernel, gradient).choice(0.3), repeats)
    slow = seconds(lambda: oracle.heuristic(kernel.numpy(), gradient.numpy(), 0.3, 0.9), 1)
    times = f"{slow / fast:.0f} times as long"
    print(f"  {tuple(kernel.shape)} to a rate of 0.3: {fast:.3f} s; slow oracle {slow:.3f} s, {times}")


def networks(graph, gradients, moments, keep):
    """Compressed networks at one budget, by arm."""
    kernels = cc.gradients.kernels(graph)
    macs = {name: graph.layers[name].pair[1] * kernel[:, :, 0, 0].numel() for name, kernel in kernels.items()}
    made = {"scan": cc.scan(graph, moments, keep)}
    for arm, kinds in (("both", ("channels", "values")), ("channels", ("channels",)), ("ranks", ("values",))):
        curves = {name: cc.sensitivity(kernel, gradients[name], kinds=kinds) for name, kernel in kernels.items()}
        paths = {
            name: cc.removal_path(kernel, gradients[name], kinds=kinds, step=STEP) for name, kernel in kernels.items()
        }

        def at(share, curves=curves, paths=paths):
            return cc.plans.at_rates(graph, paths, cc.global_rates(curves, macs, 0.95 * share * sum(macs.values())))

        made[arm] = cc.plans.at_budget(at, keep)
    return {arm: cc.compress(graph.model, found) for arm, found in made.items()}


def main(repeats: int = 3) -> None:
    """Print both tables."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = models.pretrained("resnet20_glyphs").to(device)
    graph = surgery.channel_graph(model, (3, 32, 32), residual="gather")
    images = data.load("glyphs", n=500)
    gradients = cc.kernel_gradients(graph, images.batches(250, device=device))
    moments = cc.second_moments(graph, images.take(250).batches(125, device=device))
    print(f"ResNet-20, {device.type}, {torch.get_num_threads()} threads; one layer of each stage")
    layers(graph, gradients, moments, repeats)
    for keep in (0.5, 0.25):
        small = networks(graph, gradients, moments, keep)
        for count in (1, 64):
            x = next(iter(images.batches(count, device=device)))[0]
            times = measure.latency_ratio({"dense": model, **small}, x, reference="dense")
            print(f"{keep:.0%} of the MACs, batches of {count}: time as a share of the dense network's")
            for arm, network in small.items():
                kinds = Counter(type(module).__name__ for module in network.modules())
                shown = f"{kinds[SVDConv2d.__name__]} factorised, {kinds['Gathered']} gathered"
                print(f"  {arm:10s} {times.ratios[arm].median:.2f}   ({shown})")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
