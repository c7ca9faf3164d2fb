"""`import compactvision` is light, and what it holds is found without knowing where it lies."""

import subprocess
import sys

import compactvision
import pytest
from compactvision import explanation, pruning
from compactvision.claims import schema
from compactvision.skeleton import FAMILIES


def _python(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_package_alone_imports_no_torch():
    assert (
        _python("import sys, compactvision; print('torch' in sys.modules, 'seaborn' in sys.modules)") == "False False"
    )


def test_sub_packages_load_on_first_use():
    assert _python("import compactvision; print(compactvision.models.resnet20.__name__)") == "resnet20"
    assert _python("import compactvision; print(compactvision.pruning.autobot.__name__)").endswith(".autobot")


def test_every_sub_package_is_listed_and_loads():
    assert {"models", "surgery", "pruning", "chapter"} <= set(dir(compactvision))
    for name in set(dir(compactvision)) - {"compress"}:
        assert getattr(compactvision, name).__name__ == f"compactvision.{name}"


def test_the_one_function_is_handed_on_and_no_module_hides_it():
    told = _python("import compactvision as c; import compactvision.shrinking.whole; print(c.compress.__module__)")
    assert told == "compactvision.shrinking.whole"
    assert "compress" in dir(compactvision)
    assert compactvision.shrinking.compress is compactvision.compress


def test_the_families_list_the_papers_of_the_book():
    families = [getattr(compactvision, name) for name in FAMILIES if name in dir(compactvision)]
    assert {pruning, explanation} <= set(families)
    assert {name for family in families for name in dir(family)} == set(schema.slugs()) - {
        "foundations",
        "your_own_network",
    }
    for family in families:
        for name in dir(family):
            assert getattr(family, name).__name__ == f"{family.__name__}.{name}"


def test_an_unknown_name_is_an_attribute_error_that_lists_the_known_ones():
    with pytest.raises(AttributeError, match="has no attribute 'autobott'; it has autobot, dcff"):
        pruning.autobott  # noqa: B018
    with pytest.raises(ImportError):
        from compactvision.pruning import nothing_of_this_name  # noqa: F401
