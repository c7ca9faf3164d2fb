"""A queue with a small training of seconds, whose jobs run in this process or in one of their own."""

import importlib.util
from pathlib import Path

import pytest
import torch
from compactvision.queue import arms, worker
from compactvision.queue.recipes import Scale
from compactvision.queue.state import Places

SCRIPT = Path(__file__).with_name("small_job.py")


def _load():
    spec = importlib.util.spec_from_file_location("small_job", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def small(monkeypatch):
    """The module of the small training, in the place of the list and of the arms."""
    module = _load()
    module.install(monkeypatch.setattr)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield module
    torch.set_num_threads(threads)


@pytest.fixture
def do(small, tmp_path):
    """Do a job of the small queue in this process: returns status, folder and places."""

    def job(where="here", *, stopping=lambda: False, scale=None, entry=None):
        scale = scale or Scale()
        places = Places(tmp_path / where, tmp_path / where / "out", scale.kind)
        entry = entry or small.ENTRY
        status = worker.work(entry, 0, scale, places, torch.device("cpu"), stopping)
        return status, places.folder(entry, 0), places

    assert arms.find(small.ENTRY) is small.ARM
    return job


@pytest.fixture
def script():
    """Path of the program that does one job as the worker does."""
    return SCRIPT


@pytest.fixture
def book(tmp_path, monkeypatch):
    """An empty book, so that nothing shipped is looked at."""
    root = tmp_path / "book"
    for name in ("claims", "records", "notebooks"):
        (root / name).mkdir(parents=True)
    monkeypatch.setenv("COMPACTVISION_BOOK", str(root))
    return root
