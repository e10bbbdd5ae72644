"""What a guest's console said last: read all the time, so that a guest is never held up by it, and kept in part."""

from __future__ import annotations

import socket
from typing import Final

from netemu.io.watcher import READABLE, FdWatcher

__all__ = ["ConsoleLog"]

_READ: Final = 65_536
_KEPT: Final = 16_384  # octets


class ConsoleLog:
    """Reads from `sock`, a connected stream socket (the caller's to close), through `watcher`."""

    def __init__(self, watcher: FdWatcher, sock: socket.socket) -> None:
        self._sock = sock
        self._watcher = watcher
        self._octets = bytearray()
        sock.setblocking(False)
        watcher.watch(sock.fileno(), READABLE, lambda _events: self._read_some())

    @property
    def text(self) -> str:
        """The last 16 KiB."""
        return self._octets.decode(errors="replace").replace("\r\n", "\n")

    def drain(self) -> None:
        """Read what is there now; for one that looks at the text when the guest is gone."""
        while self._read():
            pass

    def _read_some(self) -> None:
        self._read()

    def _read(self) -> bool:
        """Whether there was anything."""
        try:
            octets = self._sock.recv(_READ)
        except BlockingIOError:
            return False
        except OSError:
            octets = b""
        if not octets:
            self._watcher.unwatch(self._sock.fileno())
        self._octets += octets
        del self._octets[:-_KEPT]
        return bool(octets)
