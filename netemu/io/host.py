"""The host: what is behind a user-mode network, as an interface.

A user network opens its outward sockets on a `Host`, never on the operating system: `SimHost` keeps a small Internet in memory
and in virtual time, `OsHost` uses real sockets, `NetnsHost` uses real sockets inside a private namespace (the test's own
Internet). The same object is what a test holds to play the other side: `tcp_listen`, `tcp_connect`, `udp`.

Openers never block. What the host refuses at once (a port in use, ping sockets denied by ping_group_range) is a `HostError` with
the errno; what it refuses later arrives as the socket's `error`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Protocol

from netemu.net.loop import Loop
from netemu.net.sockets import (
    DEFAULT_TIMEOUT,
    Address,
    Datagram,
    DatagramSocket,
    Listener,
    ListenerSocket,
    Stream,
    StreamSocket,
    blocking_connect,
    endpoint,
)
from netemu.wire.address import Endpoint

__all__ = ["Host", "PingSocket"]


class PingSocket(Protocol):
    """An unprivileged ICMP socket (Linux: socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP); net.ipv4.ping_group_range decides who may).

    The kernel chooses the identifier; `on_reply` gets (sequence, payload, source address) of each echo reply,
    `on_error` gets (ICMP type, ICMP code, reporting address, sequence) where an error came back instead.
    """

    on_reply: Callable[[int, bytes, IPv4Address], None] | None
    on_error: Callable[[int, int, IPv4Address, int], None] | None

    def send_echo(self, destination: IPv4Address, sequence: int, payload: bytes, ttl: int = 64) -> None:
        """Send one echo request. An immediate refusal (no route) is a `HostError`."""
        ...

    def close(self) -> None: ...


class Host(ABC):
    """What a user network may ask of its host, and what a test may do there."""

    loop: Loop
    name: str

    @abstractmethod
    def open_stream(self, remote: Endpoint, local: Endpoint | None = None) -> StreamSocket:
        """Begin a TCP connection to `remote`; watch `connected` and `error` through `on_change`."""

    @abstractmethod
    def open_listener(self, local: Endpoint) -> ListenerSocket:
        """Listen; port 0 lets the host choose. EADDRINUSE, EADDRNOTAVAIL and EACCES are `HostError`s."""

    @abstractmethod
    def open_datagram(self, local: Endpoint | None = None) -> DatagramSocket:
        """A UDP socket, unconnected; port 0 lets the host choose."""

    @abstractmethod
    def open_ping(self) -> PingSocket:
        """A ping socket; `HostError` EACCES where ping_group_range grants it to nobody here."""

    @abstractmethod
    def nameservers(self) -> list[Endpoint]:
        """Where this host sends its own DNS questions; empty if nowhere."""

    @abstractmethod
    def close(self) -> None:
        """Close every socket that is still open here."""

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
