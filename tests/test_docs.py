"""The README and the documents run as they are written: their Python, and the commands that go with it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import hypothesis
import pytest

import netemu.guest.inproc
import netemu.network
from netemu.guest.qemu import QemuGuest
from netemu.guest.virtualuml import VirtualUmlGuest
from netemu.peers.root import cache_directory
from pytest_netemu.conformance import checks, package_of
from pytest_netemu.platform import Platform

LOADED = (hypothesis, netemu)  # here, so that not each of the inner runs, which forget what they import, loads them again
ROOT = Path(__file__).parents[1]
DOCUMENTS = ["README.md", "CONTRIBUTING.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]

# What the documents call `mynet` and `mystack`: as little as their words ask for.
MYNET = """
class MyBackend:
    def make(network, **options):
        return network.netdev(",".join(["user", *(f"{name}={value}" for name, value in options.items())]))

    def why_not():
        return None
"""
MYSTACK = """
class MyGuest:
    def make(network, *, netdev=None, **options):
        return network.guest(netdev=netdev, **options)
"""


def blocks(document: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / document).read_text(), re.MULTILINE | re.DOTALL)


def commands(document: str) -> list[list[str]]:
    """The arguments of each pytest command, without the comments."""
    lines = "".join(blocks(document, "sh")).splitlines()
    return [line.partition("#")[0].split()[1:] for line in lines if line.startswith("pytest ")]


def project(pytester: pytest.Pytester, package: str, testing: str, conftest: str) -> None:
    """A project whose tests import `package`, with the document's conftest.py at its root."""
    pytester.syspathinsert(pytester.path)
    pytester.mkpydir(package).joinpath("testing.py").write_text(testing)
    pytester.makeconftest(conftest)


def test_the_readmes_test(pytester: pytest.Pytester):
    (test,) = blocks("README.md", "python")
    pytester.makepyfile(test)
    pytester.runpytest().assert_outcomes(passed=1)


def test_the_user_networks_test(pytester: pytest.Pytester):
    (test,) = blocks("docs/user-network.md", "python")
    pytester.makepyfile(test)
    pytester.runpytest().assert_outcomes(passed=1)


def test_a_user_mode_network_of_ones_own(pytester: pytest.Pytester):
    (conftest,) = blocks("docs/backends.md", "python")
    project(pytester, "mynet", MYNET, conftest)
    (arguments,) = commands("docs/backends.md")
    ran = pytester.runpytest(*arguments, "--netemu-clause=rfc826/reception/02", "--netemu-clause=qemu/hostfwd/01")
    ran.assert_outcomes(passed=3, skipped=1)  # forwards are none of what it said it can do
    assert (pytester.path / "report" / "index.html").exists()


def test_the_command_line_knows_it_too(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch):
    project(pytester, "mynet", MYNET, blocks("docs/backends.md", "python")[0])
    monkeypatch.setenv("PYTHONPATH", str(pytester.path))
    (line,) = [line for line in "".join(blocks("docs/backends.md", "sh")).splitlines() if line.startswith("netemu ")]
    program = "import sys; from netemu.cli import main; sys.exit(main())"
    arguments = [*line.partition("#")[0].split()[1:], "--clause=rfc826/reception/02"]
    ran = pytester.run(sys.executable, "-c", program, *arguments)
    assert ran.ret == 0
    ran.stdout.fnmatch_lines(["mynet*1", "report: report/index.html"])


def test_a_guest_of_ones_own(pytester: pytest.Pytester):
    conftest, faults, _ = blocks("docs/guests.md", "python")
    project(pytester, "mystack", MYSTACK, conftest)
    pytester.makepyfile(faults)
    own, suite = commands("docs/guests.md")
    pytester.runpytest(*own).assert_outcomes(passed=1)
    pytester.runpytest(*suite, "--netemu-clause=qemu/user-mode/01").assert_outcomes(passed=1)
    assert (pytester.path / "report" / "index.html").exists()


@pytest.fixture(scope="module")
def peers(netemu_platform: Platform) -> Path:
    """Where the user's peers are; pytester has another home."""
    netemu_platform.require_part("guest", "qemu", QemuGuest.probe)
    return cache_directory("").parent


def test_a_real_kernel_on_any_nic(peers: Path, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(peers))
    pytester.makepyfile(blocks("docs/guests.md", "python")[-1])
    pytester.runpytest().assert_outcomes(passed=1)


@pytest.fixture(scope="module")
def kernels(netemu_platform: Platform) -> Path:
    """The same, for the kernel that is built."""
    netemu_platform.require_part("guest", "uml-virtual", VirtualUmlGuest.probe)
    return cache_directory("").parent


def test_the_linux_in_virtual_time(kernels: Path, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(kernels))
    pytester.makepyfile(*blocks("docs/linux.md", "python"))
    pytester.runpytest().assert_outcomes(passed=2)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str):
    here = ROOT / document
    links = re.findall(r"\]\((?!https?:)([^)#]+)", here.read_text())
    assert [link for link in links if not (here.parent / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_option_that_is_written_about_is_there(document: str, pytestconfig: pytest.Config):
    """`--netemu-...` is an option of the plugin."""
    named = set(re.findall(r"--netemu-[a-z]+", (ROOT / document).read_text()))
    known = {"--" + name.replace("_", "-") for name in vars(pytestconfig.option) if name.startswith("netemu_")}
    assert {name.rstrip("s") for name in named} <= {name.rstrip("s") for name in known}


def test_ci_runs_the_readmes_test_command():
    _, test = blocks("README.md", "sh")
    assert (ROOT / ".ci" / "run").read_text().endswith(f"\n{test}")


def test_the_readme_counts_the_requirements():
    text = " ".join((ROOT / "README.md").read_text().split())
    for wall, words in (("wire", "asks a guest {} things"), ("user-network", "a backend {}, each")):
        judged = {check.requirement.id for check in checks(package_of(wall))}
        assert words.format(len(judged)) in text
