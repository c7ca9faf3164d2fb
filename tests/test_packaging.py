"""What `pip install` of the package alone brings: licence, README, links, types, the command, lines that run."""

import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from email import message_from_string
from pathlib import Path

import compactvision
import pytest

USER_SCRIPT = """from compactvision import models, surgery

model = models.resnet20()
graph = surgery.channel_graph(model, (3, 32, 32))
plan = surgery.make_plan(graph, surgery.criteria.l1(), keep=0.5)
small = surgery.prune(model, plan)
reveal_type(surgery.prune)
"""
BUILD = """import sys
from setuptools import build_meta
out = sys.argv[1]
build_meta.build_wheel(out)
build_meta.build_sdist(out)
"""


@pytest.fixture(scope="module")
def built(repo, tmp_path_factory):
    """Folder with the wheel and the source archive of a clean copy."""
    folder = tmp_path_factory.mktemp("package")
    clean = shutil.ignore_patterns("__pycache__", "*.egg-info", "build", ".*")
    source = shutil.copytree(repo / "lib", folder / "lib", ignore=clean)
    out = folder / "dist"
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", BUILD, out], cwd=source, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def wheel(built):
    """Name of each file of the wheel, without the version, and its bytes."""
    (path,) = built.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        return {re.sub(r"^compactvision-[^/]*\.", "", name): archive.read(name) for name in archive.namelist()}


def test_the_wheel_says_what_it_is(wheel, repo):
    metadata = message_from_string(wheel["dist-info/METADATA"].decode())
    assert metadata["Version"] == compactvision.__version__
    assert metadata["License-Expression"] == "MIT"
    assert wheel["dist-info/licenses/LICENSE"] == (repo / "LICENSE").read_bytes()
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_payload() == (repo / "lib" / "README.md").read_text()
    links = dict(link.split(", ") for link in metadata.get_all("Project-URL"))
    assert set(links) == {"Repository", "Issues", "Discussions"}
    assert wheel["dist-info/entry_points.txt"].decode().split() == [
        "[console_scripts]",
        "compactvision",
        "=",
        "compactvision.__main__:main",
    ]


def test_the_wheel_holds_everything_that_git_tracks(wheel, repo):
    listed = subprocess.run(
        ["git", "-C", repo / "lib", "ls-files", "compactvision"], capture_output=True, text=True, check=False
    )
    if listed.returncode != 0:
        pytest.skip("not a git working copy")
    there = {name for name in listed.stdout.split() if (repo / "lib" / name).is_file()}
    assert there
    assert there - set(wheel) == set()


def test_the_source_archive_can_be_built_from(built, repo):
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "README.md", "pyproject.toml", "compactvision/py.typed"} <= names


def test_a_users_script_is_typed(wheel, tmp_path):
    """Checked against the wheel in an environment of its own: that is where the marker `py.typed` counts."""
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    site, scripts = (Path(sysconfig.get_path(name, vars={"base": str(environment)})) for name in ("purelib", "scripts"))
    for name, content in wheel.items():
        if name.startswith("compactvision/"):
            (site / name).parent.mkdir(parents=True, exist_ok=True)
            (site / name).write_bytes(content)
    (tmp_path / "script.py").write_text(USER_SCRIPT)
    command = [sys.executable, "-m", "mypy", "--strict", "--python-executable", scripts / "python"]
    done = subprocess.run([*command, "script.py"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (revealed,) = re.findall(r'Revealed type is "(.*)"', done.stdout)
    assert revealed.startswith("def (model: ")
    assert "plan: compactvision.surgery.plan.Plan" in revealed


@pytest.mark.parametrize("page", ["lib/README.md", "book/how-to-use.md"])
def test_the_first_lines_on_the_page_run(page, repo, capsys):
    blocks = re.findall(
        r"^```python\n(.*?)^```", (repo / page).read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE
    )
    assert blocks
    for block in blocks:
        exec(compile(block, page, "exec"), {})
    assert re.search(r"\d", capsys.readouterr().out)


def test_the_sample_on_the_first_page_makes_a_network_that_is_good_and_small(repo):
    text = (repo / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    held = {}
    exec(compile(block, "README.md", "exec"), held)
    report = held["report"]
    assert report.budget["met"]
    assert report["tuned"].macs <= 0.5 * report["whole"].macs
    assert report["tuned"].metric >= 0.88  # the whole network has 0.95, and one right in ten is chance


def test_what_pages_tell_readers_to_install_is_this_version(repo):
    version = tomllib.loads((repo / "lib" / "pyproject.toml").read_text())["project"]["version"]
    for page in ("README.md", "_config.yml"):
        tags = re.findall(r"@v([\d.]+)#subdirectory=lib", (repo / page).read_text(encoding="utf-8"))
        assert tags, page
        assert set(tags) == {version}, page
