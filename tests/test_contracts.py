"""The import contracts name what they promise to hold apart."""

import tomllib

from compactvision.claims import schema


def test_the_method_of_every_paper_is_in_the_contract(repo):
    contracts = tomllib.loads((repo / "lib/pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (independent,) = (contract for contract in contracts if contract["type"] == "independence")
    package = repo / "lib" / "compactvision"
    methods = {
        f"compactvision.{path.parent.name}.{path.stem}"
        for slug in schema.slugs()
        for path in package.glob(f"*/{slug}*")
        if path.name == f"{slug}.py" or (path.name == slug and (path / "__init__.py").is_file())
    }
    assert len(methods) >= 8
    assert set(independent["modules"]) >= methods
    named = [package.parent / name.replace(".", "/") for name in independent["modules"]]  # some before their chapter
    assert [path for path in named if not path.is_dir() and not path.with_suffix(".py").is_file()] == []
