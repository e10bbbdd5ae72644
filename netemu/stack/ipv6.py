"""The IPv6 layer of a host: one interface, its addresses, routers and neighbours, under the host's own TCP, UDP and echo.

Theory of operation. The parts are engines of their own: `addresses6` (which addresses are ours), `router_discovery` (what
routers say), `neighbour6` (who has which MAC address), `fragments6`. This layer carries packets between them, the link and the
transports: `receive` takes a packet apart and checks it, `send` queues one, `work` routes, cuts and addresses what waits and
gives frames. The first three are joined in `node6`, which speaks neighbour discovery.

The identifier of an address is the modified EUI-64 of the MAC address (RFC 4291 2.5.1): a test knows its guest's addresses
beforehand. That is what RFC 8064 advises against for machines of people, which need RFC 7217.

Errors about what we sent reach sockets as `IcmpReport`s, as in IPv4. Malformed and unwanted input is counted in the host's
`counters`, by reason: `malformed-<field>`, `ip6-`, `icmp6-`, `nd-`.

Documents: RFC 8200, RFC 4443, RFC 4861, RFC 4862, RFC 6724, RFC 8201. What is not done: forwarding, multicast listener
reports (RFC 3810), the routers' hop limit, sending extension headers, several interfaces.
"""

from __future__ import annotations

import errno
from collections import Counter, deque
from collections.abc import Callable
from ipaddress import IPv6Address
from typing import Final, Protocol

from netemu.errors import HostError
from netemu.net.port import Frame
from netemu.stack.echo import EchoLayer
from netemu.stack.extensions6 import problem_with
from netemu.stack.fragments6 import BadFragmentError, Reassembler6, fragment6
from netemu.stack.icmp import IcmpReport, TokenBucket
from netemu.stack.icmp6 import error_about6, local_report6, report6
from netemu.stack.neighbour import Resolved
from netemu.stack.node6 import Node6
from netemu.stack.routes import PathMtus
from netemu.stack.tcp_layer import TcpLayer
from netemu.stack.udp import UdpLayer
from netemu.wire.address import MacAddress
from netemu.wire.errors import WireError
from netemu.wire.ether import Ethernet, EtherType
from netemu.wire.fields import ipv6_address
from netemu.wire.icmpv6 import Icmpv6, Icmpv6ParameterProblemCode, Icmpv6TimeExceededCode, Icmpv6Type, Icmpv6UnreachableCode
from netemu.wire.ipv6 import HEADER_LENGTH, MAXIMUM_PAYLOAD, MINIMUM_MTU, IPv6, NextHeader, multicast_mac
from netemu.wire.ndisc import check_packet, parse_ndisc

__all__ = ["Ipv6Host", "Ipv6Layer"]

_NEXT_HEADER: Final = 6  # where that field is (RFC 8200 3)
_ADDRESSES: Final = slice(8, 24), slice(24, 40)
_MAX_OUTPUT: Final = 4096  # packets that wait for `work`; more are dropped and counted


class Ipv6Host(Protocol):
    """What the layer needs of the host it is a part of."""

    mac: MacAddress
    link_mtu: int
    counters: Counter[str]
    getrandbits: Callable[[int], int]
    tcp: TcpLayer
    udp: UdpLayer
    echo: EchoLayer

    def tell_sockets(self, report: IcmpReport, now: int) -> bool: ...
    def wake(self) -> None: ...


class Ipv6Layer:
    """The IPv6 of `host`. `node` has its addresses, routers and neighbours."""

    def __init__(self, host: Ipv6Host) -> None:
        self.node = Node6(host.mac, host.link_mtu, host.getrandbits, host.counters)
        self.path_mtus = PathMtus(MINIMUM_MTU)
        self.reassembler = Reassembler6()
        self._host = host
        self._errors_allowed = TokenBucket()
        self._identification = host.getrandbits(32)
        self._output: deque[IPv6] = deque()
        self._to_self: deque[IPv6] = deque()
        self._frames: list[Frame] = []

    # What sockets ask, through the host.

    def payload_limit(self) -> int:
        """The octets that one packet on the link carries behind the header."""
        return self.node.mtu - HEADER_LENGTH

    def source_for(self, destination: IPv6Address) -> IPv6Address:
        """The address of ours that speaks to `destination`; `HostError` ENETUNREACH without a route or an address."""
        source = self.node.addresses.source_for(destination)
        if source is None or (source != destination and self.node.next_hop(destination) is None):
            raise HostError(errno.ENETUNREACH, f"send to {destination}")
        return source

    def send(self, source: IPv6Address, destination: IPv6Address, protocol: int, payload: bytes, ttl: int) -> None:
        """Queue a packet; `HostError` EMSGSIZE for more than 65,535 octets."""
        if len(payload) > MAXIMUM_PAYLOAD:
            raise HostError(errno.EMSGSIZE, f"send {len(payload)} octets to {destination}")
        self._queue(IPv6(source, destination, protocol, payload, ttl))
        self._host.wake()

    def _queue(self, packet: IPv6) -> None:
        if len(self._output) >= _MAX_OUTPUT:
            self._host.counters["ip6-output-full"] += 1
        else:
            self._output.append(packet)

    # The engine.

    def receive(self, data: bytes, now: int, *, link_multicast: bool) -> None:
        """What a frame for us, or for a group, carries. Raises `WireError`."""
        try:
            packet = IPv6.parse(data)
        except WireError as error:
            if error.field == "ipv6.next_header":
                self._complain_of_chain(data, error.offset, now)
            raise
        addresses, destination = self.node.addresses, packet.destination
        if destination.is_loopback or not (addresses.is_usable(destination) or addresses.receives(destination)):
            self._host.counters["ip6-not-for-us"] += 1
        elif packet.source.is_multicast or packet.source.is_loopback or addresses.is_usable(packet.source):
            self._host.counters["ip6-bad-source"] += 1
        elif link_multicast and not destination.is_multicast:
            self._host.counters["ip6-unicast-in-multicast"] += 1
        else:
            self._open(packet, now)

    def _open(self, packet: IPv6, now: int) -> None:
        """Look at the extension headers, put fragments together, deliver."""
        if self._has_problem(packet, now):
            return
        try:
            whole = self.reassembler.receive(packet, now)
        except BadFragmentError as error:
            code, offset = Icmpv6ParameterProblemCode.HEADER_FIELD, error.offset
            self._complain(packet, lambda quoted: Icmpv6.parameter_problem(code, offset, quoted), now)
            return
        if whole is not None and (whole is packet or not self._has_problem(whole, now)):
            self._deliver(whole, now)

    def _has_problem(self, packet: IPv6, now: int) -> bool:
        found = problem_with(packet) if packet.extensions else None
        if found is None:
            return False
        self._host.counters["ip6-header-problem"] += 1
        if not found.silent:
            self._complain(packet, lambda quoted: Icmpv6.parameter_problem(found.code, found.pointer, quoted), now)
        return True

    def work(self, now: int) -> list[Frame]:
        """The frames to send now."""
        for _ in range(len(self._to_self)):
            try:
                self._open(self._to_self.popleft(), now)
            except WireError as error:  # an application may send itself anything
                self._host.counters[f"malformed-{error.field}"] += 1
        self._run_node(now)  # what was parked goes first
        while self._output:
            self._route(self._output.popleft(), now)
        self._run_node(now)
        frames, self._frames = self._frames, []
        return frames

    @property
    def waiting(self) -> bool:
        """There is more to do in another `work`."""
        return bool(self._to_self or self._output)

    def deadline(self) -> int | None:
        moments = (self.node.deadline(), self.reassembler.deadline())
        return min((moment for moment in moments if moment is not None), default=None)

    def expire(self, now: int) -> None:
        """Run the timers that are due."""
        self.node.expire(now)
        for first in self.reassembler.expire(now):
            self._complain(first, lambda quoted: Icmpv6.time_exceeded(Icmpv6TimeExceededCode.REASSEMBLY, quoted), now)

    def close(self) -> None:
        """Nothing is left."""
        self.node.clear()
        self.reassembler = Reassembler6()
        for waiting in (self._output, self._to_self, self._frames):
            waiting.clear()

    # Input.

    def _deliver(self, packet: IPv6, now: int) -> None:
        host, to_group = self._host, packet.destination.is_multicast
        if packet.next_header == NextHeader.TCP:
            if to_group or packet.source.is_unspecified:
                host.counters["tcp-not-unicast"] += 1
            else:
                host.tcp.receive(packet, now)
        elif packet.next_header == NextHeader.UDP:
            if not host.udp.receive(packet):
                self._complain(packet, lambda quoted: Icmpv6.unreachable(Icmpv6UnreachableCode.PORT, quoted), now)
        elif packet.next_header == NextHeader.ICMPV6:
            self._receive_icmp(packet, Icmpv6.parse(packet.payload, packet.source, packet.destination), now)
        elif packet.next_header != NextHeader.NO_NEXT_HEADER:
            host.counters["ip6-unknown-next-header"] += 1
            code, pointer = Icmpv6ParameterProblemCode.NEXT_HEADER, _next_header_offset(packet)
            self._complain(packet, lambda quoted: Icmpv6.parameter_problem(code, pointer, quoted), now)

    def _receive_icmp(self, packet: IPv6, message: Icmpv6, now: int) -> None:
        host = self._host
        if message.type == Icmpv6Type.ECHO_REQUEST:
            to_group = packet.destination.is_multicast  # answered by one of us (RFC 4443 4.2)
            source = self.node.addresses.source_for(packet.source) if to_group else packet.destination
            if source is None or packet.source.is_unspecified:
                host.counters["icmp6-echo-unanswerable"] += 1
                return
            reply = Icmpv6.echo_reply(message.identifier, message.sequence, message.payload)
            self._queue(_icmp(reply, source, packet.source))
            host.wake()
        elif message.type == Icmpv6Type.ECHO_REPLY:
            host.echo.receive(message, packet.source)
        elif message.is_error:
            self._report(report6(message, packet.source), now)
        else:
            found = parse_ndisc(message)
            if found is None:
                host.counters["icmp6-ignored"] += 1
            else:
                check_packet(packet, found)
                self.node.receive(found, packet, now)
                host.wake()

    # ICMPv6 errors, ours and others'.

    def _complain(self, packet: IPv6, build: Callable[[bytes], Icmpv6], now: int) -> None:
        source = packet.destination if self.node.addresses.is_usable(packet.destination) else None
        source = source or self.node.addresses.source_for(packet.source)
        error = None if source is None else error_about6(packet, source, build)
        if error is None:
            return
        if not self._errors_allowed.take(now):
            self._host.counters["icmp6-error-rate-limited"] += 1
            return
        self._queue(error)
        self._host.wake()

    def _complain_of_chain(self, data: bytes, pointer: int, now: int) -> None:
        """A header that may not follow; its packet cannot be read, only quoted."""
        source, destination = (ipv6_address(bytes(data[where])) for where in _ADDRESSES)
        if self.node.addresses.is_usable(destination):
            code = Icmpv6ParameterProblemCode.NEXT_HEADER
            front = IPv6(source, destination, NextHeader.NO_NEXT_HEADER, b"")
            self._complain(front, lambda _quoted: Icmpv6.parameter_problem(code, pointer, data), now)

    def _report(self, report: IcmpReport, now: int) -> None:
        """Tell the socket that sent what the report is about; believe nothing that no socket can have sent."""
        ours = isinstance(report.source, IPv6Address) and self.node.addresses.is_usable(report.source)
        if not ((report.reporter is None or ours) and self._host.tell_sockets(report, now)):
            self._host.counters["icmp6-error-unexpected"] += 1
        elif report.type == Icmpv6Type.PACKET_TOO_BIG and report.mtu >= MINIMUM_MTU:  # less is discarded (RFC 8201 4)
            self.path_mtus.lower(report.destination, report.mtu, now)

    # Output.

    def _route(self, packet: IPv6, now: int) -> None:
        destination = packet.destination
        if self.node.addresses.is_usable(destination):
            self._to_self.append(packet)
            return
        next_hop = self.node.next_hop(destination)
        if next_hop is None:
            self._host.counters["ip6-no-route"] += 1
            self._report(local_report6(Icmpv6UnreachableCode.NO_ROUTE, packet), now)
            return
        self._identification = self._identification + 1 & 0xFFFFFFFF
        for piece in fragment6(packet, self.path_mtus.get(destination, self.node.mtu, now), self._identification):
            if next_hop.is_multicast:
                self._emit(multicast_mac(next_hop), piece)
                continue
            mac = self.node.neighbours.resolve(next_hop, packet.source, piece, now)
            if mac is not None:
                self._emit(mac, piece)

    def _run_node(self, now: int) -> None:
        node = self.node
        node.work(now)
        said, node.packets = node.packets, []
        for mac, packet in said:
            self._emit(mac, packet)
        parked, node.parked = node.parked, []
        for event in parked:
            if isinstance(event, Resolved):
                for packet in event.packets:
                    self._emit(event.mac, packet)
            else:
                self._host.counters["ip6-neighbour-unreachable"] += len(event.packets)
                for packet in event.packets:
                    if packet.fragment is None or not packet.fragment.offset:
                        self._report(local_report6(Icmpv6UnreachableCode.ADDRESS, packet), now)

    def _emit(self, mac: MacAddress, packet: IPv6) -> None:
        self._frames.append(Ethernet(mac, self._host.mac, EtherType.IPV6, packet.pack()).pack())


def _icmp(message: Icmpv6, source: IPv6Address, destination: IPv6Address) -> IPv6:
    return IPv6(source, destination, NextHeader.ICMPV6, message.pack(source, destination))


def _next_header_offset(packet: IPv6) -> int:
    """Where the header that names the payload has its Next Header field."""
    return packet.header_length - 2 - len(packet.extensions[-1].data) if packet.extensions else _NEXT_HEADER
