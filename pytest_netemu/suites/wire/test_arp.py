"""ARP of a guest: it answers for its own address, learns its neighbours', and asks with restraint (RFC 826, RFC 1122 2.3.2)."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address

import pytest

from netemu.wire.address import BROADCAST_MAC, ZERO_MAC, MacAddress
from netemu.wire.arp import Arp, ArpOperation
from netemu.wire.ether import Ethernet, EtherType
from netemu.wire.icmpv4 import IcmpType, Icmpv4
from netemu.wire.udp import Udp
from pytest_netemu.suites import judges
from pytest_netemu.wire import Wire

_OPERATION = slice(6, 8)  # where ar$hrd, ar$pro and ar$op are in a packet
_HARDWARE = slice(0, 2)
_PROTOCOL = slice(2, 4)


def _send_changed(wire: Wire, field: slice, value: int) -> None:
    """A request for the guest with another number in one of its 16-bit fields."""
    packet = bytearray(Arp(ArpOperation.REQUEST, wire.mac, wire.address, ZERO_MAC, wire.opposite).pack())
    packet[field] = struct.pack("!H", value)
    wire.send(wire.ethernet(BROADCAST_MAC, EtherType.ARP, bytes(packet)))


@judges("rfc826/reception/01")
def test_reply_swaps_the_addresses(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    wire.send_arp(ArpOperation.REQUEST, wire.opposite)
    packet = wire.expect(Arp, operation=ArpOperation.REPLY, target_ip=wire.address)
    reply = packet[Arp]
    assert reply.sender_ip == wire.opposite
    assert reply.target_mac == wire.mac
    assert reply.sender_mac == packet[Ethernet].source == wire.guest.mac


@judges("rfc826/reception/02")
def test_answer_is_a_reply(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    wire.send_arp(ArpOperation.REQUEST, wire.opposite)
    answer = wire.expect(Arp, target_mac=wire.mac)
    assert answer[Arp].operation == ArpOperation.REPLY


@judges("rfc826/reception/03")
def test_reply_goes_to_the_asker_alone(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    wire.send_arp(ArpOperation.REQUEST, wire.opposite)
    reply = wire.expect(Arp, operation=ArpOperation.REPLY, sender_ip=wire.opposite)
    assert reply[Ethernet].destination == wire.mac


@judges("rfc826/reception/04")
def test_silent_for_an_address_of_another(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    wire.send_arp(ArpOperation.REQUEST, wire.opposite + 1)
    wire.silence(Arp, operation=ArpOperation.REPLY)


@judges("rfc826/reception/05")
def test_silent_for_another_hardware_type(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    _send_changed(wire, _HARDWARE, 7)  # ARCNET; 6 is what Ethernet is called too (RFC 1042)
    wire.silence(Arp, operation=ArpOperation.REPLY)


@judges("rfc826/reception/06")
def test_silent_for_another_protocol(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    _send_changed(wire, _PROTOCOL, EtherType.IPV6)
    wire.silence(Arp, operation=ArpOperation.REPLY)


@judges("rfc826/reception/07")
@pytest.mark.parametrize("operation", [ArpOperation.REPLY, 3])
def test_only_a_request_is_answered(netemu_wire: Wire, operation: int) -> None:
    wire = netemu_wire.up()
    _send_changed(wire, _OPERATION, operation)
    wire.silence(Arp, operation=ArpOperation.REPLY)


@judges("rfc826/reception/08")
def test_a_newer_hardware_address_supersedes(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    wire.mac = MacAddress("52:54:00:7e:57:03")
    wire.send_arp(ArpOperation.REQUEST, wire.opposite)
    wire.expect(Arp, operation=ArpOperation.REPLY)
    wire.send_icmp(Icmpv4.echo_request(1, 2, b"second"))
    assert wire.expect(Icmpv4, type=IcmpType.ECHO_REPLY, sequence=2)[Ethernet].destination == wire.mac


@judges("rfc826/generation/01")
@pytest.mark.netemu_requires("udp")
def test_request_for_a_neighbour_is_broadcast(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    neighbour = _ask_for_a_neighbour(wire)
    request = wire.expect(Arp, operation=ArpOperation.REQUEST, target_ip=neighbour)
    assert request[Ethernet].destination == BROADCAST_MAC
    assert request[Arp].sender_mac == request[Ethernet].source == wire.guest.mac
    assert request[Arp].sender_ip == wire.opposite


def _ask_for_a_neighbour(wire: Wire, payload: bytes = b"anybody there?") -> IPv4Address:
    """Have the guest send a datagram to an address of its network that it does not know."""
    neighbour = wire.opposite + 5
    with wire.guest.udp() as socket:
        socket.send_to(payload, neighbour, 7000)
    return neighbour


@judges("rfc1122/2.3.2.1/01")
@pytest.mark.netemu_requires("udp", "virtual-clock")
def test_a_silent_neighbour_is_not_flooded(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    for _ in range(10):
        neighbour = _ask_for_a_neighbour(wire)
    wire.run_for(1.0)
    asked = [packet for packet in wire.inbox if Arp in packet and packet[Arp].target_ip == neighbour]
    assert len(asked) <= 2, f"{len(asked)} requests for one address within a second; one a second is recommended"


@judges("rfc1122/2.3.2.2/01")
@pytest.mark.netemu_requires("udp")
def test_the_latest_datagram_waits_for_the_answer(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    neighbour = _ask_for_a_neighbour(wire, b"latest")
    wire.expect(Arp, operation=ArpOperation.REQUEST, target_ip=neighbour)
    answer = Arp(ArpOperation.REPLY, wire.mac, neighbour, wire.guest.mac, wire.opposite)
    wire.send(wire.ethernet(wire.guest.mac, EtherType.ARP, answer.pack()))
    assert wire.expect(Udp, destination_port=7000)[Udp].payload == b"latest"
