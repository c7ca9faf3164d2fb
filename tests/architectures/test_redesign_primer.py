"""The primer's code runs as it stands, from top to bottom, and says what its text says."""

import re

import torch
from compactvision import measure


def primer(repo):
    text = (repo / "book" / "redesign.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    assert len(blocks) == 6
    names = {}
    exec(compile("\n".join(blocks), "book/redesign.md", "exec"), names)
    return text, names


def test_code_of_the_primer_runs(repo, capsys):
    _, names = primer(repo)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].split()[2] == "16,384"
    assert printed[-1] == "accuracy 95%, mIoU 47.5%"
    assert names["everybody"] == 64 * names["pooled"]


def test_products_outgrow_the_maps_from_twice_the_channels_on(repo):
    _, names = primer(repo)
    for c in (8, 32, 100):
        maps, products = names["cost"](2 * c, 2 * c, c)
        assert maps == products
        assert names["cost"](4 * c, 4 * c, c)[1] == 4 * products  # twice as many pixels; twice the side is four times


def test_products_at_stride_4_cost_four_resnet_50(repo):
    import torchvision

    text, names = primer(repo)
    network = torchvision.models.resnet50(weights=None).eval()
    ratio = names["everybody"] / measure.macs(network, torch.zeros(1, 3, 224, 224))
    assert round(ratio) == 4
    assert "cost four times what a whole ResNet-50 spends" in text
