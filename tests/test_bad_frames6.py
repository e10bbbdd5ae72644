"""What test_bad_frames does, over IPv6: each frame cut at every octet and with every octet changed, its checksum right too."""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network

import pytest
from test_bad_frames import AS_IT_IS, Mend, attacker, damaged

from netemu.guest.inproc import InprocGuest
from netemu.wire.address import MacAddress
from netemu.wire.checksum import internet_checksum, pseudo_header_sum
from netemu.wire.dhcpv6 import ALL_RELAY_AGENTS_AND_SERVERS, Dhcpv6, Dhcpv6MessageType, Dhcpv6Option, IaNa, duid_ll
from netemu.wire.dns import DnsMessage, Question, RecordType
from netemu.wire.ether import Ethernet, EtherType
from netemu.wire.icmpv6 import Icmpv6
from netemu.wire.ipv6 import ALL_NODES, ALL_ROUTERS, Extension, Fragment6, IPv6, NextHeader, multicast_mac, solicited_node
from netemu.wire.ndisc import NeighbourAdvertisement, NeighbourSolicitation, Redirect, RouterAdvertisement, RouterSolicitation
from netemu.wire.ndisc_options import Mtu, PrefixInformation, SourceLinkLayerAddress, TargetLinkLayerAddress
from netemu.wire.tcp import ACK, PSH, SYN, Tcp, TcpOptions
from netemu.wire.udp import Udp

GUEST, GATEWAY, DNS, ROUTER = map(IPv6Address, ("fec0::15", "fec0::2", "fec0::3", "fe80::2"))
LOCAL, SERVER, PEER = map(IPv6Address, ("fe80::15", "2001:db8::80", "fec0::99"))
GUEST_MAC, GATEWAY_MAC = MacAddress("52:54:00:12:34:56"), MacAddress("52:55:0a:00:02:02")
CHECKSUM_AT = {NextHeader.ICMPV6: 2, NextHeader.UDP: 6, NextHeader.TCP: 16}
HEADERS = frozenset({NextHeader.HOP_BY_HOP, NextHeader.ROUTING, NextHeader.DESTINATION_OPTIONS})
HOP = Extension(NextHeader.HOP_BY_HOP, b"\5\2\0\0\1\0")
DESTINATION = Extension(NextHeader.DESTINATION_OPTIONS, b"\1\4\0\0\0\0")


def corpus(own: IPv6Address, own_mac: MacAddress, to: IPv6Address, to_mac: MacAddress) -> dict[str, bytes]:
    """What both sides may hear, from `own` to `to`."""

    def packet(protocol: int, payload: bytes, *extensions: Extension) -> bytes:
        octets = IPv6(own, to, protocol, payload, extensions=extensions).pack()
        return Ethernet(to_mac, own_mac, EtherType.IPV6, octets).pack()

    ping = Icmpv6.echo_request(1, 2, b"payload!").pack(own, to)
    quoted = IPv6(to, own, NextHeader.UDP, Udp(2000, 9, b"").pack(to, own)).pack()
    options = TcpOptions(mss=1440, window_scale=7, sack_permitted=True, timestamps=(1, 0))
    return {
        "icmp": packet(NextHeader.ICMPV6, ping),
        "icmp-error": packet(NextHeader.ICMPV6, Icmpv6.unreachable(4, quoted).pack(own, to)),
        "too-big": packet(NextHeader.ICMPV6, Icmpv6.packet_too_big(1280, quoted).pack(own, to)),
        "extensions": packet(NextHeader.ICMPV6, ping, HOP, DESTINATION),
        "atomic": packet(NextHeader.ICMPV6, ping, Fragment6(0, False, 3).extension()),
        "fragment": packet(NextHeader.UDP, bytes(64), Fragment6(64, True, 4).extension()),
        "udp": packet(NextHeader.UDP, Udp(5000, 2000, b"payload!").pack(own, to)),
        "tcp-syn": packet(NextHeader.TCP, Tcp(4000, 80, 1, 0, SYN, 65_535, options=options).pack(own, to)),
        "tcp-data": packet(NextHeader.TCP, Tcp(4000, 80, 2, 7, ACK | PSH, 9, b"data").pack(own, to)),
    }


def discovery(message: Icmpv6, source: IPv6Address, to: IPv6Address, mac: MacAddress) -> bytes:
    packet = IPv6(source, to, NextHeader.ICMPV6, message.pack(source, to), hop_limit=255)
    return Ethernet(multicast_mac(to) if to.is_multicast else GUEST_MAC, mac, EtherType.IPV6, packet.pack()).pack()


def dhcp(kind: Dhcpv6MessageType, source: IPv6Address, to: IPv6Address, ports: tuple[int, int]) -> bytes:
    options = ((int(Dhcpv6Option.CLIENTID), duid_ll(GUEST_MAC)), (int(Dhcpv6Option.IA_NA), IaNa(1).pack()))
    data = Udp(*ports, Dhcpv6(kind, 1, options).pack()).pack(source, to)
    mac = multicast_mac(to) if to.is_multicast else GUEST_MAC
    return Ethernet(mac, GUEST_MAC, EtherType.IPV6, IPv6(source, to, NextHeader.UDP, data).pack()).pack()


def to_the_network() -> dict[str, bytes]:
    mine = (SourceLinkLayerAddress(GUEST_MAC),)
    question = DnsMessage(1, (Question("www.example.org", RecordType.AAAA),), recursion_desired=True)
    dns = IPv6(GUEST, DNS, NextHeader.UDP, Udp(5000, 53, question.pack()).pack(GUEST, DNS)).pack()
    return {
        **corpus(GUEST, GUEST_MAC, SERVER, GATEWAY_MAC),
        "router": discovery(RouterSolicitation(mine).icmpv6(), LOCAL, ALL_ROUTERS, GUEST_MAC),
        "neighbour": discovery(NeighbourSolicitation(GATEWAY, mine).icmpv6(), GUEST, solicited_node(GATEWAY), GUEST_MAC),
        "dhcp": dhcp(Dhcpv6MessageType.SOLICIT, LOCAL, ALL_RELAY_AGENTS_AND_SERVERS, (546, 547)),
        "dns": Ethernet(GATEWAY_MAC, GUEST_MAC, EtherType.IPV6, dns).pack(),
    }


def to_the_guest() -> dict[str, bytes]:
    theirs, target = (SourceLinkLayerAddress(GATEWAY_MAC),), (TargetLinkLayerAddress(GATEWAY_MAC),)
    prefix = PrefixInformation(IPv6Network("fec0:0:0:7::/64"), 86_400, 14_400, on_link=True, autonomous=True)
    router = RouterAdvertisement(hop_limit=64, router_lifetime=1800, options=(*theirs, Mtu(1500), prefix)).icmpv6()
    answer = NeighbourAdvertisement(GATEWAY, router=True, solicited=True, override=True, options=target).icmpv6()
    return {
        **corpus(GATEWAY, GATEWAY_MAC, GUEST, GUEST_MAC),
        "router": discovery(router, ROUTER, ALL_NODES, GATEWAY_MAC),
        "neighbour": discovery(NeighbourSolicitation(GUEST, theirs).icmpv6(), GATEWAY, solicited_node(GUEST), GATEWAY_MAC),
        "advertisement": discovery(answer, GATEWAY, GUEST, GATEWAY_MAC),
        "redirect": discovery(Redirect(GATEWAY, SERVER, target).icmpv6(), ROUTER, GUEST, GATEWAY_MAC),
        "dhcp": dhcp(Dhcpv6MessageType.ADVERTISE, ROUTER, GUEST, (547, 546)),
    }


TO_NETWORK, TO_GUEST = to_the_network(), to_the_guest()


def repaired(frame: bytes) -> bytes:
    """The frame with its checksum right again, as far as it goes."""
    packet = memoryview(bytearray(frame))[14:]
    if len(packet) < 40 or frame[12:14] != EtherType.IPV6.to_bytes(2, "big"):
        return frame
    kind, at = packet[6], 40
    while kind in HEADERS and at + 2 <= len(packet):
        kind, at = packet[at], at + 8 * (packet[at + 1] + 1)
    segment, place = packet[at:], CHECKSUM_AT.get(kind, 99)
    if len(segment) >= place + 2:
        segment[place : place + 2] = b"\0\0"
        source, destination = IPv6Address(bytes(packet[8:24])), IPv6Address(bytes(packet[24:40]))
        right = internet_checksum(segment, pseudo_header_sum(source, destination, kind, len(segment)))
        segment[place : place + 2] = (right or 0xFFFF).to_bytes(2, "big")
    return frame[:14] + bytes(packet)


@pytest.mark.parametrize("frame", [*TO_NETWORK.values(), *TO_GUEST.values()])
def test_what_is_right_needs_no_mending(frame: bytes):
    assert repaired(frame) == frame


MENDS = pytest.mark.parametrize("mend", [AS_IT_IS, repaired], ids=["as it is", "checksums right"])


@MENDS
@pytest.mark.parametrize("name", TO_NETWORK)
def test_the_user_network_works_on(netemu_factory, name: str, mend: Mend):
    with netemu_factory() as network:
        user = network.netdev("user")
        network.host.add_address(SERVER)
        network.host.echo_server(SERVER, 80)
        port = attacker(network, user.port)
        for frame in damaged(TO_NETWORK[name]):
            port.send(mend(frame))
            network.loop.run_for(0)
        network.loop.run_for(10**9)
        assert sum(user.counters.values()) >= len(TO_NETWORK[name])  # every truncation at least
        user.port.disconnect()
        guest = network.guest(netdev=user.port, mac="52:54:00:00:00:77")
        guest.slaac()
        assert guest.ping(GATEWAY).ok
        with guest.tcp_connect(SERVER, 80) as stream:
            stream.send(b"there")
            assert stream.recv_exactly(5) == b"there"


@MENDS
@pytest.mark.parametrize("name", TO_GUEST)
def test_the_guest_works_on(netemu_factory, name: str, mend: Mend):
    with netemu_factory() as network:
        guest = network.guest()
        assert isinstance(guest, InprocGuest)
        port = attacker(network, guest.port)
        guest.configure(GUEST, 64, ROUTER)
        with guest.tcp_listen(80) as listener, guest.udp(2000), guest.udp(546):
            listener.serve(lambda socket: None)
            for frame in damaged(TO_GUEST[name]):
                port.send(mend(frame))
                network.loop.run_for(0)
            network.loop.run_for(10**9)
        guest.port.disconnect()
        peer = network.guest(mac="52:54:00:00:00:99", netdev=guest.port)
        peer.configure(PEER, 64)
        assert peer.ping(GUEST).ok
