"""Bad frames and floods: counted, bounded, and the network works on."""

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from user_driver import BROADCAST, DNS, GATEWAY, GATEWAY_MAC, GUEST, GUEST_MAC, SERVER, Lab, dhcp_message

from netemu.user.options import UserOptions
from netemu.wire.address import BROADCAST_MAC, Endpoint, MacAddress
from netemu.wire.arp import Arp, ArpOperation
from netemu.wire.dhcpv4 import DhcpMessageType
from netemu.wire.dns import DnsMessage, Question, RecordType
from netemu.wire.ether import Ethernet, EtherType, pad
from netemu.wire.icmpv4 import Icmpv4
from netemu.wire.ipv4 import IPv4, Protocol
from netemu.wire.tcp import SYN, Tcp, TcpOptions
from netemu.wire.udp import Udp

ANY = IPv4Address(0)


def frame(ethertype: int, payload: bytes, destination: MacAddress = GATEWAY_MAC) -> bytes:
    return Ethernet(destination, GUEST_MAC, ethertype, payload).pack()


def datagram(destination: IPv4Address, protocol: int, payload: bytes, **fields: int) -> bytes:
    return frame(EtherType.IPV4, IPv4(GUEST, destination, protocol, payload, **fields).pack())  # type: ignore[arg-type] # numbers only


QUERY = DnsMessage(1, (Question("www.example.org", RecordType.A),), recursion_desired=True)
SYN_SEGMENT = Tcp(4000, 80, 1, 0, SYN, 65_535, options=TcpOptions(mss=1460, window_scale=7, sack_permitted=True, timestamps=(1, 0)))
DISCOVER = Udp(68, 67, dhcp_message(DhcpMessageType.DISCOVER).pack()).pack(ANY, BROADCAST)
VALID = {
    "arp": frame(EtherType.ARP, Arp(ArpOperation.REQUEST, GUEST_MAC, GUEST, MacAddress(bytes(6)), GATEWAY).pack(), BROADCAST_MAC),
    "dhcp": frame(EtherType.IPV4, IPv4(ANY, BROADCAST, Protocol.UDP, DISCOVER).pack(), BROADCAST_MAC),
    "dns": datagram(DNS, Protocol.UDP, Udp(5000, 53, QUERY.pack()).pack(GUEST, DNS)),
    "fragment": datagram(GATEWAY, Protocol.ICMP, bytes(64), fragment_offset=64, identification=3),
    "ping": datagram(GATEWAY, Protocol.ICMP, Icmpv4.echo_request(1, 2, b"payload!").pack()),
    "ping-beyond": datagram(SERVER, Protocol.ICMP, Icmpv4.echo_request(1, 2, b"payload!").pack()),
    "tcp": datagram(SERVER, Protocol.TCP, SYN_SEGMENT.pack(GUEST, SERVER)),
    "udp": datagram(SERVER, Protocol.UDP, Udp(5000, 9, b"payload!").pack(GUEST, SERVER)),
}


def works(lab: Lab) -> None:
    """The network still answers what it should."""
    lab.take()
    lab.echo(GATEWAY, identifier=999)
    replies = [seen.icmp for seen in lab.take() if seen.icmp]
    assert Icmpv4.echo_reply(999, 1, b"ping") in replies


def truncations(octets: bytes) -> Iterator[bytes]:
    return (octets[:length] for length in range(len(octets)))


@pytest.mark.parametrize("name", VALID)
def test_every_truncation_is_counted_and_harmless(name: str) -> None:
    lab = Lab()
    for octets in truncations(VALID[name]):
        before = sum(lab.counters.values())
        lab.frame(octets)
        lab.run()
        assert sum(lab.counters.values()) > before, octets.hex()
    works(lab)


@pytest.mark.parametrize("name", VALID)
def test_every_changed_octet_is_harmless(name: str) -> None:
    octets = VALID[name]
    lab = Lab()
    lab.arp(ArpOperation.REQUEST, GATEWAY)
    lab.take()
    for at in range(len(octets)):
        for flip in (0x01, 0x80, 0xFF):
            lab.frame(octets[:at] + bytes([octets[at] ^ flip]) + octets[at + 1 :])
        lab.run()
    works(lab)
    if name not in ("arp", "fragment"):
        assert sum(count for reason, count in lab.counters.items() if reason.startswith("malformed-")) > len(octets) // 2


@settings(max_examples=200, deadline=None)
@given(octets=st.binary(max_size=200), prefix=st.integers(0, 60), name=st.sampled_from(sorted(VALID)))
def test_any_octets_behind_any_beginning_are_harmless(octets: bytes, prefix: int, name: str) -> None:
    lab = Lab()
    lab.frame(VALID[name][:prefix] + octets)
    works(lab)


@settings(max_examples=100, deadline=None)
@given(
    protocol=st.sampled_from([Protocol.ICMP, Protocol.UDP, Protocol.TCP]),
    destination=st.sampled_from([GATEWAY, DNS, SERVER]),
    payload=st.binary(max_size=120),
)
def test_any_payload_in_a_good_datagram_is_harmless(protocol: int, destination: IPv4Address, payload: bytes) -> None:
    lab = Lab()
    lab.frame(datagram(destination, protocol, payload))
    works(lab)


@settings(max_examples=100, deadline=None)
@given(octets=st.binary(max_size=400), port=st.sampled_from([53, 67]))
def test_any_octets_for_the_services_are_harmless(octets: bytes, port: int) -> None:
    lab = Lab()
    lab.host.dns_server({})
    lab.udp(DNS if port == 53 else GATEWAY, port, octets)
    works(lab)


@settings(max_examples=100, deadline=None)
@given(octets=st.binary(max_size=400))
def test_any_answer_of_the_hosts_name_server_is_harmless(octets: bytes) -> None:
    lab = Lab(nameserver="127.0.0.53")
    server = lab.host.open_datagram(Endpoint(IPv4Address("127.0.0.53"), 53))
    server.on_datagram = lambda data, source: server.send_to(data[:2] + octets, source)
    lab.udp(DNS, 53, QUERY.pack())
    works(lab)


def test_unknown_ethertypes_and_lengths_are_counted() -> None:
    lab = Lab()
    lab.frame(pad(frame(0x88F8, bytes(40))))
    lab.frame(pad(frame(0x8100, bytes(40))))
    lab.frame(GATEWAY_MAC + GUEST_MAC + b"\0\x2e" + bytes(46))
    assert lab.take() == []
    assert lab.counters["ethertype-ignored"] == 2
    assert lab.counters["malformed-ethernet"] == 1


def test_arp_flood() -> None:
    lab = Lab(UserOptions.from_pairs([("net", "10.0.0.0/8")]))
    for number in range(5000):
        lab.arp(ArpOperation.REQUEST, IPv4Address("10.0.2.2"), sender=IPv4Address(0x0A010000 + number))
    assert len(lab.take()) == 5000
    assert len(lab.network._lan._neighbours) <= 1024
    works(lab)


def test_fragment_flood() -> None:
    lab = Lab()
    for number in range(5000):
        lab.ip(lab.packet(GATEWAY, Protocol.ICMP, bytes(1024), fragment_offset=1024, identification=number))
    lab.run()
    assert len(lab.network._reassembler) <= 64
    works(lab)
    lab.run(120)
    assert len(lab.network._reassembler) == 0


def test_dhcp_flood() -> None:
    lab = Lab()
    message = dhcp_message(DhcpMessageType.DISCOVER)
    for number in range(1000):
        lab.dhcp_octets(replace(message, chaddr=MacAddress(b"\x52\x54" + number.to_bytes(4, "big"))).pack())
    assert len([seen for seen in lab.take() if seen.dhcp]) == 16
    assert len(lab.user.leases) == 16
    assert lab.counters["dhcp-pool-exhausted"] == 984
    lab.run(60)
    assert lab.user.leases == ()
    assert lab.lease().yiaddr == GUEST


def test_decline_flood_ends() -> None:
    lab = Lab()
    for number in range(40):
        mac = MacAddress(b"\x52\x54" + number.to_bytes(4, "big"))
        lab.dhcp(DhcpMessageType.DISCOVER, chaddr=mac)
        for seen in lab.take():
            if seen.dhcp:
                address = seen.dhcp.yiaddr.packed
                lab.dhcp(DhcpMessageType.DECLINE, {50: address, 54: GATEWAY.packed}, chaddr=mac)
    lab.run()
    assert len(lab.user.leases) == 16
    lab.run(600)
    assert lab.lease().yiaddr == GUEST


def test_echo_flood_to_a_guest_that_does_not_take_it() -> None:
    lab = Lab()
    lab.arp(ArpOperation.REQUEST, GATEWAY)
    lab.take()
    busy = True
    lab.port.receiver = lambda octets, header: not busy
    for sequence in range(20_000):
        lab.echo(GATEWAY, sequence=sequence)
        if sequence % 5000 == 0:
            lab.run()
    lab.run()
    assert lab.counters["output-full"] > 0
    assert len(lab.network._lan._output) <= 4096
    busy = False
    lab.port.receiver = lab._receive
    lab.port.flush()
    works(lab)


def test_a_busy_guest_does_not_stop_time() -> None:
    """While the port is busy nothing is transmitted; timers that are due must not spin."""
    lab = Lab()
    with lab.host.tcp_listen(SERVER, 80):
        lab.arp(ArpOperation.REQUEST, GATEWAY)
        lab.take()
        lab.port.receiver = lambda octets, header: False
        lab.tcp(SERVER, SYN_SEGMENT)
        lab.echo(GATEWAY)
        lab.udp(DNS, 53, QUERY.pack())
        lab.run(600)
        lab.port.receiver = lab._receive
        lab.port.flush()
        works(lab)


@settings(max_examples=50, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(sorted(VALID)), st.integers(0, 70), st.integers(0, 255), st.sampled_from([0.0, 0.5, 70.0])),
        max_size=20,
    )
)
def test_any_sequence_of_damaged_frames_and_pauses(steps: list[tuple[str, int, int, float]]) -> None:
    lab = Lab()
    lab.host.echo_server(SERVER, 80)
    for name, at, value, pause in steps:
        octets = bytearray(VALID[name])
        if at < len(octets):
            octets[at] = value
        lab.frame(bytes(octets))
        lab.run(pause)
    works(lab)
    lab.run(100_000)
    assert [flow for flow in lab.network.flows() if flow.state != "ESTABLISHED"] == []
