"""Two processes against one, through torchrun; and the arithmetic of the average with a peer that is made up."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from compactvision.training import distributed, evaluate
from compactvision.training.distributed import Group
from torch import nn

SCRIPT = Path(__file__).with_name("distributed_run.py")


@pytest.fixture(scope="module")
def alone():
    """The script as a module, for the same runs in this one process."""
    specification = importlib.util.spec_from_file_location("distributed_run", SCRIPT)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What the script left on each of two processes."""
    folder = tmp_path_factory.mktemp("two")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0"]
    done = subprocess.run(
        [*command, "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", str(SCRIPT), str(folder)],
        capture_output=True, text=True, timeout=280, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(folder / f"end{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["whole", "fp16"])
def test_two_processes_equal_one(two, alone, precision):
    expected = alone.run(precision="fp32" if precision == "whole" else precision)
    tolerance = {"rtol": 1e-4, "atol": 1e-6} if precision == "whole" else {"rtol": 2e-2, "atol": 2e-3}
    for found in (process[precision] for process in two):
        for name, value in expected["model"].items():
            if name != "seen":
                torch.testing.assert_close(found["model"][name], value, **tolerance)
        assert found["losses"] == pytest.approx(expected["losses"], rel=20 * tolerance["rtol"])
        assert [row["epoch"] for row in found["rows"]] == [1, 2, 3]
        for ours, single in zip(found["rows"], expected["rows"], strict=True):
            assert ours["val_n"] == single["val_n"] == 41
            for name in ("train_loss", "val_loss", "lr"):
                assert ours[name] == pytest.approx(single[name], rel=20 * tolerance["rtol"])
            assert ours["val_accuracy"] == pytest.approx(
                single["val_accuracy"], abs=1e-9 if precision == "whole" else 0.05
            )
        assert found["names"] == ["Branch"]  # callbacks see the plain model


@pytest.mark.slow
def test_processes_stay_alike_bitwise(two):
    first, second = (process["whole"]["model"] for process in two)
    for name, value in first.items():
        assert torch.equal(second[name], value), name
    assert torch.equal(first["unused"], torch.ones(2))  # without a gradient anywhere: no decay either


@pytest.mark.slow
def test_an_interrupted_run_of_two_processes_ends_bitwise_the_same(two):
    for process in two:
        for name, value in process["whole"]["model"].items():
            assert torch.equal(process["resumed"]["model"][name], value), name
        assert process["resumed"]["rows"] == process["whole"]["rows"]
        assert len(process["resumed"]["losses"]) == 18 - 8  # from the checkpoint after step 8


@pytest.mark.slow
def test_only_the_first_process_writes_and_all_evaluate_alike(two, alone):
    assert [process["written"] for process in two] == [["run.pt"], []]
    expected = evaluate(alone.start()[0], alone.images().batches(41), metrics={"mean": lambda o, t: o.mean()})
    for process in two:
        assert process["evaluated"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_errors_reach_all_processes(two):
    assert [process["broken"] for process in two] == [[0, 2], [0, 2]]
    assert all("batches has a different length on different processes: [2, 3]" in p["uneven"] for p in two)


class Peer:
    """Stands for a second process: what it would add to each reduction, in turn."""

    def __init__(self, *shares):
        self.shares = list(shares)

    def all_reduce(self, tensor):
        tensor += torch.as_tensor(self.shares.pop(0), dtype=tensor.dtype)


def test_gradients_are_weighted_by_samples(monkeypatch):
    weight, bias, unused = (nn.Parameter(torch.zeros(n)) for n in (2, 1, 1))
    weight.grad = torch.tensor([4.0, 8.0])
    # Here 3 samples with the mean loss 2; there 1 sample with the loss 6, gradient (0, 4) and a bias used there only.
    peer = Peer([6.0 * 1, 1.0], [0.0 * 0.25, 4 * 0.25, 12 * 0.25, 0.0, 0.25, 0.25, 0.0])
    monkeypatch.setattr(dist, "all_reduce", peer.all_reduce)
    loss, count = Group(0, 2).average_gradients_([weight, bias, unused], torch.tensor(2.0), 3)
    assert (loss.item(), count.item()) == (3.0, 4.0)
    assert weight.grad.tolist() == [3.0, 7.0]
    assert bias.grad.tolist() == [3.0]
    assert unused.grad is None


def test_types_are_reduced_apart(monkeypatch):
    single, double = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1).double())
    single.grad, double.grad = torch.tensor([1.0]), torch.tensor([2.0]).double()
    monkeypatch.setattr(dist, "all_reduce", Peer([3.0, 1.0], [0.5, 0.5], [2.0, 0.5]).all_reduce)
    Group(0, 2).average_gradients_([single, double], torch.tensor(1.0), 1)
    assert (single.grad.item(), single.grad.dtype) == (1.0, torch.float32)
    assert (double.grad.item(), double.grad.dtype) == (3.0, torch.float64)


def test_one_process_changes_nothing():
    group, model, value = Group(), nn.Linear(2, 2), torch.tensor(1.5)
    model.weight.grad = torch.ones(2, 2)
    assert group.average_gradients_(list(model.parameters()), value, 7) == (value, 7)
    assert model.weight.grad.tolist() == [[1, 1], [1, 1]]
    assert group.sum([1.0, 2.0], torch.device("cpu")) == [1.0, 2.0]
    assert group.gather("all") == ["all"]
    assert group.shard([1, 2]) == [1, 2]
    assert group.first


def test_a_process_group_that_exists_is_used(monkeypatch, tmp_path):
    monkeypatch.setattr(distributed.atexit, "register", lambda function: closers.append(function))
    closers = []
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    made = []
    monkeypatch.setattr(dist, "init_process_group", made.append)
    assert distributed.current(torch.device("cpu")).world == 1
    assert distributed.current(torch.device("cuda")).world == 1
    assert made == ["gloo", "nccl"]
    monkeypatch.undo()
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    found = distributed.current(torch.device("cpu"))
    assert (found.rank, found.world) == (0, 1)
    group = Group(0, 2)  # the collectives themselves, with nobody else in the group
    model = nn.Linear(2, 2)
    model.register_buffer("mask", torch.ones(2))
    before = model.weight.clone()
    group.broadcast_(model)
    assert torch.equal(model.weight, before)
    assert group.sum([1.0, 2.5], torch.device("cpu")) == [1.0, 2.5]
    assert group.gather({"a": 1})[0] == {"a": 1}
    assert group.shard(Cut()) == ("piece", 0, 2)
    for close in closers:
        close()
        close()
    assert not dist.is_initialized()


class Cut(list):
    def shard(self, rank, world):
        return "piece", rank, world
