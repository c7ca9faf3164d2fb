"""The parts of shrinking: BatchNorm folded, the scan, budgets, resolutions, steps."""

import itertools

import pytest
import torch
from compactvision import measure, models, shrinking, surgery
from compactvision.shrinking import cutting, rivals, scan, sources
from torch import nn


@pytest.mark.parametrize("build", [models.resnet20, lambda: models.imagenet("mobilenet_v2", 10)])
def test_folding_changes_no_answer_and_leaves_no_norm(build):
    torch.manual_seed(0)
    model = build()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 2)
                module.weight.uniform_(0.5, 2)
                module.bias.normal_(0, 0.1)
    small = shrinking.folded(model, (3, 32, 32))
    images = torch.randn(2, 3, 32, 32)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in small.modules())
    assert any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    with torch.no_grad():
        torch.testing.assert_close(small(images), model.eval()(images), rtol=1e-3, atol=1e-4)


class _Twice(nn.Module):
    """What the convolution writes is read by the norm and by a sum: folding would change the sum."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.other = nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Conv2d(2, 2, 1)

    def forward(self, x):
        y = self.conv(x)
        return self.norm(y) + self.other(y)


def test_a_convolution_that_something_else_reads_is_not_folded():
    torch.manual_seed(0)
    model = _Twice().eval()
    model.norm.running_mean.fill_(1.0)
    x = torch.randn(2, 1, 4, 4)
    torch.testing.assert_close(shrinking.folded(model, (1, 4, 4))(x), model(x))


def test_slopes_are_those_of_the_convex_curve_below():
    # rises of 1, 0.5 and 3 over thirds: the first two are averaged to 0.25, and the last is steeper
    slopes = scan.convex_slopes([1.0, 2.0, 1.5, 4.0], [1 / 4, 2 / 4, 3 / 4])
    assert slopes[:3] == pytest.approx([1.0, 1.0, 10.0])
    assert slopes[3] > slopes[2]


def test_slopes_below_the_whole_network_cost_nothing():
    assert scan.convex_slopes([1.0, 0.5, 0.9, 0.8], [0.25, 0.5, 0.75])[:3] == [0.0, 0.0, 0.0]


def test_the_scan_finds_the_channels_that_do_nothing(train):
    torch.manual_seed(0)
    idle = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(128, 4))
    with torch.no_grad():
        idle[2].weight[:, :6] = 0  # six of eight channels of the first layer are not read
        idle[0].weight[:6] *= 1e-3
    graph = surgery.channel_graph(idle, (1, 8, 8))
    curves = shrinking.sensitivity(graph, surgery.criteria.l1(), train[:2])
    assert set(curves) == {"0", "2"}
    assert curves["0"] == pytest.approx([curves["0"][0]] * 4)
    assert max(abs(value - curves["2"][0]) for value in curves["2"]) > 1e-3
    curves["2"] = (1.0, 2.0, 3.0, 4.0)
    ranking = scan.ranked(graph, surgery.criteria.l1())
    plan = surgery.make_plan(graph, scan.unit_scores(ranking, curves, scan.SHARES), keep_macs=0.5, global_pruning=True)
    assert plan.widths["0"] < plan.widths["2"] == 8


def test_the_scan_stops_when_it_is_told_to(model, train):
    graph = surgery.channel_graph(model, (1, 8, 8))
    asked = itertools.count()
    found = shrinking.sensitivity(graph, surgery.criteria.l1(), train[:1], going_on=lambda: next(asked) < 1)
    assert list(found) == ["0"]


@pytest.mark.parametrize("shares", [(), (0.5, 0.25), (0.0, 0.5), (0.5, 1.0), ("a",), 0.5, (0.5, float("nan"))])
def test_shares_that_are_none_are_refused(model, train, shares):
    graph = surgery.channel_graph(model, (1, 8, 8))
    with pytest.raises(ValueError, match="shares"):
        shrinking.sensitivity(graph, surgery.criteria.l1(), train, shares=shares)


@pytest.mark.parametrize("keep_macs", [0.75, 0.5, 0.3])
def test_macs_are_met_within_a_hundredth(keep_macs):
    model = models.pretrained("resnet20_glyphs")
    graph = surgery.channel_graph(model, (3, 32, 32))
    budget = cutting.Budget(graph, "keep_macs", keep_macs, torch.zeros(1, 3, 32, 32))
    scores = surgery.criteria.l1()(model)
    plan = budget.plan(scores, global_pruning=False)
    assert keep_macs * 0.99 <= plan.macs / graph.macs <= keep_macs
    assert budget.met(budget.reached(plan))
    assert measure.macs(surgery.prune(model, plan), (3, 32, 32)) == plan.macs


def test_channels_are_put_back_while_they_fit():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 10, 1), nn.Conv2d(10, 3, 1), nn.Conv2d(3, 2, 1))
    graph = surgery.channel_graph(model, (1, 2, 2))
    plan = surgery.keep_plan(graph, {"0": [0], "1": [0]})
    fuller = cutting.filled(plan, surgery.criteria.l1()(model), 0.6)
    assert plan.macs < fuller.macs <= 0.6 * graph.macs
    for unit in (~fuller.kept).nonzero().flatten().tolist():
        more = fuller.kept.clone()
        more[unit] = True
        assert graph.cost(more)[1] > 0.6 * graph.macs


def test_what_is_out_of_reach_says_how_near_one_comes(model):
    graph = surgery.channel_graph(model, (1, 8, 8))
    budget = cutting.Budget(graph, "keep_macs", 0.001, torch.zeros(1, 1, 8, 8))
    with pytest.raises(ValueError, match=r"keep_macs=0.001 is out of reach: one channel a layer still has 0\.\d+ of"):
        budget.plan(surgery.criteria.l1()(model), global_pruning=False)


def test_random_channels_have_the_same_widths_and_are_others(model):
    graph = surgery.channel_graph(model, (1, 8, 8))
    plan = surgery.make_plan(graph, surgery.criteria.l1(), keep=0.5)
    drawn = cutting.drawn_alike(plan, torch.Generator().manual_seed(0))
    assert drawn.widths == plan.widths
    assert drawn.macs == plan.macs
    assert not drawn.kept.equal(plan.kept)


def test_the_lower_resolution_is_the_largest_within_the_macs():
    model = models.resnet20()
    example = torch.zeros(1, 3, 32, 32)
    whole = measure.macs(model, example)
    height, width = rivals.resolution_within(model, example, whole // 2)
    assert height == width < 32
    assert measure.macs(model, (3, height, width)) <= whole // 2 < measure.macs(model, (3, height + 1, width + 1))
    lower = rivals.AtResolution(model, (height, width), example).eval()
    assert measure.macs(lower, example) == measure.macs(model, (3, height, width))


def test_maps_come_back_at_the_size_they_had():
    model = nn.Sequential(nn.Conv2d(1, 3, 3, stride=2, padding=1), nn.Upsample(scale_factor=2))
    lower = rivals.AtResolution(model, (5, 7), torch.zeros(1, 1, 10, 14))
    assert lower(torch.zeros(2, 1, 10, 14)).shape == (2, 3, 10, 14)


def test_a_network_of_one_size_has_no_lower_resolution(model):
    with pytest.raises(ValueError, match="no lower resolution"):
        rivals.resolution_within(model, torch.zeros(1, 1, 8, 8), 100)


def test_sixteen_bits_come_back_as_floats():
    model = nn.Conv2d(1, 2, 1)
    found = rivals.InFormat(model, torch.bfloat16)(torch.ones(1, 1, 2, 2))
    assert found.dtype == torch.float32
    assert model.weight.dtype == torch.float32


class _Epochs:
    def __init__(self):
        self.told = []

    def set_epoch(self, epoch):
        self.told.append(epoch)

    def __iter__(self):
        for number in range(3):
            yield torch.full((1 if number == 2 else 2, 1), float(number)), torch.zeros(2)


def test_steps_go_through_epochs_and_leave_single_images_out():
    source = _Epochs()
    steps = sources.Steps(source, 5)
    assert [float(inputs[0]) for inputs, _ in steps] == [0, 1, 0, 1, 0]
    assert source.told == [0, 1, 2]
    assert len(steps) == 5


def test_steps_of_nothing_but_single_images_are_refused():
    with pytest.raises(ValueError, match="at least two images"):
        list(sources.Steps([(torch.zeros(1, 1), torch.zeros(1))], 2))


def test_calibration_judges_by_other_images_than_it_fits_on(train):
    fit, judge = sources.calibration(train)
    assert sum(len(inputs) for inputs, _ in fit) == 128
    assert not {id(inputs) for inputs, _ in fit} & {id(inputs) for inputs, _ in judge}
    assert sources.calibration(train[:1]) == (train[:1], train[:1])
    assert [len(part) for part in sources.calibration(train[:2])] == [1, 1]
