"""ICMP of a guest: its echo server, and the errors it sends (RFC 792, RFC 1122 3.2.2)."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from netemu.wire.address import BROADCAST_MAC
from netemu.wire.ether import EtherType
from netemu.wire.icmpv4 import IcmpType, Icmpv4, TimeExceededCode, UnreachableCode
from netemu.wire.ipv4 import IPv4, Protocol
from netemu.wire.udp import Udp
from pytest_netemu.station import LIMITED_BROADCAST
from pytest_netemu.suites import judges
from pytest_netemu.wire import Wire

_CLOSED = 9  # the discard service, which nobody runs
_UNKNOWN_TYPE = 42


def _refused(wire: Wire, payload: bytes = b"nobody") -> tuple[IPv4, Icmpv4, IPv4]:
    """A datagram to a closed port: what was sent, the error about it, and the error's own header."""
    sent = wire.send_udp(payload, _CLOSED)
    packet = wire.expect(Icmpv4, type=IcmpType.DESTINATION_UNREACHABLE)
    return sent, packet[Icmpv4], packet[IPv4]


@judges("rfc1122/3.2.2.6/01")
@judges("rfc1122/3.2.2.6/02")
@judges("rfc792/echo/01")
def test_an_echo_request_is_answered_by_whom_it_asked(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    wire.send_icmp(Icmpv4.echo_request(1, 1, b"ping"))
    reply = wire.expect(Icmpv4, type=IcmpType.ECHO_REPLY)
    assert (reply[IPv4].source, reply[IPv4].destination) == (wire.opposite, wire.address)
    assert reply[Icmpv4].code == 0


@judges("rfc1122/3.2.2.6/03")
@pytest.mark.parametrize("size", [0, 1, 56, 1472])
def test_all_data_comes_back(netemu_wire: Wire, size: int) -> None:
    wire = netemu_wire.up()
    data = bytes(number & 0xFF for number in range(size))
    wire.send_icmp(Icmpv4.echo_request(1, 1, data))
    assert wire.expect(Icmpv4, type=IcmpType.ECHO_REPLY)[Icmpv4].payload == data


@judges("rfc792/echo/02")
@pytest.mark.parametrize("identifier", [0, 1, 0xFFFF])
def test_identifier_and_sequence_come_back(netemu_wire: Wire, identifier: int) -> None:
    wire = netemu_wire.up()
    for sequence in (0, 7, 0xFFFF):
        wire.send_icmp(Icmpv4.echo_request(identifier, sequence, b"ping"))
        wire.expect(Icmpv4, type=IcmpType.ECHO_REPLY, identifier=identifier, sequence=sequence)


@judges("rfc792/echo/03")
def test_an_odd_length_has_the_right_checksum(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    wire.send_icmp(Icmpv4.echo_request(1, 1, b"odd"))
    assert wire.expect(IPv4, protocol=Protocol.ICMP).broken == ""


@judges("rfc792/echo/04")
def test_a_bad_checksum_is_not_answered(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    message = bytearray(Icmpv4.echo_request(1, 1, b"ping").pack())
    message[2] ^= 0x55
    wire.send_ip(wire.ip(wire.opposite, Protocol.ICMP, bytes(message)))
    wire.silence(Icmpv4, payload=b"ping")


@judges("rfc1122/3.2.2/01")
def test_an_unknown_type_is_discarded(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    wire.send_icmp(Icmpv4(_UNKNOWN_TYPE, 0, 0, b"what is this"))
    wire.silence(Icmpv4, lambda message: bool(message.payload))


@judges("rfc1122/3.2.2.7/01")
def test_information_requests_are_not_answered(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    wire.send_icmp(Icmpv4(IcmpType.INFORMATION_REQUEST, 0, 1 << 16 | 1, b""))
    wire.silence(Icmpv4, identifier=1)


@judges("rfc1122/3.2.2.9/01")
def test_address_mask_requests_are_not_answered(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    wire.send_icmp(Icmpv4(IcmpType.ADDRESS_MASK_REQUEST, 0, 1 << 16 | 1, bytes(4)))
    wire.silence(Icmpv4, identifier=1)


@judges("rfc1122/4.1.3.1/01")
def test_a_closed_port_is_reported(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    assert _refused(wire)[1].code == UnreachableCode.PORT


@judges("rfc1122/3.2.2/02")
@judges("rfc792/unreachable/01")
def test_an_error_quotes_what_was_sent(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    sent, error, _ = _refused(wire, b"nobody listens here")
    assert len(error.payload) >= sent.header_length + 8
    assert error.payload == sent.pack()[: len(error.payload)]


@judges("rfc1122/3.2.2/03")
def test_an_error_has_the_normal_type_of_service(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    _, _, header = _refused(wire)
    assert (header.dscp, header.ecn) == (0, 0)


@judges("rfc1122/3.2.1.3/01")
def test_an_error_comes_from_the_guests_address(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    assert _refused(wire)[2].source == wire.opposite


@judges("rfc1122/3.2.2/04")
def test_no_error_about_an_error(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    about = wire.ip(wire.opposite, Protocol.UDP, Udp(1, 2, b"").pack(wire.address, wire.opposite))
    wire.send_icmp(Icmpv4.unreachable(UnreachableCode.PORT, about.pack()))
    wire.send_icmp(Icmpv4.time_exceeded(TimeExceededCode.TTL, about.pack()))
    wire.silence(Icmpv4, lambda message: message.is_error)


@judges("rfc1122/3.2.2/05")
@pytest.mark.parametrize("destination", [LIMITED_BROADCAST, IPv4Address("10.0.2.255"), IPv4Address("224.0.0.1")], ids=str)
def test_no_error_about_a_broadcast(netemu_wire: Wire, destination: IPv4Address) -> None:
    wire = netemu_wire.up()
    wire.send_ip(wire.ip(destination, Protocol.UDP, Udp(1, _CLOSED, b"").pack(wire.address, destination)), BROADCAST_MAC)
    wire.silence(Icmpv4, lambda message: message.is_error)


@judges("rfc1122/3.2.2/07")
def test_no_error_about_a_frame_to_everybody(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    datagram = wire.ip(wire.opposite, Protocol.UDP, Udp(1, _CLOSED, b"").pack(wire.address, wire.opposite))
    wire.send(wire.ethernet(BROADCAST_MAC, EtherType.IPV4, datagram.pack()))
    wire.silence(Icmpv4, lambda message: message.is_error)


@judges("rfc1122/3.2.2/08")
@pytest.mark.parametrize("source", ["0.0.0.0", "127.0.0.1", "255.255.255.255", "224.0.0.1"])
def test_no_error_to_nobody_in_particular(netemu_wire: Wire, source: str) -> None:
    wire = netemu_wire.up()
    whence = IPv4Address(source)
    wire.send_ip(wire.ip(wire.opposite, Protocol.UDP, Udp(1, _CLOSED, b"").pack(whence, wire.opposite), source=whence))
    wire.silence(Icmpv4, lambda message: message.is_error)


@judges("rfc1122/3.2.2.1/01")
def test_an_unknown_protocol_is_reported(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    wire.send_ip(wire.ip(wire.opposite, 253, b"an experiment"))  # RFC 3692: for experiments
    wire.expect(Icmpv4, type=IcmpType.DESTINATION_UNREACHABLE, code=UnreachableCode.PROTOCOL)
