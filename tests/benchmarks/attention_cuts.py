"""What cut dimensions of Swin-T are worth in milliseconds: time left beside MACs left, ours and Torch-Pruning's.

Run ``python tests/benchmarks/attention_cuts.py [--repeats 9] [--batch 8] [--threads 2]``. Networks run in turn; each
row gives shares of the dense network's MACs (by formula, and as executed with padding) and of its time, and the
measured speed-up over the reduction of executed and of formula MACs: 1 where the arithmetic saved is time saved. Where
Torch-Pruning is installed, its cut of the same uniform widths runs beside ours.
"""

import argparse

import torch
import torchvision
from compactvision import measure, surgery
from compactvision.pruning.sidt import counts, selection

SHAPE = counts.SWINS["swin_t"]


def uniform(model, head, hidden):
    """The first dimensions of each head and hidden layer."""
    keep = {}
    for name, block in surgery.find_blocks(model).items():
        sizes = {"hidden": round(hidden * block.sites["hidden"].shape[0])}
        sizes |= {"qk": head, "v": head}
        keep[name] = {
            kind: (torch.arange(block.sites[kind].shape[-1]) < size).expand(block.sites[kind].shape)
            for kind, size in sizes.items()
            if size < block.sites[kind].shape[-1]
        }
    return surgery.cut_dimensions(model, keep)


def ragged(model, share, kinds, scope="global"):
    """Dimensions at random over the network, as a search would leave heads of unequal sizes."""
    scores = surgery.block_scores(surgery.insert_scores(model, kinds))
    drawn = selection.random_scores(scores, torch.Generator().manual_seed(0))
    return surgery.cut_dimensions(model, selection.select(drawn, share, scope=scope))


def torch_pruning(head, hidden):
    """Torch-Pruning's Swin-T with heads of ``head`` and so many hidden dimensions; its own forward for torchvision."""
    import torch_pruning as tp

    model = torchvision.models.swin_t().eval()
    example = torch.randn(1, 3, 224, 224)
    graph = tp.DependencyGraph().build_dependency(model, example)
    for block in (module for stage in (1, 3, 5, 7) for module in model.features[stage]):
        size = block.mlp[0].out_features
        gone = list(range(round(hidden * size), size))
        if gone:
            graph.get_pruning_group(block.mlp[0], tp.prune_linear_out_channels, gone).prune()
    return model


def networks():
    """Dense and cut networks by name."""
    model = torchvision.models.swin_t().eval()
    found = {
        "dense": model,
        "dense, our attention": surgery.cut_dimensions(surgery.insert_scores(model), {}),
        "heads 32 to 24": uniform(model, 24, 1.0),
        "heads 32 to 16": uniform(model, 16, 1.0),
        "hidden x 0.6": uniform(model, 32, 0.6),
        "heads to 24, hidden x 0.75": uniform(model, 24, 0.75),
        "heads to 16, hidden x 0.5": uniform(model, 16, 0.5),
        "random 20 %, ragged": ragged(model, 0.2, ("qk", "v", "hidden")),
        "random 40 %, ragged": ragged(model, 0.4, ("qk", "v", "hidden")),
        "random 40 %, equal heads": ragged(model, 0.4, ("qk", "v", "hidden"), "head"),
        "random 40 %, two-sided": ragged(model, 0.4, surgery.blocks.KINDS),
    }
    try:
        found["hidden x 0.6, Torch-Pruning"] = torch_pruning(32, 0.6)
    except ImportError:
        print("Torch-Pruning is not installed: its row is left out")
    return found


def main(repeats, batch, threads):
    """Print the table."""
    every = networks()
    example = torch.randn(batch, 3, 224, 224)
    timed = measure.latency_ratio(every, example, warmup=1, repeats=repeats, threads=threads)
    print(timed)
    executed = {name: measure.macs(model, (3, 224, 224)) for name, model in every.items()}
    print(
        f"{'network':28} {'formula':>8} {'executed':>8} {'time':>6} {'quartiles':>13} {'of exec.':>8} {'of form.':>8}"
    )
    for name, model in every.items():
        if name == "dense":
            continue
        ratio = timed.ratios[name]
        try:
            blocks = [counts.BlockShape.of(block) for block in surgery.find_blocks(model).values()]
            formula = counts.swin_macs(SHAPE, blocks=blocks) / executed["dense"]
        except ValueError:
            formula = executed[name] / executed["dense"]
        share = executed[name] / executed["dense"]
        quartiles = f"{ratio.q1:.3f}-{ratio.q3:.3f}"
        gains = share / ratio.median, formula / ratio.median
        print(
            f"{name:28} {formula:8.3f} {share:8.3f} {ratio.median:6.3f} {quartiles:>13} {gains[0]:8.2f} {gains[1]:8.2f}"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    main(options.repeats, options.batch, options.threads)
