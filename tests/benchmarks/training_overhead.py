"""Time of a step of `fit` over the bare forward, backward and step of the same network.

ResNet-20, batches of 128 CIFAR-sized images held in memory, SGD with momentum. The source of the batches itself takes
a bare step on a second copy of the network before each step of `fit`, so both see the same machine; each row is the
median over the steps. Run: `python tests/benchmarks/training_overhead.py [STEPS]`.
"""

import statistics
import sys
import time

import torch
import torch.nn.functional as F
from compactvision import models
from compactvision.training import fit, schedules

BATCH, WARM = 128, 5


class Interleaved:
    """Batches for `fit`, with a timed bare step before each."""

    def __init__(self, steps, model, optimizer):
        self.batch = torch.randn(BATCH, 3, 32, 32), torch.randint(0, 10, (BATCH,))
        self.steps, self.model, self.optimizer = steps, model.train(), optimizer
        self.seconds = {"bare": [], "fit": []}

    def __len__(self):
        return self.steps

    def __iter__(self):
        for _ in range(self.steps):
            start = time.perf_counter()
            self.bare()
            self.seconds["bare"].append(time.perf_counter() - start)
            start = time.perf_counter()
            yield self.batch
            self.seconds["fit"].append(time.perf_counter() - start)

    def bare(self):
        """Forward, backward and step, and nothing else."""
        inputs, targets = self.batch
        self.optimizer.zero_grad()
        F.cross_entropy(self.model(inputs), targets).backward()
        self.optimizer.step()


def sgd(model):
    """A rate so small that the network stays as it is: numbers that vanish would slow the arithmetic."""
    return torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9, weight_decay=5e-4)


def main(steps: int) -> None:
    torch.manual_seed(0)
    plain, trained = models.resnet20(), models.resnet20()
    source = Interleaved(steps + WARM, plain, sgd(plain))
    start = time.perf_counter()
    fit(trained, source, epochs=1, optimizer=sgd(trained), schedule=schedules.cosine())
    around = time.perf_counter() - start - sum(map(sum, source.seconds.values()))
    seconds = {name: times[WARM:] for name, times in source.seconds.items()}
    print(f"ResNet-20, batch {BATCH}, CPU, {torch.get_num_threads()} threads, torch {torch.__version__}, {steps} steps")
    print(f"{'step':6} {'median ms':>10} {'quartiles':>16}")
    for name, times in seconds.items():
        low, middle, high = (1000 * q for q in statistics.quantiles(times, n=4))
        print(f"{name:6} {middle:10.1f} {low:8.1f}{high:8.1f}")
    ratios = [a / b for a, b in zip(seconds["fit"], seconds["bare"], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    print(f"fit / bare, median of the pairs: {middle:.3f} (quartiles {low:.3f}, {high:.3f}); allowed 1.10")
    print(f"set-up and end of the run: {1000 * around:.1f} ms")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 60)
