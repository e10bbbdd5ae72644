"""IPv6 extension headers and fragments at a user-mode network (RFC 8200 4), and when errors are not due (RFC 4443 2.4)."""

from __future__ import annotations

import pytest

from netemu.wire.ether import EtherType
from netemu.wire.icmpv6 import Icmpv6, Icmpv6Type
from netemu.wire.ipv6 import HEADER_LENGTH, Extension, Fragment6, IPv6, NextHeader
from netemu.wire.udp import Udp
from pytest_netemu.suites import judges
from pytest_netemu.tester import Tester
from pytest_netemu.tester6 import Tester6

pytestmark = pytest.mark.netemu_requires("ipv6")

_PADDING = b"\1\4\0\0\0\0"  # PadN, six octets
_UNKNOWN_OPTION = 0x1E  # RFC 4727 3.6, for experiments; its two high bits say what is to be done
_UNKNOWN_ROUTING = 253  # RFC 4727 3.5, for experiments
_TESTED = (NextHeader.HOP_BY_HOP, NextHeader.DESTINATION_OPTIONS)


def _echo(tester: Tester6, *extensions: Extension) -> IPv6:
    """Ping the gateway behind these headers."""
    message = Icmpv6.echo_request(1, 1, b"ping").pack(tester.address, tester.gateway)
    return tester.send(IPv6(tester.address, tester.gateway, NextHeader.ICMPV6, message, extensions=extensions))


def _with_option(kind: int, action: int) -> Extension:
    return Extension(kind, bytes((action << 6 | _UNKNOWN_OPTION, 4)) + bytes(4))


def _problem(netemu_tester: Tester) -> Icmpv6:
    return netemu_tester.expect(Icmpv6, type=Icmpv6Type.PARAMETER_PROBLEM)[Icmpv6]


@judges("rfc8200/4.1/01")
@pytest.mark.parametrize(
    "kinds",
    [
        (NextHeader.HOP_BY_HOP,),
        (NextHeader.DESTINATION_OPTIONS,),
        (NextHeader.HOP_BY_HOP, NextHeader.DESTINATION_OPTIONS, NextHeader.DESTINATION_OPTIONS),
    ],
    ids=lambda kinds: "then ".join(str(int(kind)) for kind in kinds),
)
def test_ports_are_read_behind_the_extension_headers(netemu_tester: Tester, kinds: tuple[int, ...]) -> None:
    tester = Tester6(netemu_tester)
    with netemu_tester.backend.host.udp("::1") as server:
        datagram = Udp(40_000, server.local.port, b"hello").pack(tester.address, tester.gateway)
        extensions = tuple(Extension(kind, _PADDING) for kind in kinds)
        tester.send(IPv6(tester.address, tester.gateway, NextHeader.UDP, datagram, extensions=extensions))
        assert server.recv(2.0).data == b"hello"


@judges("rfc8200/4/02")
@pytest.mark.parametrize("kind", _TESTED, ids=int)
def test_an_extension_header_is_not_taken_for_the_datagrams(netemu_tester: Tester, kind: int) -> None:
    """Its options stand where a UDP header has the port that the datagram is for."""
    tester = Tester6(netemu_tester)
    host = netemu_tester.backend.host
    misread = int.from_bytes(_PADDING[:2])
    with host.udp("::1", misread) as decoy, host.udp("::1") as server:
        datagram = Udp(40_000, server.local.port, b"hello").pack(tester.address, tester.gateway)
        tester.send(IPv6(tester.address, tester.gateway, NextHeader.UDP, datagram, extensions=(Extension(kind, _PADDING),)))
        tester.send_udp(b"the end", misread, tester.gateway)
        first = decoy.recv(2.0).data
    assert first == b"the end", (
        f"a datagram behind a header {int(kind)} came to port {misread}, the header's octets 2 and 3: {first!r}"
    )


@judges("rfc8200/3/01")
def test_what_is_behind_the_payload_is_not_part_of_it(netemu_tester: Tester) -> None:
    tester = Tester6(netemu_tester)
    with netemu_tester.backend.host.udp("::1") as server:
        datagram = Udp(40_000, server.local.port, b"data").pack(tester.address, tester.gateway)
        packet = IPv6(tester.address, tester.gateway, NextHeader.UDP, datagram)
        netemu_tester.send(netemu_tester.ethernet(tester.gateway_mac, EtherType.IPV6, packet.pack() + b"behind"))
        data = server.recv(2.0).data
    assert data == b"data", f"the packet's length ends it behind b'data', and the host read {data!r}"


@judges("rfc8200/4.2/01")
@pytest.mark.parametrize("kind", _TESTED, ids=int)
def test_an_option_that_may_be_skipped_is(netemu_tester: Tester, kind: int) -> None:
    _echo(Tester6(netemu_tester), _with_option(kind, 0))
    netemu_tester.expect(Icmpv6, type=Icmpv6Type.ECHO_REPLY)


@judges("rfc8200/4.2/02")
@pytest.mark.parametrize("kind", _TESTED, ids=int)
def test_an_option_that_ends_the_packet_does(netemu_tester: Tester, kind: int) -> None:
    _echo(Tester6(netemu_tester), _with_option(kind, 1))
    netemu_tester.silence(Icmpv6, type=lambda number: number in (Icmpv6Type.ECHO_REPLY, Icmpv6Type.PARAMETER_PROBLEM))


@judges("rfc8200/4.2/03")
@pytest.mark.parametrize("kind", _TESTED, ids=int)
def test_an_option_that_wants_it_told_is_pointed_at(netemu_tester: Tester, kind: int) -> None:
    _echo(Tester6(netemu_tester), _with_option(kind, 2))
    problem = _problem(netemu_tester)
    assert (problem.code, problem.pointer) == (2, HEADER_LENGTH + 2)


@judges("rfc8200/4.4/01")
def test_a_routing_header_at_its_end_is_ignored(netemu_tester: Tester) -> None:
    _echo(Tester6(netemu_tester), Extension(NextHeader.ROUTING, bytes((_UNKNOWN_ROUTING, 0)) + bytes(4)))
    netemu_tester.expect(Icmpv6, type=Icmpv6Type.ECHO_REPLY)


@judges("rfc8200/4.4/02")
def test_a_routing_header_with_segments_left_is_refused(netemu_tester: Tester) -> None:
    _echo(Tester6(netemu_tester), Extension(NextHeader.ROUTING, bytes((_UNKNOWN_ROUTING, 1)) + bytes(4)))
    problem = _problem(netemu_tester)
    assert (problem.code, problem.pointer) == (0, HEADER_LENGTH + 2)


@judges("rfc8200/4.5/02")
def test_a_fragment_of_an_odd_length_is_refused(netemu_tester: Tester) -> None:
    tester = Tester6(netemu_tester)
    header = Fragment6(0, True, 4712).extension()
    message = Icmpv6.echo_request(1, 1, b"part of it").pack(tester.address, tester.gateway)[:13]
    tester.send(IPv6(tester.address, tester.gateway, NextHeader.ICMPV6, message, extensions=(header,)))
    problem = _problem(netemu_tester)
    assert (problem.code, problem.pointer) == (0, 4)


@judges("rfc8200/4.5/03")
def test_fragments_that_overlap_are_discarded(netemu_tester: Tester) -> None:
    tester = Tester6(netemu_tester)
    message = Icmpv6.echo_request(1, 1, bytes(40)).pack(tester.address, tester.gateway)
    for begin, end in ((0, 32), (24, 48)):
        header = Fragment6(begin, end < len(message), 4713).extension()
        tester.send(IPv6(tester.address, tester.gateway, NextHeader.ICMPV6, message[begin:end], extensions=(header,)))
    netemu_tester.silence(Icmpv6, type=Icmpv6Type.ECHO_REPLY)


@judges("rfc4443/2.4/02")
def test_no_error_about_an_error(netemu_tester: Tester) -> None:
    tester = Tester6(netemu_tester)
    outside = tester.gateway + (1 << 64)  # beside the prefix
    tester.send_icmp(Icmpv6.unreachable(0, bytes(48)), outside, hop_limit=1)
    netemu_tester.silence(Icmpv6, type=Icmpv6Type.TIME_EXCEEDED)
