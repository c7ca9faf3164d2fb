"""Seconds to score the channels of a layer: one batched computation, against a loop over channels.

Run ``python tests/benchmarks/energy_aware_pruning.py [repeats]``. The loop is what a reader would write:
``torch.linalg.svdvals`` of one channel's matrix (batch mode), or of one channel's maps (image mode), at a time. For the
image mode there is also the loop over images inside it, one map at a time, as published pruning code has it. The ways
are interleaved; medians of one run and the median ratios are printed, and all give the same energies.
"""

import statistics
import sys
import time

import torch
from compactvision.pruning import energy_aware_pruning as eap

CASES = {"16 channels of 32 x 32": (16, 32), "32 channels of 16 x 16": (32, 16), "64 channels of 8 x 8": (64, 8)}
IMAGES = 128
PAUSE = 0.05  # seconds before each measurement: OpenMP's threads keep their cores busy for a while when they are done


def loop(maps, mode):
    """Singular values of one channel after the other."""
    if mode == "batch":
        return torch.stack([torch.linalg.svdvals(maps[:, j].flatten(1)).sum() for j in range(maps.shape[1])])
    return torch.stack([torch.linalg.svdvals(maps[:, j]).sum(-1).mean() for j in range(maps.shape[1])])


def loop_over_maps(maps):
    """Singular values of one map after the other."""
    return torch.tensor([[torch.linalg.svdvals(each).sum() for each in image] for image in maps]).mean(0)


def main(repeats: int = 5) -> None:
    """Print the table."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    generator = torch.Generator().manual_seed(0)
    print(f"{IMAGES} images, {device.type}, {torch.get_num_threads()} threads, {repeats} repeats; median seconds")
    for name, (channels, pixels) in CASES.items():
        maps = torch.randn(IMAGES, channels, pixels, pixels, generator=generator).relu().to(device)
        for mode in ("batch", "image"):
            ways = {
                "batched": lambda m=mode, x=maps: eap.map_energy(x, mode=m),
                "loop": lambda m=mode, x=maps: loop(x, m),
            }
            if mode == "image":
                ways["loop over maps"] = lambda x=maps: loop_over_maps(x)
            print(f"{name:24s} {mode:6s} {compared(ways, repeats)}")


def compared(ways: dict, repeats: int) -> str:
    """Time the ways in turn and say how much longer than the first one the others take."""
    first, *others = ways
    for way in others:
        torch.testing.assert_close(ways[first]().cpu(), ways[way]().cpu(), rtol=1e-4, atol=1e-4)
    seconds = {way: [] for way in ways}
    for _ in range(repeats):
        for way, run in ways.items():
            time.sleep(PAUSE)
            start = time.perf_counter()
            run().cpu()
            seconds[way].append(time.perf_counter() - start)
    medians = ", ".join(f"{way} {statistics.median(values):.4f}" for way, values in seconds.items())
    ratios = [statistics.median(b / a for a, b in zip(seconds[first], seconds[way], strict=True)) for way in others]
    return f"{medians}; " + ", ".join(f"{way} / {first} {ratio:.1f}" for way, ratio in zip(others, ratios, strict=True))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
