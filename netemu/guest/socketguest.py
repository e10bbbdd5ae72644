"""What every guest does the same way whose sockets can be opened from here: pings, TCP and UDP.

A kind of guest supplies the sockets (`_sockets`): those of a kernel, or of a stack behind a channel (`netemu.guest.remote`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from ipaddress import IPv4Address
from typing import Final

from netemu.guest.agent import Sockets
from netemu.guest.ping import ping
from netemu.guest.protocol import PingResult
from netemu.net.clock import nanoseconds
from netemu.net.loop import Loop
from netemu.net.port import Port
from netemu.net.sockets import DEFAULT_TIMEOUT, Address, Datagram, Listener, Stream, blocking_connect, endpoint
from netemu.wire.address import MacAddress

__all__ = ["SocketGuest"]

_ANY: Final = IPv4Address(0)


class SocketGuest(ABC):
    """A guest behind `port` that has sockets."""

    kind: str

    def __init__(self, loop: Loop, name: str, mac: MacAddress, port: Port) -> None:
        self.name = name
        self.mac = mac
        self.port = port
        self._loop = loop
        self._address: IPv4Address | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} {self.mac} {self.address}>"

    @property
    def address(self) -> IPv4Address | None:
        return self._address

    def ping(
        self,
        address: Address,
        *,
        count: int = 1,
        size: int = 56,
        ttl: int = 64,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> PingResult:
        """Send `count` echo requests of `size` octets, each after the answer to the one before or a second later."""
        destination = endpoint(address, 0).address
        sockets = self._sockets()
        with self._loop as loop:
            deadline = loop.now() + nanoseconds(timeout)
            socket = sockets.open_ping(destination.version)
            try:
                return ping(loop, socket, destination, own=self._address, count=count, size=size, ttl=ttl, deadline=deadline)
            finally:
                socket.close()

    def tcp_connect(self, address: Address, port: int, *, timeout: float = DEFAULT_TIMEOUT) -> Stream:
        """Open a connection; a refusal or a dead route is a `HostError` with the guest's errno."""
        remote, sockets = endpoint(address, port), self._sockets()
        with self._loop:
            return blocking_connect(self._loop, sockets.open_stream(remote), timeout)

    def tcp_listen(self, port: int) -> Listener:
        """Serve TCP on `port`; 0 lets the guest choose."""
        local, sockets = endpoint(_ANY, port), self._sockets()
        with self._loop:
            return Listener(self._loop, sockets.open_listener(local))

    def udp(self, port: int = 0) -> Datagram:
        """A UDP socket on `port`; 0 lets the guest choose."""
        local, sockets = endpoint(_ANY, port), self._sockets()
        with self._loop:
            return Datagram(self._loop, sockets.open_datagram(local))

    @abstractmethod
    def _sockets(self) -> Sockets:
        """The sockets of the guest's kernel."""
