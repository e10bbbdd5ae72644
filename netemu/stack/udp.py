"""UDP for an endpoint: sockets by local port (RFC 768, RFC 1122 4.1).

A socket is bound to a port of every address, of either family; it is not connected, so an ICMP error goes to the socket whose
port the quoted datagram came from, with the destination that failed. Datagrams go to `on_datagram` at once and are not kept here.
What is not done: multicast groups, UDP-Lite.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Final

from netemu.errors import HostError
from netemu.stack.icmp import IcmpReport
from netemu.stack.ip import IpLayer, IpPacket, choose_port
from netemu.wire.address import Endpoint
from netemu.wire.fields import ANY_IPV4
from netemu.wire.ipv4 import MAXIMUM_LENGTH, MINIMUM_HEADER_LENGTH, Protocol
from netemu.wire.udp import HEADER_LENGTH, Udp

__all__ = ["MAX_PAYLOAD", "UdpLayer", "UdpSocket"]

MAX_PAYLOAD: Final = MAXIMUM_LENGTH - MINIMUM_HEADER_LENGTH - HEADER_LENGTH


class UdpSocket:
    """A `netemu.net.sockets.DatagramSocket` of a stack; made by `UdpLayer.open`."""

    def __init__(self, layer: UdpLayer, ip: IpLayer, port: int) -> None:
        self.on_datagram: Callable[[bytes, Endpoint], None] | None = None
        self.on_error: Callable[[int, Endpoint], None] | None = None
        self.port = port
        self._layer, self._ip = layer, ip
        self._closed = False

    @property
    def local(self) -> Endpoint:
        return Endpoint(self._ip.address or ANY_IPV4, self.port)

    def send_to(self, data: bytes, destination: Endpoint, ttl: int = 64) -> None:
        """Send one datagram, 0 to 65,507 octets; `HostError` ENETUNREACH, EMSGSIZE or EBADF (closed)."""
        if self._closed:
            raise HostError(errno.EBADF, f"send to {destination}")
        if len(data) > MAX_PAYLOAD:
            raise HostError(errno.EMSGSIZE, f"send {len(data)} octets to {destination}")
        source = self._ip.source_for(destination.address)
        datagram = Udp(self.port, destination.port, data).pack(source, destination.address)
        self._ip.send(source, destination.address, Protocol.UDP, datagram, ttl=ttl)

    def close(self) -> None:
        """Free the port; nothing is received any more."""
        if not self._closed:
            self._closed = True
            self._layer.forget(self)


class UdpLayer:
    """The UDP sockets of one stack. Its counters are the stack's: `udp-no-port`, `udp-no-reader`."""

    def __init__(self, ip: IpLayer) -> None:
        self._ip = ip
        self._sockets: dict[int, UdpSocket] = {}

    def open(self, port: int = 0) -> UdpSocket:
        """A socket on `port`, or on a free ephemeral one; EADDRINUSE is a `HostError`."""
        port = choose_port(port, self._sockets.__contains__, self._ip.getrandbits, errno.EADDRINUSE)
        socket = self._sockets[port] = UdpSocket(self, self._ip, port)
        return socket

    def forget(self, socket: UdpSocket) -> None:
        """The socket was closed."""
        del self._sockets[socket.port]

    def close(self) -> None:
        """Close every socket."""
        for socket in list(self._sockets.values()):
            socket.close()

    def receive(self, packet: IpPacket) -> bool:
        """A datagram for us; False if nobody has its port. Raises `WireError`."""
        datagram = Udp.parse(packet.payload, packet.source, packet.destination)
        socket = self._sockets.get(datagram.destination_port)
        if socket is None:
            self._ip.counters["udp-no-port"] += 1
            return False
        if socket.on_datagram is None:
            self._ip.counters["udp-no-reader"] += 1
        else:
            socket.on_datagram(datagram.payload, Endpoint(packet.source, datagram.source_port))
        return True

    def report(self, report: IcmpReport) -> bool:
        """An error about a datagram of ours; False if no socket can have sent it."""
        local, remote = report.ports
        socket = self._sockets.get(local)
        if socket is None:
            return False
        if socket.on_error is not None:
            socket.on_error(report.errno, Endpoint(report.destination, remote))
        return True
