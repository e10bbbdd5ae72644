"""`__all__` is true in every module: it names what is there and public, and nothing that is not."""

import importlib
import pkgutil
from types import ModuleType

import pytest

import netemu
import pytest_netemu

NAMES = sorted(
    info.name
    for package in (netemu, pytest_netemu)
    for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    if ".suites." not in info.name and not info.name.endswith("__main__")
)


@pytest.mark.parametrize("name", NAMES)
def test_all_is_true(name: str) -> None:
    module = importlib.import_module(name)
    exported = getattr(module, "__all__", None)
    if exported is None:
        assert not public_definitions(module), f"{name} defines public names but no __all__"
        return
    for each in exported:
        assert hasattr(module, each), f"{name}.__all__ names {each}, which is not there"
    assert len(set(exported)) == len(exported)


def public_definitions(module: ModuleType) -> set[str]:
    return {
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    }
