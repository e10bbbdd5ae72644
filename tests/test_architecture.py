"""The house: a module imports from its own room and from rooms above it, and only io touches the operating system."""

import ast
from pathlib import Path

import pytest

import netemu

ROOT = Path(netemu.__file__).parent
ROOMS = ["wire", "net", "stack", "io", "user", "virtio", "vhost_user", "bus", "nic", "driver", "peers", "netdev", "guest"]
EVERYWHERE = {"errors"}  # no room: the kinds of error are everybody's
TOP = {"network", "bench", "cli", "platform", "__init__", "__main__"}  # may import every room
SYSTEM = {"asyncio", "ctypes", "fcntl", "mmap", "os", "random", "select", "selectors", "signal", "socket"}
SYSTEM |= {"subprocess", "threading", "time"}
SYSTEM_ROOMS = {"io", "peers", "guest", "netdev"}  # netdev and guest start programs; the rest is sans-IO
HEAVY = {"scapy", "pyroute2", "hypothesis", "pexpect", "rich", "jinja2", "qemu"}

MODULES = sorted(path for path in ROOT.rglob("*.py"))


def imports(path: Path, *, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module or "")
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_arrows_point_up(path: Path) -> None:
    here = room(path)
    if here in TOP:
        return
    allowed = EVERYWHERE if here in EVERYWHERE else EVERYWHERE | set(ROOMS[: ROOMS.index(here) + 1])
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "netemu" and len(parts) > 1:
            assert parts[1] in allowed, f"netemu.{here} imports {name}: not its own room nor one above it"
        assert parts[0] != "pytest_netemu", "the emulator does not know its plugin"
        assert parts[0] != "scapy", "netemu never imports scapy"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_io_touches_the_system(path: Path) -> None:
    here = room(path)
    if here in SYSTEM_ROOMS | TOP | EVERYWHERE:
        return
    assert not {name.split(".")[0] for name in imports(path)} & SYSTEM


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_heavy_libraries_are_imported_where_used(path: Path) -> None:
    assert not {name.split(".")[0] for name in imports(path, top_level_only=True)} & HEAVY


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


def test_the_rooms_are_those_of_the_design() -> None:
    present = {path.name for path in ROOT.iterdir() if path.is_dir() and any(path.glob("*.py"))}
    assert present <= set(ROOMS) | TOP
