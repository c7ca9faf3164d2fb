"""The list, and the whole of it tried on the CPU with tiny numbers."""

import os
import subprocess

import pytest
from compactvision import claims, records
from compactvision.__main__ import main
from compactvision.queue import arms
from compactvision.queue.entries import ENTRIES, FULL, TRAINED, find

NOT_PREPARED = {  # claims about training that need other data than CIFAR-10, or what is not published
    "afidaf": {"imagenet-affnet", "imagenet-afidaf", "coco-afidaf", "voc-afidaf", "imagenet-hafidaf"},
    "admm_tensor_train": {"resnet20-cifar100", "resnet32-cifar100", "resnet18-imagenet", "video"},
    "autobot": {"resnet50-cut", "resnet50-tuned"},
    "collaborative_compression": {"resnet50-drop"},
    "dcff": {"resnet50-step-accuracy", "resnet50-cosine-accuracy"},
    "nat_plus_plus": {"papers-schedule"},
    "rarts": {"sixty-per-cent", "cifar-accuracy", "imagenet-transfer", "nats-bench"},
    "rvsm_sparsity": {"papers-accuracy", "papers-zeros"},
    "sidt": {"paper-cifar100", "paper-coco"},
    "u_mixformer": {"ade20k-b0", "cityscapes-b0", "robustness"},
    "unit_ablation": {"places-and-imagenet"},
    "xgrad_cam": {"imagenet-sensitivity", "imagenet-localisation"},
}
TRAININGS = [entry for entry in ENTRIES if entry.kind == TRAINED]
NOTEBOOKS = [entry for entry in ENTRIES if entry.kind == FULL]


def test_entries_are_named_once_and_fit_on_the_card():
    assert len({entry.name for entry in ENTRIES}) == len(ENTRIES)
    assert {entry.kind for entry in ENTRIES} == {TRAINED, FULL}
    for entry in ENTRIES:
        assert 0 < entry.memory < 70
        assert entry.minutes > 0
        assert find(entry.name) is entry
        assert len(set(entry.seeds)) == len(entry.seeds) > 0
    with pytest.raises(ValueError, match="name: 'dcff/vgg17' is no entry"):
        find("dcff/vgg17")


def test_what_an_entry_needs_stands_before_it():
    for place, entry in enumerate(ENTRIES):
        for name in entry.needs:
            assert ENTRIES.index(find(name)) < place
            assert set(find(name).needs) <= set(entry.needs)
            assert set(entry.seeds) <= set(find(name).seeds)


def test_every_training_has_an_arm_with_files_that_exist():
    for entry in TRAININGS:
        arm = arms.find(entry)
        assert len(records.method_digest(arm.files)) == 64
        assert arm.recipe.source
    with pytest.raises(ValueError, match="no table of arms for 'xgrad_cam'"):
        arms.find(find("xgrad_cam/full"))


@pytest.mark.parametrize(
    ("given", "command"),
    [
        (["gpu-queue"], "queue run --minutes 9"),
        (
            ["gpu-queue", "OUT=o", "MINUTES=4", "WORK=w", "ONLY=a/b c/d"],
            "queue run --minutes 4 --out o --work w --only a/b c/d",
        ),
        (["gpu-queue", "DRY=1"], "queue run --dry"),
        (["gpu-status", "OUT=o"], "queue status --out o"),
    ],
)
def test_make_calls_it_with_the_python_that_is_there(repo, given, command):
    words = _dry_make(repo, *given).split()
    assert " ".join(words[words.index("queue") :]) == command
    bare = _dry_make(repo, *given, "VENV=none", "PYTHON=python3")
    assert bare.startswith("PYTHONPATH=lib python3 -m compactvision queue")


def _dry_make(repo, *arguments):
    """Return the commands that make would run, also where the tests themselves run under make."""
    environment = {
        name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    }
    command = ["make", "--dry-run", "--no-print-directory", *arguments]
    done = subprocess.run(command, cwd=repo, env=environment, capture_output=True, text=True, check=True)
    return done.stdout


def test_the_whole_list_runs_dry_and_would_answer_the_claims(tmp_path, capsys):
    out = tmp_path / "out"
    names = [entry.name for entry in TRAININGS]
    assert main(["queue", "run", "--dry", "--out", str(out), "--only", *names]) == 0, capsys.readouterr().out
    assert f"tried {len(names)} entries, 0 failed" in capsys.readouterr().out
    values = {}
    for entry in TRAININGS:
        record = records.read(out / "records" / entry.slug / f"dry-{entry.arm}.json")
        assert (record.profile, record.training.arm, record.seeds) == ("dry", entry.arm, [0])
        values.setdefault(entry.slug, set()).update(record.names)
    for slug in claims.slugs():
        chapter = claims.load(slug)
        missing = {
            claim.id
            for claim in chapter.claims
            if claim.profile == "trained" and not set(claim.rule.names) <= values.get(slug, set())
        }
        assert missing == NOT_PREPARED.get(slug, set())


def test_the_notebooks_of_the_list_start(tmp_path, capsys):
    names = [entry.name for entry in NOTEBOOKS]
    status = main(["queue", "run", "--dry", "--out", str(tmp_path), "--only", *names])
    assert status == 0, capsys.readouterr().out
    assert len(list(tmp_path.rglob("dry-full.json"))) == len(names)
