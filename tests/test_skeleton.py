"""`compactvision new`: what it writes is in form from the first minute, and what it leaves open is listed."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from compactvision import __main__ as cli
from compactvision import skeleton
from compactvision.skeleton import wings

MARK = "WRITE" + ":"
ARGUMENTS = {"title": "My paper: an example", "family": "pruning", "paper": "Doe and Roe 2024", "key": "doe2024my"}
SHARED = ("_toc.yml", "book", "lib", "notebooks", "tests/conftest.py", "tests/pytest.ini", "tests/ruff.toml")


def copied(repo: Path, root: Path) -> Path:
    """Copy of the book's files that a skeleton reads or changes, and of what its checks need."""
    clean = shutil.ignore_patterns("__pycache__", "*.egg-info", "generated", "_static", ".*", "build")
    for name in SHARED:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (repo / name).is_dir() else shutil.copy)(
            repo / name, root / name, **({"ignore": clean} if (repo / name).is_dir() else {})
        )
    return root


def texts(root: Path) -> dict[str, bytes]:
    """Every file of a copy, Python's and the tools' caches left out."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and not any(part.startswith((".", "__")) for part in path.relative_to(root).parent.parts)
    }


ASKED = """import sys
if sys.argv[1] == "contracts":
    from importlinter.cli import lint_imports
    raise SystemExit(lint_imports("lib/pyproject.toml"))
from compactvision import claims, notebooks
print(claims.load("my_paper").title, *notebooks.problems(notebooks.find("my_paper")), sep="\\n")
"""


def checked(root: Path, *command: str) -> str:
    """Output of a tool in a copy, with the copy's own package."""
    (root / "asked.py").write_text(ASKED)
    environment = {**os.environ, "PYTHONPATH": str(root / "lib"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_nothing_of_this_book_is_left_to_write(repo):
    found = skeleton.unwritten(repo)
    assert not found, "\n".join(["still to write:", *found])


def test_the_list_of_what_is_left_names_file_and_line(repo, tmp_path):
    for name, text in {
        "notebooks/a.ipynb": f'"x",\n"{MARK} a picture.\\n",',
        "book/generated/b.md": MARK,
        "book/c.md": f"{MARK} one {MARK} two",
        "tests/d.txt": MARK,
        "lib/compactvision/claims/e.toml": f'text = "REWRITE: no, {MARK} yes"',
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert skeleton.unwritten(tmp_path) == [
        f"notebooks/a.ipynb:2: {MARK} a picture.",
        f"book/c.md:1: {MARK} one {MARK} two",
        f'lib/compactvision/claims/e.toml:1: {MARK} yes"',
    ]


@pytest.mark.parametrize(("family", "tests"), [("pruning", 9), ("explanation", 8), ("factorization", 12)])
def test_a_new_chapter_is_in_form_and_runs(family, tests, repo, tmp_path):
    root = copied(repo, tmp_path / "clone")
    before = texts(root)
    written = skeleton.new(root, "my_paper", **{**ARGUMENTS, "family": family})
    after = texts(root)
    assert set(after) - set(before) == {*written.created, *(name for name in written.changed if name not in before)}
    assert {name for name in before if before[name] != after[name]} == set(written.changed) & set(before)
    checked(root, "ruff", "check", "lib", "tests")
    checked(root, "ruff", "format", "--check", "lib", "tests")
    assert "0 broken" in checked(root, "asked", "contracts")
    files = (f"tests/{family}/test_my_paper.py", f"lib/compactvision/{family}/my_paper.py")
    pytest_ini = ("-c", "tests/pytest.ini", "--rootdir=.", "-p", "no:cacheprovider")
    assert f"{tests} passed" in checked(root, "pytest", "-q", *pytest_ini, "--doctest-modules", *files)
    title, *problems = checked(root, "asked", "form").splitlines()
    assert title == "My paper: an example"
    assert problems[0].startswith("execution counts are [None")
    assert problems[1:] == []
    left = {line.partition(":")[0] for line in skeleton.unwritten(root)}
    assert left >= {name for name in written.created if "test_" not in name}


@pytest.mark.slow
@pytest.mark.parametrize("family", ["pruning", "explanation", "search"])
def test_the_notebook_of_a_new_chapter_runs(family, repo, tmp_path, monkeypatch):
    root = copied(repo, tmp_path / "clone")
    skeleton.new(root, "my_paper", **{**ARGUMENTS, "family": family})
    monkeypatch.setenv("COMPACTVISION_CACHE", str(tmp_path / "runs"))
    shown = checked(root, "compactvision", "run", "my_paper", "--device", "cpu")
    assert "1 held · 0 held in part · 0 did not hold · 0 not run" in shown
    assert "a comparison needs three seeds; the quick record has 1" in shown


class TestPages:
    def test_a_first_chapter_begins_its_part_and_family(self, repo, tmp_path):
        root = copied(repo, tmp_path)
        contents = (root / "_toc.yml").read_text()
        for family, part in (("search", "search"), ("factorization", "factorise")):  # as if none were there
            shutil.rmtree(root / "lib" / "compactvision" / family, ignore_errors=True)
            for page in (f"{part}.md", f"{part}-cheat-sheet.md", f"api/{family}.md"):
                (root / "book" / page).unlink(missing_ok=True)
            contents = re.sub(rf"  - caption: {part.capitalize()}\n(?:    .*\n)*", "", contents)
            contents = contents.replace(f"          - file: book/api/{family}\n", "")
        (root / "_toc.yml").write_text(contents)
        skeleton.new(root, "my_search", title="T", family="search")
        skeleton.new(root, "my_tensors", title="T", family="factorization")
        parts = yaml.safe_load((root / "_toc.yml").read_text())["parts"]
        captions = [part["caption"] for part in parts]
        assert captions.index("Cut") < captions.index("Factorise") < captions.index("Search")
        assert captions.index("Search") < captions.index("What was checked")
        pages = [page for part in parts for entry in part["chapters"] for page in (entry, *entry.get("sections", ()))]
        assert [page for page in pages if not list(root.glob(f"{page['file']}.*"))] == []
        assert {"book/api/search", "book/factorise", "notebooks/my_search"} <= {page["file"] for page in pages}
        assert "[factorization](api/factorization.md)" in (root / "book/api.md").read_text()
        assert '"factorization",' in (root / "lib/compactvision/__init__.py").read_text()
        assert '__all__ = ["my_search"]' in (root / "lib/compactvision/search/__init__.py").read_text()

    CARD = "::::{grid-item-card} Cut\n:columns: 12\n\nWhich?\n\n:::{card-footer}\n%s\n:::\n::::"

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            ("[A](a) {cite}`a`", "[A](a) {cite}`a`; LINK"),
            ("*planned:* b {cite}`b`, c {cite}`k`", "LINK; *planned:* b {cite}`b`"),
            ("[A](a) {cite}`a`; *planned:* c\n{cite}`k`, and more", "[A](a) {cite}`a`; LINK; *planned:* more"),
            ("*planned:* c {cite}`k`", "LINK"),
        ],
    )
    def test_the_cover_links_what_was_planned(self, before, after):
        facts = {"caption": "Cut", "key": "k", "title": "T", "slug": "t"}
        link = "[T](../notebooks/t.ipynb)\n{cite}`k`"
        assert wings.on_cover(self.CARD % before, facts) == self.CARD % after.replace("LINK", link)

    @pytest.mark.parametrize(
        ("paper", "key"),
        [("Doe and Roe 2024", "doe2024my"), ("", "mypaper"), ("Öz 2024", "mypaper"), ("Doe, Roe", "mypaper")],
    )
    def test_the_key_is_author_year_and_word_where_they_are_known(self, paper, key, repo, tmp_path):
        root = copied(repo, tmp_path)
        skeleton.new(root, "my_paper", title="T", family="pruning", paper=paper)
        assert (root / "book/references.bib").read_text().count(f"{{{key},\n") == 1
        assert f"{{cite}}`{key}`" in (root / "book/intro.md").read_text()
        assert f":cite:`{key}`" in (root / "lib/compactvision/pruning/my_paper.py").read_text()

    def test_a_known_reference_gets_no_second_entry(self, repo, tmp_path):
        root = copied(repo, tmp_path)
        written = skeleton.new(root, "my_paper", **{**ARGUMENTS, "key": "lin2021dcff"})
        assert "book/references.bib" not in written.changed


REFUSED = [
    ({"slug": "dcff"}, "slug: 'dcff' is taken"),
    ({"slug": "My-Paper"}, "slug: 'My-Paper' is not a name such as 'my_paper'"),
    ({"slug": "../evil"}, "slug: '../evil' is not a name"),
    ({"slug": "class"}, "slug: 'class' is not a name"),
    ({"family": "magic"}, "family: 'magic' is not one of pruning, explanation"),
    ({"title": " "}, "title: ' ' is not one line"),
    ({"title": 'A "title"'}, "title:"),
    ({"paper": "x" * 61}, "paper:"),
    ({"key": "Doe-2024"}, "cite: 'Doe-2024' is not a key"),
]


class TestRefused:
    @pytest.mark.parametrize(("change", "words"), REFUSED, ids=lambda value: str(value)[:30])
    def test_wrong_arguments_write_nothing(self, change, words, repo, tmp_path):
        root = copied(repo, tmp_path)
        before = texts(root)
        arguments = {"slug": "my_paper", **ARGUMENTS, **change}
        with pytest.raises(ValueError, match=words.replace("(", r"\(")):
            skeleton.new(root, arguments.pop("slug"), **arguments)
        assert texts(root) == before

    @pytest.mark.parametrize(
        ("page", "old", "new"),
        [
            ("_toc.yml", "caption:", "part:"),
            ("book/intro.md", "card} Cut", "card} Cuts"),
            ("book/cut.md", "(cut-cheat-sheet.md)", "(elsewhere.md)"),
            ("book/cut-cheat-sheet.md", "Chapters:", "Pages:"),
            ("book/api/methods.md", "```", "~~~"),
            ("lib/pyproject.toml", "independence", "layers"),
            ("lib/compactvision/pruning/__init__.py", "__all__ =", "names ="),
        ],
    )
    def test_an_unexpected_page_is_named_and_nothing_written(self, page, old, new, repo, tmp_path):
        root = copied(repo, tmp_path)
        text = (root / page).read_text()
        assert old in text
        (root / page).write_text(text.replace(old, new))
        before = texts(root)
        with pytest.raises(ValueError, match=f"new: {page} is not as expected"):
            skeleton.new(root, "my_paper", **ARGUMENTS)
        assert texts(root) == before

    def test_the_command_says_so_in_one_line(self, capsys, monkeypatch, tmp_path):
        monkeypatch.setattr("compactvision.records.places.CHECKOUT", tmp_path)
        asked = ["new", "my_paper", "--title", "T", "--family", "pruning"]
        assert cli.main(asked) == 2
        assert cli.main(asked[:-1]) == 2
        assert cli.main(["new", "my_paper", "--title", "T"]) == 2
        streams = capsys.readouterr()
        assert streams.out == ""
        assert streams.err.splitlines()[0].startswith("compactvision: new: the package is not in a clone of the book")
        assert streams.err.count("\n") == 3
        assert list(tmp_path.iterdir()) == []


def test_the_command_writes_and_says_what(capsys, monkeypatch, repo, tmp_path):
    root = copied(repo, tmp_path)
    monkeypatch.setattr("compactvision.records.places.CHECKOUT", root)
    assert cli.main(["new", "my_paper", "--title", "T", "--family", "pruning", "--paper", "Doe 2024"]) == 0
    shown = capsys.readouterr().out
    assert "written  notebooks/my_paper.ipynb\n" in shown
    assert "entry in _toc.yml\n" in shown
    assert (root / "notebooks" / "my_paper.ipynb").is_file()
