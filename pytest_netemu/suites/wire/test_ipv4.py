"""IPv4 of a guest: what it discards, what it accepts, and what it puts together (RFC 791, RFC 1122 3.2.1 and 3.3.2)."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from netemu.wire.address import BROADCAST_MAC, MacAddress
from netemu.wire.arp import Arp
from netemu.wire.ether import Ethernet, EtherType, pad
from netemu.wire.icmpv4 import IcmpType, Icmpv4, TimeExceededCode
from netemu.wire.ipv4 import IPv4, Protocol
from pytest_netemu.fragmenting import pieces
from pytest_netemu.suites import judges
from pytest_netemu.wire import Wire

_VERSION_IHL = 0  # octets of a header
_CHECKSUM = slice(10, 12)
_UNKNOWN_OPTION = bytes((0x9E, 4, 0, 0))  # copied, class 0, number 30 (RFC 4727: experiments)
_TIMEOUT = 130  # seconds; RFC 1122 recommends a fixed value between 60 and 120
_DATA = bytes(number & 0xFF for number in range(600))


def _echo(wire: Wire, data: bytes = b"ping", *, sequence: int = 1, destination: IPv4Address | None = None, **header: int) -> IPv4:
    """An echo request that `_unanswered` and `_answered` know by its identifier."""
    message = Icmpv4.echo_request(7, sequence, data)
    return wire.ip(destination or wire.opposite, Protocol.ICMP, message.pack(), **header)  # type: ignore[arg-type] # IpFields' own


def _send(wire: Wire, octets: bytes, mac: MacAddress | None = None) -> None:
    wire.send(wire.ethernet(mac or wire.guest.mac, EtherType.IPV4, octets))


def _answered(wire: Wire, sequence: int = 1) -> Icmpv4:
    return wire.expect(Icmpv4, type=IcmpType.ECHO_REPLY, identifier=7, sequence=sequence)[Icmpv4]


def _unanswered(wire: Wire, **options: float) -> None:
    wire.silence(Icmpv4, type=IcmpType.ECHO_REPLY, identifier=7, **options)  # type: ignore[arg-type] # `within`


def _resummed(octets: bytearray) -> bytes:
    """The header of 20 octets with its checksum right again, whatever it says."""
    octets[_CHECKSUM] = bytes(2)
    total = sum(int.from_bytes(octets[at : at + 2]) for at in range(0, 20, 2))
    octets[_CHECKSUM] = (0xFFFF - total % 0xFFFF).to_bytes(2)
    return bytes(octets)


@judges("rfc1122/3.2.1.1/01")
@pytest.mark.parametrize("version", [0, 5, 6, 15])
def test_another_version_is_discarded(netemu_wire: Wire, version: int) -> None:
    wire = netemu_wire.up()
    octets = bytearray(_echo(wire).pack())
    octets[_VERSION_IHL] = version << 4 | 5
    _send(wire, _resummed(octets))
    _unanswered(wire)


@judges("rfc1122/3.2.1.2/01")
def test_a_bad_header_checksum_is_discarded(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    octets = bytearray(_echo(wire).pack())
    octets[_CHECKSUM.start] ^= 0x55
    _send(wire, bytes(octets))
    _unanswered(wire)


@judges("rfc791/3.1/03")
def test_a_datagram_that_is_longer_than_its_frame_is_discarded(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    octets = bytearray(_echo(wire, b"0123456789" * 6).pack())
    _send(wire, bytes(octets[:-20]))
    _unanswered(wire)


@judges("rfc791/3.1/04")
def test_a_header_shorter_than_the_least_is_discarded(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    octets = bytearray(_echo(wire).pack())
    octets[_VERSION_IHL] = 0x44
    _send(wire, _resummed(octets))
    _unanswered(wire)


@judges("rfc1122/3.2.1.3/02")
@pytest.mark.parametrize("destination", ["10.0.2.99", "192.0.2.1"])
def test_what_is_for_another_is_discarded(netemu_wire: Wire, destination: str) -> None:
    wire = netemu_wire.up()
    _send(wire, _echo(wire, destination=IPv4Address(destination)).pack())
    _unanswered(wire)


@judges("rfc1122/3.2.1.3/03")
@pytest.mark.parametrize("source", ["127.0.0.1", "255.255.255.255", "224.0.0.1"])
def test_an_impossible_source_is_discarded(netemu_wire: Wire, source: str) -> None:
    wire = netemu_wire.up()
    whence = IPv4Address(source)
    wire.send_ip(wire.ip(wire.opposite, Protocol.ICMP, Icmpv4.echo_request(7, 1, b"ping").pack(), source=whence))
    _unanswered(wire)


@judges("rfc1122/3.2.1.3/04")
def test_loopback_is_not_on_the_wire(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    _send(wire, _echo(wire, destination=IPv4Address("127.0.0.1")).pack())
    _unanswered(wire)


@judges("rfc1122/3.3.6/01")
def test_a_frame_to_everybody_with_an_address_of_one_is_discarded(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    _send(wire, _echo(wire).pack(), BROADCAST_MAC)
    _unanswered(wire)


@judges("rfc1122/3.2.1.7/02")
def test_the_last_hop_needs_no_more_time_to_live(netemu_wire: Wire) -> None:
    """With one left; what zero means, RFC 791 and RFC 1122 do not agree about."""
    wire = netemu_wire.up()
    wire.send_ip(_echo(wire, ttl=1))
    _answered(wire)


@judges("rfc1122/3.2.1.7/01")
def test_nothing_is_sent_with_a_time_to_live_of_zero(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    wire.send_ip(_echo(wire, ttl=1))
    assert wire.expect(IPv4, protocol=Protocol.ICMP)[IPv4].ttl > 0


@judges("rfc1122/3.2.1.8/01")
def test_an_unknown_option_is_ignored(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    request = Icmpv4.echo_request(7, 1, b"ping").pack()
    wire.send_ip(wire.ip(wire.opposite, Protocol.ICMP, request, options=_UNKNOWN_OPTION))
    _answered(wire)


@judges("rfc894/frame-format/01")
def test_padding_is_not_data(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    wire.send(pad(wire.ethernet(wire.guest.mac, EtherType.IPV4, _echo(wire, b"ab").pack())).ljust(80, b"\xee"))
    assert _answered(wire).payload == b"ab"


@judges("rfc1122/3.3.1/01")
@pytest.mark.netemu_requires("udp")
def test_a_neighbour_is_sent_to_itself_and_all_else_to_the_router(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    with wire.guest.udp() as socket:
        socket.send_to(b"far", IPv4Address("198.51.100.7"), 7000)
        assert wire.expect(IPv4, destination=IPv4Address("198.51.100.7"))[Ethernet].destination == wire.mac
        socket.send_to(b"near", wire.opposite + 5, 7000)
        wire.expect(Arp, target_ip=wire.opposite + 5)


@judges("rfc791/2.3/01")
@pytest.mark.netemu_requires("udp")
def test_datagrams_that_may_be_fragmented_have_different_identifications(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    with wire.guest.udp() as socket:
        for _ in range(8):
            socket.send_to(b"again", wire.address, 7000)
        sent = [wire.expect(IPv4, protocol=Protocol.UDP)[IPv4] for _ in range(8)]
    breakable = [datagram.identification for datagram in sent if not datagram.dont_fragment]
    assert len({*breakable}) == len(breakable), breakable


# Fragments


@judges("rfc1122/3.3.2/01")
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)], ids=str)
def test_fragments_are_put_together_in_any_order(netemu_wire: Wire, order: tuple[int, ...]) -> None:
    wire = netemu_wire.up()
    parts = pieces(_echo(wire, _DATA), 200, 200)
    for number in order:
        wire.send_ip(parts[number])
    assert _answered(wire).payload == _DATA


@judges("rfc791/3.1/02")
@pytest.mark.parametrize("first", [8, 280, 536])
def test_576_octets_are_accepted_in_fragments(netemu_wire: Wire, first: int) -> None:
    wire = netemu_wire.up()
    data = _DATA[: 576 - 20 - 8]
    for piece in pieces(_echo(wire, data), first):
        wire.send_ip(piece)
    assert _answered(wire).payload == data


@judges("rfc791/3.2/01")
def test_fragments_of_two_datagrams_are_not_mixed(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    first, second = pieces(_echo(wire, _DATA), 304), pieces(_echo(wire, _DATA[::-1], sequence=2), 304)
    for piece in (first[0], second[0], second[1], first[1]):
        wire.send_ip(piece)
    assert (_answered(wire, 1).payload, _answered(wire, 2).payload) == (_DATA, _DATA[::-1])


@judges("rfc1122/3.3.2/02")
@pytest.mark.netemu_requires("virtual-clock")
def test_half_a_datagram_is_not_kept_for_ever(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    first, second = pieces(_echo(wire, _DATA), 304)
    wire.send_ip(first)
    wire.run_for(_TIMEOUT)
    wire.send_ip(second)
    _unanswered(wire)


@judges("rfc1122/3.3.2/03")
@pytest.mark.netemu_requires("virtual-clock")
def test_a_datagram_that_stayed_incomplete_is_reported(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    first, _ = pieces(_echo(wire, _DATA), 304)
    wire.send_ip(first)
    error = wire.expect(Icmpv4, within=_TIMEOUT, type=IcmpType.TIME_EXCEEDED, code=TimeExceededCode.REASSEMBLY)[Icmpv4]
    assert error.payload.startswith(first.pack()[:28])


@judges("rfc1122/3.2.2/06")
@pytest.mark.netemu_requires("virtual-clock")
def test_no_error_about_a_later_fragment(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    _, second = pieces(_echo(wire, _DATA), 304)
    wire.send_ip(second)
    wire.silence(Icmpv4, lambda message: message.is_error, within=_TIMEOUT)
