"""The host: what is behind a user-mode network, as an interface.

A user network opens its outward sockets on a `Host`, never on the operating system: `SimHost` keeps a small Internet in memory
and in virtual time, `OsHost` uses real sockets, `NetnsHost` uses real sockets inside a private namespace (the test's own
Internet). The same object is what a test holds to play the other side: `tcp_listen`, `tcp_connect`, `udp`.

Openers never block. What the host refuses at once (a port in use, ping sockets denied by ping_group_range) is a `HostError` with
the errno; what it refuses later arrives as the socket's `error`.
"""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Protocol

from netemu.errors import HostError
from netemu.io.streamstate import StreamSnapshot
from netemu.net.loop import Loop
from netemu.net.sockets import (
    DEFAULT_TIMEOUT,
    Address,
    Datagram,
    Listener,
    ListenerSocket,
    Stream,
    StreamSocket,
    TrainSocket,
    blocking_connect,
    endpoint,
)
from netemu.wire.address import Endpoint, Family, IPAddress

__all__ = ["Host", "PingSocket"]


class PingSocket(Protocol):
    """An unprivileged ICMP socket of one family (Linux: SOCK_DGRAM with IPPROTO_ICMP or IPPROTO_ICMPV6;
    net.ipv4.ping_group_range decides for both who may).

    The kernel chooses the identifier; `on_reply` gets (sequence, payload, source address) of each echo reply, `on_error`
    gets (type, code, reporting address, sequence) where an error came back instead, as RFC 792 or RFC 4443 number them.
    """

    on_reply: Callable[[int, bytes, IPAddress], None] | None
    on_error: Callable[[int, int, IPAddress, int], None] | None

    def send_echo(self, destination: IPAddress, sequence: int, payload: bytes, ttl: int = 64) -> None:
        """Send one echo request. An immediate refusal (no route) is a `HostError`."""
        ...

    def close(self) -> None: ...


class Host(ABC):
    """What a user network may ask of its host, and what a test may do there."""

    loop: Loop
    name: str

    @property
    def moves_streams(self) -> bool:
        """Can it take a connection out of one stream and put it into another (`park_stream`, `restore_stream`)?"""
        return False

    @abstractmethod
    def open_stream(self, remote: Endpoint, local: Endpoint | None = None) -> StreamSocket:
        """Begin a TCP connection to `remote`; watch `connected` and `error` through `on_change`.

        It may be connected already, and does not tell that then.
        """

    @abstractmethod
    def open_listener(self, local: Endpoint) -> ListenerSocket:
        """Listen; port 0 lets the host choose. EADDRINUSE, EADDRNOTAVAIL and EACCES are `HostError`s.

        Each family for itself: a listener on `::` gets no IPv4 (RFC 3493 5.3, IPV6_V6ONLY).
        """

    @abstractmethod
    def open_datagram(self, local: Endpoint | None = None) -> TrainSocket:
        """A UDP socket, unconnected, of the family of `local` (None: IPv4) and of no other; port 0 lets the host choose."""

    @abstractmethod
    def open_ping(self, family: Family = 4, source: IPAddress | None = None) -> PingSocket:
        """A ping socket that speaks from `source`; `HostError` EACCES where ping_group_range grants it to nobody here."""

    @abstractmethod
    def nameservers(self) -> list[Endpoint]:
        """Where this host sends its own DNS questions; empty if nowhere."""

    @abstractmethod
    def close(self) -> None:
        """Close every socket that is still open here."""

    def open_command(self, command: str) -> StreamSocket:
        """Start a shell's `command` whose standard input and output are the stream; `HostError` on a host without programs."""
        raise HostError(errno.EOPNOTSUPP, f"start {command!r} on host {self.name}, which has no programs")

    def open_path_stream(self, path: str) -> StreamSocket:
        """Connect to the UNIX socket at `path`; `HostError` on a host without files."""
        raise HostError(errno.EOPNOTSUPP, f"connect to {path} on host {self.name}, which has no files")

    def open_path_listener(self, path: str) -> ListenerSocket:
        """Listen on a UNIX socket at `path`, where a stale socket may be but nothing else; `HostError` on a host without files."""
        raise HostError(errno.EOPNOTSUPP, f"listen on {path} on host {self.name}, which has no files")

    def park_stream(self, stream: StreamSocket) -> StreamSnapshot:
        """Take the connection out of `stream`, which is closed then; its peer hears nothing, and is not answered any more.

        It stays parked until `restore_stream` of its snapshot, or until the host closes. `HostError` where that cannot be done,
        the stream is as it was then.
        """
        raise HostError(errno.EOPNOTSUPP, f"move {stream!r} away from host {self.name}, which moves no connections")

    def restore_stream(self, state: StreamSnapshot) -> StreamSocket:
        """Let a new stream go on with a connection that was parked, here or elsewhere; `HostError` where that cannot be done."""
        raise HostError(
            errno.EOPNOTSUPP, f"move the connection {state.local} -> {state.remote} to host {self.name}, which moves no connections"
        )

    def tcp_connect(self, address: Address, port: int, *, timeout: float = DEFAULT_TIMEOUT) -> Stream:
        """Connect from the host, as a program beside QEMU would (to a forwarded port, say)."""
        with self.loop:
            return blocking_connect(self.loop, self.open_stream(endpoint(address, port)), timeout)

    def tcp_listen(self, address: Address, port: int = 0) -> Listener:
        """Serve on one of the host's addresses."""
        with self.loop:
            return Listener(self.loop, self.open_listener(endpoint(address, port)))

    def udp(self, address: Address, port: int = 0) -> Datagram:
        """A UDP socket on one of the host's addresses."""
        with self.loop:
            return Datagram(self.loop, self.open_datagram(endpoint(address, port)))
