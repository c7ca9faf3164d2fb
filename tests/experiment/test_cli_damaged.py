"""Every command with input or output that is damaged, foreign, unreadable or unwritable: one line, status 2."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from compactvision import __main__ as cli
from compactvision import skeleton
from compactvision.experiment import collect
from compactvision.experiment.worker import run_seed
from compactvision.records import places
from compactvision.records.stored import content_digest

DEEP = "[" * 200_000


@pytest.fixture(autouse=True)
def _quickly(book, monkeypatch):
    """Run seeds in this process, in a book that holds a record."""
    monkeypatch.setattr(
        collect,
        "_one_seed",
        lambda slug, profile, device, seed, recording, *_: run_seed(slug, profile, device, seed, recording=recording),
    )
    monkeypatch.setenv("COMPACTVISION_DATA", str(book))


@pytest.fixture
def recorded(book, capsys):
    assert cli.main(["run", "tiny", "--save", "--device", "cpu"]) == 0
    capsys.readouterr()
    return book / "records" / "tiny" / "quick.json"


def refused(capsys, arguments, words=""):
    assert cli.main([str(argument) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    assert error.startswith("compactvision")
    assert words in error
    return error


def as_text(path, text):
    path.write_text(text)


def as_bytes(path, content):
    path.write_bytes(content)


def as_folder(path, _):
    path.unlink()
    path.mkdir()


def as_pipe(path, _):
    path.unlink()
    os.mkfifo(path)


def as_loop(path, _):
    path.unlink()
    path.symlink_to(path)


def as_huge(path, size):
    with path.open("wb") as file:
        file.truncate(size)


FOREIGN = {
    "empty": (as_text, ""),
    "text": (as_text, "hello\nthere [\n"),
    "nested deep": (as_text, DEEP),
    "nested deep in a field": (as_text, '{"a":' * 200_000),
    "a list": (as_text, "[1, 2]"),
    "a number": (as_text, "3"),
    "no UTF-8": (as_bytes, b'{"a": "\xff\xfe"}'),
    "zeros": (as_bytes, bytes(1000)),
    "a folder": (as_folder, None),
    "a pipe": (as_pipe, None),
    "huge": (as_huge, 2**27),
}
ON_RECORDS = (
    ["list"],
    ["scorecard"],
    ["scorecard", "--json"],
    ["scorecard", "--markdown"],
    ["scorecard", "--pages", "p"],
)
ON_CLAIMS = (*ON_RECORDS, ["run", "tiny"], ["run", "tiny", "--save"])
ON_NOTEBOOKS = (["fresh"], ["fresh", "tiny"], ["execute"], ["execute", "tiny"], ["run", "tiny"])


@pytest.mark.parametrize("foreign", FOREIGN)
def test_records(foreign, recorded, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    damage, value = FOREIGN[foreign]
    damage(recorded, value)
    for arguments in ON_RECORDS:
        refused(capsys, arguments, "records/tiny/quick.json")


@pytest.mark.parametrize("foreign", FOREIGN)
def test_claims(foreign, book, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    damage, value = FOREIGN[foreign]
    damage(book / "claims" / "tiny.toml", value)
    for arguments in ON_CLAIMS:
        refused(capsys, arguments, "tiny.toml")


@pytest.mark.parametrize("foreign", FOREIGN)
def test_notebooks(foreign, book, capsys):
    damage, value = FOREIGN[foreign]
    damage(book / "notebooks" / "tiny.ipynb", value)
    for arguments in ON_NOTEBOOKS:
        refused(capsys, arguments, "tiny.ipynb: no notebook")


def test_links_in_a_circle(recorded, book, capsys):
    as_loop(recorded, None)
    refused(capsys, ["queue", "keep", recorded.parent], "quick.json")
    as_loop(book / "_toc.yml", None)
    assert cli.main(["list"]) == 0


CELLS = [
    3,
    {},
    {"cell_type": 3},
    {"cell_type": "code", "source": 3},
    {"cell_type": "code", "source": [3]},
    {"cell_type": "code", "source": "x", "metadata": []},
    {"cell_type": "code", "source": "x", "metadata": {"tags": 3}},
    {"cell_type": "code", "source": "x", "metadata": {"tags": [[]]}},
    {"cell_type": "code", "source": "x", "outputs": 3},
    {"cell_type": "code", "source": "x", "outputs": [3]},
    {"cell_type": "code", "source": "x", "outputs": [{}]},
    {"cell_type": "code", "source": "x", "outputs": [{"output_type": "stream"}]},
    {"cell_type": "code", "source": "x", "outputs": [{"output_type": "stream", "name": "stdout", "text": 3}]},
    {"cell_type": "code", "source": "x", "outputs": [{"output_type": "display_data", "data": []}]},
    {"cell_type": "code", "source": "x", "outputs": [{"output_type": "error", "traceback": "x"}]},
]


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_cells_of_wrong_types(cell, book, capsys):
    path = book / "notebooks" / "tiny.ipynb"
    notebook = json.loads(path.read_text())
    notebook["cells"].append(cell)
    path.write_text(json.dumps(notebook))
    for arguments in ON_NOTEBOOKS:
        refused(capsys, arguments, f"tiny.ipynb: no notebook: cell {len(notebook['cells'])}: ")


@pytest.mark.parametrize("metadata", [[], 3, "x", {"kernelspec": []}, {"kernelspec": 3}, {"compactvision": 3}])
def test_metadata_of_wrong_types(metadata, book, capsys):
    path = book / "notebooks" / "tiny.ipynb"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"metadata": metadata}))
    assert cli.main(["fresh"]) == (1 if isinstance(metadata, dict) else 2)
    assert capsys.readouterr().err.count("\n") == (0 if isinstance(metadata, dict) else 1)


RUNS = [("seed", "0"), ("seconds", "x"), ("values", []), ("values", {"count": "12"}), ("peak_memory_mb", {})]
HEADS = [("bands", []), ("versions", 3), ("versions", []), ("created", None), ("data", {}), ("device", []), ("slug", 3)]
HEADS += [("runs", 3), ("runs", [[]]), ("training", []), ("commit", "x"), ("dirty", None), ("profile", [])]


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize(("field", "value"), [*HEADS, *RUNS], ids=str)
def test_records_of_wrong_types(field, value, signed, recorded, capsys, tmp_path):
    content = json.loads(recorded.read_text())
    (content["runs"][0] if (field, value) in RUNS else content)[field] = value
    if signed:
        content["digest"] = content_digest(content)
    recorded.write_text(json.dumps(content))
    for arguments in (["list"], ["scorecard"], ["scorecard", "--pages", tmp_path / "pages"]):
        refused(capsys, arguments, "records/tiny/quick.json")
    refused(capsys, ["queue", "keep", recorded.parent], "quick.json")


CLAIM = 'id = "count"'
TOML = [
    ("title =", "title = 3 #"),
    ("title =", "title = [] #"),
    ("part =", "part = [] #"),
    ("[chapter]", "[[chapter]]"),
    ("[chapter]", "chapter = 3\n[other]"),
    ("[chapter]", "[chapter]\nmore = 2020-02-30"),
    ("[chapter]", "[chapter]\npaper = 2020-02-03"),
    ("[chapter]", "[chapter]\npaper = " + "[" * 200_000),
    ("rule =", "rule = 3 #"),
    ("rule =", "rule = [] #"),
    ("rule =", 'rule = { value = "count", target = nan } #'),
    ("rule =", 'rule = { value = "count", target = inf } #'),
    ("rule =", f'rule = {{ value = "count", target = {10**400} }} #'),
    ("rule =", 'rule = { value = ["count"], target = 1 } #'),
    ("rule =", 'rule = { value = "count", target = 1, seeds = [] } #'),
    ("kind =", "kind = [] #"),
    ("profile =", "profile = {} #"),
]


@pytest.mark.parametrize(("old", "new"), TOML, ids=lambda text: text[:40])
def test_claims_of_wrong_types(old, new, book, capsys):
    path = book / "claims" / "tiny.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    refused(capsys, ["list"] if "rule" not in old else ["scorecard"])


SLUGS = [
    "../x",
    "../../etc/passwd",
    "a/b",
    "/etc/passwd",
    "tiny\0",
    "",
    ".",
    "..",
    "tiny.ipynb",
    "TINY",
    "x" * 5000,
    "é",
]


@pytest.mark.parametrize("slug", SLUGS, ids=lambda slug: repr(slug[:20]))
@pytest.mark.parametrize("command", ["run", "execute", "fresh"])
def test_slugs_that_are_none(command, slug, book, capsys, tmp_path):
    (tmp_path / "x.ipynb").write_text((book / "notebooks" / "tiny.ipynb").read_text())
    (book / "x.ipynb").write_text((book / "notebooks" / "tiny.ipynb").read_text())
    refused(capsys, [command, slug], "slug: ")


def test_other_names_that_are_none(capsys, tmp_path):
    for arguments in (
        ["data", "../x"],
        ["data", "glyphs\0"],
        ["repository", "https://github.com/a/\0"],
        ["repository", "https://github.com/../x"],
        ["queue", "status", "--only", "../x"],
        ["queue", "run", "--only", "dcff/\0"],
        ["queue", "run", "--minutes", "nan", "--work", tmp_path, "--only", "dcff/vgg16"],
        ["queue", "run", "--minutes", "inf", "--work", tmp_path, "--only", "dcff/vgg16"],
        ["queue", "run", "--processes", "0", "--work", tmp_path, "--only", "dcff/vgg16"],
        ["queue", "run", "--device", "tpu\0", "--work", tmp_path],
        ["run", "tiny", "--device", "cuda:99999999999999999999"],
        ["run", "tiny", "--seeds", "9" * 5000],
        ["run", "tiny", "--seeds", str(2**32)],
        ["run", "tiny", "--seeds", "1", "1"],
        ["scorecard", "--pages", "a\0b"],
        ["queue", "keep", "a\0b"],
        ["run", "tiny", "--record", "a\0b"],
    ):
        refused(capsys, arguments)


@pytest.fixture
def clone(tmp_path, repo):
    root = tmp_path / "clone"
    for name in (
        "_toc.yml",
        "lib/pyproject.toml",
        "book",
        "lib/compactvision/pruning",
        "lib/compactvision/__init__.py",
    ):
        source, target = repo / name, root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    return root


def texts(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


NEW = {"title": "My paper: what it asks", "family": "pruning", "paper": "Doe and Roe 2024"}


@pytest.mark.parametrize(
    "page", ["_toc.yml", "lib/pyproject.toml", "book/intro.md", "book/cut.md", "book/references.bib"]
)
def test_a_new_chapter_in_a_damaged_clone_writes_nothing(page, clone, monkeypatch, capsys):
    monkeypatch.setattr(places, "CHECKOUT", clone)
    (clone / page).write_bytes(b"\xff\xfe" + (clone / page).read_bytes())
    before = texts(clone)
    options = [f"--{name}={value}" for name, value in NEW.items()]
    refused(capsys, ["new", "my_paper", *options], "not UTF-8 text")
    assert texts(clone) == before


@pytest.mark.parametrize("blocked", ["tests", "notebooks", "tests/oracles"])
def test_a_new_chapter_that_cannot_be_written_leaves_everything_as_it_was(blocked, clone, monkeypatch, capsys):
    monkeypatch.setattr(places, "CHECKOUT", clone)
    (clone / blocked).parent.mkdir(exist_ok=True)
    (clone / blocked).write_text("a file where a folder should be")
    before = texts(clone)
    refused(capsys, ["new", "my_paper", *(f"--{name}={value}" for name, value in NEW.items())], blocked)
    assert texts(clone) == before


@pytest.mark.parametrize(
    "change",
    [{"slug": "../x"}, {"slug": "a\0"}, {"slug": "class"}, {"title": "a\0b"}, {"title": "a\x1b[31m"}, {"title": "a\nb"},
     {"paper": "Doe\0 2024"}, {"paper": "Doe\u2028 2024"}, {"title": "\udcff"}, {"family": "../x"}, {"key": "../x"}],
)  # fmt: skip
def test_arguments_of_a_new_chapter(change, clone):
    before = texts(clone)
    with pytest.raises(ValueError, match=r"slug|title|paper|family|cite"):
        skeleton.new(clone, **({"slug": "my_paper", **NEW} | change))
    assert texts(clone) == before


def test_output_that_cannot_be_written(recorded, book, capsys, tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.write_text("x")
    (tmp_path / "pages" / "status.md").mkdir(parents=True)
    for arguments in (
        ["scorecard", "--pages", file],
        ["scorecard", "--pages", file / "deeper"],
        ["scorecard", "--pages", tmp_path / "pages"],
        ["scorecard", "--pages", tmp_path / ("n" * 300)],
        ["run", "tiny", "--record", tmp_path],
        ["run", "tiny", "--record", file / "r.json"],
        ["run", "tiny", "--record", tmp_path / ("n" * 300)],
        ["queue", "run", "--only", "dcff/vgg16", "--device", "cpu", "--work", file],
    ):
        refused(capsys, arguments)
    assert file.read_text() == "x"
    monkeypatch.setenv("COMPACTVISION_CACHE", str(file))
    for arguments in (["run", "tiny"], ["queue", "run", "--only", "dcff/vgg16", "--device", "cpu"]):
        refused(capsys, arguments, str(file))
    shutil.rmtree(book / "records")
    (book / "records").write_text("x")
    refused(capsys, ["run", "tiny", "--save"])


def test_the_record_is_refused_before_the_run(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(collect, "_one_seed", lambda *_: pytest.fail("it ran"))
    refused(capsys, ["run", "tiny", "--record", tmp_path])


def test_pages_in_the_way_are_replaced(recorded, capsys, tmp_path):
    (tmp_path / "status.md").write_bytes(b"\xff\xfe")
    assert cli.main(["scorecard", "--pages", str(tmp_path)]) == 0
    assert (tmp_path / "status.md").read_text().startswith("A record")


def test_no_home(capsys, monkeypatch):
    def homeless(*_):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    monkeypatch.setattr(Path, "expanduser", homeless)
    monkeypatch.delenv("COMPACTVISION_CACHE")
    monkeypatch.delenv("COMPACTVISION_DATA")
    refused(capsys, ["list"], "COMPACTVISION_BOOK: ")
    monkeypatch.delenv("COMPACTVISION_BOOK")
    refused(capsys, ["run", "foundations"], "set COMPACTVISION_CACHE")
    refused(capsys, ["queue", "status", "--only", "dcff/vgg16"], "set COMPACTVISION_CACHE")
    refused(capsys, ["data"], "set COMPACTVISION_DATA")


PROGRESS = ["", DEEP, "[]", '{"steps": "x", "total": 3, "seconds": 1}', '{"total": []}', '{"total": -3}']
PROGRESS += ['{"total": 100}', '{"steps": 1, "total": 1e400, "seconds": 2}', '{"seconds": null}']


@pytest.mark.parametrize("text", PROGRESS, ids=lambda text: text[:30])
def test_the_progress_of_a_job_that_is_damaged(text, capsys, tmp_path):
    for name in ("progress.json", "identity.json", "record.json"):
        path = tmp_path / "trained" / "dcff-vgg16-0" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert cli.main(["queue", "status", "--only", "dcff/vgg16", "--work", str(tmp_path)]) == 0
    assert "0 of 1 jobs are done" in capsys.readouterr().out


def test_a_fault_of_the_program_shows_its_traceback(monkeypatch):
    def fault(asked):
        return {}["a key that is not there"]

    monkeypatch.setitem(cli.COMMANDS, "versions", fault)
    with pytest.raises(KeyError, match="a key that is not there"):
        cli.main(["versions"])


# What a command cannot be asked without.
NEEDED = {
    "run": ["tiny"],
    "new": ["x", "--title=x", "--family=x"],
    "queue": ["commit"],
    "repository": ["x"],
    "shrink": ["--model=x", "--data=x", "--out=x", "--keep-macs=0.5"],
}


@pytest.mark.parametrize("command", list(cli.COMMANDS))
def test_ctrl_c_on_every_command(command, capsys, monkeypatch):
    def interrupted(asked):
        raise KeyboardInterrupt

    monkeypatch.setitem(cli.COMMANDS, command, interrupted)
    assert cli.main([command, *NEEDED.get(command, [])]) == 130
    assert capsys.readouterr().err == "compactvision: stopped; what is finished is kept\n"


SYSTEM = [
    (BrokenPipeError(32, "Broken pipe"), 141),
    (PermissionError(13, "Permission denied", "/a"), 2),
    (OSError(28, "No space left on device"), 2),
    (TimeoutError("a cell"), 2),
    (FileNotFoundError(2, "No such file", "git"), 2),
]


@pytest.mark.parametrize("command", list(cli.COMMANDS))
@pytest.mark.parametrize(("error", "status"), SYSTEM)
def test_what_the_system_refuses_on_every_command(command, error, status, capsys, monkeypatch):
    def fails(asked):
        raise error

    monkeypatch.setitem(cli.COMMANDS, command, fails)
    assert cli.main([command, *NEEDED.get(command, [])]) == status
    assert capsys.readouterr().err.count("\n") == (1 if status == 2 else 0)


def real(*arguments, **options):
    command = [sys.executable, "-m", "compactvision", *arguments]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **options)


@pytest.mark.slow
def test_a_pipe_that_is_closed_is_quiet(recorded):
    for arguments, status in ((["list"], 141), (["--help"], 0)):  # argparse itself is quiet about its help
        read, write = os.pipe()
        os.close(read)
        process = real(*arguments, stdout=write)
        os.close(write)
        assert process.communicate(timeout=60)[1] == ""
        assert process.returncode == status


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_full_disk_behind_stdout_is_one_line(recorded):
    with Path("/dev/full").open("w") as full:
        process = real("list", stdout=full)
        error = process.communicate(timeout=60)[1]
    assert process.returncode == 2
    assert error == "compactvision: [Errno 28] No space left on device\n"


@pytest.mark.slow
def test_ctrl_c_at_a_terminal_is_one_line(book, edit):
    edit(book / "notebooks" / "tiny.ipynb", 3, "import time\nprint('began', flush=True)\ntime.sleep(60)")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored, and so inherited, in the background
    try:
        process = real("run", "tiny", "--device", "cpu", stdout=subprocess.PIPE, start_new_session=True)
    finally:
        signal.signal(signal.SIGINT, before)
    for line in process.stdout:
        if line == "began\n":
            break
    time.sleep(0.2)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all processes of the command
    _, error = process.communicate(timeout=60)
    assert error == "compactvision: stopped; what is finished is kept\n"
    assert process.returncode == 130
