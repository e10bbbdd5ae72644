"""What importing may load: nothing heavy, and no system access, before a test asks for it."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"scapy", "pyroute2", "hypothesis", "pexpect", "rich", "jinja2", "qemu"}


def loaded_by(statement):
    """The modules that `statement` loads in a fresh interpreter, beyond pytest's own."""
    source = f"import pytest, sys\nbefore = set(sys.modules)\n{statement}\nprint(*sorted(set(sys.modules) - before), sep='\\n')"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=60, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "statement",
    ["import netemu", "import netemu; netemu.Network", "import pytest_netemu.plugin, pytest_netemu.fixtures", "import netemu.cli"],
)
def test_nothing_heavy_is_loaded(statement):
    assert not {name.partition(".")[0] for name in loaded_by(statement)} & HEAVY


def test_the_plugin_loads_nothing_of_a_network():
    modules = {name for name in loaded_by("import pytest_netemu.plugin, pytest_netemu.fixtures") if name.startswith("netemu")}
    assert modules == {"netemu", "netemu.errors"}


def test_the_package_loads_nothing_of_itself():
    assert loaded_by("import netemu") == {"netemu"}


def test_a_run_that_uses_nothing_of_ours_loads_nothing_of_a_network(tmp_path):
    (tmp_path / "test_it.py").write_text("def test_it(): pass")
    (tmp_path / "conftest.py").write_text(
        "import sys\ndef pytest_sessionfinish(): print('loaded', *(name for name in sys.modules if name.startswith('netemu')))"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", "--rootdir", tmp_path, tmp_path],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        cwd=tmp_path,
    )
    (loaded,) = [line.split()[1:] for line in done.stdout.splitlines() if "loaded" in line]
    assert set(loaded) == {"netemu", "netemu.errors"}


def test_the_factory_loads_the_usual_parts_before_an_example_is_timed(tmp_path):
    """Hypothesis gives each example 200 ms of wall time; loading would take the first one's."""
    (tmp_path / "test_it.py").write_text(
        "import sys\ndef test_it(netemu_factory):\n"
        "    before = set(sys.modules)\n"
        "    with netemu_factory() as network: network.guest(netdev=network.netdev()).dhcp4()\n"
        "    print('loaded', *(name for name in set(sys.modules) - before if name.startswith('netemu')))\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", "--rootdir", tmp_path, tmp_path],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        cwd=tmp_path,
    )
    (loaded,) = [line.split()[1:] for line in done.stdout.splitlines() if "loaded" in line]
    assert loaded == []
