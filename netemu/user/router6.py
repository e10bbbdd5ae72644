"""The way of an IPv6 packet from a guest's frame to the service that has it.

A packet needs a source on the link. One for several (RFC 4291 2.7) is neighbour discovery, or for the DHCPv6 server, or
ignored: routers do not forward what is for the link (2.5.6, 2.7). One for a single address is put together if it is a fragment,
and then is for one of the network's own, or to be forwarded: with a hop limit to spend, to an address that is somewhere, from one
that is not bound to the link.

Packets end here and go on through the host's sockets, so extension headers are not carried over. What RFC 8200 has a node say about
the ones it cannot take (4.2, 4.4) is in `netemu.stack.extensions6`.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

from netemu.stack.extensions6 import problem_with
from netemu.stack.fragments6 import BadFragmentError, Reassembler6
from netemu.stack.icmp import IcmpReport
from netemu.stack.icmp6 import report6
from netemu.user.dhcpv6 import Dhcpv6Server
from netemu.user.icmp import EchoService
from netemu.user.lan6 import Lan6
from netemu.user.options import UserOptions
from netemu.user.side import Datagram6, Packet, Quotation
from netemu.user.side6 import Side6
from netemu.wire.address import MacAddress
from netemu.wire.dhcpv6 import ALL_RELAY_AGENTS_AND_SERVERS, CLIENT_PORT, SERVER_PORT, Dhcpv6
from netemu.wire.ether import Ethernet
from netemu.wire.icmpv6 import Icmpv6, Icmpv6Type
from netemu.wire.icmpv6 import Icmpv6ParameterProblemCode as ParameterProblemCode
from netemu.wire.icmpv6 import Icmpv6TimeExceededCode as TimeExceededCode
from netemu.wire.icmpv6 import Icmpv6UnreachableCode as UnreachableCode
from netemu.wire.ipv6 import IPv6, NextHeader
from netemu.wire.ndisc import parse_ndisc
from netemu.wire.udp import Udp

__all__ = ["Router6"]


class Router6:
    """`services` has, by protocol, who takes the guests' packets; `reported` takes their errors about TCP."""

    def __init__(
        self,
        options: UserOptions,
        lan: Lan6,
        side: Side6,
        echo: EchoService,
        services: Mapping[int, Callable[[Packet, int], None]],
        reported: Callable[[IcmpReport, int], bool],
        counters: Counter[str],
    ) -> None:
        self.dhcp = Dhcpv6Server(options, lan.mac, counters)
        self._options = options
        self._lan = lan
        self._side = side
        self._echo = echo
        self._reported = reported
        self._services = {**services, NextHeader.ICMPV6: self._receive_icmp, NextHeader.NO_NEXT_HEADER: self._receive_nothing}
        self._counters = counters
        self._reassembler = Reassembler6()
        self._reassembler.counters = counters

    def receive(self, frame: Ethernet, now: int) -> None:
        """A guest's frame; raises `WireError`."""
        packet = IPv6.parse(frame.payload)
        self._lan.greet(now)
        if packet.destination.is_multicast:
            self._receive_multicast(packet, frame.source, now)
        elif frame.destination.is_multicast:
            self._counters["broadcast-frame"] += 1
        elif not self._is_guest(packet):
            self._counters["source-refused"] += 1
        elif _is_discovery(packet):
            self._discover(packet, now)
        elif (whole := self._reassemble(packet, now)) is not None and self._is_understood(whole, now):
            datagram = Datagram6.of(whole)
            if self._may_pass(datagram, now):
                self._deliver(datagram, frame.source, now)

    def leave(self, now: int) -> None:
        """The router goes."""
        self._lan.leave(now)

    def deadline(self) -> int | None:
        deadlines = (self._lan.deadline(), self.dhcp.deadline(), self._reassembler.deadline())
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def expire(self, now: int) -> None:
        self._lan.expire(now)
        self.dhcp.expire(now)
        for first in self._reassembler.expire(now):
            quotation = Quotation.of(Datagram6.of(first))
            self._side.error(quotation, Icmpv6.time_exceeded(TimeExceededCode.REASSEMBLY, quotation.octets), now)

    def _is_guest(self, packet: IPv6) -> bool:
        return self._side.is_local(packet.source) and not self._side.is_own(packet.source)

    def _reassemble(self, packet: IPv6, now: int) -> IPv6 | None:
        try:
            return self._reassembler.receive(packet, now)
        except BadFragmentError as error:
            quotation = Quotation.of(Datagram6.of(packet))
            self._side.parameter_problem(quotation, ParameterProblemCode.HEADER_FIELD, error.offset, now)
            return None

    def _is_understood(self, packet: IPv6, now: int) -> bool:
        problem = problem_with(packet)
        if problem is None:
            return True
        self._counters["extension-refused"] += 1
        if not problem.silent:
            self._side.parameter_problem(Quotation.of(Datagram6.of(packet)), problem.code, problem.pointer, now)
        return False

    def _discover(self, packet: IPv6, now: int) -> None:
        message = parse_ndisc(Icmpv6.parse(packet.payload, packet.source, packet.destination))
        if message is not None:
            self._lan.receive(packet, message, now)

    def _receive_multicast(self, packet: IPv6, mac: MacAddress, now: int) -> None:
        """Neighbour discovery and DHCPv6, nothing else."""
        if _is_discovery(packet) and self._lan.is_member(packet.destination):
            self._discover(packet, now)
        elif packet.next_header == NextHeader.UDP and packet.destination == ALL_RELAY_AGENTS_AND_SERVERS and self._is_guest(packet):
            datagram = Udp.parse(packet.payload, packet.source, packet.destination)
            self._receive_dhcp(Datagram6.of(packet), datagram, mac, now)
        else:
            self._counters["multicast-ignored"] += 1

    def _may_pass(self, packet: Datagram6, now: int) -> bool:
        """Is this packet for us, or for an address to which it can be forwarded?"""
        destination, source, quotation = packet.destination, packet.source, Quotation.of(packet)
        if self._side.is_own(destination):
            return True
        if destination.is_unspecified or destination.is_loopback:
            self._counters["destination-refused"] += 1
        elif self._side.is_local(destination):
            self._counters["same-link"] += 1  # a guest's neighbour, whom it can ask itself
            self._side.unreachable(quotation, errno.EHOSTUNREACH, now)
        elif source.is_link_local:
            self._counters["beyond-scope"] += 1
            self._side.error(quotation, Icmpv6.unreachable(UnreachableCode.BEYOND_SCOPE, quotation.octets), now)
        elif packet.ttl <= 1:
            self._counters["ttl-exceeded"] += 1
            self._side.error(quotation, Icmpv6.time_exceeded(TimeExceededCode.HOP_LIMIT, quotation.octets), now)
        else:
            return True
        return False

    def _deliver(self, packet: Datagram6, mac: MacAddress, now: int) -> None:
        service = self._services.get(packet.protocol)
        if service is None:
            self._counters["protocol-unknown"] += 1
            self._side.unreachable(Quotation.of(packet), errno.ENOPROTOOPT, now)
        elif packet.protocol == NextHeader.UDP and self._side.is_own(packet.destination) and _port(packet) == SERVER_PORT:
            datagram = Udp.parse(packet.payload, packet.source, packet.destination)
            self._receive_dhcp(packet, datagram, mac, now, unicast=True)
        else:
            service(packet, now)

    def _receive_icmp(self, packet: Packet, now: int) -> None:
        """Echo requests, and errors about our TCP segments (a guest that rejects a forward); the host's sockets carry no others."""
        if not isinstance(packet, Datagram6):
            return
        message = Icmpv6.parse(packet.payload, packet.source, packet.destination)
        if message.type == Icmpv6Type.ECHO_REQUEST:
            self._echo.receive(packet, message, now)
        elif not (message.is_error and self._is_about_tcp(report6(message, packet.source), now)):
            self._counters["icmp-ignored"] += 1

    def _is_about_tcp(self, report: IcmpReport, now: int) -> bool:
        from_guest = report.reporter == report.destination  # nobody else stands between us and it
        return from_guest and report.protocol == NextHeader.TCP and self._reported(report, now)

    def _receive_nothing(self, packet: Packet, now: int) -> None:
        """Nothing follows the last header (RFC 8200 4.7)."""
        del packet, now
        self._counters["no-next-header"] += 1

    def _receive_dhcp(self, packet: Datagram6, datagram: Udp, mac: MacAddress, now: int, *, unicast: bool = False) -> None:
        if datagram.destination_port != SERVER_PORT or self._options.dhcpv6 == "off":
            self._counters["multicast-ignored"] += 1
            return
        reply = self.dhcp.receive(Dhcpv6.parse(datagram.payload), mac, now, unicast=unicast)
        if reply is not None:
            source = self._lan.router
            payload = Udp(SERVER_PORT, CLIENT_PORT, reply.pack()).pack(source, packet.source)
            self._lan.heard(packet.source, mac, now)
            self._side.datagram(source, packet.source, NextHeader.UDP, payload, now)


_DISCOVERY: Final = frozenset(
    bytes((kind,))
    for kind in (
        Icmpv6Type.ROUTER_SOLICITATION,
        Icmpv6Type.ROUTER_ADVERTISEMENT,
        Icmpv6Type.NEIGHBOUR_SOLICITATION,
        Icmpv6Type.NEIGHBOUR_ADVERTISEMENT,
        Icmpv6Type.REDIRECT,
    )
)


def _is_discovery(packet: IPv6) -> bool:
    """Neighbour discovery, which never comes in fragments (RFC 6980 5)."""
    return packet.next_header == NextHeader.ICMPV6 and packet.payload[:1] in _DISCOVERY and packet.fragment is None


def _port(packet: Datagram6) -> int:
    return int.from_bytes(packet.payload[2:4], "big")
