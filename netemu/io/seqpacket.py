"""Frames over an AF_UNIX SOCK_SEQPACKET socket, one frame a message: what User-mode Linux calls `transport=bess`.

We listen at `path` and the other end connects (`vec0:transport=bess,dst=PATH`); there is no greeting. One peer at a time: another
that connects meanwhile is hung up on and counted (`refused-second`). After a peer has gone the next one is welcome.
Frames for a peer that is not there are dropped and counted (`dropped-no-descriptor`).
"""

from __future__ import annotations

import errno
import os
import socket
from contextlib import suppress

from netemu.errors import HostError, LocalError
from netemu.io.framefd import FrameDescriptor, nobody
from netemu.io.watcher import READABLE, FdWatcher
from netemu.net.loop import Loop
from netemu.net.port import Port

__all__ = ["SeqpacketPort"]

_PATH_LIMIT = 107  # octets, sun_path less its zero (unix(7))
_NON_BLOCKING = socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC


class SeqpacketPort:
    """Listens at `path`, which must not exist, and drives `port` from whoever connects. A path in use is a `HostError`."""

    def __init__(self, loop: Loop, name: str, path: str) -> None:
        if not 0 < len(os.fsencode(path)) <= _PATH_LIMIT:
            raise LocalError(f"socket path {path!r}: 1 to {_PATH_LIMIT} octets are allowed; use a shorter directory")
        self.path = path
        self._loop = loop
        self._peer: socket.socket | None = None
        self._frames: FrameDescriptor | None = None
        self._closed = False
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | _NON_BLOCKING)
        try:
            self._listener.bind(path)
            self._listener.listen(1)
        except OSError as error:
            self._listener.close()
            raise HostError(error.errno or errno.EIO, f"listen at {path}") from None
        with loop:
            self.port = Port(loop, name)
            self.port.attach(nobody(self.port))
            self._watcher = FdWatcher(loop)
            self._watcher.watch(self._listener.fileno(), READABLE, lambda _events: self._accept())

    @property
    def connected(self) -> bool:
        """Somebody is at the other end."""
        return self._peer is not None

    def _accept(self) -> None:
        try:
            peer, _ = self._listener.accept()
        except OSError:  # it went away while it waited
            return
        if self._peer is not None:
            self.port.counters["refused-second"] += 1
            peer.close()
            return
        peer.setblocking(False)
        self._peer = peer
        self._frames = FrameDescriptor(self._watcher, peer.fileno(), self.port, self._gone)

    def _gone(self, _error: int) -> None:
        self._hang_up()

    def _hang_up(self) -> None:
        frames, self._frames = self._frames, None
        peer, self._peer = self._peer, None
        if frames is not None and peer is not None:
            frames.close()
            peer.close()

    def close(self) -> None:
        """Hang up and remove the path."""
        if self._closed:
            return
        self._closed = True
        with self._loop:
            self._hang_up()
            self._watcher.close()
            self._listener.close()
        with suppress(FileNotFoundError):
            os.unlink(self.path)
