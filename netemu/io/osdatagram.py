"""UDP and ping over the operating system's sockets, with the ICMP errors that come back.

IP_RECVERR (ip(7)) makes Linux queue each ICMP error with the destination it is about and who sent it, for sockets that are not
connected too. The queue is read whenever epoll reports an error. Since the kernel also hands a queued error to the next call on
the socket, whatever that call is about, a send that fails reads the queue and tries once more.

Each packet's TTL is given with it (an IP_TTL control message, 1 to 255, else EINVAL); the TTL of what comes is asked
for with IP_RECVTTL.
"""

from __future__ import annotations

import errno
import socket
import struct
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from ipaddress import IPv4Address
from typing import NamedTuple

from netemu.errors import HostError
from netemu.io.osstream import socket_endpoint
from netemu.io.stream import Closeable
from netemu.io.watcher import ERROR, READABLE, FdWatcher
from netemu.wire.address import Endpoint
from netemu.wire.errors import WireError
from netemu.wire.icmpv4 import HEADER_LENGTH, IcmpType, Icmpv4

__all__ = ["OsDatagram", "OsPing"]

_IP_RECVERR = 11  # linux/in.h; these three are not in Python 3.11's socket module
_IP_RECVTTL = 12
_MSG_ERRQUEUE = 0x2000  # linux/socket.h
_ORIGIN_ICMP = 2  # SO_EE_ORIGIN_ICMP (linux/errqueue.h); errors of local origin are raised by the call itself
_EXTENDED_ERROR = struct.Struct("=IBBBxII")  # struct sock_extended_err: errno, origin, type, code, pad, info, data
_OFFENDER = struct.Struct("=HH4s")  # the start of struct sockaddr_in: family, port, address
_TTL = struct.Struct("=i")
_LONGEST = 65_536  # octets
_CONTROL = 512  # octets: room for the control messages asked for
_BURST = 64  # datagrams, or errors, taken before other callbacks have their turn


class _QueuedError(NamedTuple):
    """An ICMP error from a socket's error queue; `packet` is what this host sent, from the transport's header or its payload on."""

    errno: int
    type: int
    code: int
    reporter: IPv4Address
    destination: Endpoint
    packet: bytes


class _ErrorQueueSocket(ABC):
    """What UDP and ping sockets share. `counters` has `received` and by reason what was dropped."""

    def __init__(self, watcher: FdWatcher, sock: socket.socket, forget: Callable[[Closeable], None]) -> None:
        self.last_ttl: int | None = None
        self.counters: Counter[str] = Counter()
        self._watcher = watcher
        self._socket = sock
        self._forget = forget
        self._closed = False
        sock.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
        sock.setsockopt(socket.IPPROTO_IP, _IP_RECVTTL, 1)
        watcher.watch(sock.fileno(), READABLE, self._happened)

    @abstractmethod
    def _arrived(self, data: bytes, source: Endpoint) -> None: ...

    @abstractmethod
    def _failed(self, error: _QueuedError) -> None: ...

    def _send(self, data: bytes, destination: Endpoint, ttl: int, operation: str) -> None:
        if self._closed:
            raise HostError(errno.EBADF, operation)
        control = [(socket.IPPROTO_IP, socket.IP_TTL, _TTL.pack(ttl))]
        target = (str(destination.address), destination.port)
        self._watcher.expect()
        try:
            self._socket.sendmsg([data], control, 0, target)
        except BlockingIOError:
            self.counters["dropped-full"] += 1
        except OSError as refusal:
            if not self._take_errors():
                raise HostError(refusal.errno or errno.EIO, operation) from None
            try:
                self._socket.sendmsg([data], control, 0, target)
            except OSError as refusal:
                raise HostError(refusal.errno or errno.EIO, operation) from None

    def _happened(self, events: int) -> None:
        if events & ERROR and not self._take_errors():
            self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)  # reading it clears it
        for _ in range(_BURST):
            if self._closed:
                return
            try:
                data, control, _, source = self._socket.recvmsg(_LONGEST, _CONTROL)
            except OSError:  # EAGAIN, or an error that the queue tells better
                return
            for level, kind, value in control:
                if (level, kind) == (socket.IPPROTO_IP, socket.IP_TTL):
                    self.last_ttl = _TTL.unpack(value)[0]
            self.counters["received"] += 1
            self._arrived(data, socket_endpoint(source))

    def _take_errors(self) -> bool:
        """Report what the error queue holds; False if it was empty."""
        found = False
        for _ in range(_BURST):
            if self._closed:
                break
            try:
                packet, control, _, destination = self._socket.recvmsg(_LONGEST, _CONTROL, _MSG_ERRQUEUE)
            except OSError:
                break
            found = True
            for level, kind, value in control:
                if (level, kind) == (socket.IPPROTO_IP, _IP_RECVERR):
                    number, origin, icmp_type, code, _, _ = _EXTENDED_ERROR.unpack_from(value)
                    if origin == _ORIGIN_ICMP:
                        reporter = IPv4Address(_OFFENDER.unpack_from(value, _EXTENDED_ERROR.size)[2])
                        self._failed(_QueuedError(number, icmp_type, code, reporter, socket_endpoint(destination), packet))
        return found

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._watcher.unwatch(self._socket.fileno())
            self._socket.close()
            self._forget(self)


class OsDatagram(_ErrorQueueSocket):
    """A UDP socket. `last_ttl` is the TTL that the datagram delivered last arrived with; `counters` has `received`,
    `dropped-no-reader` (no `on_datagram`) and `dropped-full` (the kernel's send buffer).
    """

    def __init__(self, watcher: FdWatcher, sock: socket.socket, forget: Callable[[Closeable], None]) -> None:
        self.on_datagram: Callable[[bytes, Endpoint], None] | None = None
        self.on_error: Callable[[int, Endpoint], None] | None = None
        self.local = socket_endpoint(sock.getsockname())
        super().__init__(watcher, sock, forget)

    def send_to(self, data: bytes, destination: Endpoint, ttl: int = 64) -> None:
        self._send(data, destination, ttl, f"send UDP {self.local} to {destination}")

    def _arrived(self, data: bytes, source: Endpoint) -> None:
        if self.on_datagram is None:
            self.counters["dropped-no-reader"] += 1
        else:
            self.on_datagram(data, source)

    def _failed(self, error: _QueuedError) -> None:
        if self.on_error is not None:
            self.on_error(error.errno, error.destination)


class OsPing(_ErrorQueueSocket):
    """A ping socket (icmp(7), IPPROTO_ICMP datagrams): the kernel writes the identifier and the checksum.

    `counters` has `received`, and `malformed` for what is no echo reply.
    """

    def __init__(self, watcher: FdWatcher, sock: socket.socket, forget: Callable[[Closeable], None]) -> None:
        self.on_reply: Callable[[int, bytes, IPv4Address], None] | None = None
        self.on_error: Callable[[int, int, IPv4Address, int], None] | None = None
        super().__init__(watcher, sock, forget)

    def send_echo(self, destination: IPv4Address, sequence: int, payload: bytes, ttl: int = 64) -> None:
        request = Icmpv4.echo_request(0, sequence, payload).pack()
        self._send(request, Endpoint(destination, 0), ttl, f"ping {destination}")

    def _arrived(self, data: bytes, source: Endpoint) -> None:
        try:
            reply = Icmpv4.parse(data)
        except WireError:
            reply = None
        if reply is None or reply.type != IcmpType.ECHO_REPLY:
            self.counters["malformed"] += 1
        elif self.on_reply is not None:
            self.on_reply(reply.sequence, reply.payload, source.address)

    def _failed(self, error: _QueuedError) -> None:
        if len(error.packet) < HEADER_LENGTH:
            self.counters["malformed"] += 1
        elif self.on_error is not None:
            sequence = int.from_bytes(error.packet[6:8], "big")  # RFC 792, echo message
            self.on_error(error.type, error.code, error.reporter, sequence)
