"""An IPv4 host as an engine: one Ethernet interface, ARP, IPv4, ICMP, UDP and TCP, without clock or system calls.

Theory of operation. `receive` takes a frame apart and lets each layer react; what layers and applications want to send waits
as IPv4 datagrams until `transmit`, which routes them, cuts them to the path's MTU, resolves the next hop and gives frames.
Applications act between the calls, through sockets, without knowing the time; a socket asks to be run through `wakeup` (a pump's
`kick`). Datagrams to our own addresses do not touch the wire: they come back in the next run.

Errors about what we sent, from ICMP or from our own routing and ARP, are one value, `IcmpReport`, and reach the sending socket.
Malformed and unwanted input is counted in `counters`, by reason: `malformed-<field>` for what `netemu.wire` refuses, and
`ethernet-`, `ip-`, `icmp-`, `udp-`, `tcp-` for the rest. `neighbours.counters`, `reassembler.counters` and
`dhcp.client.counters` have the rest.

Documents: RFC 1122 (3.2.1 header checks, 3.2.2 ICMP, 3.3.2 and 3.3.3 fragments, 3.3.6 broadcasts), RFC 894, RFC 1191. What is not
done: forwarding, multicast reception, IP options (ignored when received), redirects and source quench (RFC 6633).
"""

from __future__ import annotations

import errno
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Final

from netemu.errors import HostError, LocalError
from netemu.net.port import Frame
from netemu.stack.conflict import QUICK, ClaimTiming
from netemu.stack.dhcp_messages import DhcpClientConfig
from netemu.stack.dhcp_service import DhcpService
from netemu.stack.echo import EchoLayer
from netemu.stack.fragments import Reassembler, fragment
from netemu.stack.icmp import MINIMUM_MTU, IcmpReport, TokenBucket, error_about, is_martian
from netemu.stack.lease import Lease
from netemu.stack.neighbour import NeighbourCache, Resolved, SendArp, Unresolved
from netemu.stack.routes import PathMtus, Route, RouteTable
from netemu.stack.tcp import TcpConfig
from netemu.stack.tcp_layer import TcpLayer
from netemu.stack.udp import UdpLayer
from netemu.wire.address import BROADCAST_MAC, MacAddress
from netemu.wire.arp import Arp
from netemu.wire.dhcpv4 import CLIENT_PORT, DhcpOption, parse_classless_routes
from netemu.wire.errors import WireError
from netemu.wire.ether import Ethernet, EtherType
from netemu.wire.fields import ANY_IPV4, IPAddress
from netemu.wire.icmpv4 import IcmpType, Icmpv4, TimeExceededCode, UnreachableCode
from netemu.wire.ipv4 import MAXIMUM_LENGTH, MINIMUM_HEADER_LENGTH, IPv4, Protocol
from netemu.wire.ipv6 import NextHeader
from netemu.wire.udp import Udp

__all__ = ["Ipv4Stack"]

_EVERYWHERE: Final = IPv4Network("0.0.0.0/0")
_MULTICAST_MAC: Final = bytes.fromhex("01005e")  # RFC 1112 6.4, with the address's low 23 bits behind
_ECHO_PROTOCOLS: Final = frozenset({Protocol.ICMP, NextHeader.ICMPV6})
_MAX_OUTPUT: Final = 4096  # datagrams that wait for `transmit`; more are dropped and counted


def _asleep() -> None:
    """The `wakeup` of a stack that nobody pumps."""


class Ipv4Stack:
    """One host with the hardware address `mac`.

    `getrandbits` gives identifiers, ports and sequence numbers; `mtu` is the link's, 68 octets or more.
    """

    def __init__(
        self, mac: MacAddress, *, getrandbits: Callable[[int], int], mtu: int = 1500, tcp: TcpConfig | None = None
    ) -> None:
        if not MINIMUM_MTU <= mtu <= 65535:
            raise LocalError(f"MTU {mtu}: give 68 to 65535 octets")
        self.mac = mac
        self.link_mtu = mtu
        self.mtu = mtu
        self.getrandbits = getrandbits
        self.wakeup: Callable[[], None] = _asleep
        self.counters: Counter[str] = Counter()
        self.routes = RouteTable()
        self.path_mtus = PathMtus()
        self.neighbours: NeighbourCache[IPv4] = NeighbourCache(mac, self._owns)
        self.reassembler = Reassembler()
        self.udp = UdpLayer(self)
        self.tcp = TcpLayer(self, tcp or TcpConfig())
        self.echo = EchoLayer(self)
        self.dhcp: DhcpService | None = None
        self._errors_allowed = TokenBucket()
        self._identification = getrandbits(16)
        self._output: deque[IPv4] = deque()
        self._to_self: deque[IPv4] = deque()
        self._frames: list[Frame] = []
        self._transmitting = False

    # Configuration.

    @property
    def address(self) -> IPv4Address | None:
        """The first address of the interface."""
        return self.routes.address

    def configure(self, interface: IPv4Interface, router: IPv4Address | None = None) -> None:
        """Replace addresses and routes by this one and, if there is one, the default router."""
        self.deconfigure()
        self.routes.add_address(interface)
        if router is not None:
            self.routes.add_route(Route(_EVERYWHERE, interface.ip, router))

    def configure_lease(self, lease: Lease) -> None:
        """Replace addresses, routes and MTU by a lease's. Classless routes come instead of the router (RFC 3442)."""
        self.deconfigure()
        interface = IPv4Interface((lease.address, lease.prefix_length))
        self.routes.add_address(interface)
        try:
            routes = parse_classless_routes(lease.options.get(DhcpOption.CLASSLESS_STATIC_ROUTE, b""))
        except WireError as error:
            self.counters[f"malformed-{error.field}"] += 1
            routes = ()
        for network, router in routes or [(_EVERYWHERE, router) for router in lease.routers]:
            self.routes.add_route(Route(network, interface.ip, None if router == ANY_IPV4 else router))
        if lease.mtu is not None and lease.mtu >= MINIMUM_MTU:
            self.mtu = min(self.link_mtu, lease.mtu)

    def deconfigure(self) -> None:
        """Lose every address and route. Sockets stay; what they send fails."""
        self.routes.clear()
        self.mtu = self.link_mtu

    def start_dhcp(self, now: int, config: DhcpClientConfig | None = None, timing: ClaimTiming = QUICK) -> DhcpService:
        """Lease an address; a lease from before is asked for again (INIT-REBOOT)."""
        previous = self.dhcp.client.lease if self.dhcp is not None else None
        self.stop_dhcp()
        self.deconfigure()
        self.dhcp = DhcpService(self, self.getrandbits, config, timing)
        self.dhcp.client.start(now, previous)
        self.wakeup()
        return self.dhcp

    def stop_dhcp(self) -> None:
        """Forget the DHCP client, without releasing its lease."""
        self.dhcp = None

    def close(self) -> None:
        """Power off: no socket, lease, timer or waiting datagram is left."""
        self.stop_dhcp()
        self.deconfigure()
        self.udp.close()
        self.tcp.close()
        self.echo.close()
        self.neighbours.flush()
        self.reassembler = Reassembler()
        for waiting in (self._output, self._to_self, self._frames):
            waiting.clear()

    # What sockets ask (`ip.IpLayer`).

    def wake(self) -> None:
        if not self._transmitting:  # `transmit` looks for itself
            self.wakeup()

    def payload_limit(self, destination: IPAddress) -> int:  # noqa: ARG002 - one MTU for all of this family
        return self.mtu - MINIMUM_HEADER_LENGTH

    def source_for(self, destination: IPAddress) -> IPAddress:
        route = self.routes.lookup(destination) if isinstance(destination, IPv4Address) else None
        if route is None or self.routes.address is None:
            raise HostError(errno.ENETUNREACH, f"send to {destination}")
        return route.source

    def send(
        self,
        source: IPAddress,
        destination: IPAddress,
        protocol: int,
        payload: bytes,
        *,
        ttl: int = 64,
        dont_fragment: bool = False,
    ) -> None:
        assert isinstance(source, IPv4Address)
        assert isinstance(destination, IPv4Address)
        if not 1 <= ttl <= 255:
            raise LocalError(f"a time to live of {ttl}: give 1 to 255")
        if MINIMUM_HEADER_LENGTH + len(payload) > MAXIMUM_LENGTH:
            raise HostError(errno.EMSGSIZE, f"send {len(payload)} octets to {destination}")
        self._queue(IPv4(source, destination, protocol, payload, ttl, self._next_identification(), dont_fragment))
        self.wake()

    def _queue(self, packet: IPv4) -> None:
        if len(self._output) >= _MAX_OUTPUT:
            self.counters["ip-output-full"] += 1
        else:
            self._output.append(packet)

    def _next_identification(self) -> int:
        self._identification = self._identification + 1 & 0xFFFF
        return self._identification

    def _owns(self, address: IPv4Address) -> bool:
        return self.routes.is_local(int(address)) and not address.is_loopback

    # The engine.

    def receive(self, frame: Frame, now: int) -> None:
        """A frame came in."""
        try:
            self._receive_frame(Ethernet.parse(frame), now)
        except WireError as error:
            self.counters[f"malformed-{error.field}"] += 1

    def transmit(self, now: int) -> list[Frame]:
        """The frames to send now."""
        self._transmitting = True
        if self.dhcp is not None:
            self.dhcp.work(now)
        self.tcp.work(now)
        for _ in range(len(self._to_self)):
            self._receive_own(self._to_self.popleft(), now)
        self._run_neighbour_events(now)  # what was parked goes first
        output = self._output
        while output:
            self.send_now(output.popleft(), now)
        self._run_neighbour_events(now)
        self._transmitting = False
        if self._to_self or output or self.tcp.waiting:
            self.wakeup()
        frames, self._frames = self._frames, []
        return frames

    def deadline(self) -> int | None:
        moments = (
            self.neighbours.deadline(),
            self.reassembler.deadline(),
            self.tcp.deadline(),
            self.dhcp.deadline() if self.dhcp is not None else None,
        )
        return min((moment for moment in moments if moment is not None), default=None)

    def expire(self, now: int) -> None:
        """Run the timers that are due."""
        self.neighbours.expire(now)
        self.tcp.expire(now)
        for first in self.reassembler.expire(now):
            self._complain(first, lambda quoted: Icmpv4.time_exceeded(TimeExceededCode.REASSEMBLY, quoted), now)
        if self.dhcp is not None:
            self.dhcp.expire(now)

    # Input.

    def _receive_frame(self, frame: Ethernet, now: int) -> None:
        broadcast = frame.destination == BROADCAST_MAC
        if frame.destination != self.mac and not broadcast:
            self.counters["ethernet-not-for-us"] += 1
        elif frame.ethertype == EtherType.IPV4:
            self._receive_ipv4(IPv4.parse(frame.payload), broadcast, now)
        elif frame.ethertype == EtherType.ARP:
            arp = Arp.parse(frame.payload)
            self.neighbours.receive(arp, now)
            if self.dhcp is not None:
                self.dhcp.receive_arp(arp, now)
        else:
            self.counters["ethernet-unknown-type"] += 1

    def _receive_ipv4(self, packet: IPv4, link_broadcast: bool, now: int) -> None:
        source, destination = int(packet.source), int(packet.destination)
        routes = self.routes
        broadcast = routes.is_broadcast(destination)
        if self.dhcp is not None and packet.protocol == Protocol.UDP and self._receive_dhcp(packet, self.dhcp, now):
            return
        if not broadcast and (not routes.is_local(destination) or is_martian(destination)):
            self.counters["ip-not-for-us"] += 1
        elif link_broadcast and not broadcast:
            self.counters["ip-unicast-in-broadcast"] += 1  # RFC 1122 3.3.6
        elif (is_martian(source) and source) or routes.is_local(source) or routes.is_broadcast(source):
            self.counters["ip-bad-source"] += 1
        elif (whole := self.reassembler.receive(packet, now)) is not None:
            self._deliver(whole, broadcast, now)

    def _receive_dhcp(self, packet: IPv4, dhcp: DhcpService, now: int) -> bool:
        """A DHCP answer may come to an address that is not ours yet (RFC 2131 4.1)."""
        if packet.is_fragment or packet.payload[2:4] != CLIENT_PORT.to_bytes(2, "big"):
            return False
        dhcp.receive(Udp.parse(packet.payload, packet.source, packet.destination).payload, now)
        return True

    def _receive_own(self, packet: IPv4, now: int) -> None:
        """A datagram from ourselves to ourselves."""
        try:
            self._deliver(packet, self.routes.is_broadcast(int(packet.destination)), now)
        except WireError as error:  # an application may send itself anything
            self.counters[f"malformed-{error.field}"] += 1

    def _deliver(self, packet: IPv4, broadcast: bool, now: int) -> None:
        if packet.protocol == Protocol.TCP:
            if broadcast or packet.source == ANY_IPV4:
                self.counters["tcp-not-unicast"] += 1  # RFC 1122 4.2.3.10
            else:
                self.tcp.receive(packet, now)
        elif packet.protocol == Protocol.UDP:
            if not self.udp.receive(packet):
                self._refuse(packet, UnreachableCode.PORT, broadcast, now)
        elif packet.protocol == Protocol.ICMP:
            self._receive_icmp(packet, Icmpv4.parse(packet.payload), broadcast, now)
        else:
            self.counters["ip-unknown-protocol"] += 1
            self._refuse(packet, UnreachableCode.PROTOCOL, broadcast, now)

    def _receive_icmp(self, packet: IPv4, message: Icmpv4, broadcast: bool, now: int) -> None:
        if message.type == IcmpType.ECHO_REQUEST:
            if broadcast or packet.source == ANY_IPV4:
                self.counters["icmp-broadcast-echo"] += 1  # may be ignored (RFC 1122 3.2.2.6), and should be
                return
            reply = Icmpv4.echo_reply(message.identifier, message.sequence, message.payload)
            self.send(packet.destination, packet.source, Protocol.ICMP, reply.pack())
        elif message.type == IcmpType.ECHO_REPLY:
            self.echo.receive(message, packet.source)
        elif message.is_error and message.type not in (IcmpType.REDIRECT, IcmpType.SOURCE_QUENCH):
            self._report(IcmpReport.parse(message, packet.source), now)
        else:
            self.counters["icmp-ignored"] += 1

    # ICMP errors, ours and others'.

    def _refuse(self, packet: IPv4, code: int, broadcast: bool, now: int) -> None:
        self._complain(packet, lambda quoted: Icmpv4.unreachable(code, quoted), now, broadcast=broadcast)

    def _complain(self, packet: IPv4, build: Callable[[bytes], Icmpv4], now: int, *, broadcast: bool = False) -> None:
        error = error_about(packet, packet.destination, build, broadcast=broadcast, identification=self._next_identification())
        if error is None:
            return
        if not self._errors_allowed.take(now):
            self.counters["icmp-error-rate-limited"] += 1
            return
        self._queue(error)

    def tell_sockets(self, report: IcmpReport, now: int) -> bool:
        """Tell the socket that sent what the report is about; False if there is none."""
        if report.protocol == Protocol.UDP:
            return self.udp.report(report)
        if report.protocol == Protocol.TCP:
            return self.tcp.report(report, now)
        return report.protocol in _ECHO_PROTOCOLS and self.echo.report(report)

    def _report(self, report: IcmpReport, now: int) -> None:
        """Tell the socket that sent what the report is about; believe nothing that no socket can have sent (RFC 5927)."""
        if report.reporter is not None and not self.routes.is_local(int(report.source)):
            known = False
        else:
            known = self.tell_sockets(report, now)
        if not known:
            self.counters["icmp-error-unexpected"] += 1
        elif report.reporter is not None and report.errno == errno.EMSGSIZE:
            self.path_mtus.lower(report.destination, report.path_mtu, now)

    # Output.

    def broadcast_arp(self, arp: Arp) -> None:
        self._frames.append(Ethernet(BROADCAST_MAC, self.mac, EtherType.ARP, arp.pack()).pack())

    def send_now(self, packet: IPv4, now: int) -> None:
        """Route `packet` and send it, or let it wait for ARP."""
        destination = packet.destination
        number = int(destination)
        if self.routes.is_local(number):
            self._to_self.append(packet)
            return
        route = self.routes.lookup(destination)
        if route is None:
            self.counters["ip-no-route"] += 1
            self._report(IcmpReport.local(UnreachableCode.NET, packet), now)
            return
        mtu = self.path_mtus.get(destination, self.mtu, now)
        if packet.protocol == Protocol.TCP and packet.header_length + len(packet.payload) > mtu:
            packet = replace(packet, dont_fragment=False)  # made before the path was known to be narrow (RFC 1191 3)
        try:
            pieces = fragment(packet, mtu)
        except HostError:
            self._report(IcmpReport.local(UnreachableCode.FRAGMENTATION_NEEDED, packet, mtu), now)
            return
        if self.routes.is_broadcast(number):
            self._send_pieces(BROADCAST_MAC, pieces)
        elif number >> 28 == 0xE:
            low = (number & 0x7FFFFF).to_bytes(3, "big")
            self._send_pieces(MacAddress(_MULTICAST_MAC + low), pieces)
        else:
            next_hop = route.router or destination
            for piece in pieces:
                mac = self.neighbours.resolve(next_hop, packet.source, piece, now)
                if mac is not None:
                    self._send_pieces(mac, (piece,))

    def _send_pieces(self, mac: MacAddress, pieces: list[IPv4] | tuple[IPv4, ...]) -> None:
        for piece in pieces:
            self._frames.append(Ethernet(mac, self.mac, EtherType.IPV4, piece.pack()).pack())

    def _run_neighbour_events(self, now: int) -> None:
        for event in self.neighbours.events():
            match event:
                case SendArp(arp):
                    self._frames.append(Ethernet(event.destination, self.mac, EtherType.ARP, arp.pack()).pack())
                case Resolved(_, mac, packets):
                    self._send_pieces(mac, packets)
                case Unresolved(_, packets):
                    self.counters["ip-neighbour-unreachable"] += len(packets)
                    for packet in packets:
                        if not packet.fragment_offset:
                            self._report(IcmpReport.local(UnreachableCode.HOST, packet), now)
                case _:
                    self.counters["arp-conflict"] += 1
