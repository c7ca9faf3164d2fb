"""U-MixFormer-B0 at 512 x 512: the decoder alone against itself with all its dead weights run, and a step's memory.

The official decoder holds weights that never get a gradient: in each block a 1 x 1 convolution and a LayerNorm of the
mix, and a second predictor. Here they run on what they would read (the predictor on the coarsest map, enlarged).

Run ``python tests/benchmarks/u_mixformer.py [repeats]``. Ways are interleaved; medians of one run and the median of the
pairs' ratios are printed. The step (batch 2, forward, cross-entropy, backward, AdamW) runs in a process of its own.
"""

import resource
import statistics
import subprocess
import sys
import time

import torch
import torch.nn.functional as F
from compactvision.architectures.u_mixformer import u_mixformer
from compactvision.models.attention import to_tokens
from compactvision.models.segmentation import enlarge


def with_dead_weights_run(decoder):
    """Hook the dead layers onto the live ones that stand where the official code has them."""

    def mix(block, given):
        memory = given[1]
        block.dead_norm(to_tokens(block.dead_conv(memory)))

    def predict(head, given, made):
        finest, coarsest = given[0][0], given[0][-1]
        decoder.dead_predictor(enlarge(coarsest, tuple(finest.shape[2:])))

    for block in decoder.blocks:
        block.register_forward_pre_hook(mix)
    decoder.head.register_forward_hook(predict)
    return decoder


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


def forward(repeats):
    """Print medians of the decoder and of the network, with and without the dead weights."""
    live = u_mixformer(generator=torch.Generator().manual_seed(0)).eval()
    dead = u_mixformer(count_dead=True, generator=torch.Generator().manual_seed(0)).eval()
    with_dead_weights_run(dead.decoder)
    images = torch.randn(1, 3, 512, 512, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        maps = live.encoder(images)
        ways = {
            "decoder": (lambda: live.decoder(maps), lambda: dead.decoder(maps)),
            "network": (lambda: live(images), lambda: dead(images)),
        }
        for name, (ours, theirs) in ways.items():
            found = seconds({"live": ours, "with dead weights run": theirs}, repeats)
            ratio = statistics.median(a / b for a, b in zip(*found.values(), strict=True))
            medians = ", ".join(f"{way} {1e3 * statistics.median(values):.0f} ms" for way, values in found.items())
            print(f"{name} at 512 x 512: {medians}; ratio {ratio:.3f}")


def step():
    """Print the peak memory of a training step, in GB."""
    network = u_mixformer(generator=torch.Generator().manual_seed(0)).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=6e-5)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    images, targets = torch.randn(2, 3, 512, 512), torch.randint(150, (2, 512, 512))
    start = time.perf_counter()
    F.cross_entropy(network(images), targets, ignore_index=255).backward()
    optimizer.step()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        f"step of B0, batch 2 at 512 x 512: {time.perf_counter() - start:.1f} s, "
        f"peak {peak / 1e6:.2f} GB, {(peak - before) / 1e6:.2f} GB above the start"
    )


def main(repeats=7):
    """Print all."""
    print(f"{torch.get_num_threads()} threads, {repeats} repeats", flush=True)
    subprocess.run([sys.executable, __file__, "step"], check=True)
    forward(repeats)


if __name__ == "__main__":
    step() if sys.argv[1:] == ["step"] else main(*map(int, sys.argv[1:]))
