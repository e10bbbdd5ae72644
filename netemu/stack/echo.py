"""ICMP echo for an endpoint, of either family: who sent which request gets its answer (RFC 792, RFC 1122 3.2.2.6, RFC 4443 4).

An echo socket owns an identifier. Its face is `netemu.io.host.PingSocket`'s, except that an error's reporter is None when our own
stack could not send the request.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from ipaddress import IPv6Address
from typing import Final

from netemu.errors import HostError
from netemu.stack.icmp import IcmpReport
from netemu.stack.ip import IpLayer
from netemu.wire.fields import IPAddress
from netemu.wire.icmpv4 import IcmpType, Icmpv4
from netemu.wire.icmpv6 import Icmpv6, Icmpv6Type
from netemu.wire.ipv4 import Protocol
from netemu.wire.ipv6 import NextHeader

__all__ = ["EchoLayer", "EchoSocket"]

_REQUEST: Final = {4: IcmpType.ECHO_REQUEST, 6: Icmpv6Type.ECHO_REQUEST}


class EchoSocket:
    """Sends echo requests with one `identifier`.

    `on_reply` gets (sequence, payload, source address); `on_error` gets (ICMP type, code, reporting address or None, sequence).
    """

    def __init__(self, layer: EchoLayer, ip: IpLayer, identifier: int) -> None:
        self.on_reply: Callable[[int, bytes, IPAddress], None] | None = None
        self.on_error: Callable[[int, int, IPAddress | None, int], None] | None = None
        self.identifier = identifier
        self._layer, self._ip = layer, ip

    def send_echo(self, destination: IPAddress, sequence: int, payload: bytes, ttl: int = 64) -> None:
        """Send one request; `HostError` ENETUNREACH without a route, EMSGSIZE for more than 65,507 octets."""
        source = self._ip.source_for(destination)
        if isinstance(source, IPv6Address) and isinstance(destination, IPv6Address):
            message = Icmpv6.echo_request(self.identifier, sequence, payload).pack(source, destination)
            self._ip.send(source, destination, NextHeader.ICMPV6, message, ttl=ttl)
        else:
            message = Icmpv4.echo_request(self.identifier, sequence, payload).pack()
            self._ip.send(source, destination, Protocol.ICMP, message, ttl=ttl)

    def close(self) -> None:
        """Free the identifier; late answers are counted as unexpected."""
        self._layer.forget(self)


class EchoLayer:
    """The echo sockets of one stack. Its counter is the stack's: `icmp-unexpected-reply`."""

    def __init__(self, ip: IpLayer) -> None:
        self._ip = ip
        self._sockets: dict[int, EchoSocket] = {}
        self._last = ip.getrandbits(16)

    def open(self) -> EchoSocket:
        """A socket with an identifier of its own; `HostError` EAGAIN when all are taken."""
        for _ in range(1 << 16):
            self._last = self._last + 1 & 0xFFFF
            if self._last not in self._sockets:
                socket = self._sockets[self._last] = EchoSocket(self, self._ip, self._last)
                return socket
        raise HostError(errno.EAGAIN, "open an echo socket")

    def forget(self, socket: EchoSocket) -> None:
        """The socket was closed."""
        self._sockets.pop(socket.identifier, None)

    def close(self) -> None:
        """Close every socket."""
        self._sockets.clear()

    def receive(self, message: Icmpv4 | Icmpv6, source: IPAddress) -> None:
        """An echo reply."""
        socket = self._sockets.get(message.identifier)
        if socket is None:
            self._ip.counters["icmp-unexpected-reply"] += 1
        elif socket.on_reply is not None:
            socket.on_reply(message.sequence, message.payload, source)

    def report(self, report: IcmpReport) -> bool:
        """An error about an echo request of ours; False if no socket can have sent it."""
        # The quotation ends eight octets behind the header, so the quoted message cannot be verified.
        kind, identifier = report.transport[0], int.from_bytes(report.transport[4:6], "big")
        socket = self._sockets.get(identifier)
        if kind != _REQUEST[report.source.version] or socket is None:
            return False
        if socket.on_error is not None:
            sequence = int.from_bytes(report.transport[6:8], "big")
            socket.on_error(report.type, report.code, report.reporter, sequence)
        return True
