"""The classic sets, on tiny copies in torchvision's layout that are then broken in every way."""

import gzip
import hashlib
import os
import pickle
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from compactvision import data
from compactvision.data import DataError, integrity, official
from torchvision import datasets

NOTE = "a tiny copy\nfor tests\n"


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    """Let every set have 20 training and 4 test images, and forget which files were checked."""
    for name, source in list(official.SOURCES.items()):
        monkeypatch.setitem(official.SOURCES, name, replace(source, sizes=(20, 4)))
    monkeypatch.setattr(integrity, "_checked", set())


def write_cifar10(root):
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        entry = {
            "data": rng.integers(0, 256, (4, 3072), dtype=np.uint8),
            "labels": [int(x) for x in rng.integers(0, 10, 4)],
        }
        (folder / name).write_bytes(pickle.dumps(entry, protocol=2))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}, protocol=2))
    return folder


def write_cifar100(root):
    folder = root / "cifar-100-python"
    folder.mkdir(parents=True)
    for name, n in (("train", 20), ("test", 4)):
        entry = {"data": np.full((n, 3072), n, dtype=np.uint8), "fine_labels": list(range(n)), "coarse_labels": [0] * n}
        (folder / name).write_bytes(pickle.dumps(entry, protocol=2))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": [str(i) for i in range(100)]}, protocol=2))
    return folder


def write_mnist(root, name="MNIST"):
    folder = root / name / "raw"
    folder.mkdir(parents=True)
    for part, n in (("train", 20), ("t10k", 4)):
        pixels = (np.arange(n * 784) % 256).astype(np.uint8)
        head = b"".join(size.to_bytes(4, "big") for size in (n, 28, 28))
        (folder / f"{part}-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03" + head + pixels.tobytes())
        labels = bytes(i % 10 for i in range(n))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01" + n.to_bytes(4, "big") + labels)
    return folder


def sign(folder, note=NOTE):
    """Leave SHA256SUMS and PROVENANCE.txt as the offline copies carry them."""
    lines = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in sorted(folder.iterdir())]
    (folder / "SHA256SUMS").write_text("".join(lines))
    (folder / "PROVENANCE.txt").write_text(note)


@pytest.fixture
def cifar(tmp_path):
    folder = write_cifar10(tmp_path)
    sign(folder)
    return folder


def load(folder, name="cifar10", **options):
    root = folder.parents[1] if folder.name == "raw" else folder.parent
    return data.load(name, root=root, download=False, **options)


def test_cifar10_as_torchvision_reads_it(cifar, monkeypatch):
    monkeypatch.setattr(datasets.CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr(datasets.CIFAR10, "_load_meta", lambda self: None)
    for train, part in ((True, "train"), (False, "test")):
        ours, theirs = load(cifar, train=train), datasets.CIFAR10(cifar.parent, train=train)
        assert np.array_equal(ours.images.permute(0, 2, 3, 1).numpy(), theirs.data)
        assert ours.targets.tolist() == theirs.targets
        assert ours.classes == tuple("abcdefghij")
        assert ours.name == f"cifar10/{part}"
        assert ours.provenance == "a tiny copy for tests"


def test_cifar100_and_mnist(tmp_path):
    sign(write_cifar100(tmp_path))
    fine = data.load("cifar100", root=tmp_path, train=False, download=False)
    assert fine.targets.tolist() == [0, 1, 2, 3]
    assert (fine.num_classes, int(fine.images.min()), int(fine.images.max())) == (100, 4, 4)
    sign(write_mnist(tmp_path))
    digits = data.load("mnist", root=tmp_path, download=False)
    assert digits.images.shape == (20, 1, 28, 28)
    assert digits.images.flatten()[:300].tolist() == [i % 256 for i in range(300)]
    assert digits.targets.tolist() == [i % 10 for i in range(20)]
    assert digits.classes == tuple("0123456789")
    write_mnist(tmp_path, "FashionMNIST")  # no digests of the unpacked files are published
    clothes = data.load("fashion_mnist", root=tmp_path, train=False, download=False)
    assert clothes.classes[9] == "Ankle boot"
    assert clothes.provenance == "official files of FashionMNIST (sizes checked)"


def test_official_digests_are_used_where_the_folder_has_none(tmp_path, monkeypatch):
    folder = write_cifar10(tmp_path)
    with pytest.raises(
        DataError, match=r"data_batch_1 .* does not match the official md5: delete .*cifar-10-batches-py and"
    ):
        load(folder)
    found = {file.name: hashlib.md5(file.read_bytes()).hexdigest() for file in folder.iterdir()}
    monkeypatch.setitem(official.SOURCES, "cifar10", replace(official.SOURCES["cifar10"], digests=found))
    assert load(folder).provenance == "official files of CIFAR10 (md5 checked)"


def test_the_table_of_digests_is_torchvisions():
    for name, theirs in (("cifar10", datasets.CIFAR10), ("cifar100", datasets.CIFAR100)):
        source = official.SOURCES[name]
        expected = dict(
            (*map(tuple, theirs.train_list + theirs.test_list), (theirs.meta["filename"], theirs.meta["md5"]))
        )
        assert source.digests == expected
        assert source.folder == theirs.base_folder
    assert tuple(datasets.FashionMNIST.classes) == official._FASHION


def test_digests_are_computed_once(cifar, monkeypatch):
    load(cifar)
    monkeypatch.setattr(hashlib, "file_digest", lambda *_: pytest.fail("checked twice"))
    assert len(load(cifar, train=False)) == 4


def test_a_file_changed_after_the_check_is_checked_again(cifar):
    load(cifar)
    file = cifar / "data_batch_2"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    os.utime(file, ns=(1, 1))
    with pytest.raises(DataError, match=r"data_batch_2 .* is damaged or truncated"):
        load(cifar)


def drop(name):
    return lambda folder: (folder / name).unlink()


def truncate(name):
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-100])


def damage(name):
    def change(folder):
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] ^= 1
        (folder / name).write_bytes(bytes(content))

    return change


def rewrite(name, old, new):
    return lambda folder: (folder / name).write_text((folder / name).read_text().replace(old, new))


def omit(name):
    def change(folder):
        lines = (folder / "SHA256SUMS").read_text().splitlines(keepends=True)
        (folder / "SHA256SUMS").write_text("".join(line for line in lines if name not in line))

    return change


def add(line):
    return lambda folder: (folder / "SHA256SUMS").write_text((folder / "SHA256SUMS").read_text() + line)


DAMAGES = {
    "missing": (drop("data_batch_3"), r"data_batch_3 is missing: unpack the set again"),
    "truncated": (
        truncate("test_batch"),
        r"test_batch \(18,586 bytes\) is damaged or truncated.*SHA256SUMS: unpack",
    ),
    "damaged": (damage("data_batch_5"), r"data_batch_5 .* is damaged"),
    "meta": (damage("batches.meta"), r"batches\.meta .* is damaged"),
    "no sums": (drop("SHA256SUMS"), r"SHA256SUMS is missing: unpack"),
    "no note": (drop("PROVENANCE.txt"), r"PROVENANCE\.txt is missing: unpack"),
    "empty note": (lambda folder: (folder / "PROVENANCE.txt").write_text(" \n"), r"PROVENANCE\.txt is empty"),
    "omitted": (omit("test_batch"), r"SHA256SUMS does not list test_batch"),
    "added": (add("0" * 64 + "  extra\n"), r"extra is missing"),
    "climbing": (add("0" * 64 + "  ../extra\n"), r"SHA256SUMS, line 8 is not"),
    "no digest": (add("hello\n"), r"SHA256SUMS, line 8 is not '<sha256>  <file name>'"),
    "short digest": (rewrite("SHA256SUMS", "  batches", "0  batches"), r"SHA256SUMS, line 1 is not"),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_damage_names_file_and_remedy(cifar, kind):
    change, message = DAMAGES[kind]
    change(cifar)
    for train in (True, False):
        with pytest.raises(DataError, match=message) as caught:
            load(cifar, train=train)
        assert str(caught.value).count("\n") == 0
        assert str(cifar) in str(caught.value)


def test_an_unreadable_file(cifar, monkeypatch):
    real = Path.open

    def refuse(self, *args, **kwargs):
        if self.name == "data_batch_4":
            raise PermissionError(13, "Permission denied", str(self))
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match=r"data_batch_4 cannot be read \(Permission denied\): check its permissions"):
        load(cifar)


class Trap:
    """Something a pickle must not be able to call."""

    def __reduce__(self):
        return sys.exit, (3,)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps(Trap()), r"data_batch_1 is not a readable pickle \(it asks for sys\.exit\)"),
        (b"", "data_batch_1 is not a readable pickle"),
        (b"not a pickle", "data_batch_1 is not a readable pickle"),
        (
            pickle.dumps({"data": np.zeros((4, 3072), np.uint8)}),
            r"data_batch_1 has not the layout of CIFAR10 \(KeyError",
        ),
        (
            pickle.dumps({"data": np.zeros((4, 7), np.uint8), "labels": []}),
            "data_batch_1 has not the layout of CIFAR10",
        ),
        (pickle.dumps([1]), "data_batch_1 has not the layout"),
        (
            pickle.dumps({"data": np.zeros((3, 3072), np.uint8), "labels": [0, 0, 0]}),
            r"holds 19 images \(3, 32, 32\), 19 labels and 10 classes instead of 20 images",
        ),
        (
            pickle.dumps({"data": np.zeros((4, 3072), np.uint8), "labels": [0, 0, 0, 10]}),
            "has labels from 0 to 10 for 10",
        ),
    ],
)
def test_files_that_match_their_digests_but_are_not_the_set(tmp_path, content, message):
    folder = write_cifar10(tmp_path)
    (folder / "data_batch_1").write_bytes(content)
    sign(folder)
    with pytest.raises(DataError, match=message):
        load(folder)


def test_truncated_idx_files(tmp_path):
    folder = write_mnist(tmp_path, "FashionMNIST")
    for keep in (0, 3, 9, 500):
        file = folder / "train-images-idx3-ubyte"
        content = file.read_bytes()
        file.write_bytes(content[:keep])
        with pytest.raises(
            DataError, match=rf"train-images-idx3-ubyte \({keep} bytes\) is damaged or truncated: delete"
        ):
            load(folder, "fashion_mnist")
        file.write_bytes(content)
    (folder / "train-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x03" + (20).to_bytes(4, "big") + bytes(20))
    with pytest.raises(DataError, match="train-labels-idx1-ubyte"):
        load(folder, "fashion_mnist")


def test_missing_without_download(tmp_path):
    with pytest.raises(
        DataError, match=r"is missing or incomplete and download=False: .*COMPACTVISION_DATA to a folder"
    ):
        data.load("cifar100", root=tmp_path, download=False)
    assert list(tmp_path.iterdir()) == []


def test_offline_download_names_folder_and_remedy(tmp_path, monkeypatch):
    from urllib.error import URLError

    def offline(*args, **kwargs):
        raise URLError("Name or service not known")

    monkeypatch.setattr(datasets, "CIFAR10", offline)
    with pytest.raises(
        DataError, match=r"cifar10: download to .*new failed .*not known.*check the connection"
    ) as caught:
        data.load("cifar10", root=tmp_path / "new")
    assert "COMPACTVISION_DATA" in str(caught.value)


def test_a_damaged_download(tmp_path, monkeypatch):
    def half(*args, **kwargs):
        raise RuntimeError("File not found or corrupted.")

    monkeypatch.setattr(datasets, "CIFAR10", half)
    with pytest.raises(DataError, match=r"download to .* failed \(File not found or corrupted\.\)"):
        data.load("cifar10", root=tmp_path)
    monkeypatch.setattr(datasets, "CIFAR10", lambda *args, **kwargs: None)
    with pytest.raises(DataError, match=r"the download left .* incomplete"):
        data.load("cifar10", root=tmp_path)


def test_read_only_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    monkeypatch.setattr(datasets, "CIFAR10", lambda *args, **kwargs: pytest.fail("tried to download"))
    with pytest.raises(DataError, match=r"cifar10: cannot write to .*: make it writable, or set COMPACTVISION_DATA"):
        data.load("cifar10", root=tmp_path)


def test_a_read_only_folder_with_the_set_is_enough(cifar, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(30, "Read-only file system")

    for name in ("mkdir", "write_bytes", "write_text", "touch"):
        monkeypatch.setattr(Path, name, refuse)
    assert len(data.load("cifar10", root=cifar.parent)) == 20


def test_download_fills_the_folder(tmp_path, monkeypatch):
    calls = []

    def fetch(root, download):
        calls.append((root, download))
        sign(write_cifar10(Path(root)))

    monkeypatch.setattr(datasets, "CIFAR10", fetch)
    for _ in range(2):
        assert len(data.load("cifar10", root=tmp_path / "a" / "b")) == 20
    assert calls == [(tmp_path / "a" / "b", True)]


def test_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("COMPACTVISION_DATA", str(tmp_path))
    assert data.folder() == tmp_path
    monkeypatch.setenv("COMPACTVISION_DATA", str(tmp_path / "typo"))
    with pytest.raises(
        DataError, match=r"COMPACTVISION_DATA=.*typo is not a folder: make it, correct the path, or unset"
    ):
        data.load("cifar10")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("COMPACTVISION_DATA", str(tmp_path / "file"))
    with pytest.raises(DataError, match="is not a folder"):
        data.describe("mnist")
    with pytest.raises(DataError, match=r"root .*file is not a folder"):
        data.load("mnist", root=tmp_path / "file")
    monkeypatch.delenv("COMPACTVISION_DATA")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data.folder() == tmp_path / ".cache" / "compactvision"


def test_torchvision_reads_the_same_mnist(tmp_path):
    folder = write_mnist(tmp_path)
    sign(folder)
    for file in folder.glob("*ubyte"):
        with gzip.open(f"{file}.gz", "wb") as packed:
            packed.write(file.read_bytes())
    theirs = datasets.MNIST(tmp_path, train=False)
    ours = data.load("mnist", root=tmp_path, train=False, download=False)
    assert torch.equal(ours.images[:, 0], theirs.data)
    assert torch.equal(ours.targets, theirs.targets)


def test_real_cifar10(cifar_root, monkeypatch):
    monkeypatch.setitem(official.SOURCES, "cifar10", replace(official.SOURCES["cifar10"], sizes=(50_000, 10_000)))
    test = data.load("cifar10", train=False, root=cifar_root, download=False)
    assert torch.bincount(test.targets).tolist() == [1000] * 10
    assert test.targets[:8].tolist() == [3, 8, 8, 0, 6, 6, 1, 6]  # cat, ship, ship, plane, frog, frog, car, frog
    assert test.classes[3] == "cat"
    mean = test.images.double().mean(dim=(0, 2, 3)) / 255
    torch.testing.assert_close(mean, torch.tensor([0.4942, 0.4851, 0.4504]).double(), atol=2e-4, rtol=0)
