"""Counts of cells: the published ones to the last digit, an independent count for random cells, and the cost figure."""

import random

import pytest
import torch
from compactvision import measure
from compactvision.models.cells import (
    CONSISTENT,
    OPERATIONS,
    PUBLISHED,
    CellNetwork,
    Genotype,
    SuperNetwork,
    cost,
    operation,
)

from oracles import cells as oracle

COUNTS = {  # of the specification, computed with the authors' network: 36 channels, 20 cells
    "darts_v2": (3_349_342, 528_359_040),
    "nat_darts": (2_682_334, 424_181_376),
    "nat2_darts": (2_476_054, 394_155_648),
    "vgg": (3_797_974, 548_427_168),
    "nat_vgg": (3_850_678, 553_735_584),
    "nat2_vgg": (2_587_078, 378_060_192),
    "resblock": (3_797_974, 548_427_168),
    "nat_resblock": (3_850_678, 553_735_584),
    "nat2_resblock": (3_699_910, 538_308_000),
    "mobilenet_v2": (1_160_614, 181_648_800),
    "nat_mobilenet_v2": (1_186_966, 184_303_008),
    "nat2_mobilenet_v2": (1_186_966, 184_303_008),
}
FIGURE = {  # parameters and millions of MACs of one operation, 128 channels, 32 x 32
    "conv_5x5": (409_600, 419.4),
    "conv_3x3": (147_456, 151.0),
    "sep_conv_5x5": (39_168, 40.1),
    "sep_conv_3x3": (35_072, 35.9),
    "dil_conv_5x5": (19_584, 20.1),
    "dil_conv_3x3": (17_536, 18.0),
    "conv_1x1": (16_384, 16.8),
    "max_pool_5x5": (0, 3.3),
    "avg_pool_5x5": (0, 3.3),
    "max_pool_3x3": (0, 1.2),
    "avg_pool_3x3": (0, 1.2),
    "skip_connect": (0, 0.1),
    "none": (0, 0.0),
}
CELLS = {**PUBLISHED, **CONSISTENT}


def counts(genotype, channels=36, cells=20, size=32):
    with torch.device("meta"):  # counting needs shapes only
        network = CellNetwork(genotype, channels, cells)
        return measure.parameters(network), measure.macs(network, torch.empty(1, 3, size, size))


def plain(genotype, *sizes):
    return oracle.network(genotype.normal, genotype.reduction, len(genotype.outputs), *sizes)


def test_every_cell_has_its_published_counts():
    assert set(CELLS) == set(COUNTS)
    assert not set(PUBLISHED) & set(CONSISTENT)
    for name, expected in COUNTS.items():
        assert plain(CELLS[name]) == expected, name


@pytest.mark.parametrize("name", ["nat2_darts", "nat_mobilenet_v2", "nat2_vgg"])
def test_networks_have_the_counts_that_were_worked_out(name):
    assert counts(CELLS[name]) == COUNTS[name]


@pytest.mark.parametrize("seed", range(3))
def test_random_cells_count_like_the_oracle(seed):
    draw = random.Random(seed)
    cells = [
        [(draw.choice(OPERATIONS), draw.randrange(target), target) for target in (2, 3, 4) for _ in range(2)]
        for _ in range(2)
    ]
    genotype = Genotype(*cells, outputs=(3, 4) if seed else ())
    assert counts(genotype, 6, 5, 16) == plain(genotype, 6, 5, 10, 16)


def test_a_small_super_network_counts_like_its_parts():
    search = SuperNetwork(((0, 2), (1, 2)), ("none", "conv_3x3"), channels=4, cells=1, stem=1)
    stem, inputs, edges, last = 3 * 9 * 4 + 8, 2 * 16, 2 * 9 * 16, 4 * 10 + 10
    assert measure.parameters(search) == stem + inputs + edges + last  # only the stem's BatchNorm has weights


def test_what_is_known_of_transformed_cells():
    """Edges that the specification names, and that sources and targets never change."""
    for name, genotype in CELLS.items():
        source = CELLS[
            name.replace("nat2_", "").replace("nat_", "").replace("darts", "darts_v2").replace("v2_v2", "v2")
        ]
        for kind in ("normal", "reduction"):
            places = [[edge[1:] for edge in getattr(cell, kind)] for cell in (source, genotype)]
            assert places[0] == places[1], name
    changed = [(a, b) for a, b in zip(CELLS["darts_v2"].normal, CELLS["nat_darts"].normal, strict=True) if a != b]
    assert [edge[1:] for edge, _ in changed] == [(0, 3), (1, 4)]
    assert {edge.operation for _, edge in changed} == {"skip_connect"}


def test_four_transformed_cells_cost_more_than_their_source():
    more = {name for name, sizes in COUNTS.items() if name.startswith("nat") and sizes > COUNTS[source_of(name)]}
    assert more == {"nat_vgg", "nat_resblock", "nat_mobilenet_v2", "nat2_mobilenet_v2"}


def source_of(name):
    rest = name.split("_", 1)[1]
    return {"darts": "darts_v2"}.get(rest, rest)


def test_the_cost_figure():
    assert set(FIGURE) == set(OPERATIONS)
    for name, (parameters, millions) in FIGURE.items():
        found = cost(name)
        assert found.parameters == parameters
        assert round(found.macs / 1e6, 1) == pytest.approx(millions), name


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", [name for name in OPERATIONS if "conv" in name])
def test_costs_are_those_of_the_module(name, stride):
    with torch.device("meta"):
        module = operation(name, 6, stride)
        norms = sum(p.numel() for n in module.modules() if isinstance(n, torch.nn.BatchNorm2d) for p in n.parameters())
        expected = measure.parameters(module) - norms, measure.macs(module, torch.empty(1, 6, 9, 9))
    assert cost(name, 6, 9, stride) == expected


def test_a_skip_that_halves_has_weights():
    assert cost("skip_connect", 8, 16, 2) == (64, 64 * 64)
    assert cost("skip_connect", 8, 16) == (0, 8 * 256)
    assert cost("none", 8, 16, 2) == (0, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("conv_7x7",), "name must be one of"),
        (("conv_3x3", 0), "channels must be at least 1, got 0"),
        (("conv_3x3", 4, 2.5), "size must be a whole number"),
        (("conv_3x3", 4, 4, 3), "stride must be 1 or 2, got 3"),
    ],
)
def test_refusals_of_cost(arguments, message):
    with pytest.raises(ValueError, match=message):
        cost(*arguments)
