"""TCP over the operating system's sockets without a buffer of our own: what came waits in the kernel until it is discarded.

Octets are read with MSG_PEEK at an offset that the kernel keeps (SO_PEEK_OFF, socket(7); for TCP since Linux 6.9), as often as
their user asks for them, straight into its memory. `discard` consumes them without copying (MSG_TRUNC, tcp(7)). So what has not
been discarded fills the kernel's receive buffer, its window closes, and the peer feels it.

Readiness is edge-triggered, for what waits stays readable: each arrival is an event, and SIOCINQ tells how much there is. So what
is watched for need not change while the stream lives, but for room to send: that is watched for from when it is first wanted.
"""

from __future__ import annotations

import errno
import select
import socket
from collections.abc import Callable
from functools import cache

from netemu.io.osstream import URGENT, OsStream
from netemu.io.stream import Closeable
from netemu.io.streamstate import StreamSnapshot
from netemu.io.watcher import ERROR, HANGUP, READABLE, WRITABLE, FdWatcher
from netemu.net.loop import Loop
from netemu.wire.address import Endpoint

__all__ = ["PeekStream", "kernel_peeks"]

_SO_PEEK_OFF = 42  # asm-generic/socket.h
_EVENTS = READABLE | URGENT | select.EPOLLRDHUP | select.EPOLLET
_ANYTHING_READ = READABLE | select.EPOLLRDHUP | ERROR | HANGUP
_NO_OCTETS = bytearray()  # what every such stream holds
_NOWHERE = memoryview(bytearray(1 << 20))  # MSG_TRUNC wants memory and leaves it alone


@cache
def kernel_peeks() -> bool:
    """Does this kernel keep a peek offset for TCP?"""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.setsockopt(socket.SOL_SOCKET, _SO_PEEK_OFF, 0)
        except OSError:
            return False
    return True


class PeekStream(OsStream):
    """An `OsStream` that holds nothing. `available` is what the kernel had when it last spoke up."""

    def __init__(
        self, loop: Loop, watcher: FdWatcher, sock: socket.socket, remote: Endpoint, forget: Callable[[Closeable], None]
    ) -> None:
        super().__init__(loop, watcher, sock, remote, forget)
        self._waiting = 0
        self._received = _NO_OCTETS
        self._offset = 0  # where the kernel peeks next
        self._moves = False  # does that move on? Not before it was set
        self._writes = False  # is it watched for room?

    def _restored(self, state: StreamSnapshot) -> bytes:
        self._waiting = len(state.received)
        return state.received

    def available(self) -> int:
        return self._waiting

    def read_into(self, offset: int, buffer: memoryview) -> int:
        count = min(len(buffer), self._waiting - offset)
        if count <= 0 or self.closed:
            return 0
        if offset != self._offset:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_PEEK_OFF, offset)
            self._moves = True
        try:
            count = self._socket.recv_into(buffer, count, socket.MSG_PEEK)
        except OSError as error:
            self._lose(error.errno or errno.EIO)
            return 0
        if self._moves:
            self._offset = offset + count
        return count

    def _consume(self, count: int) -> None:
        self._waiting -= count
        self._offset = max(0, self._offset - count)
        while count:
            try:
                taken = self._socket.recv_into(_NOWHERE, min(count, len(_NOWHERE)), socket.MSG_TRUNC)
            except OSError as error:
                self._lose(error.errno or errno.EIO)
                return
            if not taken:
                return
            count -= taken

    def _interest(self) -> int | None:
        if self.closed or self.error:
            return None
        self._writes = self._writes or self._blocked or not self.connected
        return _EVENTS | WRITABLE if self._writes else _EVENTS

    def _shut(self, error: int) -> None:
        super()._shut(error)
        self._waiting = 0

    def _happened(self, events: int) -> None:
        if not self.connected:
            self._connect_ended()
            events |= READABLE  # an edge that came with the handshake comes once
            if not self.connected:
                return
        changed = False
        if events & WRITABLE and self._blocked:
            self._blocked = False
            changed = True
        if events & _ANYTHING_READ:
            changed = self._look(events) or changed
        if changed:
            self._told()  # at once: this is called by the loop

    def _made_room(self) -> None:
        """What is watched for does not depend on it."""

    def _look(self, events: int) -> bool:
        """See what there is now, and whether it is all; true if that is news."""
        waiting = self._unread()
        ended = bool(events & (select.EPOLLRDHUP | HANGUP))
        if events & URGENT:
            self._find_mark()
        news = waiting != self._waiting or ended != self.eof
        if news:
            self._waiting = waiting
            self.eof = self.eof or ended
        if events & (ERROR | HANGUP):
            error = self._take_error()
            if error:
                self._lose(error)
        return news
