"""The tuning that chapters share."""

import copy

import pytest
import torch
from compactvision import data, models, training
from torch import nn


def batches(n=96):
    return data.load("glyphs", train=True, n=n).batches(32, shuffle=True, seed=3)


def test_tune_is_nesterov_over_one_cycle_of_all_passes():
    start = models.small_cnn(10, (4, 8), generator=torch.Generator().manual_seed(1))
    ours = training.tune(copy.deepcopy(start), batches(), epochs=2, learning_rate=0.1, seed=4)
    other = copy.deepcopy(start)
    training.fit(
        other,
        batches(),
        epochs=2,
        optimizer=torch.optim.SGD(other.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True),
        schedule=training.schedules.one_cycle(),
        channels_last=True,
        seed=4,
        progress=False,
    )
    for name, value in other.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, rtol=0, atol=0, msg=name)


def test_tune_trains_where_the_network_is_and_lowers_the_loss():
    points = torch.randn(64, 2, generator=torch.Generator().manual_seed(1))
    known = [(points, (points[:, 0] > 0).long())] * 20
    model = nn.Linear(2, 2).eval()
    before = training.evaluate(model, known)["loss"]
    assert training.tune(model, known, learning_rate=0.5) is model
    assert not model.training
    assert training.evaluate(model, known)["loss"] < 0.5 * before


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
def test_a_rate_must_be_a_positive_number(rate):
    with pytest.raises(ValueError, match="rate must be finite"):
        training.tune(nn.Linear(2, 2), [(torch.zeros(1, 2), torch.zeros(1).long())], learning_rate=rate)


@pytest.mark.parametrize(("options", "named"), [({"epochs": 0}, "epochs"), ({"epochs": 1}, "batches")])
def test_other_errors_name_the_argument(options, named):
    with pytest.raises(ValueError, match=named):
        training.tune(nn.Linear(2, 2), [], **options)


def test_renewed_statistics_are_those_of_the_batches():
    """A plain mean over batches, in a copy; the network itself stays as it was."""
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.ReLU()).eval()
    images = [torch.randn(8, 1, 4, 4, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
    fresh = training.renewed(model, [images[0], (images[1], torch.zeros(8)), (images[2],)])
    with torch.no_grad():
        maps = [model[0](x).transpose(0, 1).flatten(1) for x in images]
    torch.testing.assert_close(fresh[1].running_mean, torch.stack([m.mean(1) for m in maps]).mean(0))
    torch.testing.assert_close(fresh[1].running_var, torch.stack([m.var(1) for m in maps]).mean(0))
    assert (fresh.training, fresh[1].momentum) == (False, 0.1)
    assert torch.equal(model[1].running_mean, torch.zeros(2))


def test_renewing_needs_a_batch():
    with pytest.raises(ValueError, match="batches must hold at least one batch, got none"):
        training.renewed(nn.BatchNorm2d(2), [])
