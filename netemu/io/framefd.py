"""Frames through a descriptor that keeps message boundaries: one read or write, one frame (TAP, SOCK_SEQPACKET, ...).

A `FrameDescriptor` drives a `Port`. Frames that are read are sent out of the port; while the port's peer is busy nothing is read,
so they wait in the kernel. Frames the port receives are written; when the kernel takes no more the port says that it
is busy, until the descriptor is writable again.

With a virtio-net header (`header_length` 10 or 12) each message begins with one, and it goes with the frame in both directions.
Without one a frame that asks its receiver to finish a checksum or to segment is dropped and counted: the link in front should
have done it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from netemu.io.watcher import READABLE, WRITABLE, FdWatcher
from netemu.net.port import MAX_FRAME, Frame, Port, Receiver
from netemu.wire.errors import WireError
from netemu.wire.vnet_hdr import GSO_NONE, NEEDS_CSUM, VnetHeader

__all__ = ["FrameDescriptor", "nobody"]

_BURST = 64  # frames read before other callbacks have their turn


def nobody(port: Port) -> Receiver:
    """What receives for `port` while it has no descriptor: frames are dropped and counted (`dropped-no-descriptor`)."""

    def drop(_frame: Frame, _header: VnetHeader | None) -> bool:
        port.counters["dropped-no-descriptor"] += 1
        return True

    return drop


class FrameDescriptor:
    """Joins non-blocking `fd`, which stays its maker's to close, to `port`.

    `gone` is called once with 0 when the other end has closed, or with the errno that ended reading. Counted on the port:
    `dropped-offload`, `dropped-header` and, by the errno's name, frames that could not be written (`dropped-EIO`: the
    interface is down).
    """

    def __init__(self, watcher: FdWatcher, fd: int, port: Port, gone: Callable[[int], None], *, header_length: int = 0) -> None:
        self._watcher = watcher
        self._fd = fd
        self._port = port
        self._gone = gone
        self._header_length = header_length
        self._no_header = VnetHeader().pack(header_length) if header_length else b""
        self._buffer = bytearray(header_length + MAX_FRAME)
        self._paused = False
        self._blocked = False
        self._closed = False
        self._watched = 0
        port.on_writable = self._resume
        port.attach(self._write)
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
        for _ in range(_BURST):
            if self._closed:
                return
            if self._port.busy:
                self._paused = True
                return
            try:
                length = os.readv(self._fd, [self._buffer])
            except BlockingIOError:
                return
            except OSError as error:
                self._end(error.errno or errno.EIO)
                return
            if not length:
                self._end(0)
                return
            self._deliver(memoryview(self._buffer)[:length])

    def _deliver(self, message: memoryview) -> None:
        header = None
        if self._header_length:
            try:
                header = VnetHeader.parse(message, self._header_length)
            except WireError:
                self._port.counters["dropped-header"] += 1
                return
            if not header.flags and header.gso_type == GSO_NONE:
                header = None
        self._port.send(bytes(message[self._header_length :]), header)

    def _write(self, frame: Frame, header: VnetHeader | None) -> bool:
        if self._blocked:
            return False
        if not self._header_length and header is not None and (header.flags & NEEDS_CSUM or header.gso_type != GSO_NONE):
            self._port.counters["dropped-offload"] += 1
            return True
        front = header.pack(self._header_length) if header is not None and self._header_length else self._no_header
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
