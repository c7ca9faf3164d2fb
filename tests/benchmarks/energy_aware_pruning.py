"""Seconds to score the channels of a layer: one batched computation, against a loop over channels.

Run ``python tests/benchmarks/energy_aware_pruning.py [repeats]``. The loop is what a reader would write:
``torch.linalg.svdvals`` of one channel's matrix (batch mode), or of one channel's maps (image mode), at a time. The
ways are interleaved; medians of one run and the median ratio are printed, and both give the same energies.
"""

import statistics
import sys
import time

import torch
from compactvision.pruning import energy_aware_pruning as eap

CASES = {"16 channels of 32 x 32": (16, 32), "32 channels of 16 x 16": (32, 16), "64 channels of 8 x 8": (64, 8)}
IMAGES = 128


def loop(maps, mode):
    """Singular values of one channel after the other."""
    if mode == "batch":
        return torch.stack([torch.linalg.svdvals(maps[:, j].flatten(1)).sum() for j in range(maps.shape[1])])
    return torch.stack([torch.linalg.svdvals(maps[:, j]).sum(-1).mean() for j in range(maps.shape[1])])


def main(repeats: int = 5) -> None:
    """Print the table."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    generator = torch.Generator().manual_seed(0)
    print(f"{IMAGES} images, {device.type}, {torch.get_num_threads()} threads, {repeats} repeats; median seconds")
    for name, (channels, pixels) in CASES.items():
        maps = torch.randn(IMAGES, channels, pixels, pixels, generator=generator).relu().to(device)
        for mode in ("batch", "image"):
            ways = {
                "loop": lambda m=mode, x=maps: loop(x, m),
                "batched": lambda m=mode, x=maps: eap.map_energy(x, mode=m),
            }
            torch.testing.assert_close(ways["batched"](), ways["loop"](), rtol=1e-4, atol=1e-4)
            seconds = {way: [] for way in ways}
            for _ in range(repeats):
                for way, run in ways.items():
                    start = time.perf_counter()
                    run().cpu()
                    seconds[way].append(time.perf_counter() - start)
            ratio = statistics.median(s / b for s, b in zip(seconds["loop"], seconds["batched"], strict=True))
            medians = ", ".join(f"{way} {statistics.median(values):.4f}" for way, values in seconds.items())
            print(f"{name:24s} {mode:6s} {medians}; loop / batched {ratio:.1f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
