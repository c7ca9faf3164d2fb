"""The fuzzer knows every public function, its valid calls are valid, and a slice of it finds nothing raw from torch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fuzz import judge, trial
from fuzz.calls import AFTERWARDS, CALLS, FREE
from fuzz.pools import PATHS
from fuzz.public import public

FROM_TORCH = 21  # errors from inside torch among the calls of the slice; none is the aim


def test_every_public_function_has_a_valid_call_and_no_other():
    assert set(CALLS) == set(public())
    assert set(AFTERWARDS) | set(FREE) <= set(CALLS)


@pytest.mark.parametrize("name", sorted(CALLS))
def test_valid_calls_are_valid(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trial.run(name, public()[name], trial.arguments(name))


def test_a_slice_of_one_call_a_function(repo, tmp_path):
    """A process of its own, since the fuzzer forks."""
    paths = os.pathsep.join([str(repo / "lib"), str(repo / "tests")])
    command = [
        sys.executable,
        "-m",
        "fuzz",
        "--count",
        "1",
        "--torch",
        str(FROM_TORCH),
        "--list",
        str(tmp_path / "raw"),
    ]
    ran = subprocess.run(command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, timeout=240)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert f"calls of {len(CALLS)} functions, seed 0" in ran.stdout


def test_calls_are_drawn_alike_for_a_seed_alone():
    name = "proximal.soft_threshold"
    assert trial.chosen(name, 9, 3) == trial.chosen(name, 9, 3) != trial.chosen(name, 9, 4)
    assert sum(len(bad) == 2 for bad in trial.chosen(name, 12, 0)) == 2


@pytest.mark.parametrize(
    ("name", "bad", "outcome"),
    [
        ("proximal.soft_threshold", {"kappa": "-1"}, "clear"),
        ("proximal.soft_threshold", {"x": "all nan"}, "nan"),
        ("proximal.soft_threshold", {"x": "not contiguous"}, "accepted"),
        ("models.layers.option_a_shortcut", {"stride": "nan"}, "clear"),
    ],
)
def test_outcomes(name, bad, outcome):
    assert trial.attempt(name, bad)[0] == outcome


def test_bad_paths_are_made_for_the_call(tmp_path, monkeypatch):
    """A function that writes may not write into the checkout."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for label, make in PATHS.items():
        given = Path(make(Path("record.json")))
        assert not given.is_absolute() or given.is_relative_to(tmp_path), label


def _caught(function, *arguments):
    with pytest.raises(Exception) as caught:  # noqa: PT011
        function(*arguments)
    return caught.value


def test_errors_from_torch_from_a_line_of_the_package_and_from_python():
    import torch
    from compactvision import proximal
    from compactvision.measure import parameters

    assert judge.error(parameters, ["None"], _caught(parameters, None)) in ("raw type", "clear")
    assert judge.error(torch.nn.functional.linear, ["flat"], _caught(torch.nn.Linear(2, 2), torch.ones(3))) == "torch"
    assert judge.error(proximal.soft_threshold, ["-1"], _caught(proximal.soft_threshold, torch.ones(2), -1)) == "clear"


def test_a_call_without_end_and_nan_out_of_numbers_are_seen(monkeypatch):
    import inspect

    def endless(x: int) -> None:
        while True:
            pass

    def broken(x: int) -> float:
        return float("nan")

    for function, outcome in ((endless, "hang"), (broken, "nonsense")):
        monkeypatch.setattr(trial, "public", lambda function=function: {"f": function})
        monkeypatch.setitem(trial.CALLS, "f", lambda: {"x": 1})
        monkeypatch.setattr(trial, "SECONDS", 0.2)
        assert trial.attempt("f", {"x": "0"})[0] == outcome
    accepted = judge.accepted(inspect.signature(endless).parameters, {"x": "-1"}, {"x": 1}, 0)
    assert accepted == "nonsense"
