"""Frames through a stream socket, each behind its length: QEMU's `-netdev stream` (net/stream.c), which passt speaks too.

    length (32 bits, big-endian) | frame

A `StreamFrames` drives a `Port`, as `netemu.io.framefd` does where the kernel keeps the boundaries. Here a read may end in the
middle of a frame, or of its length, and so may a write: what is left of a read waits for the next one, what is left of a write goes
first when the socket is writable again, and until then the port says that it is busy. While its peer is busy nothing is read.

A length that no frame has (0, or more than `MAX_FRAME`) leaves no way to find the next one, so it ends the stream. No offloads.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable
from typing import Final

from netemu.io.framefd import nobody
from netemu.io.watcher import READABLE, WRITABLE, FdWatcher
from netemu.net.port import MAX_FRAME, Frame, FrameView, Port
from netemu.wire.vnet_hdr import VnetHeader

__all__ = ["LENGTH", "StreamFrames"]

LENGTH: Final = struct.Struct("!I")
"""The length before each frame (net/stream.c)."""

_SHORTEST: Final = 14  # octets: two addresses and a type
_SHARE: Final = 1 << 18  # octets read before other callbacks have their turn


class StreamFrames:
    """Joins the non-blocking `sock`, which stays its maker's to close, to `port`.

    `gone` is called once with 0 when the other end has closed, with EPROTO for an impossible length, or with the errno that ended
    reading. `last` is the last frame written, for an obituary. Counted on the port: `dropped-runt`, frames shorter than an Ethernet
    header, which passt hangs up for; `dropped-gone`, frames for an end that is not there any more.
    """

    def __init__(self, watcher: FdWatcher, sock: socket.socket, port: Port, gone: Callable[[int], None]) -> None:
        self._watcher = watcher
        self._sock = sock
        self._port = port
        self._gone = gone
        self.last: Frame = b""
        self._read = bytearray()
        self._rest = memoryview(b"")  # of a frame that was written in part
        self._paused = False
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
        self._watcher.unwatch(self._sock.fileno())
        self._port.on_writable = None
        self._port.attach(nobody(self._port))

    def _happened(self, events: int) -> None:
        if events & WRITABLE and self._rest:
            self._flush()
        if events & ~WRITABLE and not self._paused:
            self._receive()
        self._watch()

    def _receive(self) -> None:
        try:
            octets = self._sock.recv(_SHARE)
        except BlockingIOError:
            return
        except OSError as error:
            self._end(error.errno or errno.EIO)
            return
        if not octets:
            self._end(0)
            return
        self._read += octets
        self._deliver()

    def _deliver(self) -> None:
        """Send on the frames that are whole, until the peer is busy."""
        start = 0
        while len(self._read) - start >= LENGTH.size and not self._closed:
            if self._port.busy:
                self._paused = True
                break
            (length,) = LENGTH.unpack_from(self._read, start)
            if not 0 < length <= MAX_FRAME:
                self._end(errno.EPROTO)
                break
            frame = bytes(self._read[start + LENGTH.size : start + LENGTH.size + length])
            if len(frame) < length:
                break
            start += LENGTH.size + length
            self._port.send(frame)
        del self._read[:start]

    def _write(self, frame: Frame, _header: VnetHeader | None) -> bool:
        if self._rest:
            return False
        if len(frame) < _SHORTEST:
            self._port.counters["dropped-runt"] += 1
            return True
        self.last = frame
        self._watcher.expect()
        left = LENGTH.size + len(frame) - self._send([LENGTH.pack(len(frame)), frame])
        if left:
            self._rest = memoryview(LENGTH.pack(len(frame)) + frame)[-left:]
            self._watch()
        return True

    def _flush(self) -> None:
        self._rest = self._rest[self._send([self._rest]) :]
        if not self._rest:
            self._port.flush()

    def _send(self, parts: list[FrameView]) -> int:
        """How many octets the kernel took. Those for an end that has gone are taken and counted."""
        try:
            return self._sock.sendmsg(parts, [], socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return 0
        except OSError:  # reading tells of it
            self._port.counters["dropped-gone"] += 1
            return sum(map(len, parts))

    def _resume(self) -> None:
        self._paused = False
        self._deliver()
        self._watch()

    def _end(self, error: int) -> None:
        self.close()
        self._gone(error)

    def _watch(self) -> None:
        """Nothing wanted means not watched at all, for a hang-up that stays would keep the loop busy."""
        wanted = (0 if self._paused else READABLE) | (WRITABLE if self._rest else 0)
        if self._closed or wanted == self._watched:
            return
        if not wanted:
            self._watcher.unwatch(self._sock.fileno())
        elif not self._watched:
            self._watcher.watch(self._sock.fileno(), wanted, self._happened)
        else:
            self._watcher.modify(self._sock.fileno(), wanted)
        self._watched = wanted
