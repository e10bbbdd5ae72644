"""A User-mode Linux kernel that can live in somebody else's time, built here: Debian's has that left out.

The source is Debian's (package linux-source-6.12 of trixie, from the archive that apt on this machine uses), the configuration is
`uml_kernel/config` on top of the kernel's own `tinyconfig`, and the only change is in `_EDITS`: what the kernel would ask the
machine's random numbers for comes from a seed instead, if UML_SEED is in its environment (`uml_kernel/seed.h`).

The kernel is kept in the user's cache (XDG_CACHE_HOME) under a name that tells of what it was made: configuration, change, package,
machine. It is built once, under a lock, beside its place, and then renamed. Nothing of the machine's name, user or time goes into
it. To have a newer one of the same series, remove the directory.
"""

from __future__ import annotations

import errno
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, Final

from netemu.errors import HostError, LocalError
from netemu.peers.root import cache_directory, lock, unpack

__all__ = ["build", "kernel", "missing", "version"]

_DATA: Final = Path(__file__).with_name("uml_kernel")
_CONFIG: Final = "netemu.config"
_SEED: Final = "netemu_seed.h"
_SUITE: Final = "trixie"
_PACKAGE: Final = "linux-source-6.12"
_MACHINE: Final = "x86_64"
_PATIENCE: Final = 3_600  # seconds for each step; the longest takes two to four minutes on two cores

# Files of the source that are changed: where, what is there once, and what there is instead.
_EDITS: Final = (
    ("arch/um/os-Linux/util.c", "ssize_t os_getrandom(void *buf", f'#include "{_SEED}"\n\nssize_t os_getrandom(void *buf'),
    ("arch/um/os-Linux/util.c", "return getrandom(buf, len, flags)", "return seeded_getrandom(buf, len, flags)"),
)
# Half of the source that no User-mode Linux looks at.
_LEFT_OUT: Final = (
    "Documentation/*/*",
    "drivers/gpu/drm/*/*.[ch]",
    "drivers/net/ethernet/*.[ch]",
    "sound/*.[ch]",
    "tools/testing/*",
)

_TOOLS: Final = {
    "bc": "bc",
    "bison": "bison",
    "flex": "flex",
    "gcc": "gcc",
    "make": "make",
    "mmdebstrap": "mmdebstrap",
    "strip": "binutils",
    "tar": "tar",
    "xz": "xz-utils",
}  # programs by Debian's package
_ANONYMOUS: Final = {
    "KBUILD_BUILD_TIMESTAMP": "2000-01-01",
    "KBUILD_BUILD_USER": "netemu",
    "KBUILD_BUILD_HOST": "netemu",
    "KBUILD_BUILD_VERSION": "1",
}


def kernel() -> Path:
    """The program; `LocalError` if it is not built."""
    reason = missing()
    if reason:
        raise LocalError(reason)
    return _place() / "linux"


def missing() -> str | None:
    """Why there is no such kernel, in one sentence with the way out, or None."""
    if platform.machine() != _MACHINE:
        return f"User-mode Linux runs on {_MACHINE}, and this is {platform.machine()}"
    return None if _place().is_dir() else "the time-travel kernel is not built (netemu peers build uml)"


def version() -> str:
    """The kernel's release, such as 6.12.107; `LocalError` if it is not built."""
    return subprocess.run([kernel(), "--version"], capture_output=True, text=True, timeout=10, check=True).stdout.strip()


def build() -> None:
    """Build it, if it is not there; that takes minutes. `LocalError`: a tool is missing. `HostError`: it did not work."""
    absent = sorted(package for tool, package in _TOOLS.items() if shutil.which(tool) is None)
    if absent:
        raise LocalError(f"building a kernel needs more tools: apt-get install {' '.join(absent)} libc6-dev")
    with lock(cache_directory("kernels")):
        if not _place().is_dir():
            _build()


def _build() -> None:
    directory = Path(tempfile.mkdtemp(prefix=".uml-", dir=cache_directory("kernels")))
    log = _place().with_suffix(".log")
    try:
        with log.open("wb") as output:
            _make(directory, output)
        (directory / "done").rename(_place())
        log.unlink()
    except HostError:  # which says all there is to say
        log.unlink()
        raise
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise HostError(errno.EIO, f"build the time-travel kernel: {error.cmd[0]} did not succeed; its log is {log}") from None
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _make(directory: Path, output: BinaryIO) -> None:
    unpack([_PACKAGE], _SUITE, directory / "root")
    (archive,) = (directory / "root/usr/src").glob(f"{_PACKAGE}.tar*")
    _run(["tar", "-xf", archive, *(f"--exclude={_PACKAGE}/{pattern}" for pattern in _LEFT_OUT)], directory, output)
    shutil.rmtree(directory / "root")
    source = directory / _PACKAGE
    shutil.copy(_DATA / "config", source / "kernel/configs" / _CONFIG)
    shutil.copy(_DATA / "seed.h", source / "arch/um/os-Linux" / _SEED)
    for name, there, instead in _EDITS:
        _edit(source / name, there, instead)
    make = ["nice", "make", f"--jobs={os.cpu_count()}", "ARCH=um"]
    for target in ("tinyconfig", _CONFIG, "linux"):
        _run([*make, target], source, output)
    _run(["strip", "--strip-all", "linux"], source, output)
    (directory / "done").mkdir()
    (source / "linux").rename(directory / "done/linux")
    (source / ".config").rename(directory / "done/config")


def _edit(path: Path, there: str, instead: str) -> None:
    text = path.read_text()
    if text.count(there) != 1:
        raise HostError(errno.EIO, f"build the time-travel kernel: {path.name} of {_PACKAGE} has {there!r} not once")
    path.write_text(text.replace(there, instead))


def _run(command: Sequence[str | Path], directory: Path, output: BinaryIO) -> None:
    subprocess.run(
        command,
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        env=os.environ | _ANONYMOUS,
        timeout=_PATIENCE,
        check=True,
    )


def _place() -> Path:
    """Where it is, or would be."""
    parts = (platform.machine(), _SUITE, _PACKAGE, (_DATA / "config").read_text(), (_DATA / "seed.h").read_text(), repr(_EDITS))
    recipe = sha256("\0".join(parts).encode()).hexdigest()[:12]
    return cache_directory("kernels") / f"uml-{recipe}"
