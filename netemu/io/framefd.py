"""Frames through a descriptor that keeps message boundaries: one read or write, one frame (TAP, SOCK_SEQPACKET, ...).

A `FrameDescriptor` drives a `Port`. Frames that are read are sent out of the port; while the port's peer is busy nothing is read,
so they wait in the kernel. Frames the port receives are written; when the kernel takes no more the port says that it
is busy, until the descriptor is writable again.

With a virtio-net header (`header_length` 12) each message begins with one, and it goes with the frame in both directions: the port
takes the offloads that the descriptor's other end takes. Without one it takes none.

Frames are read into one buffer, again and again, and written from wherever their sender has them. Datagrams of one flow that are
read in one turn go on as one frame, if the port's peer takes that (`netemu.net.joiner`).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from functools import lru_cache

from netemu.io.watcher import READABLE, WRITABLE, FdWatcher
from netemu.net.joiner import Joiner
from netemu.net.port import Frame, FrameView, Port, Receiver
from netemu.wire.vnet_hdr import GSO_NONE, VnetHeader

__all__ = ["FrameDescriptor", "nobody"]

_BURST = 64  # frames read before other callbacks have their turn
_TRAIN = 16  # frames that a train counts for
_HEADERS = 1024  # those of a flow repeat, so they are parsed and packed once


@lru_cache(_HEADERS)
def _parse(octets: bytes) -> VnetHeader | None:
    """The header, or None if it asks for nothing and promises nothing."""
    header = VnetHeader.parse(octets, len(octets))
    return header if header.flags or header.gso_type != GSO_NONE else None


@lru_cache(_HEADERS)
def _pack(header: VnetHeader, length: int) -> bytes:
    return header.pack(length)


def nobody(port: Port) -> Receiver:
    """What receives for `port` while it has no descriptor: frames are dropped and counted (`dropped-no-descriptor`)."""

    def drop(_frame: Frame, _header: VnetHeader | None) -> bool:
        port.counters["dropped-no-descriptor"] += 1
        return True

    return drop


class FrameDescriptor:
    """Joins non-blocking `fd`, which stays its maker's to close, to `port`.

    `offloads`: what the other end of the descriptor takes, nothing without a virtio-net header.
    `gone` is called once with 0 when the other end has closed, or with the errno that ended reading. Counted on the port:
    `dropped-header` and, by the errno's name, frames that could not be written (`dropped-EIO`: the
    interface is down).
    """

    def __init__(
        self,
        watcher: FdWatcher,
        fd: int,
        port: Port,
        gone: Callable[[int], None],
        *,
        header_length: int = 0,
        offloads: int = 0,
    ) -> None:
        self._watcher = watcher
        self._fd = fd
        self._port = port
        self._gone = gone
        self._header_length = header_length
        self._no_header = VnetHeader().pack(header_length) if header_length else b""
        self._offloads = offloads
        self._joiner = Joiner()
        self._last: tuple[VnetHeader | None, bytes] = (None, b"")  # the header that was written last, and its octets
        self._error: int | None = None
        self._paused = False
        self._blocked = False
        self._closed = False
        self._watched = 0
        port.on_writable = self._resume
        port.attach(self._write, offloads=offloads, at_once=self._write)
        self._watch()

    def close(self) -> None:
        """Read and write no more; what comes for the port from now on is dropped and counted."""
        if self._closed:
            return
        self._closed = True
        self._watcher.unwatch(self._fd)
        self._port.on_writable = None
        self._port.attach(nobody(self._port))

    def _happened(self, events: int) -> None:
        if events & WRITABLE and self._blocked:
            self._blocked = False
            self._port.flush()
        if events & ~WRITABLE and not self._paused:
            self._read()
        self._watch()

    def _read(self) -> None:
        joiner, port, left = self._joiner, self._port, _BURST
        length: int | None = None  # of the message at the front of the memory; None: nothing was read, 0: nothing waits
        while length != 0:
            if length is None:
                if left <= 0 or self._closed:
                    return
                if port.busy:
                    self._paused = True
                    return
                length = self._next((joiner.memory,))
                left -= 1
            elif joiner.opens(length, port.peer_offloads & self._offloads):
                length = joiner.grow(self._next)
                left -= _TRAIN
                port.send_view(*joiner.train())
                if length:
                    joiner.move(length)
            else:
                self._deliver(length)
                length = None
        if self._error is not None and not self._closed:
            self._end(self._error)

    def _next(self, places: tuple[memoryview, ...]) -> int:
        """Read a message; 0: none waits, or (then there is an `_error`) none will ever come."""
        try:
            length = os.readv(self._fd, places)
        except BlockingIOError:
            return 0
        except OSError as error:
            self._error = error.errno or errno.EIO
            return 0
        if not length:
            self._error = 0
        return length

    def _deliver(self, length: int) -> None:
        header, front = None, self._header_length
        if front:
            if length < front:
                self._port.counters["dropped-header"] += 1
                return
            header = _parse(bytes(self._joiner.memory[:front]))
        self._port.send_view(self._joiner.memory[front:length], header)

    def _write(self, frame: FrameView, header: VnetHeader | None) -> bool:
        if self._blocked:
            return False
        if header is None or not self._header_length:
            front = self._no_header
        elif header is self._last[0]:
            front = self._last[1]
        else:
            front = _pack(header, self._header_length)
            self._last = header, front
        self._watcher.expect()
        try:
            os.writev(self._fd, (front, frame))
        except BlockingIOError:
            self._blocked = True
            self._watch()
            return False
        except OSError as error:
            self._port.counters[f"dropped-{errno.errorcode.get(error.errno or 0, 'unknown')}"] += 1
        return True

    def _resume(self) -> None:
        self._paused = False
        self._watch()

    def _end(self, error: int) -> None:
        self.close()
        self._gone(error)

    def _watch(self) -> None:
        """Nothing wanted means not watched at all, for a hang-up that stays would keep the loop busy."""
        wanted = (0 if self._paused else READABLE) | (WRITABLE if self._blocked else 0)
        if self._closed or wanted == self._watched:
            return
        if not wanted:
            self._watcher.unwatch(self._fd)
        elif not self._watched:
            self._watcher.watch(self._fd, wanted, self._happened)
        else:
            self._watcher.modify(self._fd, wanted)
        self._watched = wanted
