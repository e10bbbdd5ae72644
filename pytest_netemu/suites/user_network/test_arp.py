"""ARP at a user-mode network: its own addresses answer, nothing else does, and it finds its guest (RFC 826, RFC 1122 2.3.2)."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address

import pytest

from netemu.wire.address import BROADCAST_MAC, MacAddress
from netemu.wire.arp import Arp, ArpOperation
from netemu.wire.ether import Ethernet, EtherType
from netemu.wire.icmpv4 import IcmpType, Icmpv4
from netemu.wire.ipv4 import IPv4
from netemu.wire.udp import Udp
from pytest_netemu.suites import judges
from pytest_netemu.tester import Tester

pytestmark = pytest.mark.netemu_requires("arp")

_OPERATION = slice(6, 8)  # where ar$hrd, ar$pro and ar$op are in a packet
_HARDWARE = slice(0, 2)
_PROTOCOL = slice(2, 4)


def _request(tester: Tester, target: IPv4Address) -> bytes:
    return Arp(ArpOperation.REQUEST, tester.mac, tester.address, MacAddress(bytes(6)), target).pack()


def _send_changed(tester: Tester, field: slice, value: int) -> None:
    """A request for the gateway with another number in one of its 16-bit fields."""
    packet = bytearray(_request(tester, tester.gateway))
    packet[field] = struct.pack("!H", value)
    tester.send(tester.ethernet(BROADCAST_MAC, EtherType.ARP, bytes(packet)))


@judges("rfc826/reception/01")
@pytest.mark.parametrize("which", ["gateway", "dns"])
def test_reply_swaps_the_addresses(netemu_tester: Tester, which: str) -> None:
    address = getattr(netemu_tester.backend, which)
    netemu_tester.send_arp(ArpOperation.REQUEST, address)
    packet = netemu_tester.expect(Arp, operation=ArpOperation.REPLY, target_ip=netemu_tester.address)
    reply = packet[Arp]
    assert reply.sender_ip == address
    assert reply.target_mac == netemu_tester.mac
    assert reply.sender_mac == packet[Ethernet].source
    assert not reply.sender_mac.is_multicast


@judges("rfc826/reception/02")
def test_answer_is_a_reply(netemu_tester: Tester) -> None:
    netemu_tester.send_arp(ArpOperation.REQUEST, netemu_tester.gateway)
    answer = netemu_tester.expect(Arp, target_mac=netemu_tester.mac)  # a question does not know it, and may have come unasked
    assert answer[Arp].operation == ArpOperation.REPLY


@judges("rfc826/reception/03")
def test_reply_goes_to_the_asker_alone(netemu_tester: Tester) -> None:
    netemu_tester.send_arp(ArpOperation.REQUEST, netemu_tester.gateway)
    reply = netemu_tester.expect(Arp, sender_ip=netemu_tester.gateway, operation=ArpOperation.REPLY)
    assert reply[Ethernet].destination == netemu_tester.mac


@judges("rfc826/reception/04")
def test_silent_for_an_address_that_nobody_has(netemu_tester: Tester) -> None:
    unused = netemu_tester.backend.net.broadcast_address - 5
    netemu_tester.send_arp(ArpOperation.REQUEST, unused)
    netemu_tester.silence(Arp, operation=ArpOperation.REPLY)


@judges("rfc826/reception/05")
def test_silent_for_another_hardware_type(netemu_tester: Tester) -> None:
    _send_changed(netemu_tester, _HARDWARE, 6)
    netemu_tester.silence(Arp, operation=ArpOperation.REPLY)


@judges("rfc826/reception/06")
def test_silent_for_another_protocol(netemu_tester: Tester) -> None:
    _send_changed(netemu_tester, _PROTOCOL, EtherType.IPV6)
    netemu_tester.silence(Arp, operation=ArpOperation.REPLY)


@judges("rfc826/reception/07")
@pytest.mark.parametrize("operation", [ArpOperation.REPLY, 3])
def test_only_a_request_is_answered(netemu_tester: Tester, operation: int) -> None:
    _send_changed(netemu_tester, _OPERATION, operation)
    netemu_tester.silence(Arp, operation=ArpOperation.REPLY)


@judges("rfc826/reception/08")
def test_a_newer_hardware_address_supersedes(netemu_tester: Tester) -> None:
    tester = netemu_tester
    tester.send_icmp(Icmpv4.echo_request(1, 1, b"first"))
    tester.expect(Icmpv4, type=IcmpType.ECHO_REPLY)
    tester.mac = MacAddress("52:54:00:7e:57:02")
    tester.send_arp(ArpOperation.REQUEST, tester.gateway)
    tester.expect(Arp, operation=ArpOperation.REPLY)
    tester.send_icmp(Icmpv4.echo_request(1, 2, b"second"))
    assert tester.expect(Icmpv4, type=IcmpType.ECHO_REPLY, sequence=2)[Ethernet].destination == tester.mac


@judges("rfc826/generation/01")
@pytest.mark.netemu_requires("hostfwd.udp", "hostfwd.runtime")
def test_request_for_the_guest_is_broadcast(netemu_tester: Tester) -> None:
    tester = netemu_tester
    forward = tester.backend.add_hostfwd("udp:127.0.0.1:0-:7000")
    with tester.backend.host.udp("127.0.0.1") as socket:
        socket.send_to(b"anybody there?", forward.host.address, forward.host.port)
        request = tester.expect(Arp, operation=ArpOperation.REQUEST, target_ip=tester.address)
    assert request[Ethernet].destination == BROADCAST_MAC
    assert request[Arp].sender_mac == request[Ethernet].source


@judges("rfc1122/2.3.2.1/01")
@pytest.mark.netemu_requires("hostfwd.udp", "hostfwd.runtime")
def test_a_silent_guest_is_not_flooded(netemu_tester: Tester) -> None:
    tester = netemu_tester
    tester.answers_arp = False
    forward = tester.backend.add_hostfwd("udp:127.0.0.1:0-:7000")
    with tester.backend.host.udp("127.0.0.1") as socket:
        for _ in range(50):
            socket.send_to(b"anybody there?", forward.host.address, forward.host.port)
            tester.run_for(0.1)
    requests = [packet for packet in tester.inbox if Arp in packet]
    assert requests, "the network asked for its guest not once"
    assert len(requests) <= 6, f"{len(requests)} requests in 5 s; RFC 1122 recommends at most one a second"


@judges("rfc1122/2.3.2.2/01")
@pytest.mark.netemu_requires("hostfwd.udp", "hostfwd.runtime")
def test_the_packet_that_had_to_wait_is_sent(netemu_tester: Tester) -> None:
    tester = netemu_tester
    forward = tester.backend.add_hostfwd("udp:127.0.0.1:0-:7000")
    with tester.backend.host.udp("127.0.0.1") as socket:
        socket.send_to(b"patience", forward.host.address, forward.host.port)
        packet = tester.expect(Udp, destination_port=7000)
    assert packet[Udp].payload == b"patience"
    assert packet[IPv4].destination == tester.address
