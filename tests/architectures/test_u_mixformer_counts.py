"""Every row of the published tables, counted on the meta device, and the closed forms."""

import pytest
import torch
from compactvision import measure
from compactvision.architectures.u_mixformer import UMixFormerHead, u_mixformer
from compactvision.models.segmentation import dead_parameters, segformer
from torch import nn

# encoder, side, parameters with dead ones, those of the decoder, MACs
ADE = [
    ("mit_b0", 512, 6_138_252, 2_818_860, 6_079_774_720),
    ("lvt", 512, 6_500_176, 3_071_084, 9_069_395_968),
    ("mscan_t", 512, 6_722_444, 2_818_860, 7_512_621_056),
    ("mit_b1", 512, 24_047_596, 10_896_172, 17_733_779_456),
    ("mit_b2", 512, 35_845_100, 11_648_812, 39_845_625_856),
    ("mscan_s", 512, 24_346_348, 10_896_172, 20_675_035_136),
    ("mit_b3", 512, 55_720_940, 11_648_812, 56_470_798_336),
    ("mit_b4", 512, 72_491_500, 11_648_812, 73_075_261_440),
    ("mit_b5", 640, 93_091_820, 11_648_812, 148_911_308_800),
    ("mscan_b", 512, 37_173_996, 10_896_172, 33_848_688_640),
]
# encoder, parameters, MACs of the official code in 10^9, which computes full queries and throws them away
CITYSCAPES = [
    ("mit_b0", 6_448_646, 101.597577216),
    ("mit_b1", 25_435_750, 247.961),
    ("mit_b2", 37_149_414, 515.335),
    ("lvt", 6_813_738, 122.338),
    ("mscan_t", 7_032_838, 54.810),
    ("mscan_s", 25_734_502, 154.990),
]


def built(*given, **options):
    with torch.device("meta"):
        return u_mixformer(*given, **options)


@pytest.mark.parametrize(("encoder", "side", "parameters", "decoder", "macs"), ADE)
def test_rows_of_the_table_for_ade20k(encoder, side, parameters, decoder, macs):
    network = built(encoder, count_dead=True)
    assert measure.parameters(network) == parameters
    assert measure.parameters(network.decoder) == decoder
    assert measure.macs(network, (3, side, side)) == macs


@pytest.mark.parametrize(("encoder", "parameters", "billions"), CITYSCAPES)
def test_rows_for_cityscapes(encoder, parameters, billions):
    network = built(encoder, 19, cityscapes=True, count_dead=True)
    assert measure.parameters(network) == parameters
    discarded = sum(
        1024 * 2048 // 16 // 4**place * width**2 for place, width in enumerate(network.encoder.channels)
    )  # full queries, which are not computed here
    macs = measure.macs(network, (3, 1024, 2048)) + discarded
    assert macs / 1e9 == pytest.approx(billions, abs=0.0006)
    if encoder == "mit_b0":
        assert macs == 101_597_577_216


def test_the_tables_slip_is_the_other_head():
    network = built("mscan_t")
    assert measure.macs(network, (3, 1024, 2048)) / 1e9 == pytest.approx(89.226, abs=0.0006)


def test_live_and_dead_parameters_of_b0():
    network = u_mixformer("mit_b0", count_dead=True, generator=torch.Generator().manual_seed(0))
    network(torch.randn(2, 3, 64, 64)).square().mean().backward()
    assert dead_parameters(network) == 1_093_270 == 4 * (512**2 + 512) + 4 * 1024 + 38_550
    assert measure.parameters(network) - dead_parameters(network) == 5_044_982 == measure.parameters(built("mit_b0"))


def test_fused_attention_counts_as_on_the_meta_device():
    encoder = (8, 12, 16)
    counts = []
    for device in ("meta", "cpu"):
        with torch.device(device):
            decoder = UMixFormerHead(encoder, 3, heads=(1, 2, 4), width=8)
            maps = [torch.zeros(1, c, 16 // 2**place, 16 // 2**place) for place, c in enumerate(encoder)]
        counts.append(measure.macs(Listed(decoder), maps))
        kinds = measure.operations(Listed(decoder), maps)
    assert counts[0] == counts[1]
    assert kinds["attention"] == sum(2 * 256 // 4**place * 16 * c for place, c in enumerate(encoder))


def test_near_mixing_is_the_rebuttals_head():
    network = built("mit_b0", mixing="near", count_dead=True)
    assert measure.parameters(network) == 5_413_068
    assert measure.macs(network, (3, 512, 512)) // 10**6 == 6_041


def closed_block(n, c, mixed, m):
    return 2 * n * c**2 + 2 * m * mixed * c + 2 * n * m * c + 8 * n * c**2 + 36 * n * c


@pytest.mark.parametrize("channels", [(32, 64, 160, 256), (64, 128, 320, 512), (64, 64, 160, 256)])
def test_closed_forms(channels):
    width, classes, mixed, m = 128, 150, sum(channels), 256
    with torch.device("meta"):
        decoder = UMixFormerHead(channels, classes, width=width)
        maps = [torch.empty(1, c, 128 // 2**place, 128 // 2**place) for place, c in enumerate(channels)]
    by_module = measure.macs_by_module(Listed(decoder), maps, cumulative=True)
    for place, c in enumerate(channels):
        n = 16384 // 4**place
        assert by_module[f"decoder.blocks.{place}"] == closed_block(n, c, mixed, m)
        assert by_module[f"decoder.mixers.{place}"] == m * sum(each**2 for each in channels[:3])
        live = 4 * c + 2 * mixed + c**2 + 2 * c * mixed + c**2 + c + 8 * c**2 + 45 * c
        assert measure.parameters(decoder.blocks[place]) == live
        assert measure.parameters(decoder.mixers[place]) == sum(each**2 + each for each in channels[:3])
    assert by_module["decoder.head"] == 16384 * width * (mixed + classes)


class Listed(nn.Module):
    """Several inputs as one list."""

    def __init__(self, decoder):
        super().__init__()
        self.decoder = decoder

    def forward(self, *maps):
        return self.decoder(list(maps))


def test_module_by_module_of_b0():
    network = built("mit_b0", count_dead=True)
    by_module = measure.macs_by_module(network, (3, 512, 512), cumulative=True)
    blocks = [by_module[f"decoder.blocks.{place}"] for place in range(4)]
    assert blocks == [463_470_592, 328_204_288, 393_871_360, 270_794_752]
    assert [measure.parameters(block) for block in network.decoder.blocks] == [309_312, 374_400, 692_544, 1_195_008]
    assert by_module["decoder.mixers.0"] == 7_864_320
    assert by_module["decoder.head.fuse"] == 1_073_741_824
    assert by_module["decoder.head.predict"] == 314_572_800
    assert by_module["decoder"] == 2_876_112_896


def test_less_computation_than_segformer_at_b0_and_b2_and_more_at_b1():
    def reduction(encoder):
        with torch.device("meta"):
            other = segformer(encoder)
        return 1 - measure.macs(built(encoder), (3, 512, 512)) / measure.macs(other, (3, 512, 512))

    assert reduction("mit_b0") == pytest.approx(0.2752, abs=5e-5)
    assert reduction("mit_b1") < 0 < reduction("mit_b2")
