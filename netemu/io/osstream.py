"""TCP over the operating system's sockets, never blocking.

An `OsStream` reads what comes into a bounded buffer, and stops watching its descriptor while that is full, so the kernel's window
closes and the peer feels it. What is offered goes straight to `send`: what the kernel does not take was not taken. `room` is
therefore an estimate: nothing after the kernel has refused octets, until it says that it can take more; else half of the
send buffer (the kernel counts its overhead into the other half) less what waits in it (SIOCOUTQ), and 131,072 octets at least.
The kernel is asked for it again when half of what it had said is used up.

Urgent data stays in line (SO_OOBINLINE, as RFC 6093 6 asks); where it ends is marked both ways. For what comes, EPOLLPRI says that
there is a mark, and SIOCINQ how far ahead it is: without SO_OOBINLINE that count ends there (tcp(7)).

Errors come from SO_ERROR or from the call that met them. A reset that Linux reports as EPIPE, because the peer had finished before,
is ECONNRESET here. Octets the peer sent before a reset can be read while the buffer has room for them.
"""

from __future__ import annotations

import errno
import fcntl
import select
import socket
import struct
import termios
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address, ip_address

from netemu.io.stream import BufferedStream, Closeable
from netemu.io.streamstate import StreamSnapshot
from netemu.io.tcprepair import freeze, thaw
from netemu.io.watcher import READABLE, WRITABLE, FdWatcher
from netemu.net.clock import MILLISECOND
from netemu.net.loop import Loop
from netemu.net.sockets import StreamSocket
from netemu.wire.address import Endpoint

__all__ = ["LINGER_NONE", "NO_ENDPOINT", "URGENT", "OsListener", "OsStream", "socket_endpoint"]

URGENT = select.EPOLLPRI

_CAPACITY = 262_144  # octets that wait to be read
_READ = 65_536  # octets asked of one recv
_LEAST_ROOM = 131_072  # two segments: TCP does not announce a window that grew by less than one, and would not ask again
_ACCEPTS = 64  # connections taken before other callbacks have their turn
_RETRY = 100 * MILLISECOND  # after the process ran out of descriptors or the kernel out of memory
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}  # accept(2)
_UNDER_WAY = {errno.EINPROGRESS, errno.EALREADY}  # connect(2)
NO_ENDPOINT = Endpoint(IPv4Address("127.0.0.1"), 0)
LINGER_NONE = struct.pack("ii", 1, 0)  # struct linger: close sends a reset


def socket_endpoint(address: tuple[str, int] | tuple[str, int, int, int] | str | bytes) -> Endpoint:
    """What the `socket` module calls an address. The scope of a link-local one is its text's (RFC 4007 11).

    A UNIX socket's has no endpoint, so that is port 0 of the loopback.
    """
    if isinstance(address, str | bytes):
        return NO_ENDPOINT
    return Endpoint(ip_address(address[0]), address[1])


class OsStream(BufferedStream):
    """A non-blocking TCP socket: connected, or with its `connect` under way. `forget` is called when it is closed."""

    def __init__(
        self, loop: Loop, watcher: FdWatcher, sock: socket.socket, remote: Endpoint, forget: Callable[[Closeable], None]
    ) -> None:
        super().__init__(loop, None, remote)
        self._watcher = watcher
        self._socket = sock
        self._forget = forget
        self._blocked = False
        self._watched: int | None = None
        self._room = self._room_measured = _LEAST_ROOM  # of a new one, which has more
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        watcher.expect()

    @property
    def local(self) -> Endpoint:
        """Where it begins, once it is connected. The kernel is asked when somebody asks, and cannot be once it is closed."""
        if self._local is not None:
            return self._local
        if self.closed:
            return NO_ENDPOINT
        local = socket_endpoint(self._socket.getsockname())
        if self.connected:
            self._local = local
        return local

    def accepted(self) -> None:
        """The connection stands already: nobody has to be told who has yet to get the stream."""
        self.connected = True
        self._watch()

    def connecting(self, error: int) -> None:
        """`connect` gave `error`: 0, or EINPROGRESS or EALREADY while it goes on, or why there is no connection."""
        if not error:
            self.accepted()
        elif error in _UNDER_WAY:
            self._watch()
        else:
            self._fail(error)

    def park(self) -> tuple[StreamSnapshot, socket.socket]:
        """Take the connection out: what it is, and its socket, which hears nothing any more. The stream is closed then."""
        kernel = freeze(self._socket, self.local, self.remote, finished=self._finished, eof=self.eof)
        state = replace(kernel, received=bytes(self._received) + kernel.received)
        self._unwatch()
        self._forget(self)
        self._shut(errno.EBADF)
        return state, self._socket

    def take_over(self, state: StreamSnapshot, end_old: Callable[[], int | None]) -> None:
        """Go on with a connection that was parked; see `netemu.io.tcprepair.thaw`."""
        thaw(self._socket, state, self._restored(state), end_old)
        self._local = state.local
        self._finished = state.finished
        self.eof = state.eof
        self.connected = True
        self._tell()
        self._watch()

    def _restored(self, state: StreamSnapshot) -> bytes:
        """What the kernel is to have of what nobody has read."""
        self._received += state.received
        return b""

    def room(self) -> int:
        if not self.connected or self._finished or self.error or self._blocked:
            return 0
        if self._room <= self._room_measured // 2:
            size = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
            self._room = self._room_measured = size // 2 - self.undelivered()
        return max(_LEAST_ROOM, self._room)

    def undelivered(self) -> int:
        waiting: int = 0
        if self.connected and not self.closed:
            waiting = struct.unpack("i", fcntl.ioctl(self._socket, termios.TIOCOUTQ, bytes(4)))[0]
        return waiting

    def _send(self, data: bytes | memoryview, flags: int = 0) -> int:
        try:
            count = self._socket.send(data, socket.MSG_NOSIGNAL | flags)
        except BlockingIOError:
            count = 0
        except OSError as error:
            self._lose(error.errno or errno.EIO)
            return 0
        self._room -= count
        self._watcher.expect()
        if count < len(data):
            self._blocked = True
            self._room = 0
            self._watch()
        return count

    def _send_urgent(self, data: bytes | memoryview) -> int:
        """The kernel puts its mark behind what one call sent, however little that was: so the last octet goes by itself."""
        if self._socket.family == socket.AF_UNIX:
            return self._send(data)
        last = len(data) - 1
        count = self._send(memoryview(data)[:last]) if last else 0
        return count if count < last or self.error else count + self._send(memoryview(data)[last:], socket.MSG_OOB)

    def _unread(self) -> int:
        """Octets that wait in the kernel (SIOCINQ)."""
        waiting: int = struct.unpack("i", fcntl.ioctl(self._socket, termios.FIONREAD, bytes(4)))[0]
        return waiting

    def _find_mark(self) -> None:
        """The kernel has an octet before which urgent data ends with it."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 0)
        self.urgent = len(self._received) + self._unread() + 1
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)

    def _send_fin(self) -> None:
        self._blocked = False
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:  # ENOTCONN: reset a moment ago
            self._lose(errno.ECONNRESET)
            return
        self._watcher.expect()
        self._watch()

    def _made_room(self) -> None:
        self._watch()

    def _release(self, *, reset: bool) -> None:
        self._unwatch()
        if reset:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NONE)
        self._socket.close()
        self._watcher.expect()
        self._forget(self)

    def _lose(self, error: int) -> None:
        self._fail(errno.ECONNRESET if error == errno.EPIPE else error)
        self._unwatch()

    def _happened(self, events: int) -> None:
        if not self.connected:
            self._connect_ended()
            return
        if events & WRITABLE and self._blocked:
            self._blocked = False
            self._tell()
        if events & ~WRITABLE:
            if self.eof:  # nothing was watched for but errors
                self._lose(self._take_error() or errno.ECONNRESET)
                return
            if events & URGENT:
                self._find_mark()
            self._receive()
        self._watch()

    def _connect_ended(self) -> None:
        error = self._take_error()
        if error:
            self._lose(error)
            return
        self._establish()
        self._watch()

    def _take_error(self) -> int:
        return self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)

    def _receive(self) -> None:
        while (space := _CAPACITY - len(self._received)) > 0:
            wanted = min(space, _READ)
            try:
                data = self._socket.recv(wanted)
            except BlockingIOError:
                return
            except OSError as error:
                self._lose(error.errno or errno.EIO)
                return
            self.eof = not data
            self._received += data
            self._tell()
            if len(data) < wanted:
                return

    def _interest(self) -> int | None:
        """The events to watch for; 0 is errors only, None not even those, for a hang-up that stays would keep the loop busy."""
        if self.closed or self.error:
            return None
        if not self.connected:
            return WRITABLE
        full = len(self._received) >= _CAPACITY
        events = (0 if self.eof or full else READABLE | URGENT) | (WRITABLE if self._blocked else 0)
        if not events and (self._finished or not self.eof):
            return None
        return events

    def _watch(self) -> None:
        wanted = self._interest()
        if wanted == self._watched:
            return
        if wanted is None:
            self._unwatch()
        elif self._watched is None:
            self._watcher.watch(self._socket.fileno(), wanted, self._happened)
        else:
            self._watcher.modify(self._socket.fileno(), wanted)
        self._watched = wanted

    def _unwatch(self) -> None:
        self._watcher.unwatch(self._socket.fileno())
        self._watched = None


class OsListener:
    """A listening TCP socket; connections wait in the kernel until `on_accept` is set.

    `counters` has the errnos, by name, for which a connection could not be accepted. When descriptors or memory run out it tries
    again every 100 ms.
    """

    def __init__(
        self,
        loop: Loop,
        watcher: FdWatcher,
        sock: socket.socket,
        take: Callable[[socket.socket, Endpoint], OsStream],
        forget: Callable[[Closeable], None],
    ) -> None:
        self.local = socket_endpoint(sock.getsockname())
        self.counters: Counter[str] = Counter()
        self._loop = loop
        self._watcher = watcher
        self._socket = sock
        self._take = take
        self._forget = forget
        self._on_accept: Callable[[StreamSocket], None] | None = None
        self._closed = False

    @property
    def on_accept(self) -> Callable[[StreamSocket], None] | None:
        return self._on_accept

    @on_accept.setter
    def on_accept(self, callback: Callable[[StreamSocket], None] | None) -> None:
        self._on_accept = callback
        self._watch()

    def _watch(self) -> None:
        if self._closed:
            return
        self._watcher.unwatch(self._socket.fileno())
        if self._on_accept is not None:
            self._watcher.watch(self._socket.fileno(), READABLE, lambda _events: self._accept())

    def _accept(self) -> None:
        for _ in range(_ACCEPTS):
            if self._on_accept is None or self._closed:
                return
            try:
                sock, address = self._socket.accept()
            except BlockingIOError:
                return
            except OSError as error:  # most often ECONNABORTED: it died while it waited
                self.counters[errno.errorcode.get(error.errno or 0, "unknown")] += 1
                if error.errno in _EXHAUSTED:
                    self._watcher.unwatch(self._socket.fileno())
                    self._loop.call_at(self._loop.now() + _RETRY, self._watch)
                    return
                continue
            sock.setblocking(False)
            stream = self._take(sock, socket_endpoint(address))
            stream.accepted()
            self._on_accept(stream)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._watcher.unwatch(self._socket.fileno())
            self._socket.close()
            self._watcher.expect()
            self._forget(self)
