"""The command line: what it prints, and exit statuses 0, 1 and 2 with one line on stderr."""

import json
import subprocess
import sys

import pytest
from compactvision import __main__ as cli
from compactvision import notebooks, records
from compactvision.experiment import collect
from compactvision.experiment.worker import main as worker
from compactvision.experiment.worker import run_seed


@pytest.fixture(autouse=True)
def _quickly(book, monkeypatch):
    """Run seeds in this process; one test below starts real ones."""
    monkeypatch.setattr(
        collect,
        "_one_seed",
        lambda slug, profile, device, seed, recording, *_: run_seed(slug, profile, device, seed, recording=recording),
    )


def test_a_run_prints_values_and_verdicts(capsys, tmp_path):
    assert cli.main(["run", "tiny", "--device", "cpu"]) == 0
    text = capsys.readouterr().out
    assert "seed 0: running tiny.ipynb (quick, cpu)" in text
    for line in (("count", "12"), ("net.accuracy", "0.9"), ("curve", "2 numbers a seed")):
        assert f"  {line[0]:44} {line[1]}\n" in text
    assert "1 reproduced · 0 partly · 0 not reproduced · 0 not run" in text
    assert "a comparison needs three seeds; the quick record has 1" in text
    assert "The error is 5 %." not in text  # a claim of the other profile
    assert not list((tmp_path / "runs").glob("*.json"))


def test_three_seeds_decide_a_comparison_and_are_saved(capsys, book):
    assert cli.main(["run", "tiny", "--seeds", "0", "1", "2", "--save"]) == 0
    text = capsys.readouterr().out
    assert "11.0 ± 1.0 points (3 seeds; detectable: 1.7 points)" in text
    assert "1 seen · 0 partly seen" in text
    record = records.load("tiny", "quick")
    assert record.seeds == [0, 1, 2]
    assert record.values("net.accuracy") == [0.9, 0.91, 0.92]
    assert record.notebook == notebooks.code_digest(
        notebooks.read(book / "notebooks" / "tiny.ipynb"), without=("setup", "skip-run")
    )
    assert cli.main(["list"]) == 0
    assert capsys.readouterr().out.split() == ["tiny", "start", "A", "tiny", "chapter", "records:", "quick"]


def test_the_columns_of_the_list_fit_the_longest_title(capsys, book):
    text = (book / "claims" / "tiny.toml").read_text()
    title = "A chapter whose title has many more than forty-four characters"
    (book / "claims" / "a_slug_that_is_longer.toml").write_text(text.replace('"A tiny chapter"', f'"{title}"'))
    assert cli.main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert {line.index("records:") for line in lines} == {len("a_slug_that_is_longer") + 2 + 9 + 2 + len(title) + 2}


def test_an_exact_claim_that_fails_gives_status_1(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("TINY_COUNT", "13")
    path = tmp_path / "elsewhere.json"
    assert cli.main(["run", "tiny", "--record", str(path)]) == 1
    assert "✗ not reproduced" in capsys.readouterr().out
    assert records.read(path).values("count") == [13]


def test_a_live_seed_outside_the_records_band_fails(capsys, monkeypatch):
    assert cli.main(["run", "tiny", "--save"]) == 0
    monkeypatch.setenv("TINY_COUNT", "13")
    with pytest.raises(AssertionError, match="count = 13 lies above"):
        cli.main(["run", "tiny"])
    assert cli.main(["run", "tiny", "--save"]) == 1  # a new record compares nothing, but the exact claim fails


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "required: COMMAND"),
        (["bake"], "invalid choice: 'bake'"),
        (["run"], "required: SLUG"),
        (["run", "none"], "slug: 'none' is no chapter; known are tiny"),
        (["run", "tiny", "--profile", "slow"], "--profile: invalid choice: 'slow'"),
        (["run", "tiny", "--seeds", "x"], "--seeds: invalid int value: 'x'"),
        (["run", "tiny", "--seeds", "-1"], "seeds: -1"),
        (["run", "tiny", "--device", "tpu"], "device: 'tpu' is not one of"),
        (["run", "tiny", "--save", "--record", "x"], "not allowed with argument"),
        (["execute", "none"], "no notebook notebooks/none.ipynb"),
        (["data", "none"], "name"),
        (["repository", "somewhere"], "url: 'somewhere'"),
    ],
)
def test_bad_arguments_give_one_line_and_status_2(capsys, arguments, words):
    assert cli.main(arguments) == 2
    streams = capsys.readouterr()
    assert streams.out == ""
    assert streams.err.count("\n") == 1
    assert words in streams.err


def test_a_missing_gpu_gives_one_line_and_status_2(capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert cli.main(["run", "tiny", "--device", "cuda"]) == 2
    assert capsys.readouterr().err == ("compactvision: device: 'cuda' was asked for, but torch finds 0 CUDA devices\n")


def test_saving_needs_a_clone(capsys, monkeypatch):
    monkeypatch.setattr("compactvision.records.places.in_checkout", lambda: False)
    assert cli.main(["run", "tiny", "--save"]) == 2
    assert "not in a clone of the book; use --record PATH" in capsys.readouterr().err


def test_help_gives_status_0(capsys):
    assert cli.main(["--help"]) == 0
    assert "scorecard" in capsys.readouterr().out


def test_a_run_that_is_stopped_or_fails_says_so_in_one_line(capsys, monkeypatch):
    def fail(*arguments):
        raise collect.RunError("seed 0 of tiny (quick) failed; the seeds finished before are kept")

    monkeypatch.setattr(collect, "_one_seed", fail)
    assert cli.main(["run", "tiny"]) == 1
    assert capsys.readouterr().err == (
        "compactvision: seed 0 of tiny (quick) failed; the seeds finished before are kept\n"
    )

    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(collect, "_one_seed", stop)
    assert cli.main(["run", "tiny"]) == 130
    assert capsys.readouterr().err == "compactvision: stopped; what is finished is kept\n"


def test_the_scorecard_in_its_forms(capsys, tmp_path):
    assert cli.main(["scorecard"]) == 0
    assert "All chapters" in capsys.readouterr().out
    assert cli.main(["scorecard", "--markdown"]) == 0
    assert capsys.readouterr().out.startswith("Of 1 exact claims ")
    assert cli.main(["scorecard", "--json"]) == 0
    counts = json.loads(capsys.readouterr().out)["tiny"]["counts"]
    assert [counts[kind]["not run"] for kind in ("exact", "trained")] == [1, 1]
    assert cli.main(["scorecard", "--pages", str(tmp_path / "pages")]) == 0
    assert sorted(path.name for path in (tmp_path / "pages").iterdir()) == [
        "board.md",
        "running_picture.md",
        "scorecard.md",
        "standing.md",
        "status.md",
        "verdict_log.md",
    ]


def test_data_and_versions(capsys):
    assert cli.main(["data"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in ("glyphs", "digits", "cifar10", "embedded"))
    assert cli.main(["data", "digits"]) == 0
    text = capsys.readouterr().out
    assert "digits/train: 1,348 images (1, 8, 8), 10 classes" in text
    assert text.count("SHA-256") == 2
    assert cli.main(["versions"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("compactvision ")
    assert all(f"{name} " in text for name in ("python", "torch", "torchvision", "numpy", "repository"))


def test_execute_and_fresh(capsys, monkeypatch, book):
    from nbclient.exceptions import CellExecutionError

    assert cli.main(["fresh"]) == 1
    assert "tiny.ipynb: tiny.ipynb was never executed" in capsys.readouterr().out
    done = []
    monkeypatch.setattr(notebooks, "execute", done.append)
    assert cli.main(["execute"]) == 0
    assert done == [book / "notebooks" / "tiny.ipynb"]

    def fail(path):
        raise CellExecutionError("a traceback", "ValueError", "as told")

    monkeypatch.setattr(notebooks, "execute", fail)
    assert cli.main(["execute", "tiny"]) == 1
    assert "tiny.ipynb: a traceback" in capsys.readouterr().err
    monkeypatch.setattr(notebooks, "stale", lambda path: None)
    monkeypatch.setattr(notebooks, "problems", lambda path: [])
    assert cli.main(["fresh"]) == 0
    assert capsys.readouterr().out == "tiny.ipynb: fresh\n"


def test_the_repository_command_lists_what_it_changed(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(notebooks, "set_repository", lambda url, root: [tmp_path / url])
    assert cli.main(["repository", "there"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'there'}\n"


def test_the_worker_writes_a_record_or_a_traceback(capsys, tmp_path, monkeypatch):
    output = tmp_path / "one.json"
    assert worker(["tiny", "quick", "cpu", "3", str(output), "--recording"]) == 0
    assert records.read(output).seeds == [3]
    output.unlink()
    monkeypatch.setenv("TINY_FAILS", "3")
    assert worker(["tiny", "quick", "cpu", "3", str(output)]) == 1
    assert 'File "tiny.ipynb, code cell 3", line 9, in <module>' in capsys.readouterr().err
    assert not output.exists()


@pytest.mark.slow
def test_a_real_process_fails_with_the_cell_in_its_traceback(book, monkeypatch):
    monkeypatch.setenv("TINY_FAILS", "0")
    command = [sys.executable, "-m", "compactvision", "run", "tiny", "--device", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert 'File "tiny.ipynb, code cell 3", line 9, in <module>' in done.stderr
    assert done.stderr.endswith("compactvision: seed 0 of tiny (quick) failed; the seeds finished before are kept\n")
