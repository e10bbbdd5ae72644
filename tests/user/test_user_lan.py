"""The Ethernet side: ARP, other stations, fragments, MTU."""

from ipaddress import IPv4Address

import pytest
from user_driver import BROADCAST, DNS, GATEWAY, GATEWAY_MAC, GUEST, GUEST_MAC, SERVER, SMB, Lab, unreachable

from netemu.stack.fragments import fragment
from netemu.user.options import UserOptions
from netemu.wire.address import BROADCAST_MAC, MacAddress
from netemu.wire.arp import ArpOperation
from netemu.wire.icmpv4 import IcmpType, Icmpv4, TimeExceededCode
from netemu.wire.ipv4 import IPv4, Protocol
from netemu.wire.udp import Udp


@pytest.mark.parametrize("address", [GATEWAY, DNS, SMB])
def test_arp_is_answered_for_the_networks_own_addresses(address: IPv4Address) -> None:
    lab = Lab()
    lab.arp(ArpOperation.REQUEST, address)
    seen = lab.one()
    assert seen.arp is not None
    assert (seen.frame.source, seen.frame.destination) == (GATEWAY_MAC, GUEST_MAC)
    assert seen.arp.operation == ArpOperation.REPLY
    assert (seen.arp.sender_mac, seen.arp.sender_ip) == (GATEWAY_MAC, address)
    assert (seen.arp.target_mac, seen.arp.target_ip) == (GUEST_MAC, GUEST)


@pytest.mark.parametrize("address", ["10.0.2.1", "10.0.2.5", "10.0.2.15", "10.0.2.16", "10.0.2.255", "10.0.3.2", "198.51.100.7"])
def test_arp_for_other_addresses_is_not(address: str) -> None:
    lab = Lab()
    lab.arp(ArpOperation.REQUEST, IPv4Address(address))
    assert lab.take() == []


def test_an_address_probe_is_answered_too() -> None:
    """RFC 5227 2.1.1: a guest that wants the gateway's address must learn that it is taken."""
    lab = Lab()
    lab.arp(ArpOperation.REQUEST, GATEWAY, sender=IPv4Address(0))
    assert lab.one().arp is not None


def test_arp_from_a_foreign_network_is_counted_and_not_answered() -> None:
    lab = Lab()
    lab.arp(ArpOperation.REQUEST, GATEWAY, sender=IPv4Address("192.168.1.1"))
    assert lab.take() == []
    assert lab.counters["arp-foreign"] == 1


def test_a_guest_that_takes_the_gateways_address_is_counted() -> None:
    lab = Lab()
    lab.arp(ArpOperation.REQUEST, GATEWAY, sender=GATEWAY)
    assert lab.take() == []
    assert lab.counters["address-conflict"] == 1


def test_the_guest_is_asked_for_by_arp_and_given_up_after_three_seconds() -> None:
    lab = Lab(answers_arp=False)
    lab.echo(GATEWAY)
    seen = lab.take(10)
    requests = [each.arp for each in seen if each.arp]
    assert len(seen) == len(requests) == 3
    assert {(arp.sender_ip, arp.target_ip) for arp in requests} == {(GATEWAY, GUEST)}
    assert lab.counters["guest-unreachable"] == 1


def test_frames_for_another_station_are_not_ours() -> None:
    """Two guests on a hub talk to each other; slirp, which does not look, would answer."""
    lab = Lab()
    request = Icmpv4.echo_request(1, 1, b"")
    lab.ip(lab.packet(GATEWAY, Protocol.ICMP, request.pack()), MacAddress("52:54:00:12:34:57"))
    assert lab.take() == []
    assert lab.counters["other-station"] == 1


@pytest.mark.parametrize("source", ["0.0.0.0", "10.0.2.0", "10.0.2.2", "10.0.2.255", "127.0.0.1", "192.0.2.1", "224.0.0.1"])
def test_no_datagram_from_an_address_that_is_no_guests(source: str) -> None:
    lab = Lab(address=IPv4Address(source))
    lab.echo(GATEWAY)
    lab.echo(SERVER)
    assert lab.take() == []
    assert lab.counters["source-refused"] == 2


@pytest.mark.parametrize("destination", ["0.0.0.0", "0.1.2.3", "127.0.0.1", "240.0.0.1"])
def test_no_datagram_to_nowhere(destination: str) -> None:
    lab = Lab()
    lab.udp(IPv4Address(destination), 9, b"x")
    assert lab.take() == []
    assert lab.counters["destination-refused"] == 1


@pytest.mark.parametrize("destination", ["255.255.255.255", "10.0.2.255", "224.0.0.251"])
def test_broadcast_and_multicast_stay_here(destination: str) -> None:
    lab = Lab()
    lab.ip(lab.packet(IPv4Address(destination), Protocol.UDP, Udp(9, 9, b"x").pack(GUEST, IPv4Address(destination))), BROADCAST_MAC)
    assert lab.take() == []
    assert lab.counters["broadcast-ignored"] == 1
    assert lab.network.flows() == ()


def test_a_datagram_for_one_in_a_frame_for_all_is_dropped() -> None:
    lab = Lab()
    lab.ip(lab.packet(GATEWAY, Protocol.ICMP, Icmpv4.echo_request(1, 1, b"").pack()), BROADCAST_MAC)
    assert lab.take() == []
    assert lab.counters["broadcast-frame"] == 1


def test_a_neighbour_is_not_reached_through_the_gateway() -> None:
    lab = Lab()
    packet = lab.echo(IPv4Address("10.0.2.77"))
    unreachable(lab.one(), 1, packet, GATEWAY)


@pytest.mark.parametrize("destination", [GATEWAY, SERVER])
def test_an_unknown_protocol_is_unreachable(destination: IPv4Address) -> None:
    lab = Lab()
    packet = lab.ip(lab.packet(destination, 47, b"GRE!GRE!"))
    unreachable(lab.one(), 2, packet, GATEWAY)


def test_ttl_runs_out_at_the_gateway() -> None:
    lab = Lab()
    packet = lab.udp(SERVER, 33434, b"trace", ttl=1)
    seen = lab.one()
    assert seen.icmp is not None
    assert seen.ip is not None
    assert (seen.icmp.type, seen.icmp.code, seen.ip.source) == (IcmpType.TIME_EXCEEDED, TimeExceededCode.TTL, GATEWAY)
    assert seen.icmp.payload == packet.pack()
    lab.echo(GATEWAY, ttl=1)
    reply = lab.one().icmp
    assert reply is not None
    assert reply.type == IcmpType.ECHO_REPLY  # what is for us needs no hop more


def test_icmp_errors_are_limited_but_come_again() -> None:
    lab = Lab()
    for _ in range(80):
        lab.udp(SMB, 9, b"x")
    errors = [seen for seen in lab.take() if seen.icmp]
    assert len(errors) == 50
    assert lab.counters["icmp-error-limited"] == 30
    lab.udp(SMB, 9, b"x")
    assert len(lab.take(1)) == 0
    lab.udp(SMB, 9, b"x")
    assert len(lab.take()) == 1


def test_no_error_about_an_error() -> None:
    lab = Lab()
    lab.ip(lab.packet(IPv4Address("10.0.2.77"), Protocol.ICMP, Icmpv4.unreachable(3, b"\x45" + bytes(27)).pack()))
    assert lab.take() == []
    assert lab.counters["icmp-error-suppressed"] == 1


def test_fragments_in_and_out() -> None:
    lab = Lab()
    payload = bytes(range(256)) * 20
    message = Icmpv4.echo_request(7, 1, payload).pack()
    for piece in reversed(fragment(IPv4(GUEST, GATEWAY, Protocol.ICMP, message, identification=9), 1500)):
        lab.ip(piece)
    pieces = [seen.ip for seen in lab.take() if seen.ip]
    assert len(pieces) == 4
    assert all(len(piece.pack()) <= 1500 for piece in pieces)
    assert len({piece.identification for piece in pieces}) == 1
    reply = Icmpv4.parse(b"".join(piece.payload for piece in sorted(pieces, key=lambda piece: piece.fragment_offset)))
    assert (reply.type, reply.payload) == (IcmpType.ECHO_REPLY, payload)


def test_the_mtu_is_kept_to() -> None:
    lab = Lab(UserOptions(mtu=576))
    lab.echo(GATEWAY, payload=bytes(1000))
    sizes = [20 + len(seen.ip.payload) for seen in lab.take() if seen.ip]
    assert len(sizes) == 2
    assert max(sizes) <= 576


def test_identifications_are_counted_and_wrap() -> None:
    lab = Lab()
    lab.network._lan._identification = 0xFFFE
    for _ in range(3):
        lab.echo(GATEWAY)
    assert [seen.ip.identification for seen in lab.take() if seen.ip] == [0xFFFF, 0, 1]


def test_a_datagram_that_never_gets_whole_is_reported() -> None:
    lab = Lab()
    lab.echo(GATEWAY)
    lab.take()
    first, *_ = fragment(IPv4(GUEST, GATEWAY, Protocol.ICMP, Icmpv4.echo_request(7, 1, bytes(3000)).pack()), 1500)
    lab.ip(first)
    assert lab.take(59) == []
    lab.run(2)
    errors = [seen.icmp for seen in lab.take() if seen.icmp]
    assert [(error.type, error.code) for error in errors] == [(IcmpType.TIME_EXCEEDED, TimeExceededCode.REASSEMBLY)]
    assert lab.counters["fragments-timeout"] == 1


def test_two_guests_each_at_its_own_address() -> None:
    lab = Lab()
    second = IPv4Address("10.0.2.16")
    lab.echo(GATEWAY)
    first_reply = lab.one()
    lab.address = second
    lab.echo(GATEWAY)
    second_reply = lab.one()
    assert first_reply.ip is not None
    assert second_reply.ip is not None
    assert (first_reply.ip.destination, second_reply.ip.destination) == (GUEST, second)


def test_nothing_is_ever_said_to_nobody() -> None:
    """A network without traffic has no timers: virtual time can pass in one step."""
    lab = Lab()
    assert lab.network.deadline() is None
    assert lab.take(86_400) == []
    assert lab.port.counters["received"] == 0
    assert BROADCAST not in [lease.address for lease in lab.user.leases]
