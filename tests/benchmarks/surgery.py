"""Seconds for tracing, planning and cutting, and what a cut is worth in milliseconds: prints two tables."""

import argparse
import statistics
import time

import torch
from compactvision import measure, models, surgery

NETWORKS = {
    "resnet56": models.resnet56,
    "vgg16_bn": models.vgg16_bn,
    "densenet40": models.densenet40,
    "googlenet": models.googlenet,
    "preresnet164": models.preresnet164,
}
SHAPE = (3, 32, 32)


def milliseconds(function, repeats):
    """Median time of a call."""
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        function()
        times.append(1e3 * (time.perf_counter() - begin))
    return statistics.median(times)


def steps(repeats):
    print("Median milliseconds of one call")
    print(f"{'network':14} {'graph':>9} {'keep_macs=0.5':>9} {'prune':>9}")
    for name, build in NETWORKS.items():
        model = build()
        graph = surgery.channel_graph(model, SHAPE)
        scores = surgery.criteria.l1()(model)
        plan = surgery.make_plan(graph, scores, keep_macs=0.5)
        row = (
            milliseconds(lambda model=model: surgery.channel_graph(model, SHAPE), repeats),
            milliseconds(lambda graph=graph, scores=scores: surgery.make_plan(graph, scores, keep_macs=0.5), repeats),
            milliseconds(lambda model=model, plan=plan: surgery.prune(model, plan), repeats),
        )
        print(f"{name:14} " + " ".join(f"{value:9.1f}" for value in row))


def gains(repeats, batch, threads):
    example = torch.randn(batch, *SHAPE)
    print(f"\nTime of the cut network over that of the dense one, batch {batch}, {threads} thread(s), interleaved")
    print(f"{'network':14} {'form':8} {'MACs left':>9} {'time left':>9} {'quartiles':>13}")
    for name, residual in (
        ("resnet56", "grouped"),
        ("resnet56", "scatter"),
        ("resnet56", "gather"),
        ("vgg16_bn", "grouped"),
        ("densenet40", "grouped"),
        ("densenet40", "gather"),
    ):
        model = NETWORKS[name]()
        graph = surgery.channel_graph(model, SHAPE, residual=residual)
        generator = torch.Generator().manual_seed(0)
        scores = {group.name: torch.rand(group.size, generator=generator) for group in graph.groups.values()}
        plan = surgery.make_plan(graph, scores, keep_macs=0.5)
        both = {"dense": model, "cut": surgery.prune(model, plan)}
        ratio = measure.latency_ratio(both, example, warmup=3, repeats=repeats, threads=threads).ratios["cut"]
        share = plan.macs / graph.macs
        print(f"{name:14} {residual:8} {share:9.3f} {ratio.median:9.3f} {ratio.q1:6.3f}-{ratio.q3:.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    steps(options.repeats)
    gains(options.repeats, options.batch, options.threads)
