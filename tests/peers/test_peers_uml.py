"""The kernel for virtual time is built once, from a source that is what we take it for; the tools are played by scripts here."""

from __future__ import annotations

import os
import shutil
import threading

import pytest

from netemu import HostError, LocalError
from netemu.peers import uml

# What Debian's package would bring, and who unpacks it.
UNPACK = """
for word in "$@"; do case $word in */root) root=$word;; esac; done
mkdir -p $root/usr/src linux-source-6.12/arch/um/os-Linux linux-source-6.12/kernel/configs
cd $root/usr/src
mkdir -p linux-source-6.12/arch/um/os-Linux linux-source-6.12/kernel/configs
printf '%s' "$UTIL" >linux-source-6.12/arch/um/os-Linux/util.c
tar -cf linux-source-6.12.tar linux-source-6.12
"""
UTIL = "ssize_t os_getrandom(void *buf)\n{\n\treturn getrandom(buf, len, flags);\n}\n"
MAKE = """
echo "$@" >>"$LOG"
cp arch/um/os-Linux/util.c linux-util.c
cp kernel/configs/netemu.config .config
grep -q seeded_getrandom arch/um/os-Linux/netemu_seed.h || exit 2
printf '#!/bin/sh\\necho 6.12.999\\n' >linux
chmod +x linux
"""


@pytest.fixture
def script(tmp_path, monkeypatch):
    """Puts a shell script of this name in front of every program."""
    programs = tmp_path / "programs"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    monkeypatch.setenv("UTIL", UTIL)

    def write(name, text):
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)

    for tool in ("bc", "bison", "flex", "gcc", "strip", "xz"):
        write(tool, "")
    codename = "$(. /etc/os-release && echo $VERSION_CODENAME)"
    write("apt-get", f'echo "http://mirror.test/debian {codename} main"')
    write("mmdebstrap", UNPACK)
    write("make", MAKE)
    return write


@pytest.fixture
def kernels(tmp_path):
    return tmp_path / "cache" / "netemu" / "kernels"


def test_it_is_built_once(script, kernels, tmp_path):
    assert uml.missing() == "the time-travel kernel is not built (netemu peers build uml)"
    with pytest.raises(LocalError, match="netemu peers build uml"):
        uml.kernel()
    builders = [threading.Thread(target=uml.build) for _ in range(3)]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join()
    assert uml.missing() is None
    assert uml.version() == "6.12.999"
    assert "CONFIG_UML_TIME_TRAVEL_SUPPORT=y" in (uml.kernel().parent / "config").read_text()
    asked = (tmp_path / "log").read_text().splitlines()
    assert [line.split()[-2:] for line in asked] == [["ARCH=um", target] for target in ("tinyconfig", "netemu.config", "linux")]
    assert {path.name for path in kernels.iterdir()} == {".lock", uml.kernel().parent.name}


def test_a_failure_is_one_sentence_and_a_log(script, kernels):
    script("make", "echo something is wrong; exit 2")
    with pytest.raises(HostError, match=r"build the time-travel kernel: nice did not succeed; its log is .*/kernels/uml-\w+\.log"):
        uml.build()
    (log,) = kernels.glob("*.log")
    assert log.read_text() == "something is wrong\n"
    assert {path.name for path in kernels.iterdir()} == {".lock", log.name}
    script("make", MAKE)
    uml.build()
    assert not log.exists()


def test_another_source_is_not_changed_blindly(script, monkeypatch, kernels):
    monkeypatch.setenv("UTIL", "ssize_t os_random(void *buf)\n")
    with pytest.raises(HostError, match=r"util\.c of linux-source-6\.12 has 'ssize_t os_getrandom"):
        uml.build()
    assert [path.name for path in kernels.iterdir()] == [".lock"]


def test_missing_tools_are_named(script, monkeypatch, tmp_path):
    script("which", "")
    for tool in ("flex", "bison"):
        (tmp_path / "programs" / tool).unlink()
    monkeypatch.setattr(shutil, "which", lambda name, which=shutil.which: None if name in ("flex", "bison") else which(name))
    with pytest.raises(LocalError, match="apt-get install bison flex libc6-dev"):
        uml.build()


def test_another_configuration_is_another_kernel(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    before = uml._place()
    monkeypatch.setattr(uml, "_SUITE", "sid")
    assert uml._place() != before


def test_other_machines_are_told(monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert uml.missing() == "User-mode Linux runs on x86_64, and this is aarch64"
