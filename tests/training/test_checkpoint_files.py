"""Files that are no checkpoint are refused by name; what cannot be written says so; two writers leave whole files."""

import errno
import os
import re
import signal
import stat
import subprocess
import sys
import time
import zipfile

import pytest
import torch
from compactvision.training import checkpoint, fit
from compactvision.training.checkpoint import write_atomically
from torch import nn

DATA = [(torch.arange(12.0).view(4, 3), torch.tensor([0, 1, 0, 1]))] * 2


def train(path, epochs=2):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(3, 40), nn.BatchNorm1d(40), nn.Linear(40, 2))
    fit(model, DATA, epochs=epochs, checkpoint=path, progress=False)
    return model


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    path, threads = tmp_path_factory.mktemp("good") / "run.pt", torch.get_num_threads()
    torch.set_num_threads(1)
    train(path)
    torch.set_num_threads(threads)
    return path.read_bytes()


def loaded(good, tmp_path):
    (tmp_path / "read.pt").write_bytes(good)
    return torch.load(tmp_path / "read.pt", weights_only=True)


def without(key):
    return lambda stored: {**stored, "parts": {name: part for name, part in stored["parts"].items() if name != key}}


def emptied(key):
    return lambda stored: {**stored, "parts": {**stored["parts"], key: {}}}


def one_weight(stored):
    stored["parts"]["model"]["0.weight"][0, 0] += 1e-6
    return stored


CONTENT = {
    "no part": lambda stored: {"format": checkpoint.FORMAT},
    "run missing": lambda stored: {key: value for key, value in stored.items() if key != "run"},
    "parts missing": lambda stored: {key: value for key, value in stored.items() if key != "parts"},
    "digest missing": lambda stored: {key: value for key, value in stored.items() if key != "digest"},
    "one more": lambda stored: {**stored, "own": []},
    "parts empty": lambda stored: {**stored, "parts": {}},
    "parts a list": lambda stored: {**stored, "parts": []},
    "run None": lambda stored: {**stored, "run": None},
    "losses missing": without("losses"),
    "stream empty": emptied("stream"),
    "position empty": emptied("position"),
    "one weight": one_weight,
    "format a tensor": lambda stored: {**stored, "format": torch.ones(3)},
    "format a list": lambda stored: {**stored, "format": []},
    "list": lambda stored: [stored],
    "empty dict": lambda stored: {},
    "empty list": lambda stored: [],
    "tensor": lambda stored: torch.ones(3),
    "number": lambda stored: 3,
    "weights of a model": lambda stored: stored["parts"]["model"],
    "old format": lambda stored: {**stored, "format": 2},
    "future format": lambda stored: {**stored, "format": checkpoint.FORMAT + 1},
}


@pytest.mark.parametrize("name", CONTENT)
def test_other_content_is_refused_by_path(name, good, tmp_path):
    path = tmp_path / "run.pt"
    torch.save(CONTENT[name](loaded(good, tmp_path)), path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=rf"^checkpoint='{path}' is (damaged|no checkpoint of fit).* delete it"):
        train(path)
    assert path.read_bytes() == before


def test_an_older_format_is_named(good, tmp_path):
    torch.save({**loaded(good, tmp_path), "format": 1}, tmp_path / "run.pt")
    with pytest.raises(ValueError, match=rf"in format {checkpoint.FORMAT} \(it is of format 1\)"):
        train(tmp_path / "run.pt")


RAW = [
    b"",
    b"\0",
    b"\xff" * 50,
    b"hello",
    b"hello\nworld",
    b"{}",
    b"[1, 2]",
    b"PK\x03\x04",
    "ünï".encode(),
    b"\x80\x02.",
]


@pytest.mark.parametrize("content", RAW)
def test_other_files_are_refused_by_path(content, tmp_path):
    path = tmp_path / "run.pt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"^checkpoint='{path}' (cannot be read|is no checkpoint)"):
        train(path)


def test_files_cut_anywhere_are_refused(good, tmp_path):
    path = tmp_path / "run.pt"
    for size in (*range(0, len(good), len(good) // 25), len(good) - 1):
        path.write_bytes(good[:size])
        with pytest.raises(ValueError, match=rf"^checkpoint='{path}' cannot be read"):
            train(path)


def test_flipped_bits_are_refused_or_change_nothing(good, tmp_path):
    """In the weights each is found; in the container's padding and dates it may stand without consequence."""
    path, expected = tmp_path / "run.pt", train(None)
    with zipfile.ZipFile(_written(path, good)) as archive:
        largest = max(archive.infolist(), key=lambda info: info.file_size)
        weights = good.index(archive.read(largest))
    for place in (*range(0, len(good), len(good) // 60), *range(weights, weights + largest.file_size, 97)):
        path.write_bytes(good[:place] + bytes([good[place] ^ 4]) + good[place + 1 :])
        try:
            model = train(path)
        except ValueError as error:
            assert str(error).startswith(f"checkpoint='{path}'")  # noqa: PT017 (one of two outcomes)
        else:
            assert not weights <= place < weights + largest.file_size
            torch.testing.assert_close(model.state_dict(), expected.state_dict(), rtol=0, atol=0)


def _written(path, content):
    path.write_bytes(content)
    return path


PATHS = {
    "zero byte": ("a\0b", "checkpoint must be the path of a file"),
    "number": (3, "checkpoint must be the path of a file, not 3"),
    "bytes": (b"run.pt", "checkpoint must be the path of a file"),
    "surrogate": ("\ud800", "checkpoint must be the path of a file"),
    "empty": ("", "cannot be read: it is a folder"),
    "folder": (".", "checkpoint='.' cannot be read: it is a folder; name a file in it"),
    "too long": ("a" * 300, "checkpoint='a+' cannot be read .File name too long"),
}


@pytest.mark.parametrize("name", PATHS)
def test_paths_that_no_file_can_have(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path, message = PATHS[name]
    with pytest.raises(ValueError, match=message):
        train(path)
    assert os.listdir(tmp_path) == []


def promised(path):
    return rf"^\[Errno \d+\] checkpoint {re.escape(str(path))} could not be written .*the previous one, if any, is unch"


@pytest.mark.parametrize("below", ["c", "deep/er/c"])
def test_a_parent_that_is_a_file(below, tmp_path):
    (tmp_path / "file").write_text("x")
    path = tmp_path / "file" / below
    with pytest.raises(OSError, match=promised(path)):
        write_atomically(path, b"x")
    seen = []
    with pytest.raises(OSError, match=promised(path)):
        fit(nn.Linear(3, 2), DATA, epochs=1, checkpoint=path, loss=lambda o, t: seen.append(o), progress=False)
    assert seen == []  # told before the first step
    assert (tmp_path / "file").read_text() == "x"


@pytest.mark.parametrize("name", ["a" * 255, "ä" * 127, "a" * 230 + ".pt"])
def test_a_long_name_that_a_file_can_have_is_written(name, tmp_path):
    train(tmp_path / name)
    assert os.listdir(tmp_path) == [name]


def test_a_name_too_long_keeps_the_message(tmp_path):
    with pytest.raises(OSError, match=promised(tmp_path / ("a" * 256))):
        write_atomically(tmp_path / ("a" * 256), b"x")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("call", ["open", "replace", "fsync"])
@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_whatever_fails_the_message_is_kept_and_the_file_unchanged(call, code, monkeypatch, tmp_path):
    path = tmp_path / "run.pt"
    path.write_bytes(b"previous")

    def fail(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, call, fail)
    monkeypatch.setattr(os, "unlink", fail)  # the clean-up fails as well
    with pytest.raises(OSError, match=promised(path)) as caught:
        write_atomically(path, b"new")
    assert caught.value.errno == code
    assert path.read_bytes() == b"previous"


def test_a_folder_that_cannot_be_synced_is_no_failure(monkeypatch, tmp_path):
    def fail(folder):
        raise OSError(errno.EINVAL, "no")

    monkeypatch.setattr(checkpoint, "_sync_folder", fail)
    write_atomically(tmp_path / "run.pt", b"new")
    assert (tmp_path / "run.pt").read_bytes() == b"new"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OSError, match=promised(tmp_path / "run.pt")):
            train(tmp_path / "run.pt")
    finally:
        tmp_path.chmod(0o700)


def test_new_files_have_the_permissions_that_files_get(tmp_path):
    write_atomically(tmp_path / "run.pt", b"x")
    (tmp_path / "plain").write_bytes(b"x")
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("run.pt", "plain")}
    assert len(modes) == 1


WRITER = """
import sys
from pathlib import Path
from compactvision.training.checkpoint import write_atomically
path, letter, size, times = Path(sys.argv[1]), sys.argv[2].encode(), int(sys.argv[3]), int(sys.argv[4])
for _ in range(times):
    write_atomically(path, letter * size)
"""


def test_three_processes_on_one_path(tmp_path):
    path, sizes = tmp_path / "run.pt", {"a": 900_000, "b": 700_000, "c": 10}
    whole = {letter.encode() * size for letter, size in sizes.items()}
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), letter, str(size), "25"], stderr=subprocess.PIPE)
        for letter, size in sizes.items()
    ]
    seen = 0
    while any(writer.poll() is None for writer in writers):
        if path.exists():
            assert path.read_bytes() in whole
            seen += 1
    assert [(writer.wait(), writer.stderr.read()) for writer in writers] == [(0, b"")] * 3
    assert seen > 10
    assert os.listdir(tmp_path) == ["run.pt"]


def test_what_a_killed_writer_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    path = tmp_path / "run.pt"
    code = WRITER.replace(
        "for _", "import os, signal\nos.replace = lambda *paths: print('in', flush=True) or signal.pause()\nfor _"
    )
    command = [sys.executable, "-c", code, str(path), "a", "5", "1"]
    writers = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) for _ in range(2)]
    try:
        assert [writer.stdout.readline() for writer in writers] == [b"in\n"] * 2
        assert len(os.listdir(tmp_path)) == 2
        writers[0].send_signal(signal.SIGKILL)
        writers[0].wait(10)
        time.sleep(0.05)
        write_atomically(path, b"mine")
        assert len(os.listdir(tmp_path)) == 2
    finally:
        for writer in writers:
            writer.kill()
            writer.wait(10)
    write_atomically(path, b"mine again")
    assert os.listdir(tmp_path) == ["run.pt"]


def test_a_writer_whose_new_file_was_taken_for_a_left_one_makes_another(monkeypatch, tmp_path):
    """Between making its file and locking it another writer may come by and remove it."""
    lock, removed = checkpoint.fcntl.flock, []

    def late(descriptor, how):
        if not removed:
            removed.extend(tmp_path.glob(".*"))
            removed[0].unlink()
        lock(descriptor, how)

    monkeypatch.setattr(checkpoint.fcntl, "flock", late)
    write_atomically(tmp_path / "run.pt", b"x")
    assert removed
    assert os.listdir(tmp_path) == ["run.pt"]


def test_without_a_checkpoint_nothing_is_described(monkeypatch):
    monkeypatch.setattr("compactvision.training.description.digest", None)
    monkeypatch.setattr("compactvision.training.description.Reader", None)
    train(None)
