"""Bad IPv6 frames and floods: counted, bounded, and the network works on."""

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv6Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from user_driver6 import DNS, GATEWAY, GATEWAY_MAC, GUEST, GUEST_MAC, LINK_LOCAL, SERVER, Lab6

from netemu.wire.dhcpv6 import ALL_RELAY_AGENTS_AND_SERVERS, Dhcpv6, Dhcpv6MessageType, Dhcpv6Option, IaNa, duid_ll
from netemu.wire.dns import DnsMessage, Question, RecordType
from netemu.wire.ether import Ethernet, EtherType
from netemu.wire.icmpv6 import Icmpv6
from netemu.wire.ipv6 import ALL_ROUTERS, Extension, Fragment6, IPv6, NextHeader, multicast_mac, solicited_node
from netemu.wire.ndisc import NeighbourSolicitation, RouterSolicitation
from netemu.wire.ndisc_options import SourceLinkLayerAddress
from netemu.wire.tcp import SYN, Tcp, TcpOptions
from netemu.wire.udp import Udp

MINE = (SourceLinkLayerAddress(GUEST_MAC),)
QUERY = DnsMessage(1, (Question("www.example.org", RecordType.AAAA),), recursion_desired=True)
SOLICIT = Dhcpv6(
    Dhcpv6MessageType.SOLICIT,
    1,
    ((int(Dhcpv6Option.CLIENTID), duid_ll(GUEST_MAC)), (int(Dhcpv6Option.IA_NA), IaNa(1).pack())),
)


def frame(packet: IPv6) -> bytes:
    mac = multicast_mac(packet.destination) if packet.destination.is_multicast else GATEWAY_MAC
    return Ethernet(mac, GUEST_MAC, EtherType.IPV6, packet.pack()).pack()


def icmp(destination: IPv6Address, message: Icmpv6, source: IPv6Address = GUEST) -> bytes:
    payload = message.pack(source, destination)
    return frame(IPv6(source, destination, NextHeader.ICMPV6, payload, hop_limit=255))


def udp(destination: IPv6Address, port: int, data: bytes, source: IPv6Address = GUEST) -> bytes:
    return frame(IPv6(source, destination, NextHeader.UDP, Udp(546, port, data).pack(source, destination)))


SEGMENT = Tcp(4000, 80, 1, 0, SYN, 65_535, options=TcpOptions(mss=1440, window_scale=7, sack_permitted=True))
VALID = {
    "dhcp": udp(ALL_RELAY_AGENTS_AND_SERVERS, 547, SOLICIT.pack(), LINK_LOCAL),
    "dns": udp(DNS, 53, QUERY.pack()),
    "fragment": frame(IPv6(GUEST, GATEWAY, NextHeader.UDP, bytes(64), extensions=(Fragment6(64, True, 3).extension(),))),
    "neighbour": icmp(solicited_node(GATEWAY), NeighbourSolicitation(GATEWAY, MINE).icmpv6()),
    "options": frame(
        IPv6(
            GUEST,
            GATEWAY,
            NextHeader.ICMPV6,
            Icmpv6.echo_request(1, 1, b"x").pack(GUEST, GATEWAY),
            extensions=(Extension(NextHeader.HOP_BY_HOP, b"\5\2\0\0\1\0"), Extension(NextHeader.ROUTING, bytes(6))),
        )
    ),
    "ping-beyond": icmp(SERVER, Icmpv6.echo_request(1, 2, b"payload!")),
    "router": icmp(ALL_ROUTERS, RouterSolicitation(MINE).icmpv6(), LINK_LOCAL),
    "tcp": frame(IPv6(GUEST, SERVER, NextHeader.TCP, SEGMENT.pack(GUEST, SERVER))),
    "udp": udp(SERVER, 9, b"payload!"),
}


def works(lab: Lab6) -> None:
    """The network still answers what it should."""
    lab.take()
    lab.icmp(GATEWAY, Icmpv6.echo_request(999, 1, b"ping"))
    assert Icmpv6.echo_reply(999, 1, b"ping") in [seen.icmp for seen in lab.take()]


def truncations(octets: bytes) -> Iterator[bytes]:
    return (octets[:length] for length in range(len(octets)))


@pytest.mark.parametrize("name", VALID)
def test_every_truncation_is_counted_and_harmless(name: str) -> None:
    lab = Lab6()
    for octets in truncations(VALID[name]):
        before = sum(lab.counters.values())
        lab.port.send(octets)
        lab.run()
        assert sum(lab.counters.values()) > before, octets.hex()
    works(lab)


@pytest.mark.parametrize("name", VALID)
def test_every_changed_octet_is_harmless(name: str) -> None:
    octets = VALID[name]
    lab = Lab6()
    for at in range(len(octets)):
        for flip in (0x01, 0x80, 0xFF):
            lab.port.send(octets[:at] + bytes([octets[at] ^ flip]) + octets[at + 1 :])
        lab.run()
    lab.take(20)
    works(lab)


@settings(max_examples=200, deadline=None)
@given(octets=st.binary(max_size=200), prefix=st.integers(0, 80), name=st.sampled_from(sorted(VALID)))
def test_any_octets_behind_any_beginning_are_harmless(octets: bytes, prefix: int, name: str) -> None:
    lab = Lab6()
    lab.port.send(VALID[name][:prefix] + octets)
    works(lab)


@settings(max_examples=100, deadline=None)
@given(
    protocol=st.sampled_from([NextHeader.ICMPV6, NextHeader.UDP, NextHeader.TCP, NextHeader.HOP_BY_HOP, NextHeader.FRAGMENT, 253]),
    destination=st.sampled_from([GATEWAY, DNS, SERVER, ALL_ROUTERS, ALL_RELAY_AGENTS_AND_SERVERS]),
    payload=st.binary(max_size=120),
)
def test_any_payload_in_a_good_packet_is_harmless(protocol: int, destination: IPv6Address, payload: bytes) -> None:
    lab = Lab6()
    header = IPv6(GUEST, destination, NextHeader.NO_NEXT_HEADER, payload).pack()
    mac = multicast_mac(destination) if destination.is_multicast else GATEWAY_MAC
    lab.port.send(Ethernet(mac, GUEST_MAC, EtherType.IPV6, header[:6] + bytes([protocol]) + header[7:]).pack())
    works(lab)


@settings(max_examples=100, deadline=None)
@given(octets=st.binary(max_size=400), where=st.sampled_from([(DNS, 53), (ALL_RELAY_AGENTS_AND_SERVERS, 547), (GATEWAY, 547)]))
def test_any_octets_for_the_services_are_harmless(octets: bytes, where: tuple[IPv6Address, int]) -> None:
    lab = Lab6()
    lab.port.send(udp(*where, octets, LINK_LOCAL if where[1] == 547 else GUEST))
    works(lab)


def test_a_flood_of_dhcp_clients_is_bounded() -> None:
    lab = Lab6()
    for number in range(500):
        client = (int(Dhcpv6Option.CLIENTID), b"\0\3\0\1" + number.to_bytes(6, "big"))
        lab.dhcp(replace(SOLICIT, options=(client, *SOLICIT.options[1:])))
        lab.run()
    assert len(lab.network.leases6) == 16
    assert lab.counters["dhcpv6-pool-exhausted"] == 484
    works(lab)


def test_a_flood_of_fragments_is_bounded() -> None:
    lab = Lab6()
    for number in range(1000):
        lab.ip(IPv6(GUEST, GATEWAY, NextHeader.UDP, bytes(64), extensions=(Fragment6(0, True, number).extension(),)))
    lab.run()
    assert lab.counters["fragments-evicted"] == 1000 - 64
    works(lab)


def test_a_flood_of_errors_is_limited() -> None:
    lab = Lab6()
    for _ in range(500):
        lab.udp(SERVER, 9, b"x", hop_limit=1)
    assert len(lab.take()) == 50
    assert lab.counters["icmp-error-limited"] == 450
