"""The repository's address is changed in every tracked text file, in all its forms, and nowhere else."""

import subprocess

import pytest
from compactvision._repository import REPOSITORY, repository_url
from compactvision.notebooks import set_repository

OWNER, NAME = REPOSITORY.removeprefix("https://github.com/").split("/")


@pytest.fixture
def clone(tmp_path):
    """Return a working copy with the address in every form in which the book writes it."""
    files = {
        "lib/compactvision/_repository.py": f'REPOSITORY = "{REPOSITORY}"\n',
        "README.md": f"[book](https://{OWNER}.github.io/{NAME}/) [clone]({REPOSITORY}.git) {REPOSITORY}/issues\r\n",
        "notebooks/x.ipynb": f'"git+{REPOSITORY}@v1#subdirectory=lib" '
        f"https://colab.research.google.com/github/{OWNER}/{NAME}/blob/main/x.ipynb",
        "binder.md": f"https://mybinder.org/v2/gh/{OWNER}/{NAME}/main https://raw.githubusercontent.com/{OWNER}/{NAME}/a",
        "others.md": f"{REPOSITORY}-data {OWNER}/{NAME} https://github.com/{OWNER}/other",
        ".gitignore": "ignored.md\n",
        "ignored.md": REPOSITORY,
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
    (tmp_path / "picture.png").write_bytes(b"\xff\xfe" + REPOSITORY.encode())
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    return tmp_path


@pytest.mark.parametrize("ending", ["", "/", ".git"])
def test_every_form_is_changed(clone, ending):
    changed = set_repository(f"https://github.com/You/my.book{ending}", clone)
    assert sorted(path.as_posix() for path in changed) == [
        "README.md",
        "binder.md",
        "lib/compactvision/_repository.py",
        "notebooks/x.ipynb",
    ]
    new = "https://github.com/You/my.book"
    assert (clone / "lib/compactvision/_repository.py").read_text() == f'REPOSITORY = "{new}"\n'
    assert (clone / "README.md").read_bytes().decode() == (
        f"[book](https://you.github.io/my.book/) [clone]({new}.git) {new}/issues\r\n"
    )
    assert (clone / "notebooks/x.ipynb").read_text() == (
        f'"git+{new}@v1#subdirectory=lib" https://colab.research.google.com/github/You/my.book/blob/main/x.ipynb'
    )
    assert (clone / "binder.md").read_text() == (
        "https://mybinder.org/v2/gh/You/my.book/main https://raw.githubusercontent.com/You/my.book/a"
    )
    assert REPOSITORY in (clone / "ignored.md").read_text()
    assert REPOSITORY.encode() in (clone / "picture.png").read_bytes()
    assert set_repository(new, clone) == []


def test_there_and_back_again(clone):
    before = {path: path.read_bytes() for path in clone.rglob("*.*") if path.is_file()}
    set_repository("https://github.com/you/book", clone)
    set_repository(REPOSITORY, clone)
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize(
    "url",
    [
        "",
        "you/book",
        "http://github.com/you/book",
        "https://gitlab.com/you/book",
        "https://github.com/you",
        "https://github.com/you/book/tree/main",
        "https://github.com/-you/book",
        "https://github.com/you/bo ok",
        "https://github.com/you/..",
        'https://github.com/you/"book',
    ],
)
def test_other_addresses_are_refused(clone, url):
    with pytest.raises(ValueError, match="is not of the form"):
        set_repository(url, clone)


def test_elsewhere_it_says_that_a_clone_is_needed(clone, tmp_path_factory):
    with pytest.raises(ValueError, match=r"_repository\.py is not there"):
        set_repository("https://github.com/you/book", tmp_path_factory.mktemp("empty"))
    (clone / ".git").rename(clone / "git")
    with pytest.raises(ValueError, match="git knows no working copy here"):
        set_repository("https://github.com/you/book", clone)


def test_the_address_of_today():
    assert repository_url() == REPOSITORY
    assert REPOSITORY.startswith("https://github.com/")
