"""The three descriptions of the environment agree with one another and with what is installed."""

import re
import tomllib
from importlib import metadata

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

FIXED = {"jupyter-book", "torch", "torchvision", "matplotlib", "seaborn", "nbval", "tensorly", "captum", "scikit-image"}


def _normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.fixture(scope="module")
def lock(repo):
    """Pinned versions of requirements.txt; a package may have one for each Python."""
    pins = {}
    for line in (repo / "requirements.txt").read_text().splitlines():
        requirement = Requirement(line)
        (specifier,) = requirement.specifier
        assert specifier.operator == "==", line
        pins.setdefault(_normal(requirement.name), []).append((Version(specifier.version), requirement.marker))
    return pins


@pytest.fixture(scope="module")
def project(repo):
    return tomllib.loads((repo / "lib/pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def conda(repo):
    """Name -> version of environment.yml, the pip part included; None where it leaves the version open."""
    dependencies = yaml.safe_load((repo / "environment.yml").read_text())["dependencies"]
    (pip,) = [entry["pip"] for entry in dependencies if isinstance(entry, dict)]
    lines = [entry for entry in dependencies if isinstance(entry, str)] + [x for x in pip if not x.startswith("-")]
    pins = dict([*re.split("=+", line, maxsplit=1), None][:2] for line in lines)
    return {"torch" if name == "pytorch-cpu" else _normal(name): version for name, version in pins.items()}


def _project_requirements(project):
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    requirements = [Requirement(line) for group in groups for line in group]
    return [requirement for requirement in requirements if requirement.name != project["name"]]  # extras of extras


def test_every_requirement_of_the_package_is_locked_within_its_range(project, lock):
    for requirement in _project_requirements(project):
        assert _normal(requirement.name) in lock, requirement
        for version, _ in lock[_normal(requirement.name)]:
            assert requirement.specifier.contains(version), f"{requirement} against {version}"


def test_conda_names_the_locked_versions(conda, lock):
    for name, version in conda.items():
        if name in {"python", "pip"}:
            continue
        assert version is not None, f"{name} has no version in environment.yml"
        assert {Version(version)} == {pin for pin, _ in lock[name]}, name


def test_conda_pins_the_exact_part_of_the_package(conda, project):
    exact = {_normal(r.name): str(r.specifier)[2:] for r in _project_requirements(project) if "==" in str(r.specifier)}
    assert exact
    assert exact.items() <= conda.items()


def test_the_packages_that_were_asked_for_are_in_all_three(conda, lock, project):
    assert set(conda) >= FIXED
    assert set(lock) >= FIXED
    assert {_normal(r.name) for r in _project_requirements(project)} >= FIXED


def test_no_upper_bound_where_colab_brings_its_own(project):
    for requirement in map(Requirement, project["dependencies"]):
        for specifier in requirement.specifier:
            assert specifier.operator == ">=", (
                f"{requirement}: a reader's own {requirement.name} must be allowed to stay"
            )


def test_torch_is_the_agreed_one(lock):
    assert [str(v) for v, _ in lock["torch"]] == ["2.11.0"]
    assert [str(v) for v, _ in lock["torchvision"]] == ["0.26.0"]


def test_lock_names_no_address(repo):
    assert not re.search(r"https?:|file:|--|@", (repo / "requirements.txt").read_text())


@pytest.mark.parametrize("name", sorted(FIXED | {"numpy", "sphinx", "myst-nb", "pytest"}))
def test_what_is_installed_is_what_is_locked(lock, name):
    pins = [version for version, marker in lock[name] if marker is None or marker.evaluate()]
    assert [Version(Version(metadata.version(name)).public)] == pins
