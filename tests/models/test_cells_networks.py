"""Cells at work: the discrete network equals the super-network's path, edges that are not taken are left alone."""

import copy

import pytest
import torch
from compactvision.models.cells import (
    NAT_OPERATIONS,
    OPERATIONS,
    CellNetwork,
    Edge,
    Genotype,
    SuperNetwork,
    dense_edges,
    discretise,
    operation,
    replaced,
)
from torch import nn

PLACES = ((0, 2), (1, 2), (1, 3), (2, 3))
PATH = tuple(Edge(n, *p) for n, p in zip(("conv_3x3", "skip_connect", "none", "sep_conv_3x3"), PLACES, strict=True))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def supernet(operations=("none", "skip_connect", "conv_3x3", "sep_conv_3x3", "max_pool_3x3")):
    return SuperNetwork(PLACES, operations, channels=3, cells=3, stem=1, generator=seeded())


def images(count=4, size=8):
    return torch.randn(count, 3, size, size, generator=seeded(1))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_keeps_channels_and_halves_where_asked(name, stride):
    x = torch.randn(2, 4, 7, 7, generator=seeded())
    side = 7 if stride == 1 else 4
    assert operation(name, 4, stride)(x).shape == (2, 4, side, side)


def test_none_and_skip():
    x = torch.randn(2, 4, 6, 6, generator=seeded())
    assert torch.equal(operation("skip_connect", 4)(x), x)
    assert operation("none", 4)(x).abs().sum() == 0


def test_pooling_does_not_count_the_rim():
    ones = torch.ones(1, 1, 5, 5)
    for name in ("avg_pool_3x3", "avg_pool_5x5", "max_pool_3x3", "max_pool_5x5"):
        assert torch.allclose(operation(name, 1)(ones), ones)


def test_a_factorised_reduction_sees_every_other_pixel_twice():
    """The second half of its channels reads a pixel further."""
    skip = operation("skip_connect", 2, 2, affine=False)
    with torch.no_grad():
        for conv in (skip.conv1, skip.conv2):
            conv.weight.fill_(0.5)  # mean of two equal channels
    skip.bn = nn.Identity()
    x = torch.arange(16.0).view(1, 1, 4, 4).expand(1, 2, 4, 4)
    first, second = skip(x)[0]
    assert first.tolist() == [[0, 2], [8, 10]]
    assert second.tolist() == [[5, 7], [13, 15]]


def test_a_path_is_the_mixture_with_weights_of_one_and_zero():
    model, x = supernet(), images()
    one_hot = torch.zeros(len(PLACES), len(model.operations))
    for row, edge in zip(one_hot, PATH, strict=True):
        row[model.operations.index(edge.operation)] = 1
    torch.testing.assert_close(model(x, PATH, PATH), model(x, one_hot, one_hot))


def test_the_order_of_edges_in_a_path_does_not_matter():
    model, x = supernet(), images()
    torch.testing.assert_close(model(x, PATH, PATH), model(x, PATH[::-1], PATH))


def test_both_cells_matter():
    model, x = supernet(), images()
    other = replaced(PATH, {0: "max_pool_3x3"})
    reference = model(x, PATH, PATH)
    assert not torch.allclose(reference, model(x, other, PATH))
    assert not torch.allclose(reference, model(x, PATH, other))


def test_operations_beside_the_path_get_no_gradient_and_no_decay():
    model = supernet()
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        model(images(), PATH, PATH).square().mean().backward()
        optimizer.step()
    touched = {name for name, p in model.named_parameters() if p.grad is not None}
    for name, parameter in model.named_parameters():
        assert (name in touched) == (not torch.equal(parameter, before[name])), name
    for cell in range(3):
        taken = {  # edge and operation: a skip has weights where it halves
            f"cells.{cell}.operations.{i}.{model.operations.index(edge.operation)}." for i, edge in enumerate(PATH)
        }
        inside = {name for name in touched if name.startswith(f"cells.{cell}.operations.")}
        assert all(any(name.startswith(start) for start in taken) for name in inside)
        assert inside


def test_batch_statistics_in_evaluation_too():
    model, x = supernet(), images()
    torch.testing.assert_close(model.train()(x, PATH, PATH), model.eval()(x, PATH, PATH))
    assert not any(True for _ in model.buffers())


def test_an_edge_may_stand_twice():
    """Two edges from one node to another add up."""
    cell = [("skip_connect", 0, 2), ("skip_connect", 0, 2)]
    model = SuperNetwork(((0, 2),), ("skip_connect", "conv_3x3"), channels=3, cells=1, stem=1, generator=seeded())
    once = model.cells[0](images(), images(), [Edge("skip_connect", 0, 2)])
    torch.testing.assert_close(model.cells[0](images(), images(), [Edge(*edge) for edge in cell]), 2 * once)


def test_the_first_weights_come_from_the_generator():
    genotype = Genotype(PATH, PATH)
    first, again, other = (CellNetwork(genotype, 4, 3, generator=seeded(s)).fc.weight for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_network_of_every_operation_learns_something():
    for name in NAT_OPERATIONS:
        if name == "none":
            continue
        cell = [(name, 0, 2), ("none", 1, 2)]
        model = CellNetwork(Genotype(cell, cell), 4, 3, generator=seeded())
        model(images(4, 16)).square().mean().backward()
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_discretise_leaves_none_out_and_keeps_the_strongest():
    edges = dense_edges(2)
    names = ("none", "skip_connect", "conv_3x3")
    alpha = torch.zeros(5, 3)
    alpha[:, 0] = 5  # none is strongest everywhere, and never kept
    alpha[2, 2], alpha[3, 1], alpha[4, 2] = 4, 3, 6
    found = discretise(alpha, edges, names)
    assert found == (
        Edge("skip_connect", 0, 2),
        Edge("skip_connect", 1, 2),
        Edge("conv_3x3", 0, 3),
        Edge("conv_3x3", 2, 3),
    )


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Genotype([("conv_9x9", 0, 2)], PATH), r"operation of normal\[0\] must be one of"),
        (lambda: Genotype([("none", 2, 2)], PATH), r"normal\[0\] must lead from a node to a later one"),
        (lambda: Genotype([("none", 0, 3)], PATH), r"normal must have an edge to each of its nodes, got none to \[2\]"),
        (lambda: Genotype(PATH[:2], PATH), "reduction must have as many nodes as normal, got 4 and 3"),
        (lambda: Genotype(PATH, PATH, (1,)), "outputs must be different nodes from 2 to 3"),
        (lambda: Genotype([], PATH), "normal must have at least one edge, got none"),
        (lambda: CellNetwork("darts"), "genotype must be a Genotype, got 'darts'"),
        (lambda: operation("conv_3x3", 4, 3), "stride must be 1 or 2, got 3"),
        (lambda: SuperNetwork(PLACES, ("none", "none")), "operations must be different names"),
        (lambda: supernet()(images(), torch.zeros(2, 2), PATH), r"normal must have shape \(4, 5\), got \(2, 2\)"),
        (lambda: supernet()(images(), PATH, PATH[:2]), r"reduction must lead to each node, got no edge to \[3\]"),
        (
            lambda: supernet()(images(), [*PATH[:2], Edge("none", 0, 3)], PATH),
            r"normal\[2\] must be an edge of the super-network",
        ),
        (lambda: replaced(PATH, {9: "none"}), r"operations must name edges from 0 to 3, got \[9\]"),
        (lambda: discretise(torch.zeros(5, 1), dense_edges(2), ("none",)), "operations must hold one beside 'none'"),
    ],
)
def test_refusals(build, message):
    with pytest.raises(ValueError, match=message):
        build()
