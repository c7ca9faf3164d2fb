"""Every example in a docstring runs and gives what it says."""

import doctest
import importlib
import pkgutil

import compactvision
import pytest

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(compactvision.__path__, "compactvision.")
    if not module.name.endswith("__main__")
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    module = importlib.import_module(name)
    failed, _ = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert failed == 0
