"""A checkpoint is that of one run: what is changed is refused and told, what is the same is accepted."""

import functools
import random
import time

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from compactvision import data
from compactvision.training import Callback, fit
from compactvision.training.description import modules, settings_of
from compactvision.training.digests import digest
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset


def network(act=None, seed=1, p=0.1):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 5), act or nn.ReLU(), nn.Dropout(p), nn.BatchNorm1d(5), nn.Linear(5, 3))


def points(n=12, seed=3):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 4, generator=generator), torch.arange(n) % 3


def batches(seed=3):
    inputs, targets = points(seed=seed)
    return list(zip(inputs.split(4), targets.split(4), strict=True))


def run(path, model=None, source=None, **options):
    model = network() if model is None else model
    fit(model, batches() if source is None else source, epochs=2, checkpoint=path, progress=False, **options)
    return model


def same(first, second):
    return all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )


def refused(path, message, *arguments, **options):
    before = path.read_bytes()
    with pytest.raises(ValueError, match=rf"checkpoint='.*' belongs to a different run: .*{message}"):
        run(path, *arguments, **options)
    assert path.read_bytes() == before


class Act(nn.Module):
    """A function as activation, held as an attribute."""

    def __init__(self, function, slope=1.0):
        super().__init__()
        self.function, self.slope = function, slope

    def forward(self, x):
        return self.function(x) * self.slope


def frozen(part):
    model = network()
    model[0].requires_grad_(part != "weights")
    model[3].train(part != "statistics")
    return model


MODELS = {
    "modules.1.is is 'ReLU.*' there and 'Tanh.*' here": lambda: network(nn.Tanh()),
    r"modules.2.is is 'Dropout\(p=0.1.*' there and 'Dropout\(p=0.5": lambda: network(p=0.5),
    "digest of the initial weights is": lambda: network(seed=2),
    "modules.3.mode is 'absent' there and 'evaluation' here": lambda: frozen("statistics"),
    "modules.0.frozen is 'absent' there and": lambda: frozen("weights"),
}


@pytest.mark.parametrize("message", MODELS)
def test_another_model_of_the_same_shapes(message, tmp_path):
    run(tmp_path / "run.pt")
    refused(tmp_path / "run.pt", message, MODELS[message]())


def test_another_function_or_number_within_a_module(tmp_path):
    run(tmp_path / "run.pt", network(Act(torch.relu)))
    refused(tmp_path / "run.pt", "modules.1.function is .*relu' there and .*tanh' here", network(Act(torch.tanh)))
    refused(tmp_path / "run.pt", "modules.1.slope is 1.0 there and 2.0 here", network(Act(torch.relu, 2.0)))
    assert modules(network(Act(lambda x: x + 1))) == modules(network(Act(lambda x: x + 1)))
    assert modules(network(Act(lambda x: x + 1))) != modules(network(Act(lambda x: x + 2)))


def changed(seed=3, at=0):
    """Return the batches with one number changed in one of them."""
    found = batches(seed)
    found[at][0][-1, -1] += 1e-3
    return found


class Squares(Dataset):
    """A data set without a tensor to be seen."""

    def __init__(self, factor):
        self.factor = factor

    def __len__(self):
        return 12

    def __getitem__(self, i):
        return self.factor * torch.ones(4) * i + torch.rand(()), i % 3


class Lines(IterableDataset):
    def __init__(self, factor):
        self.factor = factor

    def __iter__(self):
        return ((self.factor * torch.ones(4) * i, i % 3) for i in range(12))


class Hidden:
    """Batches that hide what they hold."""

    def __init__(self, seed):
        self._held = batches(seed)

    def __iter__(self):
        return iter(self._held)


def tensors(seed):
    return TensorDataset(*points(seed=seed))


SOURCES = {
    "list": (batches, lambda: batches(4), "data.digest"),
    "one number of the first batch": (batches, changed, "data.digest"),
    "one number of the last batch": (batches, lambda: changed(at=2), "data.digest"),
    "tensor set": (lambda: DataLoader(tensors(3), 4), lambda: DataLoader(tensors(4), 4), "data.digest"),
    "subset": (
        lambda: DataLoader(Subset(tensors(3), range(8)), 4),
        lambda: DataLoader(Subset(tensors(3), range(4, 12)), 4),
        "data.digest",
    ),
    "arrays": (
        lambda: DataLoader(list(zip(points()[0].numpy(), points()[1].tolist(), strict=True)), 4),
        lambda: DataLoader(list(zip(points(seed=4)[0].numpy(), points()[1].tolist(), strict=True)), 4),
        "data.digest",
    ),
    "made samples": (lambda: DataLoader(Squares(1.0), 4), lambda: DataLoader(Squares(2.0), 4), "data.digest"),
    "made lines": (lambda: DataLoader(Lines(1.0), 4), lambda: DataLoader(Lines(2.0), 4), "data.digest"),
    "hidden": (lambda: Hidden(3), lambda: Hidden(4), "data.digest"),
    "seed of the order": (
        lambda: DataLoader(tensors(3), 4, shuffle=True, generator=torch.Generator().manual_seed(1)),
        lambda: DataLoader(tensors(3), 4, shuffle=True, generator=torch.Generator().manual_seed(2)),
        "data.digest",
    ),
}


@pytest.mark.parametrize("name", SOURCES)
def test_other_data_of_the_same_size(name, tmp_path):
    make, other, message = SOURCES[name]
    path = tmp_path / "run.pt"
    first = run(path, source=make())
    refused(path, message, source=other())
    assert same(first, run(path, source=make()))
    assert same(first, run(None, source=make()))  # looking at the data has changed nothing
    run(tmp_path / "other.pt", validate=make())
    refused(tmp_path / "other.pt", "validation", validate=other())


def test_images_of_another_part_of_a_set(tmp_path):
    glyphs = data.load("glyphs", n=40)

    def start(part, crop=0):
        model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10))
        nn.init.zeros_(model[1].weight)
        nn.init.zeros_(model[1].bias)
        run(tmp_path / "run.pt", model, glyphs.subset(part).batches(10, shuffle=True, crop=crop))

    start(range(20))
    start(list(range(20)))
    with pytest.raises(ValueError, match=r"data\.digest is"):
        start(range(20, 40))
    with pytest.raises(ValueError, match=r"batches\.crop is 0 there and 2 here"):
        start(range(20), crop=2)


def test_an_iterator_is_known_by_its_class_and_not_read(tmp_path):
    def once(seed):
        model = network()
        fit(model, (batch for batch in batches(seed)), epochs=1, checkpoint=tmp_path / f"{seed}.pt", progress=False)
        return model

    plain = network()
    fit(plain, batches(), epochs=1, progress=False)
    assert same(once(3), plain)


def weighted(weight):
    return lambda outputs, targets: weight * F.cross_entropy(outputs, targets)


LOSSES = {
    "loss is '.*lambda.*' there": (weighted(1.0), weighted(2.0)),
    "loss.label_smoothing is 0.0 there and 0.1 here": (nn.CrossEntropyLoss(), nn.CrossEntropyLoss(label_smoothing=0.1)),
    "loss.digest is": (nn.CrossEntropyLoss(torch.ones(3)), nn.CrossEntropyLoss(torch.arange(1.0, 4))),
    "loss is 'partial of .*cross_entropy": (
        functools.partial(F.cross_entropy, label_smoothing=0.1),
        functools.partial(F.cross_entropy, label_smoothing=0.2),
    ),
    "validation is '.*lambda": ({"validate": lambda model: {"a": 1.0}}, {"validate": lambda model: {"a": 2.0}}),
}


@pytest.mark.parametrize("message", LOSSES)
def test_another_loss_or_function_of_the_same_name(message, tmp_path):
    first, second = (each if isinstance(each, dict) else {"loss": each} for each in LOSSES[message])
    run(tmp_path / "run.pt", **first)
    run(tmp_path / "run.pt", **first)
    refused(tmp_path / "run.pt", message, **second)


class Kept(Callback):
    def __init__(self, strength=1.0, layers=("a",), table=None, *more, hidden=0, **options):
        self.strength, self.layers, self.table, self.more, self.unheard = strength, layers, table, more, hidden
        self.counted = random.random()


class Telling(Kept):
    def settings(self):
        return {"strength": 2 * self.strength, "layers": self.layers}


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (Kept(1.0), Kept(2.0), "callback Kept.strength is 1.0 there and 2.0 here"),
        (Kept(layers=["a"]), Kept(layers=["b"]), r"callback Kept.layers\[0\] is 'a' there and 'b' here"),
        (Kept(table=torch.ones(99)), Kept(table=torch.zeros(99)), r"callback Kept.table is '\(99,\) torch.float32 .*"),
        (Kept(table={"a": 1}), Kept(table={"a": 2}), "callback Kept.table.a is 1 there and 2 here"),
        (Kept(table=np.ones(3)), Kept(table=np.zeros(3)), r"callback Kept.table\[0\] is 1.0 there and 0.0 here"),
        (Telling(1.0), Telling(2.0), "callback Telling.strength is 2.0 there and 4.0 here"),
    ],
)
def test_settings_of_callbacks(first, second, message, tmp_path):
    run(tmp_path / "run.pt", callbacks=[first])
    run(tmp_path / "run.pt", callbacks=[first])
    refused(tmp_path / "run.pt", message, callbacks=[second])


def test_two_callbacks_of_a_class_are_told_apart(tmp_path):
    run(tmp_path / "run.pt", callbacks=[Kept(1.0), Kept(2.0)])
    refused(tmp_path / "run.pt", r"callback Kept \(2\).strength is 2.0 there and 3.0", callbacks=[Kept(1.0), Kept(3.0)])


def test_what_is_no_setting_is_not_compared():
    assert settings_of(Kept(1.0, ("a",), None, 7, hidden=3)) == {"strength": 1.0, "layers": ["a"], "table": None}
    assert settings_of(Callback()) == {}


def test_groups_of_other_parameters(tmp_path):
    def start(*chosen):
        model = network()
        rest = [p for name, p in model.named_parameters() if name not in chosen]
        held = [p for name, p in model.named_parameters() if name in chosen]
        groups = [{"params": held, "weight_decay": 0.1}, {"params": rest}]
        run(tmp_path / "run.pt", model, optimizer=torch.optim.SGD(groups, lr=0.1))

    start("0.weight")
    with pytest.raises(ValueError, match=r"groups\[0\].parameters\[0\] is '0.weight' there and '4.weight' here"):
        start("4.weight")


def test_digests_are_of_content():
    x = torch.arange(6.0).view(2, 3)
    assert digest(x) == digest(x.clone()) == digest(x.t().contiguous().t()) == digest([x][0])
    assert digest([(x, x)] * 2) == digest([(x, x.clone()), (x.clone(), x)])
    others = [x.double(), x.view(3, 2), x + 1, x.numpy(), [x], -x, x.to(torch.bfloat16), x.int(), {"a": x}, {"b": x}]
    assert len({digest(other) for other in [x, *others]}) == len(others) + 1
    assert digest({1: {"b", "a", "c"}}) == digest({1: {"c", "b", "a"}})
    loop = [1]
    loop.append(loop)
    assert digest(loop) == digest(loop)
    for odd in (torch.zeros(0, 3), torch.tensor(1 + 2j).conj(), torch.eye(3).to_sparse(), torch.ones(2, device="meta")):
        assert digest(odd) == digest(odd.clone())
    assert digest(np.array(["a", None], dtype=object)) != digest(np.array(["b", None], dtype=object))


def test_a_digest_of_fifty_thousand_images_takes_under_a_second():
    images = np.zeros((50_000, 3, 32, 32), np.uint8)
    began = time.process_time()
    plain = digest(images)
    assert time.process_time() - began < 1
    images[-1, -1, -1, -1] = 1
    assert digest(images) != plain


def test_of_a_very_large_array_pieces_are_read(monkeypatch):
    monkeypatch.setattr("compactvision.training.digests.WHOLE", 1000)
    monkeypatch.setattr("compactvision.training.digests.PIECE", 16)
    for array in (np.arange(5000, dtype=np.int16), torch.arange(5000)):
        other = array + 0
        other[-1] = 0
        assert digest(array) == digest(array + 0) != digest(other)
