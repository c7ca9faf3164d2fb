"""What measuring, capturing and the channel map cost, side by side.

Run ``python tests/benchmarks/measure_overheads.py``; each table gives medians in milliseconds, with quartiles, and the
ratio to its first row, formed round by round.
"""

import argparse

import torch
from compactvision import measure
from compactvision.hooks import capture
from compactvision.models import ChannelMap, option_a_shortcut, resnet20, resnet56
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


class Call(nn.Module):
    """A function in the clothes of a module, so that it can be timed."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def counting():
    """Counting the MACs of ResNet-56 against the forward pass it needs."""
    network = resnet56().eval()

    def torchs(x):
        with FlopCounterMode(display=False):
            return network(x)

    return (1, 3, 32, 32), {
        "one forward pass": network,
        "measure.macs": Call(lambda x: measure.macs(network, x)),
        "torch's FlopCounterMode": Call(torchs),
    }


def capturing():
    """Capturing every BatchNorm of ResNet-20 at batch 64."""
    network = resnet20().eval()
    names = [name for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)]

    def captured(x, copy):
        with capture(network, names, copy=copy):
            return network(x)

    return (64, 3, 32, 32), {
        "bare": network,
        "capture, copy=False": Call(lambda x: captured(x, False)),
        "capture": Call(lambda x: captured(x, True)),
    }


def shortcuts():
    """The option-A shortcut at batch 128: slicing and padding against gathering by index."""
    fast = option_a_shortcut(16, 32, 2)
    swapped = [1 if entry == 0 else 0 if entry == 1 else entry for entry in fast.source.tolist()]
    projection = nn.Conv2d(16, 32, 1, stride=2, bias=False)
    return (128, 16, 32, 32), {
        "one run (pad)": fast,
        "two channels swapped (gather)": ChannelMap(swapped, 16, 2),
        "1 x 1 convolution (option B)": projection,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    for table in (counting, capturing, shortcuts):
        shape, rows = table()
        result = measure.latency_ratio(
            rows, torch.randn(shape), warmup=3, repeats=options.repeats, threads=options.threads
        )
        print(f"\n{table.__doc__}")
        for name, time in result.latencies.items():
            ratio = result.ratios[name]
            spread = f"{time.median_ms:9.3f} ms  ({time.q1_ms:.3f} to {time.q3_ms:.3f})"
            print(f"  {name:32s}{spread:36s} x {ratio.median:.2f} ({ratio.q1:.2f} to {ratio.q3:.2f})")


if __name__ == "__main__":
    main()
