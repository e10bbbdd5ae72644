"""The user-mode network: a router, a firewall and a few servers in one engine, behind one Ethernet port.

    guest (10.0.2.15) <----> gateway, firewall, DHCP server (10.0.2.2, fec0::2) <----> the host's sockets
    (fec0::...)         |--> DNS server (10.0.2.3, fec0::3)
                        |--> SMB server (10.0.2.4) where smb= shares something: else it answers pings and refuses connections

What a frame goes through. Frames for another station are somebody else's (several guests may share the network through a hub).
ARP goes to the LAN. An IPv4 datagram needs a source in the network (DHCP excepted), is put together if it is a fragment, and
then is for one of the network's own addresses, or to be forwarded: with a TTL to spend, to an address that is somewhere. Then
the protocol's service has it. IPv6 goes the same way (`netemu.user.router6`), to the same services.

Guests' datagrams end here and go on through the host's sockets, so IP options and fragmentation are not carried over, and no other
protocol than TCP, UDP and ICMP echo is (protocol unreachable).

Nothing a guest sends raises or grows anything without bound. What is wrong, or refused by policy, is in `counters`, by reason:
`malformed-` and the format for what breaks a format's rules. Where the host refused, `refusals` has the last 64 cases in full.

Documents: RFC 1122, RFC 1812 (the router's part), RFC 4787, RFC 5382, RFC 5508 (NAT), RFC 2131, and those of the services.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from typing import Protocol

from netemu.errors import LocalError
from netemu.io.host import Host
from netemu.net.offload import CSUM, TSO4, TSO6, TSO_ECN, USO4, USO6, complete, lower
from netemu.net.port import Frame, FrameView
from netemu.net.sockets import StreamSocket, train_length
from netemu.stack.fragments import Reassembler
from netemu.stack.icmp import IcmpReport, is_martian
from netemu.user.dhcp import DhcpServer
from netemu.user.dns import DNS_PORT, DnsForwarder
from netemu.user.dns_names import DnsNames
from netemu.user.dns_stream import DnsStreams
from netemu.user.fastpath import SegmentWriter
from netemu.user.flow import Flow, Refusal
from netemu.user.forward import Forward
from netemu.user.guest_forward import GuestForward
from netemu.user.guestfwd import GuestForwards
from netemu.user.hostfwd import HostForwards
from netemu.user.icmp import EchoService
from netemu.user.lan import Lan
from netemu.user.lan6 import Lan6
from netemu.user.leases import Lease
from netemu.user.mover import Mover
from netemu.user.options import UserOptions
from netemu.user.plain import Layout, plain
from netemu.user.realm import Realm
from netemu.user.router6 import Router6
from netemu.user.side import Packet, Quotation
from netemu.user.side4 import Side4
from netemu.user.side6 import Side6
from netemu.user.snapshot import Restored
from netemu.user.state import check, pack, unpack
from netemu.user.tcp import TcpNat
from netemu.user.tftp import FileStore, TftpServer
from netemu.user.trains import LONGEST_TRAIN, TrainWriter
from netemu.user.udp import UdpNat
from netemu.wire.address import Endpoint, MacAddress
from netemu.wire.arp import Arp
from netemu.wire.dhcpv4 import CLIENT_PORT, SERVER_PORT, Dhcpv4
from netemu.wire.errors import WireError
from netemu.wire.ether import Ethernet, EtherType
from netemu.wire.icmpv4 import IcmpType, Icmpv4, TimeExceededCode
from netemu.wire.ipv4 import IPv4
from netemu.wire.ipv4 import Protocol as IpProtocol
from netemu.wire.ipv6 import IPv6
from netemu.wire.udp import Udp
from netemu.wire.vnet_hdr import GSO_UDP_L4, VnetHeader

__all__ = ["UserNetwork"]


class _Timed(Protocol):
    """A part with timers."""

    def deadline(self) -> int | None: ...
    def expire(self, now: int) -> None: ...


class _Service(_Timed, Protocol):
    """A part that has flows, and sockets of the host's."""

    def flows(self) -> Iterable[Flow]: ...
    def close(self) -> None: ...


class UserNetwork:
    """An `Engine` (netemu.net.engine) that joins guests to `host`. `getrandbits(n)` gives n random bits.

    `files` is what TFTP serves; None for no such server. `wakeup` is called when the host has something for the guests: set it to
    the pump's `kick`.
    Raises `HostError` if a forwarded port cannot be had.
    """

    def __init__(self, options: UserOptions, host: Host, getrandbits: Callable[[int], int], files: FileStore | None = None) -> None:
        self.options = options
        self.counters: Counter[str] = Counter()
        self._lan = Lan(options, self.counters, getrandbits(16), self._guest_unreachable)
        self._side4 = Side4(options, self._lan, self.counters)
        lan6 = Lan6(options, self._lan.mac, self._lan.put, self.counters, getrandbits, self._guest_unreachable6)
        side6 = Side6(options, lan6, self.counters)
        self._realm = Realm(options, host, (self._side4, side6), self.counters, getrandbits)
        self._reassembler = Reassembler()
        self._reassembler.counters = self.counters
        self._dhcp = DhcpServer(options, self.counters)
        self._echo = EchoService(self._realm, self._lan)
        self._writer = SegmentWriter(self._lan, lan6)
        self._trains = TrainWriter(self._realm, self._lan, lan6)
        self._udp = UdpNat(self._realm, self._trains)
        names = DnsNames(options.dns_name)
        self._dns = DnsForwarder(self._realm, names)
        self._tcp = TcpNat(self._realm, self._writer)
        if options.dns_name or not options.restrict:
            streams = DnsStreams(self._realm, names)
            for resolver in (Endpoint(address, DNS_PORT) for side in self._realm.sides.values() for address in side.resolvers):
                self._tcp.servers[resolver] = partial(streams.open, resolver)
        self._forwards = HostForwards(self._realm, self._tcp, self._trains)
        self._servers = GuestForwards(self._realm, self._tcp)
        self._services: list[_Service] = [self._tcp, self._udp, self._forwards, self._echo, self._dns]
        self._tftp = None
        if files is not None:
            self._tftp = TftpServer(
                files, self._send_tftp, getrandbits, self.counters, mtu=options.mtu, writable=options.tftp_write
            )
            self._services.append(self._tftp)
        services: dict[int, Callable[[Packet, int], None]] = {IpProtocol.UDP: self._receive_udp, IpProtocol.TCP: self._tcp.receive}
        self._at_rest = False
        self._router6 = Router6(options, lan6, side6, self._echo, services, self._tcp.reported, self.counters)
        self._mover = Mover(
            options=options,
            lan=self._lan,
            lan6=lan6,
            dhcp=self._dhcp,
            dhcp6=self._router6.dhcp,
            tcp=self._tcp,
            udp=self._udp,
            forwards=self._forwards,
            echo=self._echo,
        )
        self._parts: tuple[_Timed, ...] = (
            self._router6,
            self._lan,
            self._dhcp,
            *self._services[1:],
        )
        self._deadline: int | None = None  # of all but TCP, when they were last asked
        self._ask = True  # they may have an earlier one since
        self._by_protocol: dict[int, Callable[[IPv4, int], None]] = {
            IpProtocol.ICMP: self._receive_icmp,
            IpProtocol.UDP: self._receive_udp,
            IpProtocol.TCP: self._tcp.receive,
        }
        self._short_ways: dict[int, Callable[[FrameView, Layout, int, VnetHeader | None, int], bool | None]] = {
            IpProtocol.TCP: self._tcp.receive_fast,
            IpProtocol.ICMP: self._echo.receive_fast,
            IpProtocol.UDP: self._udp_short_way,
        }
        try:
            for rule in options.hostfwd:
                self._forwards.add(rule)
            for rule in options.guestfwd:
                self._servers.add(rule)
        except BaseException:
            self.close()
            raise

    # What it tells of itself

    @property
    def mac(self) -> MacAddress:
        """The network's own MAC address."""
        return self._lan.mac

    @property
    def wakeup(self) -> Callable[[], None]:
        return self._realm.wakeup

    @wakeup.setter
    def wakeup(self, wakeup: Callable[[], None]) -> None:
        self._realm.wakeup = wakeup

    @property
    def leases(self) -> tuple[Lease[IPv4Address], ...]:
        """The DHCP server's records, at most one for each address of the pool."""
        return tuple(self._dhcp.leases)

    @property
    def leases6(self) -> tuple[Lease[IPv6Address], ...]:
        """The DHCPv6 server's records."""
        return tuple(self._router6.dhcp.leases)

    @property
    def refusals(self) -> tuple[Refusal, ...]:
        """What the host refused, the last 64 of it, oldest first."""
        return tuple(self._realm.refusals)

    @property
    def forwards(self) -> tuple[Forward, ...]:
        return self._forwards.forwards

    @property
    def guest_forwards(self) -> tuple[GuestForward, ...]:
        return self._servers.forwards

    def flows(self) -> tuple[Flow, ...]:
        """Every connection, mapping, ping session and waiting question there is now."""
        return tuple(flow for part in self._services for flow in part.flows())

    # What it is told

    def add_forward(self, rule: str) -> Forward:
        """Begin to forward a port (`netemu.user.forward`); raises `LocalError` and `HostError`."""
        return self._forwards.add(rule)

    def remove_forward(self, forward: Forward) -> None:
        """Stop to forward a port; its connections go on. Raises `LocalError` if there is no such forward."""
        self._forwards.remove(forward)

    def add_guest_forward(self, rule: str, handler: Callable[[StreamSocket], None] | None = None) -> GuestForward:
        """Begin to serve guests at an address of their network (`netemu.user.guestfwd`), by `handler` if one is given.

        Raises `LocalError`.
        """
        return self._servers.add(rule) if handler is None else self._servers.serve(rule, handler)

    def remove_guest_forward(self, forward: GuestForward) -> None:
        """Serve there no more. Raises `LocalError` if there is no such server."""
        self._servers.remove(forward)

    def save_state(self, now: int) -> bytes:
        """What another network with the same options needs to go on where this one is (`netemu.user.snapshot`, `.state`).

        This one is at rest then: it hears nothing, says nothing and has no sockets. A guest notices nothing, nor does the peer of a
        connection that can be moved; others are reset. Raises `LocalError` if it is at rest already.
        """
        if self._at_rest:
            raise LocalError("the network was saved already, and is at rest: load the state into another one")
        snapshot = self._mover.save(now)
        self._rest()
        return pack(snapshot)

    def load_state(self, state: bytes, now: int) -> Restored:
        """Go on where the network was that gave `state`; what moved, and what was lost.

        Raises `LocalError`, and changes nothing, if `state` is not what `save_state` gave, or not of a network with these options,
        or if this network is not a fresh one.
        """
        if self._at_rest or self.leases or self.leases6 or self.flows():
            raise LocalError("a state is loaded into a fresh network, and this one has served guests already: make another one")
        snapshot = unpack(state)
        check(snapshot, self.options)
        self._ask = True
        return self._mover.load(snapshot, now)

    def _rest(self) -> None:
        self._at_rest = True
        self._short_ways.clear()
        self.close()

    def leave(self, now: int) -> None:
        """Tell the guests that the router goes: transmit what there is once more, then close."""
        self._ask = True
        if self.options.ipv6 and not self._at_rest:
            self._router6.leave(now)

    def close(self) -> None:
        """Give back every socket of the host's; guests hear nothing more."""
        for part in self._services:
            part.close()

    # The engine

    def receive(self, frame: Frame, now: int) -> None:
        """A frame from the guests."""
        if self._at_rest:
            self.counters["at-rest"] += 1
            return
        self._ask = True
        try:
            self._receive(Ethernet.parse(frame), now)
        except WireError as error:
            self.counters[f"malformed-{error.field.partition('.')[0]}"] += 1

    def transmit(self, now: int) -> Iterator[Frame]:
        """The frames for the guests."""
        for frame, _ in self.transmit_offloaded(now, 0):
            yield bytes(frame)

    offloads = CSUM | TSO4 | TSO6 | TSO_ECN | USO4 | USO6
    """What it takes: a checksum that is left to it need not be looked at; a long segment, or a train of datagrams, goes to the
    host as it is.
    """

    def receive_offloaded(self, frame: FrameView, header: VnetHeader | None, now: int) -> bool:
        """A frame from the guests, in memory that will be used again; the short way if it can go there."""
        found = plain(frame, self._lan.mac)
        if found is not None:
            layout, end = found
            short_way = self._short_ways.get(frame[layout.protocol])
            if short_way is not None:
                news = short_way(frame, layout, end, header, now)
                if news is not None:
                    return news
        if header is not None and header.gso_type == GSO_UDP_L4:
            self._receive_each(frame, header, now)
            return True
        try:
            whole = bytes(frame) if header is None else complete(frame, header)
        except WireError:
            self.counters["malformed-vnet_hdr"] += 1
            return False
        self.receive(whole, now)
        return True

    def _receive_each(self, frame: FrameView, header: VnetHeader, now: int) -> None:
        """The datagrams of a train one by one: a new flow's, or what the host does not take together."""
        try:
            datagrams = lower(frame, header) if train_length(len(frame), header.gso_size) <= LONGEST_TRAIN else ()
        except WireError:
            datagrams = ()
        if not datagrams:
            self.counters["malformed-vnet_hdr"] += 1
        for datagram in datagrams:
            self.receive_offloaded(datagram, None, now)

    def _udp_short_way(self, frame: FrameView, layout: Layout, end: int, header: VnetHeader | None, now: int) -> bool | None:
        """A guest's datagram may be an answer to a peer of a forwarded port, whose it is then. The host may refuse it."""
        key = layout.key(frame)
        taken = self._forwards.reply_fast(key, frame, layout, end, header, now) or self._udp.receive_fast(
            key, frame, layout, end, header, now
        )
        return self._lan.waits if taken else None

    def transmit_offloaded(self, now: int, offloads: int) -> Iterator[tuple[FrameView, VnetHeader | None]]:
        """The frames for the guests: what waits, then what the host's sockets bring."""
        if self._at_rest:
            return
        self._writer.offloads = self._trains.offloads = offloads
        if self._realm.work_off(now):
            self._ask = True
        yield from self._waiting()
        for short in self._tcp.transmit(now):
            if self._lan.waits:
                yield from self._waiting()
            if short is not None:
                yield short

    def _waiting(self) -> Iterator[tuple[FrameView, VnetHeader | None]]:
        for frame in self._lan.transmit():
            self._ask = True
            yield frame

    def deadline(self) -> int | None:
        """Only TCP is asked each time: the others get an earlier one by a frame, an event or a timer, and by nothing else."""
        if self._at_rest:
            return None
        if self._ask:
            self._ask = False
            deadlines = [part.deadline() for part in self._parts]
            deadlines.append(self._reassembler.deadline())
            self._deadline = min((deadline for deadline in deadlines if deadline is not None), default=None)
        first, others = self._tcp.deadline(), self._deadline
        return others if first is None or (others is not None and others < first) else first

    def expire(self, now: int) -> None:
        if self._at_rest:
            return
        self._ask = True
        self._tcp.expire(now)
        for part in self._parts:
            part.expire(now)
        for first in self._reassembler.expire(now):
            self._time_exceeded(first, TimeExceededCode.REASSEMBLY, now)

    # From the frame to the service

    def _receive(self, frame: Ethernet, now: int) -> None:
        if frame.destination != self.mac and not frame.destination.is_multicast:
            self.counters["other-station"] += 1
        elif frame.ethertype == EtherType.IPV6 and self.options.ipv6:
            self._router6.receive(frame, now)
        elif not self.options.ipv4:
            self.counters["ethertype-ignored"] += 1
        elif frame.ethertype == EtherType.ARP:
            self._lan.receive_arp(Arp.parse(frame.payload), now)
        elif frame.ethertype == EtherType.IPV4:
            self._receive_ipv4(IPv4.parse(frame.payload), now, broadcast=frame.destination.is_multicast)
        else:
            self.counters["ethertype-ignored"] += 1

    def _receive_ipv4(self, packet: IPv4, now: int, *, broadcast: bool) -> None:
        if self._is_to_all(packet):
            self._receive_broadcast(packet, now)
        elif broadcast:
            self.counters["broadcast-frame"] += 1  # RFC 1122 3.3.6: a datagram for one in a frame for all
        elif not self._is_guest(packet):
            self.counters["source-refused"] += 1
        elif (whole := self._reassembler.receive(packet, now)) is not None and self._may_pass(whole, now):
            self._deliver(whole, now)

    def _is_to_all(self, packet: IPv4) -> bool:
        everybody = self.options.net.broadcast_address
        return packet.destination == everybody or packet.destination.is_multicast or int(packet.destination) == 0xFFFFFFFF

    def _is_guest(self, packet: IPv4) -> bool:
        net, source = self.options.net, packet.source
        unusable = (net.network_address, net.broadcast_address)
        return source in net and source not in unusable and not self._lan.is_own(source)

    def _may_pass(self, packet: IPv4, now: int) -> bool:
        """Is this datagram for us, or for an address to which it can be forwarded?"""
        if self._lan.is_own(packet.destination):
            return True
        if is_martian(int(packet.destination)):
            self.counters["destination-refused"] += 1
            return False
        if packet.destination in self.options.net:
            self.counters["same-link"] += 1  # a guest's neighbour, whom it can ask itself
            self._realm.unreachable(Quotation.of(packet), errno.EHOSTUNREACH, now)
            return False
        if packet.ttl <= 1:
            self.counters["ttl-exceeded"] += 1
            self._time_exceeded(packet, TimeExceededCode.TTL, now)
            return False
        return True

    def _deliver(self, packet: IPv4, now: int) -> None:
        handler = self._by_protocol.get(packet.protocol)
        if handler is None:
            self.counters["protocol-unknown"] += 1
            self._realm.unreachable(Quotation.of(packet), errno.ENOPROTOOPT, now)
        else:
            handler(packet, now)

    def _receive_broadcast(self, packet: IPv4, now: int) -> None:
        """Only DHCP is for everybody here."""
        if packet.protocol == IpProtocol.UDP and not packet.is_fragment:
            datagram = Udp.parse(packet.payload, packet.source, packet.destination)
            if datagram.destination_port == SERVER_PORT:
                self._receive_dhcp(datagram, now)
                return
        self.counters["broadcast-ignored"] += 1

    def _receive_icmp(self, packet: IPv4, now: int) -> None:
        """Echo requests, and errors about our TCP segments (a guest that rejects a forward); the host's sockets carry no others."""
        message = Icmpv4.parse(packet.payload)
        if message.type == IcmpType.ECHO_REQUEST:
            self._echo.receive(packet, message, now)
        elif not (message.is_error and self._is_about_tcp(IcmpReport.parse(message, packet.source), now)):
            self.counters["icmp-ignored"] += 1

    def _is_about_tcp(self, report: IcmpReport, now: int) -> bool:
        from_guest = report.reporter == report.destination  # nobody else stands between us and it
        return from_guest and report.protocol == IpProtocol.TCP and self._tcp.reported(report, now)

    def _receive_udp(self, packet: Packet, now: int) -> None:
        datagram = Udp.parse(packet.payload, packet.source, packet.destination)
        destination, port = packet.destination, datagram.destination_port
        if self._forwards.reply(packet, datagram, now):
            return
        if destination == self.options.host and port == SERVER_PORT:
            self._receive_dhcp(datagram, now)
        elif destination in self._realm.side(destination).resolvers and port == DNS_PORT:
            self._dns.receive(packet, datagram, now)
        elif self._tftp is not None and self._tftp.owns(port) and destination == self._realm.side(destination).gateway:
            self._tftp.receive(Endpoint(packet.source, datagram.source_port), port, datagram.payload, now)
        elif self._realm.is_outside(destination):
            self._udp.receive(packet, datagram, now)
        else:
            self.counters["udp-closed-port"] += 1
            self._realm.unreachable(Quotation.of(packet), errno.ECONNREFUSED, now)

    def _receive_dhcp(self, datagram: Udp, now: int) -> None:
        reply = self._dhcp.receive(Dhcpv4.parse(datagram.payload), now)
        if reply is not None:
            host, identification = self.options.host, self._lan.next_identification()
            payload = Udp(SERVER_PORT, CLIENT_PORT, reply.message.pack()).pack(host, reply.destination)
            packet = IPv4(host, reply.destination, IpProtocol.UDP, payload, identification=identification)
            self._lan.send_to(packet, reply.mac)

    # What guests are told

    def _send_tftp(self, port: int, guest: Endpoint, octets: bytes, now: int) -> None:
        server = Endpoint(self._realm.side(guest.address).gateway, port)
        self._realm.send_udp(server, guest, octets, now)

    def _time_exceeded(self, packet: IPv4, code: TimeExceededCode, now: int) -> None:
        quotation = Quotation.of(packet)
        self._side4.error(quotation, Icmpv4.time_exceeded(code, quotation.octets), now)

    def _guest_unreachable(self, packet: IPv4, now: int) -> None:
        if packet.protocol == IpProtocol.TCP:
            self._tcp.guest_unreachable(packet, now)

    def _guest_unreachable6(self, packet: IPv6, now: int) -> None:
        if packet.next_header == IpProtocol.TCP:
            self._tcp.guest_unreachable(packet, now)
