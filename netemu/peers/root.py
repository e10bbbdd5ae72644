"""Debian's programs of another release, beside those of the machine's own: `passt@trixie-backports`.

A peer is a program, a library, a ROM or a kernel, with the release it is to come from where that is not the machine's own. Such
a release is an unpacked root: the peer's package and what it depends on, taken from the mirror that apt on this machine uses
(mmdebstrap(1), `--variant=extract`), and never configured. Programs run through the root's own loader, with the root's
libraries and without chroot(2), for passt makes a user namespace and the kernel refuses that in a changed root
(user_namespaces(7)).

Roots are kept in the user's cache (XDG_CACHE_HOME), under a name that tells of what they were made. A root is made once: under a
lock, beside its place, and then renamed, so that who finds one finds it whole. To have newer packages, remove the directory.
"""

from __future__ import annotations

import errno
import fcntl
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple

from netemu.errors import HostError, LocalError

__all__ = ["PEERS", "Peer", "cache_directory", "locate", "lock", "mirror", "unpack"]


class _Package(NamedTuple):
    """A package of Debian's, what it is wanted for, and the packages that must be of the same suite.

    `path` is a pattern, below the root of a file system; None for a kernel, which is not one file (`netemu.peers.kernel`).
    """

    name: str
    path: str | None
    companions: tuple[str, ...] = ()


_PACKAGES: Final = {
    "passt": _Package("passt", "usr/bin/passt"),
    "passt-repair": _Package("passt", "usr/bin/passt-repair"),
    "qemu": _Package("qemu-system-x86", "usr/bin/qemu-system-x86_64", ("qemu-system-common", "qemu-system-data", "seabios")),
    "kernel": _Package("linux-image-amd64", None),
    "libslirp": _Package("libslirp0", "usr/lib/*/libslirp.so.0"),
    "slirp4netns": _Package("slirp4netns", "usr/bin/slirp4netns"),
    "vde_switch": _Package("vde2", "usr/bin/vde_switch"),
    "smbd": _Package("samba", "usr/sbin/smbd"),
    "dnsmasq": _Package("dnsmasq-base", "usr/sbin/dnsmasq"),
    "ipxe": _Package("ipxe-qemu", "usr/lib/ipxe/qemu/pxe-virtio.rom"),
}
_EXAMPLE: Final = "passt@trixie-backports"
_BACKPORTS: Final = "-backports"  # such a suite has newer packages for the release before the hyphen, and needs it
_PATIENCE: Final = 600  # seconds for mmdebstrap


@dataclass(frozen=True, slots=True)
class Peer:
    """A program, a library, a ROM or a kernel; `suite` is the Debian suite it comes from, None for the machine's own."""

    program: str
    suite: str | None = None

    def __str__(self) -> str:
        return f"{self.program}@{self.suite}" if self.suite else self.program

    @property
    def package(self) -> str:
        return _PACKAGES[self.program].name

    @property
    def executable(self) -> str | None:
        """What the program is called in PATH; None for what is no program."""
        path = _PACKAGES[self.program].path
        return Path(path).name if path is not None and "bin/" in path else None

    @property
    def file(self) -> Path | None:
        """Where it is, None where it is not; a kernel is not one file."""
        if self.suite is None and self.executable is not None:
            found = shutil.which(self.executable)
            return Path(found) if found else None
        base = Path("/") if self.suite is None else self.root
        return next(iter(sorted(base.glob(_PACKAGES[self.program].path or "none"))), None)

    @property
    def _packages(self) -> tuple[str, ...]:
        return (self.package, *_PACKAGES[self.program].companions)

    @property
    def root(self) -> Path:
        """Where its root is, or would be. Only for a peer with a suite."""
        parts = (platform.machine(), *_recipe(self._packages, str(self.suite), "mirror"))
        recipe = sha256("\n".join(parts).encode()).hexdigest()[:12]
        return cache_directory("roots") / f"{self.suite}-{self.package}-{recipe}"

    def missing(self) -> str | None:
        """Why it cannot be run, in one sentence with the way out, or None."""
        if self.suite is None:
            what = f"{self.executable} is not in PATH" if self.executable else f"{self} is not there"
            return None if self.file else f"{what} (Debian: apt-get install {self.package})"
        return None if self.root.is_dir() else f"{self} is not installed (netemu peers install {self})"

    def command(self) -> tuple[str, ...]:
        """What to run it with, its own arguments behind; `LocalError` if it is missing."""
        reason = self.missing()
        if reason:
            raise LocalError(reason)
        file = self.file
        if file is None or self.executable is None:
            raise LocalError(f"{self} is no program that could be run")
        if self.suite is None:
            return (str(file),)
        loader = min(self.root.glob("usr/lib*/ld-linux*"))
        return str(loader), "--library-path", str(loader.resolve().parent), str(file)

    def install(self) -> None:
        """Make its root, if it is not there. `LocalError`: it has none, or mmdebstrap is missing. `HostError`: it could not."""
        if self.suite is None:
            raise LocalError(f"{self} is the one in PATH: apt-get install {self.package}, or name a suite, as in {_EXAMPLE}")
        if shutil.which("mmdebstrap") is None:
            raise LocalError("mmdebstrap is not in PATH: install the Debian package mmdebstrap")
        with lock(cache_directory("roots")):
            if not self.root.is_dir():
                self._make()

    def _make(self) -> None:
        place = Path(tempfile.mkdtemp(prefix=f".{self.suite}-", dir=cache_directory("roots")))
        try:
            unpack(self._packages, str(self.suite), place / "root")
            (place / "root").rename(self.root)
        finally:
            shutil.rmtree(place, ignore_errors=True)


PEERS: Final = (
    Peer("passt"),
    Peer("passt", "trixie-backports"),
    Peer("passt-repair", "trixie-backports"),
    Peer("qemu"),
    Peer("qemu", "trixie-backports"),
    Peer("kernel", "bookworm"),
    Peer("kernel", "trixie"),
    Peer("libslirp"),
    Peer("slirp4netns"),
    Peer("vde_switch"),
    Peer("smbd"),
    Peer("dnsmasq"),
    Peer("ipxe"),
)
"""Those that are listed; any other suite of Debian's may be named."""


def locate(name: str) -> Peer:
    """The peer called `program` or `program@suite`; `LocalError` for a program that is none, or a kernel without a suite."""
    program, _, suite = name.partition("@")
    if program not in _PACKAGES or ("@" in name and not suite.replace("-", "").isalnum()):
        raise LocalError(f"peer {name!r}: give one of {', '.join(_PACKAGES)}, and a suite of Debian's behind it, as in {_EXAMPLE}")
    if not suite and _PACKAGES[program].path is None:
        raise LocalError(f"peer {name!r}: no {program} is in PATH; name the suite it is to come from, as in {program}@trixie")
    return Peer(program, suite or None)


def mirror() -> str:
    """The address of Debian's archive that apt on this machine uses; `LocalError` if it uses none."""
    codename = platform.freedesktop_os_release().get("VERSION_CODENAME", "none")
    try:
        told = subprocess.run(
            ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise LocalError(f"apt-get cannot say where Debian's archive is ({error}); this needs a Debian machine") from None
    for line in told.stdout.splitlines():
        site, *suite = line.split()
        if suite == [codename, "main"]:
            return site
    raise LocalError(f"apt has no source for {codename} main; this needs a Debian machine with its archive in sources.list(5)")


def unpack(packages: Sequence[str], suite: str, root: Path) -> None:
    """Unpack `packages` of `suite` and what they depend on into `root`; `HostError` if that could not be."""
    command, *sources = _recipe(packages, suite, mirror())
    log = subprocess.run(
        [*command.split(), suite.removesuffix(_BACKPORTS), str(root), *sources],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_PATIENCE,
        check=False,
    )
    if log.returncode:
        raise HostError(errno.EIO, f"unpack {packages[0]} of {suite}: mmdebstrap said {_errors(log.stderr)!r}")


def _recipe(packages: Sequence[str], suite: str, site: str) -> tuple[str, ...]:
    """The command, and the sources of packages."""
    suites = dict.fromkeys((suite.removesuffix(_BACKPORTS), suite))
    command = f"mmdebstrap --variant=extract --include={','.join(f'{package}/{suite}' for package in packages)}"
    return command, *(f"deb {site} {name} main" for name in suites)


def _errors(log: str) -> str:
    """What of a log says why: lines of apt and mmdebstrap that begin with E."""
    return " ".join(line for line in log.splitlines() if line.startswith("E:")) or log[-300:]


def cache_directory(kind: str) -> Path:
    """Where things of this `kind` are kept for the user; it need not be there yet."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "netemu" / kind


@contextmanager
def lock(directory: Path) -> Iterator[None]:
    """One maker of what lies in `directory` at a time, on this machine; the lock goes with its holder."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
