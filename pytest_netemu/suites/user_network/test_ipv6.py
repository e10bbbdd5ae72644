"""IPv6 through a user-mode network: echo, errors, fragments, checksums (RFC 4443, RFC 8200)."""

from __future__ import annotations

import pytest

from netemu.wire.icmpv6 import Icmpv6, Icmpv6TimeExceededCode, Icmpv6Type, Icmpv6UnreachableCode
from netemu.wire.ipv6 import Fragment6, IPv6, NextHeader
from netemu.wire.udp import Udp
from pytest_netemu.suites import judges
from pytest_netemu.tester import Tester
from pytest_netemu.tester6 import Tester6

pytestmark = pytest.mark.netemu_requires("ipv6")

_CLOSED = 9  # the discard service, which nobody runs
_MINIMUM_MTU = 1280  # RFC 8200 5
_FRAGMENT_HEADER = 8
_UNKNOWN_PROTOCOL = 253  # RFC 3692 2.1, for experiments


@judges("rfc4443/4.2/01")
@pytest.mark.parametrize("which", ["gateway6", "dns6"])
def test_own_addresses_answer_over_ipv6(netemu_tester: Tester, which: str) -> None:
    Tester6(netemu_tester).send_icmp(Icmpv6.echo_request(1, 1, b"ping"), getattr(netemu_tester.backend, which))
    netemu_tester.expect(Icmpv6, type=Icmpv6Type.ECHO_REPLY)


@judges("rfc4443/4.2/02")
@pytest.mark.parametrize("size", [0, 1, 1200, 4000])
def test_all_data_comes_back_over_ipv6(netemu_tester: Tester, size: int) -> None:
    tester = Tester6(netemu_tester)
    data = bytes(number & 0xFF for number in range(size))
    message = Icmpv6.echo_request(1, 1, data).pack(tester.address, tester.gateway)
    for piece in _pieces(tester, message):
        tester.send(piece)
    assert _put_together(netemu_tester)[8:] == data


@judges("rfc4443/4.2/03")
@pytest.mark.parametrize("which", ["gateway6", "dns6"])
def test_the_reply_comes_from_the_ipv6_address_that_was_asked(netemu_tester: Tester, which: str) -> None:
    address = getattr(netemu_tester.backend, which)
    Tester6(netemu_tester).send_icmp(Icmpv6.echo_request(1, 1, b"ping"), address)
    assert netemu_tester.expect(Icmpv6, type=Icmpv6Type.ECHO_REPLY)[IPv6].source == address


@judges("rfc4443/3.1/01")
def test_a_closed_port_is_told_over_ipv6(netemu_tester: Tester) -> None:
    tester = Tester6(netemu_tester)
    tester.send_udp(b"anybody?", _CLOSED, tester.gateway)
    netemu_tester.expect(Icmpv6, type=Icmpv6Type.DESTINATION_UNREACHABLE, code=Icmpv6UnreachableCode.PORT)


@judges("rfc4443/2.4/01")
@pytest.mark.parametrize("size", [1, 1400])
def test_an_error_quotes_what_fits_the_minimum_mtu(netemu_tester: Tester, size: int) -> None:
    tester = Tester6(netemu_tester)
    about = tester.send_udp(bytes(size), _CLOSED, tester.gateway)
    error = netemu_tester.expect(Icmpv6, type=Icmpv6Type.DESTINATION_UNREACHABLE)
    assert error[Icmpv6].payload == about.pack()[: _MINIMUM_MTU - 48]


@judges("rfc4443/3.3/01")
def test_the_hop_limit_ends_a_packet(netemu_tester: Tester) -> None:
    tester = Tester6(netemu_tester)
    outside = tester.gateway + (1 << 64)  # beside the prefix
    tester.send_udp(b"how far?", _CLOSED, outside, hop_limit=1)
    netemu_tester.expect(Icmpv6, type=Icmpv6Type.TIME_EXCEEDED, code=Icmpv6TimeExceededCode.HOP_LIMIT)


@judges("rfc8200/4/01")
def test_an_unknown_next_header_is_a_parameter_problem(netemu_tester: Tester) -> None:
    tester = Tester6(netemu_tester)
    tester.send(IPv6(tester.address, tester.gateway, _UNKNOWN_PROTOCOL, b"what is this?"))
    problem = netemu_tester.expect(Icmpv6, type=Icmpv6Type.PARAMETER_PROBLEM)[Icmpv6]
    assert (problem.code, problem.pointer) == (1, 6)


@judges("rfc8200/4.5/01")
@pytest.mark.netemu_requires("virtual-clock")
def test_incomplete_fragments_are_given_up_after_a_minute(netemu_tester: Tester) -> None:
    tester = Tester6(netemu_tester)
    message = Icmpv6.echo_request(1, 1, bytes(2000)).pack(tester.address, tester.gateway)
    first, *rest = _pieces(tester, message)
    tester.send(first)
    netemu_tester.run_for(61)
    netemu_tester.inbox.clear()
    for piece in rest:
        tester.send(piece)
    netemu_tester.silence(IPv6, _is_echo_reply)


@judges("rfc8200/8.1/01")
def test_udp_without_checksum_is_discarded_over_ipv6(netemu_tester: Tester) -> None:
    tester = Tester6(netemu_tester)
    datagram = bytearray(Udp(40_000, _CLOSED, b"unsure").pack(tester.address, tester.gateway))
    datagram[6:8] = bytes(2)
    tester.send(IPv6(tester.address, tester.gateway, NextHeader.UDP, bytes(datagram)))
    netemu_tester.silence(Icmpv6, type=Icmpv6Type.DESTINATION_UNREACHABLE)


def _pieces(tester: Tester6, message: bytes) -> list[IPv6]:
    """A message for the gateway, in fragments that fit any link if it does not itself."""
    size = 1200
    if len(message) <= size + _FRAGMENT_HEADER:
        return [IPv6(tester.address, tester.gateway, NextHeader.ICMPV6, message)]
    pieces = []
    for begin in range(0, len(message), size):
        header = Fragment6(begin, begin + size < len(message), 4711).extension()
        piece = message[begin : begin + size]
        pieces.append(IPv6(tester.address, tester.gateway, NextHeader.ICMPV6, piece, extensions=(header,)))
    return pieces


def _is_echo_reply(packet: IPv6) -> bool:
    return packet.is_fragment or (packet.next_header == NextHeader.ICMPV6 and packet.payload[:1] == b"\x81")


def _put_together(tester: Tester) -> bytes:
    """The ICMPv6 echo reply that comes, whole or in fragments in their order."""
    found = b""
    while True:
        packet = tester.expect(IPv6, _is_echo_reply)[IPv6]
        found += packet.payload
        if packet.fragment is None or not packet.fragment.more:
            return found
