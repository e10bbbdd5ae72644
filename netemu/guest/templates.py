"""Where templates of guests live: made once, used by every process of a test run, and gone with the last of them.

They lie in one directory a user, in memory (a tmpfs, where there is one). A process that uses templates holds a shared lock on the
directory's `lock` file until it ends, however it ends; a `janitor` process waits for the exclusive lock, which it gets when nobody
is left, and then takes the directory away. So nothing stays behind after a killed test run, and nobody has to say that it is over.

A template is made under an exclusive lock of its own, beside its place, and then renamed: who finds one finds it whole, and workers
that want the same one wait for the first. What a maker that was killed left is removed by the next.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Final

from netemu.errors import LocalError

__all__ = ["PREFIX", "Templates", "memory_directory", "templates"]

PREFIX: Final = "netemu-templates-"
_SHARED_MEMORY: Final = Path("/dev/shm")
_LOCK: Final = "lock"
_PRIVATE: Final = 0o700
_ROOM: Final = 1 << 30  # octets; a template has 130 million

# The lock may be that of a directory which another janitor has taken away meanwhile; then there is nothing to do. What is taken
# away is renamed first, so that nobody finds half of it.
_JANITOR: Final = """
exec 9<"$1/lock" && flock 9 && [ "$1/lock" -ef /proc/self/fd/9 ] && mv "$1" "$1.$$" && rm -rf "$1".*
"""


class Templates:
    """Templates in `directory`, which this process uses from now on."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._lock = _use(directory)

    def get(self, name: str, make: Callable[[Path], None]) -> Path:
        """The directory of the template `name`, filled by `make` if it is not there yet. What `make` raises comes out."""
        place = self.directory / name
        with self._making(name):
            if not place.is_dir():
                part = place.with_suffix(".part")
                shutil.rmtree(part, ignore_errors=True)
                part.mkdir(_PRIVATE)
                try:
                    make(part)
                    part.rename(place)
                finally:
                    shutil.rmtree(part, ignore_errors=True)
        return place

    def discard(self, name: str) -> None:
        """The template is broken: the next who wants it makes it again. Who uses it keeps what it has open."""
        with self._making(name):
            shutil.rmtree(self.directory / name, ignore_errors=True)

    def close(self) -> None:
        """Use them no more; only tests need to say so."""
        os.close(self._lock)

    @contextmanager
    def _making(self, name: str) -> Iterator[None]:
        with (self.directory / f"{name}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


@cache
def templates() -> Templates:
    """Those of this user."""
    return Templates(Path(memory_directory(_ROOM)) / f"{PREFIX}{os.geteuid()}")


def memory_directory(room: int = 0) -> str:
    """Where a guest's memory is to be: on a tmpfs that allows PROT_EXEC and has `room` octets left, if there is one."""
    try:
        found = os.statvfs(_SHARED_MEMORY)
        usable = not found.f_flag & os.ST_NOEXEC and os.access(_SHARED_MEMORY, os.W_OK) and found.f_bavail * found.f_frsize >= room
    except OSError:
        usable = False
    return str(_SHARED_MEMORY) if usable else tempfile.gettempdir()


def _use(directory: Path) -> int:
    """A descriptor with the shared lock of `directory`, which is made if it is not there, and gets a janitor."""
    while True:
        directory.mkdir(_PRIVATE, exist_ok=True)
        if directory.stat().st_uid != os.geteuid():
            raise LocalError(f"{directory} is somebody else's: have it removed, or set TMPDIR to a directory of your own")
        lock = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_SH)
        if _is_current(directory / _LOCK, lock):
            break
        os.close(lock)  # a janitor came first
    subprocess.run(
        ["setsid", "--fork", "sh", "-c", _JANITOR, "janitor", directory],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    return lock


def _is_current(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
