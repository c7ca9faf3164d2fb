"""Seconds for one epoch of 50,000 images (3 x 32 x 32), and for making glyphs.

Run ``python tests/benchmarks/data_batches.py [device]``. The ways are interleaved; medians and ratios are printed.
"""

import statistics
import sys
import time

import torch
from compactvision import data
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

REPEATS = 5


class OneByOne(Dataset):
    """The usual way: each image cropped, flipped and normalised on its own."""

    def __init__(self, images: data.ImageSet) -> None:
        self.images = images
        self.transform = v2.Compose(
            [
                v2.RandomCrop(32, padding=4),
                v2.RandomHorizontalFlip(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(images.mean, images.std),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int):
        return self.transform(self.images.images[index]), self.images.targets[index]


def epoch(batches, device: str) -> float:
    """Time one loop over the batches."""
    start = time.perf_counter()
    for _ in batches:
        pass
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main(device: str = "cpu") -> None:
    """Print the tables."""
    generator = torch.Generator().manual_seed(0)
    images = data.ImageSet(
        images=torch.randint(0, 256, (50_000, 3, 32, 32), dtype=torch.uint8, generator=generator),
        targets=torch.arange(50_000) % 10,
        classes=tuple("0123456789"),
        name="noise",
        provenance="random bytes",
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
    )
    ways = {
        "plain": images.batches(128, device=device),
        "shuffle": images.batches(128, shuffle=True, device=device),
        "shuffle, crop, flip": images.batches(128, shuffle=True, crop=4, flip=True, device=device),
        "the same, bf16, channels_last": images.batches(
            128, shuffle=True, crop=4, flip=True, dtype=torch.bfloat16, channels_last=True, device=device
        ),
        "one by one (5,000 images x 10)": DataLoader(OneByOne(images.subset(range(5000))), 128, shuffle=True),
    }
    seconds = {name: [] for name in ways}
    for _ in range(REPEATS):
        for name, batches in ways.items():
            seconds[name].append(epoch(batches, device) * (10 if name.startswith("one") else 1))
    reference = statistics.median(seconds["shuffle, crop, flip"])
    print(f"one epoch of 50,000 images, batch 128, {device}, {torch.get_num_threads()} threads, {REPEATS} repeats")
    for name, values in seconds.items():
        print(f"{name:32s} {statistics.median(values):7.2f} s  {statistics.median(values) / reference:6.2f} x")

    data.load("glyphs", n=10)
    print("\nglyphs (atlas of the ten characters in memory)")
    for difficulty in ("easy", "medium", "hard"):
        for n in (5_000, 20_000):
            times = []
            for repeat in range(3):
                start = time.perf_counter()
                data.load("glyphs", n=n, difficulty=difficulty, seed=repeat)
                times.append(time.perf_counter() - start)
            print(f"{difficulty:8s} {n:6d} {statistics.median(times):7.2f} s")


if __name__ == "__main__":
    main(*sys.argv[1:])
