"""A thread that lives in a network namespace, for a process that may make one.

The thread leaves the common network namespace (unshare(2), CLONE_NEWNET) and then runs what `call` gives it. It has its own mount
namespace as well (CLONE_NEWNS), with a private file over /etc/resolv.conf, because C libraries read their name servers from
that path only. It needs CAP_SYS_ADMIN; `netemu.io.userns` is for those who have not.
"""

from __future__ import annotations

import ctypes
import os
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

from netemu.errors import HostError

__all__ = ["RESOLV_CONF", "ThreadInside", "cover_resolv_conf"]

RESOLV_CONF: Final = "/etc/resolv.conf"

_CLONE_NEWNS: Final = 0x00020000  # linux/sched.h
_CLONE_NEWNET: Final = 0x40000000
_MS_BIND: Final = 0x1000  # linux/mount.h
_MS_REC: Final = 0x4000
_MS_PRIVATE: Final = 0x40000

_P = ParamSpec("_P")
_R = TypeVar("_R")


class ThreadInside:
    """Makes the namespace; without CAP_SYS_ADMIN that is a `HostError` (EPERM). `fd` is its descriptor."""

    prefix: Sequence[str] = ()

    def __init__(self, name: str) -> None:
        self._name = name
        self._thread_id = 0
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=f"netemu-{name}")
        try:
            self.fd = self._executor.submit(self._enter).result()
        except OSError:
            self._executor.shutdown()
            raise

    def call(self, function: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Run `function` inside and give what it returns or raises."""
        if threading.get_ident() == self._thread_id:
            return function(*args, **kwargs)
        return self._executor.submit(function, *args, **kwargs).result()

    def open(self, function: Callable[_P, int], *args: _P.args, **kwargs: _P.kwargs) -> int:
        """The descriptor that `function` opens inside."""
        return self.call(function, *args, **kwargs)

    def start(self, make: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """What `make` starts: a process is born where its maker is."""
        return self.call(make, *args, **kwargs)

    def groups(self, low: int, high: int) -> tuple[int, int]:
        """As what the groups `low` to `high` are known inside."""
        return low, high

    def close(self) -> None:
        """End the thread."""
        self._executor.shutdown()
        os.close(self.fd)

    def _enter(self) -> int:
        self._thread_id = threading.get_ident()
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(_CLONE_NEWNET | _CLONE_NEWNS):
            operation = f"make the private network namespace {self._name!r}, which needs CAP_SYS_ADMIN (run as root)"
            raise HostError(ctypes.get_errno(), operation)
        _mount(libc, b"none", "/", _MS_REC | _MS_PRIVATE, "make the namespace's mounts private")
        cover_resolv_conf()
        return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def cover_resolv_conf() -> None:
    """Mount an empty file over /etc/resolv.conf, for whoever shares the mounts of the calling thread."""
    with tempfile.NamedTemporaryFile(prefix="netemu-resolv-") as file:  # the mount outlives the name
        Path(file.name).chmod(0o644)
        _mount(ctypes.CDLL(None, use_errno=True), file.name.encode(), RESOLV_CONF, _MS_BIND, f"mount a private {RESOLV_CONF}")


def _mount(libc: ctypes.CDLL, source: bytes, target: str, flags: int, operation: str) -> None:
    if libc.mount(source, target.encode(), None, flags, None):
        raise HostError(ctypes.get_errno(), operation)
