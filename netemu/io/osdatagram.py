"""UDP and ping over the operating system's sockets, with the ICMP errors that come back.

The families differ in names and numbers only, which are the two rows of `_FAMILIES`; what follows is said of IPv4.
IP_RECVERR (ip(7), ipv6(7)) makes Linux queue each ICMP error with the destination it is about and who sent it, for sockets that
are not connected too. The queue is read whenever epoll reports an error. Since the kernel also hands a queued error to the next
call on the socket, whatever that call is about, a send that fails reads the queue and tries once more.

Each packet's TTL is the socket's, set again when it changes (1 to 255, else EINVAL); the TTL of what comes is asked
for with IP_RECVTTL.

UDP goes in trains, for a system call, a route and a wake-up for each datagram are most of what it costs. A train is sent with one
call (UDP_SEGMENT, udp(7)); what has come is received with one (`netemu.io.messages`), joined by the kernel where it can (UDP_GRO).
"""

from __future__ import annotations

import errno
import socket
import struct
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from ipaddress import ip_address
from typing import NamedTuple

from netemu.errors import HostError
from netemu.io.messages import UDP_GRO, Messages
from netemu.io.osstream import socket_endpoint
from netemu.io.stream import Closeable
from netemu.io.watcher import ERROR, READABLE, FdWatcher
from netemu.net.sockets import train_length
from netemu.wire.address import Endpoint, Family, IPAddress
from netemu.wire.icmpv4 import IcmpType
from netemu.wire.icmpv6 import Icmpv6Type

__all__ = ["OsDatagram", "OsPing"]

_MSG_ERRQUEUE = 0x2000  # linux/socket.h
_EXTENDED_ERROR = struct.Struct("=IBBBxII")  # struct sock_extended_err: errno, origin, type, code, pad, info, data
_TTL = struct.Struct("=i")
_ECHO = struct.Struct("!BBHHH")  # type, code, checksum, identifier, sequence (RFC 792, RFC 4443 4.1)
_LONGEST = 65_536  # octets
_CONTROL = 512  # octets: room for the control messages asked for
_BURST = 64  # datagrams, or errors, taken before other callbacks have their turn
_RECEIVE_BUFFER = 1 << 20  # octets wanted; net.core.rmem_max is the most there is
_UDP_SEGMENT = 103  # linux/udp.h
_SEGMENT_SIZE = struct.Struct("=H")


class _Options(NamedTuple):
    """What one family calls things."""

    level: int
    recverr: int  # linux/in.h, linux/in6.h; Python 3.11's socket module has not all of them
    recvttl: int
    ttl: int
    unicast: int  # the option that sets what is sent
    origin: int  # SO_EE_ORIGIN_ICMP, .._ICMP6 (linux/errqueue.h); errors of local origin are raised by the call itself
    offender: struct.Struct  # struct sockaddr_in or sockaddr_in6, up to the address
    echo_request: int
    echo_reply: int


_FAMILIES: dict[Family, _Options] = {
    4: _Options(
        socket.IPPROTO_IP,
        11,
        12,
        socket.IP_TTL,
        socket.IP_TTL,
        2,
        struct.Struct("=4x4s"),
        IcmpType.ECHO_REQUEST,
        IcmpType.ECHO_REPLY,
    ),
    6: _Options(
        socket.IPPROTO_IPV6,
        25,
        socket.IPV6_RECVHOPLIMIT,
        socket.IPV6_HOPLIMIT,
        socket.IPV6_UNICAST_HOPS,
        3,
        struct.Struct("=8x16s"),
        Icmpv6Type.ECHO_REQUEST,
        Icmpv6Type.ECHO_REPLY,
    ),
}


_endpoint = lru_cache(1024)(socket_endpoint)  # the same peers speak again and again


class _QueuedError(NamedTuple):
    """An ICMP error from a socket's error queue; `packet` is what this host sent, from the transport's header or its payload on."""

    errno: int
    type: int
    code: int
    reporter: IPAddress
    destination: Endpoint
    packet: bytes


class _ErrorQueueSocket(ABC):
    """What UDP and ping sockets share. `counters` has `received` and by reason what was dropped."""

    def __init__(self, watcher: FdWatcher, sock: socket.socket, forget: Callable[[Closeable], None]) -> None:
        self._family: Family = 4 if sock.family == socket.AF_INET else 6
        self._options = options = _FAMILIES[self._family]
        self.last_ttl: int | None = None
        self.counters: Counter[str] = Counter()
        self._watcher = watcher
        self._socket = sock
        self._forget = forget
        self._closed = False
        self._ttl: int | None = None
        self._destination: Endpoint | None = None
        self._target = ("", 0)
        sock.setsockopt(options.level, options.recverr, 1)
        sock.setsockopt(options.level, options.recvttl, 1)
        watcher.watch(sock.fileno(), READABLE, self._happened)

    @abstractmethod
    def _failed(self, error: _QueuedError) -> None: ...

    def _send(self, data: bytes | memoryview, destination: Endpoint, ttl: int, what: str, size: int = 0) -> None:
        """Send, in datagrams of `size` octets if that is not 0."""
        if self._closed or destination.address.version != self._family:
            raise HostError(errno.EBADF if self._closed else errno.EAFNOSUPPORT, f"{what} to {destination}")
        if destination is not self._destination:
            self._destination, self._target = destination, (str(destination.address), destination.port)
        self._watcher.expect()
        try:
            self._hand_over(data, ttl, size)
        except BlockingIOError:
            self.counters["dropped-full"] += train_length(len(data), size)
        except OSError as refusal:
            if not self._take_errors():
                raise HostError(refusal.errno or errno.EIO, f"{what} to {destination}") from None
            try:
                self._hand_over(data, ttl, size)
            except OSError as refusal:
                raise HostError(refusal.errno or errno.EIO, f"{what} to {destination}") from None

    def _hand_over(self, data: bytes | memoryview, ttl: int, size: int) -> None:
        if ttl != self._ttl:
            self._socket.setsockopt(self._options.level, self._options.unicast, ttl)
            self._ttl = ttl
        if size:
            self._socket.sendmsg((data,), ((socket.IPPROTO_UDP, _UDP_SEGMENT, _SEGMENT_SIZE.pack(size)),), 0, self._target)
        else:
            self._socket.sendto(data, self._target)

    def _happened(self, events: int) -> None:
        if events & ERROR and not self._take_errors():
            self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)  # reading it clears it
        self._receive()

    @abstractmethod
    def _receive(self) -> None: ...

    def _take_errors(self) -> bool:
        """Report what the error queue holds; False if it was empty."""
        found, options = False, self._options
        for _ in range(_BURST):
            if self._closed:
                break
            try:
                packet, control, _, destination = self._socket.recvmsg(_LONGEST, _CONTROL, _MSG_ERRQUEUE)
            except OSError:
                break
            found = True
            for level, kind, value in control:
                if (level, kind) == (options.level, options.recverr):
                    number, origin, icmp_type, code, _, _ = _EXTENDED_ERROR.unpack_from(value)
                    if origin == options.origin:
                        reporter = ip_address(options.offender.unpack_from(value, _EXTENDED_ERROR.size)[0])
                        self._failed(_QueuedError(number, icmp_type, code, reporter, socket_endpoint(destination), packet))
        return found

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._watcher.unwatch(self._socket.fileno())
            self._socket.close()
            self._forget(self)


class OsDatagram(_ErrorQueueSocket):
    """A UDP socket, which receives into `messages`. `last_ttl` is the TTL that the datagram delivered last arrived with;
    `counters` has `received`, `dropped-no-reader` (no `on_datagram`) and `dropped-full` (the kernel's send buffer).
    """

    def __init__(self, watcher: FdWatcher, sock: socket.socket, forget: Callable[[Closeable], None], messages: Messages) -> None:
        self.on_datagram: Callable[[bytes, Endpoint], None] | None = None
        self.on_train: Callable[[bytes, int, Endpoint], None] | None = None
        self.on_error: Callable[[int, Endpoint], None] | None = None
        self.local = socket_endpoint(sock.getsockname())
        self._what = f"send UDP {self.local}"
        self._messages = messages
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        with suppress(OSError):  # before Linux 5.0 nothing is joined
            sock.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
        super().__init__(watcher, sock, forget)

    def send_to(self, data: bytes, destination: Endpoint, ttl: int = 64) -> None:
        self._send(data, destination, ttl, self._what)

    def send_train(self, payload: bytes | memoryview, size: int, destination: Endpoint, ttl: int = 64) -> None:
        self._send(payload, destination, ttl, self._what, size if size < len(payload) else 0)

    def _receive(self) -> None:
        for payload, size, tag in () if self._closed else self._messages.receive(self._socket.fileno()):
            if self._closed:
                return
            self.last_ttl = tag.ttl
            self.counters["received"] += train_length(len(payload), size)
            self._arrived(payload, size, tag.source)

    def _arrived(self, payload: bytes, size: int, source: Endpoint) -> None:
        if self.on_train is not None:
            self.on_train(payload, size, source)
            return
        for at in range(0, len(payload) or 1, size or 1):
            if self.on_datagram is None:
                self.counters["dropped-no-reader"] += 1
            else:
                self.on_datagram(payload[at : at + size], source)

    def _failed(self, error: _QueuedError) -> None:
        if self.on_error is not None:
            self.on_error(error.errno, error.destination)


class OsPing(_ErrorQueueSocket):
    """A ping socket (icmp(7), datagrams of IPPROTO_ICMP or IPPROTO_ICMPV6): the kernel writes the identifier and the checksum.

    `counters` has `received`, and `malformed` for what is no echo reply.
    """

    def __init__(self, watcher: FdWatcher, sock: socket.socket, forget: Callable[[Closeable], None]) -> None:
        self.on_reply: Callable[[int, bytes, IPAddress], None] | None = None
        self.on_error: Callable[[int, int, IPAddress, int], None] | None = None
        super().__init__(watcher, sock, forget)

    def send_echo(self, destination: IPAddress, sequence: int, payload: bytes, ttl: int = 64) -> None:
        request = _ECHO.pack(self._options.echo_request, 0, 0, 0, sequence & 0xFFFF)
        self._send(request + payload, Endpoint(destination, 0), ttl, "ping")

    def _receive(self) -> None:
        for _ in range(_BURST):
            if self._closed:
                return
            try:
                data, control, _, source = self._socket.recvmsg(_LONGEST, _CONTROL)
            except OSError:  # EAGAIN, or an error that the queue tells better
                return
            for level, kind, value in control:
                if (level, kind) == (self._options.level, self._options.ttl):
                    self.last_ttl = _TTL.unpack(value)[0]
            self.counters["received"] += 1
            self._arrived(data, _endpoint(source))

    def _arrived(self, data: bytes, source: Endpoint) -> None:
        if len(data) < _ECHO.size or data[0] != self._options.echo_reply:
            self.counters["malformed"] += 1
        elif self.on_reply is not None:
            self.on_reply(_ECHO.unpack_from(data)[4], data[_ECHO.size :], source.address)

    def _failed(self, error: _QueuedError) -> None:
        if len(error.packet) < _ECHO.size:
            self.counters["malformed"] += 1
        elif self.on_error is not None:
            self.on_error(error.type, error.code, error.reporter, _ECHO.unpack_from(error.packet)[4])
