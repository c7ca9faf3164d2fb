"""Checkpoint files: atomic, readable with weights_only, refused by another run."""

import errno
import os
import resource

import pytest
import torch
import torch.nn.functional as F
from compactvision.training import Callback, fit, schedules
from compactvision.training.checkpoint import differences, write_atomically
from torch import nn


def network(width=4):
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(3, width), nn.ReLU(), nn.Linear(width, 2))


DATA = [(torch.arange(12.0).view(4, 3), torch.tensor([0, 1, 0, 1]))] * 2


def train(path, model=None, data=DATA, lr=0.01, optimizer=torch.optim.SGD, **options):
    model = network() if model is None else model
    return fit(model, data, optimizer=optimizer(model.parameters(), lr=lr), checkpoint=path, **{"epochs": 2, **options})


class Once(Callback):
    """A callback, to be told from another."""


class Twice(Once):
    """Another one."""


DIFFERENT = {
    r"model.0.weight is '\(4, 3\) torch.float32' there and '\(5, 3\) torch.float32' here": {"model": network(5)},
    r"model.2.weight is .* there and 'absent' here": {"model": nn.Sequential(*network()[:2])},
    "epochs is 2 there and 3 here": {"epochs": 3},
    "steps_per_epoch is 2 there and 3 here": {"data": DATA + DATA[:1]},
    "optimizer is 'SGD' there and 'Adam' here": {"optimizer": torch.optim.Adam},
    r"groups\[0\].lr is 0.01 there and 0.02 here": {"lr": 0.02},
    r"callbacks\[0\] is .*Once' there and .*Twice' here": {"callbacks": [Twice()]},
    r"callbacks is \[.*Once'\] there and \[\] here": {"callbacks": []},
    "seed is 0 there and 1 here": {"seed": 1},
    r"schedule is None there and \"Schedule.*cosine": {"schedule": schedules.cosine()},
    "loss is 'torch.nn.functional.cross_entropy' there and 'torch.nn.functional.nll_loss' here": {"loss": F.nll_loss},
    "precision is 'fp32' there and 'bf16' here": {"precision": "bf16"},
    "clip_norm is None there and 2.0 here": {"clip_norm": 2.0},
}


@pytest.mark.parametrize("message", DIFFERENT)
def test_another_run_is_refused_by_the_field_that_differs(message, tmp_path):
    path = tmp_path / "run.pt"
    train(path, callbacks=[Once()])
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"checkpoint='.*run.pt' belongs to a different run: .*" + message):
        train(path, **{"callbacks": [Once()], **DIFFERENT[message]})
    assert path.read_bytes() == before


def test_refusal_leaves_the_model_alone(tmp_path):
    train(tmp_path / "run.pt")
    model = network().eval()
    weights = model[0].weight.clone()
    with pytest.raises(ValueError, match="epochs"):
        train(tmp_path / "run.pt", model=model, epochs=5)
    assert torch.equal(model[0].weight, weights)
    assert not model.training


def test_settings_of_the_source_are_compared(tmp_path):
    loader = lambda size: torch.utils.data.DataLoader(list(zip(*DATA[0], strict=True)), batch_size=size)  # noqa: E731
    train(tmp_path / "run.pt", data=loader(3))
    with pytest.raises(ValueError, match=r"batches.batch_size is 3 there and 2 here"):
        train(tmp_path / "run.pt", data=loader(2))


def test_many_differences_are_counted():
    there = {"a": 1, "b": [1, 2], "c": {"d": "x"}, "e": None}
    here = {"a": 2, "b": [1, 3], "c": {"d": "y"}, "f": True}
    assert differences(there, there) == []
    assert differences(there, here) == [
        "a is 1 there and 2 here",
        "b[1] is 2 there and 3 here",
        "c.d is 'x' there and 'y' here",
        "e is None there and 'absent' here",
        "f is 'absent' there and True here",
    ]


def test_a_schedule_without_a_name_of_its_own_is_recognised_by_its_type(tmp_path):
    class Half:
        def __call__(self, optimizer, epochs, steps):
            return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5)

    history = train(tmp_path / "run.pt", schedule=Half(), optimizer=torch.optim.Adam)
    assert history.column("lr") == [0.005, 0.005]
    assert train(tmp_path / "run.pt", schedule=Half(), optimizer=torch.optim.Adam) == history


def test_the_file_holds_plain_data_under_plain_names(tmp_path):
    path = tmp_path / "new" / "folder" / "run.pt"
    model = network()
    history = train(path, model=model)
    stored = torch.load(path, weights_only=True)
    assert torch.equal(stored["parts"]["model"]["0.weight"], model[0].weight)
    assert stored["parts"]["history"]["rows"] == history.rows
    assert stored["parts"]["position"] == {"epoch": 2, "batch": 0, "step": 4}
    assert os.listdir(path.parent) == ["run.pt"]


def test_a_callback_state_that_could_not_be_read_back_is_refused_when_written(tmp_path):
    class Odd(Callback):
        def state_dict(self):
            return {"what": Once()}

    with pytest.raises(ValueError, match="callbacks: a state_dict holds more than tensors and plain Python data"):
        train(tmp_path / "run.pt", callbacks=[Odd()])
    assert not (tmp_path / "run.pt").exists()


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "run.pt"
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match=r"checkpoint='.*run.pt' cannot be read"):
        train(path)
    torch.save({"weights": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match=r"checkpoint='.*run.pt' is no checkpoint of fit"):
        train(path)
    with pytest.raises(ValueError, match=r"cannot be read"):
        train(tmp_path)
    train(tmp_path / "good.pt")
    path.write_bytes((tmp_path / "good.pt").read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"cannot be read .* delete it to start anew"):
        train(path)


class FullDisk:
    """A file on a disk that has room for `room` more bytes."""

    def __init__(self, file, room):
        self.file, self.room = file, room

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()

    def write(self, data):
        self.file.write(data[: self.room])
        self.file.flush()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_leaves_the_previous_checkpoint_good(monkeypatch, tmp_path):
    path, opened = tmp_path / "run.pt", []

    def nearly_full(name, mode):
        opened.append(name)
        return open(name, mode) if len(opened) == 1 else FullDisk(open(name, mode), 700)

    monkeypatch.setattr("compactvision.training.checkpoint.open", nearly_full, raising=False)
    with pytest.raises(OSError, match=r"run.pt could not be written \(No space left on device\)") as caught:
        train(path)
    assert caught.value.errno == errno.ENOSPC
    assert os.listdir(tmp_path) == ["run.pt"]
    assert torch.load(path, weights_only=True)["parts"]["position"]["epoch"] == 1
    monkeypatch.undo()
    assert len(train(path)) == 2  # with room again it goes on from there


def test_a_file_that_hits_the_size_limit_leaves_the_previous_one(tmp_path):
    """The kernel itself refuses the write, in the middle of it."""
    path = tmp_path / "run.pt"
    write_atomically(path, b"a" * 3000)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(OSError, match="could not be written") as caught:
            write_atomically(path, b"b" * 3000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.errno == errno.EFBIG
    assert path.read_bytes() == b"a" * 3000
    assert os.listdir(tmp_path) == ["run.pt"]


def test_a_partial_file_left_by_a_kill_is_replaced(tmp_path):
    (tmp_path / ".run.pt.part").write_bytes(b"cut short")
    train(tmp_path / "run.pt")
    assert os.listdir(tmp_path) == ["run.pt"]


def test_the_new_file_is_on_the_disk_before_it_takes_the_place(monkeypatch, tmp_path):
    order = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: (order.append("fsync"), fsync(descriptor)))
    monkeypatch.setattr(os, "replace", lambda *paths: (order.append("replace"), replace(*paths)))
    write_atomically(tmp_path / "run.pt", b"content")
    assert order == ["fsync", "replace", "fsync"]
    assert (tmp_path / "run.pt").read_bytes() == b"content"
