"""What cut dimensions of Swin-T are worth in milliseconds: time left beside MACs left, ours and Torch-Pruning's.

Run ``python tests/benchmarks/attention_cuts.py [--repeats 9] [--batch 8] [--threads 2]``. Networks run in turn; each
row gives shares of the dense network's MACs (by formula, and as executed with padding) and of its time, and the
measured speed-up over the reduction of executed and of formula MACs: 1 where the arithmetic saved is time saved. Where
timm and Torch-Pruning are installed, its cut of timm's Swin-T to the same widths runs beside ours.
"""

import argparse
import copy
import importlib.util

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


def torch_pruning(model, head, hidden):
    """timm's Swin cut in place by Torch-Pruning to heads of ``head`` and that share of hidden dimensions."""
    import torch_pruning

    for block in (block for layer in model.layers for block in layer.blocks):
        attention, mlp = block.attn, block.mlp
        width, heads = attention.qkv.in_features, attention.num_heads
        size = width // heads
        gone = [at * size + place for at in range(heads) for place in range(head, size)]
        every = [part * width + place for part in range(3) for place in gone]
        torch_pruning.prune_linear_out_channels(attention.qkv, every)
        torch_pruning.prune_linear_in_channels(attention.proj, gone)
        units = list(range(round(hidden * mlp.fc1.out_features), mlp.fc1.out_features))
        torch_pruning.prune_linear_out_channels(mlp.fc1, units)
        torch_pruning.prune_linear_in_channels(mlp.fc2, units)
    return model


def peers():
    """timm's Swin-T dense, cut by us, and cut by Torch-Pruning to the same widths; the two cuts answer alike."""
    import timm

    model = timm.create_model("swin_tiny_patch4_window7_224").eval()
    found = {"timm's, dense": model}
    example = torch.randn(1, 3, 224, 224)
    for words, head, hidden in (("hidden x 0.6", 32, 0.6), ("heads to 16, hidden x 0.5", 16, 0.5)):
        ours = uniform(model, head, hidden)
        theirs = torch_pruning(copy.deepcopy(model), head, hidden)
        with torch.no_grad():
            gap = float((ours(example) - theirs(example)).abs().max())
        print(f"{words}: largest difference of the answers {gap:.1e}")
        found |= {f"timm's, {words}, ours": ours, f"timm's, {words}, T-P": theirs}
    return found


def networks():
    """Dense and cut networks by name."""
    model = torchvision.models.swin_t().eval()
    return {
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


def row(name, model, ratio, dense):
    """A network's shares of MACs and time."""
    executed = measure.macs(model, (3, 224, 224)) / dense
    try:
        blocks = [counts.BlockShape.of(block) for block in surgery.find_blocks(model).values()]
        formula = counts.swin_macs(SHAPE, blocks=blocks) / dense
    except ValueError:  # cut by others: their blocks are none of ours
        formula = executed
    quartiles = f"{ratio.q1:.3f}-{ratio.q3:.3f}"
    gains = f"{executed / ratio.median:8.2f} {formula / ratio.median:8.2f}"
    return f"{name:36} {formula:8.3f} {executed:8.3f} {ratio.median:6.3f} {quartiles:>13} {gains}"


def table(every, repeats, batch, threads):
    """Print what networks take, as shares of the first."""
    example = torch.randn(batch, 3, 224, 224)
    timed = measure.latency_ratio(every, example, warmup=1, repeats=repeats, threads=threads)
    print(
        f"{'network':36} {'formula':>8} {'executed':>8} {'time':>6} {'quartiles':>13} {'of exec.':>8} {'of form.':>8}"
    )
    first, *others = every
    dense = measure.macs(every[first], (3, 224, 224))
    for name in others:
        print(row(name, every[name], timed.ratios[name], dense))


def main(repeats, batch, threads):
    """Print the tables."""
    table(networks(), repeats, batch, threads)
    if all(map(importlib.util.find_spec, ("timm", "torch_pruning"))):
        table(peers(), repeats, batch, threads)
    else:
        print("timm or Torch-Pruning is not installed: their table is left out")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    main(options.repeats, options.batch, options.threads)
