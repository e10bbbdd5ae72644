"""Sockets: the non-blocking face that stacks and hosts give, and the blocking face that tests hold.

A `StreamSocket` is both ends of what a TCP needs from its user: a source of bytes (`available`, `read_into`, `discard`, `eof`)
and a sink (`room`, `offer`, `finish`). A guest's stack, an in-memory host and the operating system all give it, so the user-mode
network joins a guest's connection to a host's without a buffer between them, and `Stream` makes any of them blocking.

The blocking face runs the network's loop until its condition holds: with a virtual clock nothing waits, with a real one the
loop's own thread lives on. Times are seconds here, as people write them; the default limit is ten seconds of the network's clock.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Generic, NamedTuple, Protocol, Self, TypeVar

from netemu.errors import HostError, LocalError, NetemuTimeoutError, PeerError
from netemu.net.clock import nanoseconds
from netemu.net.loop import Loop
from netemu.wire.address import Endpoint

__all__ = [
    "DEFAULT_TIMEOUT",
    "TRAIN_LIMIT",
    "Address",
    "Datagram",
    "DatagramSocket",
    "Listener",
    "ListenerSocket",
    "Received",
    "Stream",
    "StreamSocket",
    "TrainSocket",
    "blocking_connect",
    "endpoint",
    "train_length",
]

DEFAULT_TIMEOUT = 10.0  # seconds
TRAIN_LIMIT = 65_507  # octets: what one datagram may have, so that a train fits into a frame (RFC 768, RFC 791)
_CHUNK = 65_536

Address = str | IPv4Address | IPv6Address


def endpoint(address: Address, port: int) -> Endpoint:
    """The endpoint a user means, checked."""
    try:
        parsed = ip_address(address)
    except ValueError:
        raise LocalError(
            f"address {address!r}: an IPv4 address such as 10.0.2.2, or an IPv6 address such as ::1, is needed"
        ) from None
    if not 0 <= port <= 65535:
        raise LocalError(f"port {port}: 0 to 65535 is allowed")
    return Endpoint(parsed, port)


class StreamSocket(Protocol):
    """One TCP connection, never blocking. Counts are octets; `error` is an errno, 0 while all is well."""

    on_change: Callable[[], None] | None

    @property
    def local(self) -> Endpoint: ...
    @property
    def remote(self) -> Endpoint: ...
    @property
    def connected(self) -> bool:
        """The handshake is done (and stays true afterwards)."""
        ...

    @property
    def error(self) -> int:
        """ECONNREFUSED, ECONNRESET, ETIMEDOUT, ENETUNREACH, EHOSTUNREACH ...: why there is no connection (any more)."""
        ...

    @property
    def eof(self) -> bool:
        """The peer will send nothing after what is `available`."""
        ...

    def available(self) -> int: ...
    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Copy what is available from `offset` on, without consuming it; the octets copied."""
        ...

    def discard(self, count: int) -> None:
        """Consume `count` of the available octets."""
        ...

    @property
    def urgent(self) -> int:
        """How many octets, from the next one on, are urgent: up to where the peer's urgent pointer points (RFC 9293 3.8.5)."""
        ...

    def room(self) -> int: ...
    def offer(self, data: bytes | memoryview) -> int:
        """Take as much of `data` as there is room for; the octets taken."""
        ...

    def offer_urgent(self, data: bytes | memoryview) -> int:
        """As `offer`; urgent data ends with the last octet of `data`. What was not taken is to be offered in this way again."""
        ...

    def undelivered(self) -> int:
        """The octets that were taken and that the peer has not acknowledged."""
        ...

    def finish(self) -> None:
        """Nothing more will be offered (FIN after what was taken). Reading goes on."""
        ...

    def abort(self) -> None:
        """Reset the connection (RST) and forget it."""
        ...

    def close(self) -> None:
        """No more reading nor writing; what was taken is still delivered."""
        ...


class ListenerSocket(Protocol):
    """A listening TCP socket. `on_accept` gets each new connection; until it is set they wait."""

    on_accept: Callable[[StreamSocket], None] | None

    @property
    def local(self) -> Endpoint: ...
    def close(self) -> None: ...


class Received(NamedTuple):
    """A datagram and who sent it."""

    data: bytes
    source: Endpoint


class DatagramSocket(Protocol):
    """A UDP socket. `on_datagram` gets (data, source); `on_error` gets (errno, destination) when the network says so."""

    on_datagram: Callable[[bytes, Endpoint], None] | None
    on_error: Callable[[int, Endpoint], None] | None

    @property
    def local(self) -> Endpoint: ...
    def send_to(self, data: bytes, destination: Endpoint, ttl: int = 64) -> None:
        """Send one datagram. An immediate refusal is a `HostError`."""
        ...

    def close(self) -> None: ...


class TrainSocket(DatagramSocket, Protocol):
    """A UDP socket that carries trains: datagrams of one flow, equally long, the last perhaps shorter, as one piece of payload.

    `on_train` gets (payload, octets of each datagram, source), in place of `on_datagram` if it is set.
    """

    on_train: Callable[[bytes, int, Endpoint], None] | None

    def send_train(self, payload: bytes | memoryview, size: int, destination: Endpoint, ttl: int = 64) -> None:
        """Send datagrams of `size` octets; at most 64, and `TRAIN_LIMIT` octets together.

        Raises `HostError` if none could be sent, which need not hold for each by itself.
        """
        ...


def train_length(octets: int, size: int) -> int:
    """The datagrams in a train."""
    return -(-octets // size) if size else 1


Socket = TypeVar("Socket", bound=StreamSocket | ListenerSocket | DatagramSocket)


def _wait(loop: Loop, condition: Callable[[], bool], timeout: float, what: str) -> None:
    if not loop.run_until(condition, loop.now() + nanoseconds(timeout)):
        raise NetemuTimeoutError(f"{what}: nothing within {timeout:g} s of the network's clock")


class _Held(Generic[Socket]):
    """A socket as a test holds it: every call holds the loop, and leaving it as a context closes it."""

    def __init__(self, loop: Loop, socket: Socket) -> None:
        self.socket = socket
        self._loop = loop

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def local(self) -> Endpoint:
        return self.socket.local

    @property
    def port(self) -> int:
        return self.local.port

    def close(self) -> None:
        with self._loop:
            self.socket.close()


class Stream(_Held[StreamSocket]):
    """A TCP connection as a test holds it. A context manager: leaving it closes."""

    def __repr__(self) -> str:
        return f"<Stream {self.local} <-> {self.remote}>"

    @property
    def remote(self) -> Endpoint:
        return self.socket.remote

    def _check(self, operation: str) -> None:
        if self.socket.error:
            raise HostError(self.socket.error, f"{operation} on {self!r}")

    def send(self, data: bytes, timeout: float = DEFAULT_TIMEOUT) -> None:
        """Send all of `data`; returns when the last octet was taken. A reset connection is a `HostError`."""
        self._send(self.socket.offer, data, timeout)

    def send_urgent(self, data: bytes, timeout: float = DEFAULT_TIMEOUT) -> None:
        """As `send`; urgent data ends with the last octet (MSG_OOB of send(2)). In line where a transport has no such mark."""
        self._send(self.socket.offer_urgent, data, timeout)

    def _send(self, offer: Callable[[memoryview], int], data: bytes, timeout: float) -> None:
        view = memoryview(data)
        with self._loop:
            while view:
                self._check("send")
                view = view[offer(view) :]
                if view:
                    _wait(self._loop, lambda: self.socket.room() > 0 or self.socket.error != 0, timeout, f"send on {self!r}")

    def recv(self, limit: int = _CHUNK, timeout: float = DEFAULT_TIMEOUT) -> bytes:
        """At least one octet, at most `limit`; b"" when the peer has finished. A reset is a `HostError`."""
        socket = self.socket
        with self._loop:
            _wait(self._loop, lambda: socket.available() > 0 or socket.eof or socket.error != 0, timeout, f"recv on {self!r}")
            count = min(limit, socket.available())
            if not count:
                self._check("recv")
                return b""
            buffer = bytearray(count)
            count = socket.read_into(0, memoryview(buffer))
            socket.discard(count)
        return bytes(buffer[:count])

    def recv_exactly(self, count: int, timeout: float = DEFAULT_TIMEOUT) -> bytes:
        """`count` octets; `PeerError` if the peer finishes before."""
        parts = bytearray()
        while len(parts) < count:
            part = self.recv(count - len(parts), timeout)
            if not part:
                raise PeerError(f"{self!r} ended after {len(parts)} of {count} octets")
            parts += part
        return bytes(parts)

    def recv_all(self, timeout: float = DEFAULT_TIMEOUT) -> bytes:
        """Everything until the peer finishes."""
        parts = bytearray()
        while part := self.recv(timeout=timeout):
            parts += part
        return bytes(parts)

    def shutdown(self) -> None:
        """Finish sending (half-close); receiving goes on."""
        with self._loop:
            self.socket.finish()

    def abort(self) -> None:
        """Reset the connection."""
        with self._loop:
            self.socket.abort()


class Listener(_Held[ListenerSocket]):
    """A listening TCP socket as a test holds it."""

    def __init__(self, loop: Loop, socket: ListenerSocket) -> None:
        super().__init__(loop, socket)
        self._waiting: list[StreamSocket] = []
        socket.on_accept = self._waiting.append

    def accept(self, timeout: float = DEFAULT_TIMEOUT) -> Stream:
        """The next connection."""
        _wait(self._loop, lambda: bool(self._waiting), timeout, f"accept on {self.local}")
        return Stream(self._loop, self._waiting.pop(0))

    def serve(self, handler: Callable[[StreamSocket], None]) -> None:
        """Give every connection, also those that wait, to `handler` instead of `accept`."""
        with self._loop:
            self.socket.on_accept = handler
            for socket in self._waiting:
                handler(socket)
            self._waiting.clear()


class Datagram(_Held[DatagramSocket]):
    """A UDP socket as a test holds it."""

    def __init__(self, loop: Loop, socket: DatagramSocket) -> None:
        super().__init__(loop, socket)
        self._received: list[Received] = []
        self._errors: list[tuple[int, Endpoint]] = []
        socket.on_datagram = lambda data, source: self._received.append(Received(data, source))
        socket.on_error = lambda error, destination: self._errors.append((error, destination))

    def send_to(self, data: bytes, address: Address, port: int, *, ttl: int = 64) -> None:
        with self._loop:
            self.socket.send_to(data, endpoint(address, port), ttl)

    def recv(self, timeout: float = DEFAULT_TIMEOUT) -> Received:
        """The next datagram; an error the network reported first is a `HostError` (ECONNREFUSED for port unreachable)."""
        _wait(self._loop, lambda: bool(self._received or self._errors), timeout, f"recv on UDP {self.local}")
        if self._received:
            return self._received.pop(0)
        error, destination = self._errors.pop(0)
        raise HostError(error, f"UDP {self.local} to {destination}")


def blocking_connect(loop: Loop, socket: StreamSocket, timeout: float = DEFAULT_TIMEOUT) -> Stream:
    """Wait until `socket` is connected. A refusal or a dead route is a `HostError` with the errno a kernel would give."""
    with loop:
        try:
            _wait(loop, lambda: socket.connected or socket.error != 0, timeout, f"connect to {socket.remote}")
        except NetemuTimeoutError:
            socket.abort()
            raise
    if socket.error:
        raise HostError(socket.error, f"connect to {socket.remote}")
    return Stream(loop, socket)
