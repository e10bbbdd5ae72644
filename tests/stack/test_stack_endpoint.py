"""One stack, frame by frame: what it answers, what it ignores, and what it counts."""

from __future__ import annotations

import errno
import itertools
from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import pytest

from netemu.errors import HostError, LocalError
from netemu.net.clock import SECOND
from netemu.stack.endpoint import Ipv4Stack
from netemu.stack.fragments import fragment
from netemu.stack.lease import Lease
from netemu.wire.address import BROADCAST_MAC, ZERO_MAC, Endpoint, MacAddress
from netemu.wire.arp import Arp, ArpOperation
from netemu.wire.dhcpv4 import BOOTREPLY, DhcpMessageType, DhcpOption, Dhcpv4, pack_classless_routes
from netemu.wire.ether import Ethernet, EtherType
from netemu.wire.icmpv4 import IcmpType, Icmpv4, TimeExceededCode, UnreachableCode
from netemu.wire.ipv4 import IPv4, Protocol
from netemu.wire.tcp import ACK, RST, SYN, Tcp
from netemu.wire.udp import Udp

MAC, PEER_MAC = MacAddress("52:54:00:00:00:01"), MacAddress("52:54:00:00:00:02")
OURS, PEER = IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2")
ROUTER, ELSEWHERE = IPv4Address("10.0.0.254"), IPv4Address("192.0.2.1")
NET_BROADCAST = IPv4Address("10.0.0.255")
EVERYBODY = IPv4Address("255.255.255.255")


def bits(count: int) -> int:
    return 1 << (count - 1)


class Wire:
    """A stack with one neighbour, both sides' addresses known."""

    def __init__(self, **kwargs) -> None:
        self.stack = Ipv4Stack(MAC, getrandbits=bits, **kwargs)
        self.stack.configure(IPv4Interface("10.0.0.1/24"), ROUTER)
        self.now = 0
        for address in (PEER, ROUTER):
            self.arp(Arp(ArpOperation.REQUEST, PEER_MAC, address, ZERO_MAC, OURS))
        self.frames()

    def put(self, frame: bytes) -> None:
        self.stack.receive(frame, self.now)

    def arp(self, arp: Arp) -> None:
        self.put(Ethernet(BROADCAST_MAC, PEER_MAC, EtherType.ARP, arp.pack()).pack())

    def ip(self, packet: IPv4, mac: MacAddress = MAC) -> None:
        self.put(Ethernet(mac, PEER_MAC, EtherType.IPV4, packet.pack()).pack())

    def frames(self) -> list[Ethernet]:
        return [Ethernet.parse(frame) for frame in self.stack.transmit(self.now)]

    def packets(self) -> list[IPv4]:
        frames = self.frames()
        assert all(frame.source == MAC and frame.ethertype == EtherType.IPV4 for frame in frames)
        return [IPv4.parse(frame.payload) for frame in frames]

    def icmp(self) -> list[tuple[int, int]]:
        """(type, code) of every message that comes out now."""
        messages = [Icmpv4.parse(packet.payload) for packet in self.packets()]
        return [(message.type, message.code) for message in messages]

    def run_to(self, when: int) -> list[Ethernet]:
        frames: list[Ethernet] = []
        while (due := self.stack.deadline()) is not None and due <= when:
            self.now = due
            self.stack.expire(due)
            frames += self.frames()
        self.now = when
        return frames


@pytest.fixture
def wire() -> Wire:
    return Wire()


HERE, THERE = Endpoint(OURS, 2000), Endpoint(PEER, 1000)


def udp(data: bytes = b"data", source: Endpoint = THERE, destination: Endpoint = HERE) -> IPv4:
    payload = Udp(source.port, destination.port, data).pack(source.address, destination.address)
    return IPv4(source.address, destination.address, Protocol.UDP, payload)


def echo(data: bytes = b"ping", destination: IPv4Address = OURS) -> IPv4:
    return IPv4(PEER, destination, Protocol.ICMP, Icmpv4.echo_request(1, 2, data).pack())


def syn(port: int = 80) -> IPv4:
    return IPv4(PEER, OURS, Protocol.TCP, Tcp(1000, port, 5, 0, SYN, 1000).pack(PEER, OURS))


UNREACHABLE = IcmpType.DESTINATION_UNREACHABLE


# ICMP.


def test_echo_is_answered_with_what_it_brought(wire):
    wire.ip(echo(b"payload"))
    (reply,) = wire.packets()
    assert (reply.source, reply.destination) == (OURS, PEER)
    assert Icmpv4.parse(reply.payload) == Icmpv4.echo_reply(1, 2, b"payload")


def test_echo_to_a_broadcast_is_ignored(wire):
    for destination in (EVERYBODY, NET_BROADCAST):
        wire.ip(echo(destination=destination), BROADCAST_MAC)
    assert wire.frames() == []
    assert wire.stack.counters == {"icmp-broadcast-echo": 2}


def test_a_long_echo_comes_and_goes_in_fragments(wire):
    request = echo(bytes(4000))
    for one in fragment(replace(request, identification=9), 1500):
        wire.ip(one)
    pieces = wire.packets()
    assert [(piece.fragment_offset, piece.more_fragments) for piece in pieces] == [(0, True), (1480, True), (2960, False)]
    assert len({piece.identification for piece in pieces}) == 1


def test_reassembly_that_takes_too_long_is_told(wire):
    wire.ip(fragment(echo(bytes(4000)), 1500)[0])
    (frame,) = [frame for frame in wire.run_to(60 * SECOND) if frame.ethertype == EtherType.IPV4]
    message = Icmpv4.parse(IPv4.parse(frame.payload).payload)
    assert (message.type, message.code) == (IcmpType.TIME_EXCEEDED, TimeExceededCode.REASSEMBLY)


def test_port_and_protocol_unreachable(wire):
    wire.ip(udp())
    assert wire.icmp() == [(UNREACHABLE, UnreachableCode.PORT)]
    wire.ip(IPv4(PEER, OURS, 99, b"what"))
    assert wire.icmp() == [(UNREACHABLE, UnreachableCode.PROTOCOL)]
    assert wire.stack.counters == {"udp-no-port": 1, "ip-unknown-protocol": 1}


def test_no_error_about_broadcasts(wire):
    wire.ip(udp(destination=Endpoint(EVERYBODY, 9)), BROADCAST_MAC)
    wire.ip(udp(destination=Endpoint(NET_BROADCAST, 9)), BROADCAST_MAC)
    wire.ip(IPv4(PEER, EVERYBODY, 99, b""), BROADCAST_MAC)
    assert wire.frames() == []


def test_errors_are_limited(wire):
    for _ in range(60):
        wire.ip(udp())
    assert len(wire.packets()) == 50
    assert wire.stack.counters["icmp-error-rate-limited"] == 10


@pytest.mark.parametrize("kind", [IcmpType.REDIRECT, IcmpType.SOURCE_QUENCH, IcmpType.TIMESTAMP, 200])
def test_messages_that_mean_nothing_to_us(wire, kind):
    wire.ip(IPv4(PEER, OURS, Protocol.ICMP, Icmpv4(kind, 0, 0, bytes(28)).pack()))
    assert wire.frames() == []
    assert wire.stack.counters == {"icmp-ignored": 1}


# What is accepted (RFC 1122 3.2.1.3, 3.3.6).


@pytest.mark.parametrize(
    ("packet", "mac", "reason"),
    [
        (udp(destination=Endpoint(PEER, 9)), MAC, "ip-not-for-us"),
        (udp(destination=Endpoint(IPv4Address("224.0.0.1"), 9)), MAC, "ip-not-for-us"),
        (udp(destination=Endpoint(IPv4Address("127.0.0.1"), 9)), MAC, "ip-not-for-us"),
        (udp(), BROADCAST_MAC, "ip-unicast-in-broadcast"),
        (udp(), MacAddress("01:00:5e:00:00:01"), "ethernet-not-for-us"),
        (udp(), MacAddress("52:54:00:00:00:99"), "ethernet-not-for-us"),
        (udp(source=Endpoint(OURS, 1)), MAC, "ip-bad-source"),
        (udp(source=Endpoint(NET_BROADCAST, 1)), MAC, "ip-bad-source"),
        (udp(source=Endpoint(IPv4Address("127.0.0.1"), 1)), MAC, "ip-bad-source"),
        (udp(source=Endpoint(IPv4Address("224.0.0.1"), 1)), MAC, "ip-bad-source"),
        (udp(source=Endpoint(EVERYBODY, 1)), MAC, "ip-bad-source"),
    ],
)
def test_what_is_not_ours_is_dropped_in_silence(wire, packet, mac, reason):
    wire.ip(packet, mac)
    assert wire.frames() == []
    assert wire.stack.counters == {reason: 1}


def test_other_ethertypes_are_counted(wire):
    wire.put(Ethernet(MAC, PEER_MAC, EtherType.IPV6, bytes(40)).pack())
    assert wire.stack.counters == {"ethernet-unknown-type": 1}


def test_a_ttl_of_nothing_is_delivered(wire):
    wire.ip(replace(echo(), ttl=0))  # RFC 1122 3.2.1.7
    assert len(wire.packets()) == 1


def test_an_interface_without_an_address_says_nothing():
    stack = Ipv4Stack(MAC, getrandbits=bits)
    stack.receive(Ethernet(MAC, PEER_MAC, EtherType.IPV4, echo().pack()).pack(), 0)
    arp = Arp(ArpOperation.REQUEST, PEER_MAC, PEER, ZERO_MAC, OURS)
    stack.receive(Ethernet(BROADCAST_MAC, PEER_MAC, EtherType.ARP, arp.pack()).pack(), 0)
    assert stack.transmit(0) == []
    assert stack.deadline() is None


# UDP.


def test_datagrams_go_both_ways(wire):
    socket = wire.stack.udp.open(2000)
    got = []
    socket.on_datagram = lambda data, source: got.append((data, source))
    wire.ip(udp(b"hello"))
    wire.ip(udp(b"all", destination=Endpoint(NET_BROADCAST, 2000)), BROADCAST_MAC)
    assert got == [(b"hello", Endpoint(PEER, 1000)), (b"all", Endpoint(PEER, 1000))]
    socket.send_to(b"answer", Endpoint(PEER, 1000), ttl=3)
    (packet,) = wire.packets()
    assert (packet.ttl, packet.source) == (3, OURS)
    assert Udp.parse(packet.payload, OURS, PEER) == Udp(2000, 1000, b"answer")
    assert socket.local == Endpoint(OURS, 2000)
    socket.send_to(bytes(65507), Endpoint(PEER, 1000))
    assert {(packet.ttl, packet.dont_fragment) for packet in wire.packets()} == {(64, False)}


def test_a_socket_without_a_reader_counts(wire):
    wire.stack.udp.open(2000)
    wire.ip(udp())
    assert wire.frames() == []
    assert wire.stack.counters == {"udp-no-reader": 1}


def test_routes_and_broadcasts(wire):
    socket = wire.stack.udp.open()
    for destination in (ELSEWHERE, NET_BROADCAST, EVERYBODY, IPv4Address("239.129.2.3")):
        socket.send_to(b"", Endpoint(destination, 9))
    macs = [frame.destination for frame in wire.frames()]
    assert macs == [PEER_MAC, BROADCAST_MAC, BROADCAST_MAC, MacAddress("01:00:5e:01:02:03")]


def test_what_a_socket_refuses(wire):
    socket = wire.stack.udp.open(2000)
    cases = [
        (errno.EADDRINUSE, lambda: wire.stack.udp.open(2000)),
        (errno.EMSGSIZE, lambda: socket.send_to(bytes(65508), Endpoint(PEER, 1))),
        (errno.ENETUNREACH, lambda: (wire.stack.deconfigure(), socket.send_to(b"", Endpoint(PEER, 1)))),
        (errno.EBADF, lambda: (socket.close(), socket.send_to(b"", Endpoint(PEER, 1)))),
    ]
    for expected, action in cases:
        with pytest.raises(HostError) as caught:
            action()
        assert caught.value.errno == expected
    socket.close()  # twice is fine
    wire.stack.udp.open(2000)


def test_ephemeral_ports_are_all_used_before_there_are_none(wire):
    numbers = itertools.count()
    wire.stack.getrandbits = lambda count: next(numbers) % (1 << count)
    ports = {wire.stack.udp.open().port for _ in range(16384)}
    assert ports == set(range(49152, 65536))
    with pytest.raises(HostError):
        wire.stack.udp.open()


def test_an_error_finds_its_socket(wire):
    socket = wire.stack.udp.open(2000)
    errors = []
    socket.on_error = lambda error, destination: errors.append((error, destination))
    socket.send_to(b"data", Endpoint(ELSEWHERE, 9))
    (sent,) = wire.packets()
    for message in (
        Icmpv4.unreachable(UnreachableCode.PORT, sent.pack()),
        Icmpv4.time_exceeded(TimeExceededCode.TTL, sent.pack()),
        Icmpv4.unreachable(UnreachableCode.HOST, replace(sent, source=PEER).pack()),  # never sent by us
        Icmpv4.unreachable(UnreachableCode.HOST, udp(source=Endpoint(OURS, 2001)).pack()),  # from no socket of ours
    ):
        wire.ip(IPv4(ROUTER, OURS, Protocol.ICMP, message.pack()))
    assert errors == [(errno.ECONNREFUSED, Endpoint(ELSEWHERE, 9)), (errno.EHOSTUNREACH, Endpoint(ELSEWHERE, 9))]
    assert wire.stack.counters == {"icmp-error-unexpected": 2}


def test_a_neighbour_that_is_not_there_is_an_error(wire):
    socket = wire.stack.udp.open()
    errors = []
    socket.on_error = lambda error, destination: errors.append((wire.now, error, destination))
    nobody = Endpoint(IPv4Address("10.0.0.77"), 9)
    socket.send_to(bytes(3000), nobody)
    socket.send_to(b"", nobody)
    assert [frame.ethertype for frame in wire.frames()] == [EtherType.ARP]
    wire.run_to(5 * SECOND)
    assert errors == [(3 * SECOND, errno.EHOSTUNREACH, nobody)] * 2  # one a datagram, not one a fragment
    assert wire.stack.counters["ip-neighbour-unreachable"] == 4


def test_parked_datagrams_leave_before_later_ones(wire):
    socket = wire.stack.udp.open()
    late = IPv4Address("10.0.0.77")
    for data in (b"1", b"2"):
        socket.send_to(data, Endpoint(late, 9))
    wire.frames()
    wire.arp(Arp(ArpOperation.REPLY, PEER_MAC, late, MAC, OURS))
    socket.send_to(b"3", Endpoint(late, 9))
    assert [packet.payload[-1:] for packet in wire.packets()] == [b"1", b"2", b"3"]


def test_output_is_bounded(wire):
    socket = wire.stack.udp.open()
    for _ in range(5000):
        socket.send_to(b"", Endpoint(PEER, 9))
    assert len(wire.packets()) == 4096
    assert wire.stack.counters == {"ip-output-full": 904}


# Path MTU (RFC 1191).


@pytest.mark.parametrize(("told", "learnt"), [(576, 576), (0, 1006), (1, 68), (9000, 1500)])
def test_a_narrow_path_is_remembered(wire, told, learnt):
    socket = wire.stack.udp.open()
    socket.send_to(bytes(1472), Endpoint(ELSEWHERE, 9))
    (sent,) = wire.packets()
    needed = Icmpv4.unreachable(UnreachableCode.FRAGMENTATION_NEEDED, replace(sent, dont_fragment=True).pack()[:28], told)
    wire.ip(IPv4(ROUTER, OURS, Protocol.ICMP, needed.pack()))
    assert wire.stack.path_mtus.get(ELSEWHERE, 1500, 0) == min(learnt, 1500) if told else 1492
    socket.send_to(bytes(1472), Endpoint(ELSEWHERE, 9))
    limit = wire.stack.path_mtus.get(ELSEWHERE, 1500, 0)
    assert max(packet.header_length + len(packet.payload) for packet in wire.packets()) <= limit


def test_a_narrow_path_that_we_do_not_use_is_not_believed(wire):
    quoted = udp(source=Endpoint(OURS, 5), destination=Endpoint(ELSEWHERE, 9)).pack()
    needed = Icmpv4.unreachable(UnreachableCode.FRAGMENTATION_NEEDED, quoted, 100)
    wire.ip(IPv4(ROUTER, OURS, Protocol.ICMP, needed.pack()))
    assert wire.stack.path_mtus.get(ELSEWHERE, 1500, 0) == 1500
    assert wire.stack.counters == {"icmp-error-unexpected": 1}


# TCP at the frame.


def test_a_syn_to_nobody_is_reset(wire):
    wire.ip(syn())
    (packet,) = wire.packets()
    reset = Tcp.parse(packet.payload, OURS, PEER)
    assert (reset.flags, reset.acknowledgment, reset.source_port) == (RST | ACK, 6, 80)
    assert wire.stack.counters == {"tcp-reset-sent": 1}


def test_a_reset_and_a_broadcast_are_not_answered(wire):
    wire.ip(IPv4(PEER, OURS, Protocol.TCP, Tcp(1, 2, 5, 0, RST, 0).pack(PEER, OURS)))
    wire.ip(IPv4(PEER, NET_BROADCAST, Protocol.TCP, Tcp(1, 2, 5, 0, SYN, 0).pack(PEER, NET_BROADCAST)), BROADCAST_MAC)
    assert wire.frames() == []
    assert wire.stack.counters == {"tcp-not-unicast": 1}


# Leases.


def test_a_lease_brings_routes_and_an_mtu():
    stack = Ipv4Stack(MAC, getrandbits=bits)
    routes = pack_classless_routes(
        [(IPv4Network("192.0.2.0/24"), IPv4Address("10.0.0.9")), (IPv4Network("198.51.100.0/24"), IPv4Address("0.0.0.0"))]
    )
    stack.configure_lease(Lease(OURS, 24, routers=(ROUTER,), mtu=1400, options={DhcpOption.CLASSLESS_STATIC_ROUTE: routes}))
    assert stack.mtu == 1400
    assert stack.routes.lookup(ELSEWHERE).router == IPv4Address("10.0.0.9")
    assert stack.routes.lookup(IPv4Address("198.51.100.1")).router is None
    assert stack.routes.lookup(IPv4Address("8.8.8.8")) is None  # RFC 3442: the router option is ignored
    stack.configure_lease(Lease(OURS, 24, routers=(ROUTER,), options={DhcpOption.CLASSLESS_STATIC_ROUTE: b"\x40"}))
    assert stack.mtu == 1500
    assert stack.routes.lookup(IPv4Address("8.8.8.8")).router == ROUTER
    assert stack.counters == {"malformed-dhcpv4.classless_static_route": 1}
    stack.deconfigure()
    assert stack.address is None


def test_a_dhcp_answer_may_come_to_an_address_that_is_not_ours_yet():
    stack = Ipv4Stack(MAC, getrandbits=bits)
    service = stack.start_dhcp(0)
    service.client.expire(0)
    (frame,) = stack.transmit(0)
    assert Ethernet.parse(frame).destination == BROADCAST_MAC
    discover = Dhcpv4.parse(frame[42:])
    options = {DhcpOption.DHCP_MESSAGE_TYPE: bytes((DhcpMessageType.OFFER,)), DhcpOption.SERVER_IDENTIFIER: PEER.packed}
    offer = Dhcpv4(BOOTREPLY, discover.xid, MAC, yiaddr=OURS, options=options).pack()
    packet = udp(offer, source=Endpoint(PEER, 67), destination=Endpoint(OURS, 68))
    stack.receive(Ethernet(MAC, PEER_MAC, EtherType.IPV4, packet.pack()).pack(), 0)
    (frame,) = stack.transmit(0)
    assert Dhcpv4.parse(frame[42:]).message_type is DhcpMessageType.REQUEST


# Power.


def test_close_leaves_nothing(wire):
    socket = wire.stack.udp.open(2000)
    wire.stack.tcp.listen(80)
    wire.stack.tcp.connect(Endpoint(IPv4Address("10.0.0.77"), 1), 0)
    wire.ip(fragment(echo(bytes(4000)), 1500)[0])
    wire.stack.start_dhcp(0)
    wire.frames()
    wire.stack.close()
    assert wire.frames() == []
    assert wire.stack.deadline() is None
    assert wire.stack.address is None
    socket.close()
    wire.stack.udp.open(2000)
    wire.stack.tcp.listen(80)


def test_mtu_limits():
    for mtu in (67, 65536):
        with pytest.raises(LocalError):
            Ipv4Stack(MAC, getrandbits=bits, mtu=mtu)
    for mtu in (68, 65535):
        assert Ipv4Stack(MAC, getrandbits=bits, mtu=mtu).mtu == mtu


def test_configure_replaces():
    wire = Wire()
    wire.stack.configure(IPv4Interface("192.0.2.9/24"))
    assert [str(interface) for interface in wire.stack.routes.addresses] == ["192.0.2.9/24"]
    assert wire.stack.routes.lookup(PEER) is None
    wire.ip(echo())
    assert wire.frames() == []


def test_what_must_not_be_cut_and_does_not_fit_is_an_error(wire):
    socket = wire.stack.udp.open(2000)
    errors = []
    socket.on_error = lambda error, destination: errors.append(error)
    wire.stack.send(OURS, PEER, Protocol.UDP, udp(bytes(2000), HERE, THERE).payload, dont_fragment=True)
    assert wire.frames() == []
    assert errors == [errno.EMSGSIZE]


# Nothing that comes in can hurt.


def valid_frames() -> Iterable[tuple[str, bytes]]:
    options = {DhcpOption.DHCP_MESSAGE_TYPE: bytes((DhcpMessageType.OFFER,)), DhcpOption.SERVER_IDENTIFIER: PEER.packed}
    offer = Dhcpv4(BOOTREPLY, bits(32), MAC, yiaddr=OURS, options=options).pack()
    quoted = udp(source=Endpoint(OURS, 2000), destination=Endpoint(PEER, 9)).pack()
    packets = {
        "icmp": echo(),
        "udp": udp(),
        "dhcp": udp(offer, source=Endpoint(PEER, 67), destination=Endpoint(OURS, 68)),
        "tcp": syn(),
        "tcp-data": IPv4(PEER, OURS, Protocol.TCP, Tcp(1000, 80, 6, 7, ACK, 1000, b"data").pack(PEER, OURS)),
        "icmp-error": IPv4(PEER, OURS, Protocol.ICMP, Icmpv4.unreachable(3, quoted).pack()),
        "fragment": replace(echo(bytes(64)), more_fragments=True),
        "options": replace(echo(), options=bytes((7, 7, 4, 0, 0, 0, 0, 0))),
    }
    for name, packet in packets.items():
        yield name, Ethernet(MAC, PEER_MAC, EtherType.IPV4, packet.pack()).pack()
    arp = Arp(ArpOperation.REQUEST, PEER_MAC, PEER, ZERO_MAC, OURS)
    yield "arp", Ethernet(BROADCAST_MAC, PEER_MAC, EtherType.ARP, arp.pack()).pack()


FRAMES = dict(valid_frames())


def busy() -> Wire:
    """A stack with something of everything to disturb."""
    wire = Wire()
    wire.stack.udp.open(2000).on_datagram = lambda data, source: None
    wire.stack.tcp.listen(80)
    wire.stack.start_dhcp(0)
    wire.stack.configure(IPv4Interface("10.0.0.1/24"), ROUTER)
    wire.stack.expire(0)
    wire.frames()
    return wire


def assert_works(wire: Wire) -> None:
    wire.ip(echo(b"still there"))
    replies = [Icmpv4.parse(packet.payload).payload for packet in wire.packets() if packet.protocol == Protocol.ICMP]
    assert b"still there" in replies


def total(wire: Wire) -> int:
    """Everything that was counted as wrong, anywhere in the stack."""
    stack = wire.stack
    assert stack.dhcp is not None
    counters = (stack.counters, stack.reassembler.counters, stack.dhcp.client.counters, stack.neighbours.counters)
    return sum(sum(counter.values()) for counter in counters) - stack.neighbours.counters["arp-received"]


@pytest.mark.parametrize("name", FRAMES)
def test_every_prefix_of_a_frame_is_survived_and_counted(name):
    wire, frame = busy(), FRAMES[name]
    for length in range(len(frame)):
        before = total(wire)
        wire.put(frame[:length])
        assert total(wire) == before + 1
        wire.frames()
    assert_works(wire)


@pytest.mark.parametrize("name", FRAMES)
def test_every_changed_octet_of_a_frame_is_survived(name):
    wire, frame = busy(), FRAMES[name]
    for offset in range(len(frame)):
        for mask in (0x01, 0x80, 0xFF):
            changed = bytearray(frame)
            changed[offset] ^= mask
            before = total(wire)
            wire.put(bytes(changed))
            if offset >= 14 and name != "arp":  # the checksums catch all of it
                assert total(wire) == before + 1, (offset, mask)
            wire.frames()
    assert_works(wire)
