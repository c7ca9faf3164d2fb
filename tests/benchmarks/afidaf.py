"""AFIDAF's Fourier filter against attention of equal width, and against two other ways to write the same filter.

Run ``python tests/benchmarks/afidaf.py [repeats]``. Ways are interleaved; medians of one run and the median of the
rounds' ratios are printed, forward alone and forward with backward, at 256 and at 4,096 places. The other ways compute
what the filter computes, which is asserted: a loop over groups on the whole spectrum in place of the half, and the
layers written with four real matrix products on separate real and imaginary parts.
"""

import statistics
import sys
import time

import torch
import torch.nn.functional as F
from compactvision.architectures import afidaf
from compactvision.architectures.afidaf import skeleton
from torch import nn

WIDTH = 64


class WholeSpectrum(nn.Module):
    """All H x W frequencies, group by group; the mirrored half is computed for nothing."""

    def __init__(self, aff):
        super().__init__()
        self.aff = aff

    def forward(self, x):
        mlp, found = self.aff.mlp, []
        weights, biases = torch.view_as_complex(mlp.weights), torch.view_as_complex(mlp.biases)
        whole = torch.fft.fft2(x, norm="ortho")
        for group, part in enumerate(whole.chunk(mlp.groups, 1)):
            z = torch.einsum("nihw,io->nohw", part, weights[0, group]) + biases[0, group, :, None, None]
            z = torch.complex(F.silu(z.real), F.silu(z.imag))
            z = torch.einsum("nihw,io->nohw", z, weights[1, group]) + biases[1, group, :, None, None]
            mask = torch.complex(F.softshrink(z.real, 0.01), F.softshrink(z.imag, 0.01))
            found.append(mask * part)
        product = torch.cat(found, 1)
        half = product[..., : x.shape[3] // 2 + 1]  # what the mirrored half says is not used
        return torch.fft.irfft2(half, s=x.shape[2:], norm="ortho") + x


class RealParts(nn.Module):
    """Real and imaginary parts apart, four real products for each complex one, as published codes write it."""

    def __init__(self, aff):
        super().__init__()
        self.aff = aff

    def forward(self, x):
        mlp = self.aff.mlp
        z = torch.fft.rfft2(x, norm="ortho").unflatten(1, (mlp.groups, -1))  # (B, g, b, H, W // 2 + 1)
        re, im = z.real, z.imag
        for layer in (0, 1):
            w, b = mlp.weights[layer], mlp.biases[layer]
            product = [[torch.einsum("ngihw,gio->ngohw", part, w[..., k]) for k in (0, 1)] for part in (re, im)]
            re = product[0][0] - product[1][1] + b[..., 0, None, None]
            im = product[0][1] + product[1][0] + b[..., 1, None, None]
            if layer == 0:
                re, im = F.silu(re), F.silu(im)
        mask = torch.complex(F.softshrink(re, 0.01), F.softshrink(im, 0.01))
        return torch.fft.irfft2((mask * z).flatten(1, 2), s=x.shape[2:], norm="ortho") + x


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


def told(title, ways, repeats):
    """Print medians, and ratios to the first way."""
    found = seconds(ways, repeats)
    first = next(iter(found.values()))
    for name, values in found.items():
        ratio = statistics.median(b / a for a, b in zip(first, values, strict=True))
        print(f"{title}, {name}: {1e3 * statistics.median(values):.2f} ms, ratio {ratio:.2f}", flush=True)


def main(repeats=15):
    """Print all."""
    print(f"{torch.get_num_threads()} threads, {repeats} repeats", flush=True)
    torch.manual_seed(0)
    aff = afidaf.FourierFilter(WIDTH)
    layers = {
        "Fourier filter": aff,
        "attention": skeleton.SelfAttention(WIDTH),
        "both filters": afidaf.AlternatingFilter(WIDTH),
        "the same, whole spectrum and a loop": WholeSpectrum(aff),
        "the same, real parts": RealParts(aff),
    }
    for side in (16, 64):
        x = torch.randn(1, WIDTH, side, side)
        for name in ("the same, whole spectrum and a loop", "the same, real parts"):
            torch.testing.assert_close(layers[name](x), aff(x), rtol=1e-4, atol=1e-5)
        with torch.no_grad():
            told(f"{side**2} places, forward", {n: lambda m=m, x=x: m(x) for n, m in layers.items()}, repeats)
        ways = {n: lambda m=m, x=x: m(x).sum().backward() for n, m in layers.items()}
        told(f"{side**2} places, with backward", ways, repeats)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
