"""ICMPv6 of a guest: its echo server, and the errors it sends (RFC 4443)."""

from __future__ import annotations

from ipaddress import IPv6Address

import pytest

from netemu.wire.icmpv6 import Icmpv6, Icmpv6TimeExceededCode, Icmpv6Type, Icmpv6UnreachableCode
from netemu.wire.ipv6 import ALL_NODES, MINIMUM_MTU, IPv6, NextHeader
from netemu.wire.udp import Udp
from pytest_netemu.packet import Packet
from pytest_netemu.station6 import ANY6
from pytest_netemu.suites import judges
from pytest_netemu.wire import Wire
from pytest_netemu.wire6 import IDENTIFIER, Wire6

pytestmark = pytest.mark.netemu_requires("slaac")

_CLOSED = 9  # the discard service, which nobody runs
_UNKNOWN_TYPE = 201  # RFC 4443 2.1: for experiments
_FLOOD = 200  # datagrams in a moment


def _refused(six: Wire6, size: int = 10) -> tuple[IPv6, Packet]:
    """A datagram to a closed port: what was sent, and the error about it."""
    sent = six.send_udp(bytes(size), _CLOSED, six.guest_address)
    return sent, six.wire.expect(Icmpv6, type=Icmpv6Type.DESTINATION_UNREACHABLE)


def _no_error(six: Wire6) -> None:
    six.silence(Icmpv6, lambda message: message.is_error)


@judges("rfc4443/4.2/01")
@judges("rfc4443/4.2/03")
def test_an_echo_request_is_answered_by_whom_it_asked(netemu_wire: Wire) -> None:
    six = Wire6(netemu_wire).up()
    for sequence, address in enumerate((six.guest_address, six.opposite)):
        six.echo(sequence=sequence, destination=address)
        assert six.answered(sequence)[IPv6].source == address


@judges("rfc4443/4.2/02")
@pytest.mark.parametrize("size", [0, 1, 56, 1452])
def test_all_data_comes_back(netemu_wire: Wire, size: int) -> None:
    six = Wire6(netemu_wire).up()
    data = bytes(number & 0xFF for number in range(size))
    six.echo(data)
    assert six.answered()[Icmpv6].payload == data


@judges("rfc4443/4.2/06")
@pytest.mark.parametrize("identifier", [0, 1, 0xFFFF])
def test_identifier_and_sequence_come_back(netemu_wire: Wire, identifier: int) -> None:
    six = Wire6(netemu_wire).up()
    for sequence in (0, 7, 0xFFFF):
        six.send_icmp(Icmpv6.echo_request(identifier, sequence, b"ping"), six.guest_address)
        netemu_wire.expect(Icmpv6, type=Icmpv6Type.ECHO_REPLY, identifier=identifier, sequence=sequence)


@judges("rfc4443/4.2/04")
@judges("rfc4443/4.2/05")
def test_a_request_for_all_is_answered_by_one(netemu_wire: Wire) -> None:
    six = Wire6(netemu_wire).up()
    six.echo(destination=ALL_NODES)
    assert six.answered()[IPv6].source in (six.guest_address, six.opposite)


@judges("rfc4443/2.1/01")
def test_a_bad_checksum_is_not_answered(netemu_wire: Wire) -> None:
    six = Wire6(netemu_wire).up()
    message = bytearray(Icmpv6.echo_request(IDENTIFIER, 1, b"ping").pack(six.address, six.guest_address))
    message[2] ^= 0x55
    six.send(IPv6(six.address, six.guest_address, NextHeader.ICMPV6, bytes(message)))
    six.unanswered()


@judges("rfc4443/2.4/03")
def test_an_unknown_type_is_discarded(netemu_wire: Wire) -> None:
    six = Wire6(netemu_wire).up()
    six.send_icmp(Icmpv6(_UNKNOWN_TYPE, 0, 0, b"what is this"), six.guest_address)
    six.silence(Icmpv6, lambda message: message.is_error or message.payload == b"what is this")


@judges("rfc4443/3.1/01")
@judges("rfc4443/2.2/01")
@pytest.mark.parametrize("which", ["guest_address", "opposite"])
def test_a_closed_port_is_reported_by_whom_it_was_asked_of(netemu_wire: Wire, which: str) -> None:
    six = Wire6(netemu_wire).up()
    address: IPv6Address = getattr(six, which)
    six.send_udp(b"nobody", _CLOSED, address)
    error = netemu_wire.expect(Icmpv6, type=Icmpv6Type.DESTINATION_UNREACHABLE)
    assert error[Icmpv6].code == Icmpv6UnreachableCode.PORT
    assert error[IPv6].source == address


@judges("rfc4443/2.4/01")
@pytest.mark.parametrize("size", [10, 1400])
def test_an_error_quotes_as_much_as_fits(netemu_wire: Wire, size: int) -> None:
    six = Wire6(netemu_wire).up()
    sent, error = _refused(six, size)
    room = MINIMUM_MTU - len(error[IPv6].pack()) + len(error[Icmpv6].payload)
    assert error[Icmpv6].payload == sent.pack()[:room]


@judges("rfc4443/2.4/02")
def test_no_error_about_an_error(netemu_wire: Wire) -> None:
    six = Wire6(netemu_wire).up()
    about = IPv6(six.guest_address, six.address, NextHeader.UDP, Udp(1, 2, b"").pack(six.guest_address, six.address)).pack()
    six.send_icmp(Icmpv6.unreachable(Icmpv6UnreachableCode.PORT, about), six.guest_address)
    six.send_icmp(Icmpv6.time_exceeded(Icmpv6TimeExceededCode.HOP_LIMIT, about), six.guest_address)
    six.send_icmp(Icmpv6(100, 0, 0, about), six.guest_address)  # RFC 4443 2.1: an error for experiments
    _no_error(six)


@judges("rfc4443/2.4/04")
def test_no_error_about_a_multicast(netemu_wire: Wire) -> None:
    six = Wire6(netemu_wire).up()
    six.send_udp(b"anybody", _CLOSED, ALL_NODES)
    _no_error(six)


@judges("rfc4443/2.4/05")
@pytest.mark.parametrize("source", [ANY6, ALL_NODES], ids=str)
def test_no_error_to_nobody_in_particular(netemu_wire: Wire, source: IPv6Address) -> None:
    six = Wire6(netemu_wire).up()
    datagram = Udp(40_000, _CLOSED, b"who?").pack(source, six.guest_address)
    six.send(IPv6(source, six.guest_address, NextHeader.UDP, datagram))
    _no_error(six)


@judges("rfc4443/2.4/06")
def test_errors_are_rationed(netemu_wire: Wire) -> None:
    six = Wire6(netemu_wire).up()
    for _ in range(_FLOOD):
        six.send_udp(b"nobody", _CLOSED, six.guest_address)
    six.barrier()
    errors = [packet for packet in netemu_wire.inbox if Icmpv6 in packet and packet[Icmpv6].is_error]
    assert 0 < len(errors) < _FLOOD
