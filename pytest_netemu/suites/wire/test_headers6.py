"""IPv6 headers and fragments at a guest (RFC 8200)."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from netemu.wire.ether import EtherType
from netemu.wire.icmpv6 import Icmpv6, Icmpv6ParameterProblemCode, Icmpv6TimeExceededCode, Icmpv6Type
from netemu.wire.ipv6 import HEADER_LENGTH, Extension, Fragment6, IPv6, NextHeader
from netemu.wire.udp import Udp
from pytest_netemu.suites import judges
from pytest_netemu.wire import Wire
from pytest_netemu.wire6 import Wire6

pytestmark = pytest.mark.netemu_requires("slaac")

_PADDING = b"\1\4\0\0\0\0"  # PadN, six octets
_UNKNOWN_OPTION = 0x1E  # RFC 4727 3.6, for experiments; its two high bits say what is to be done
_UNKNOWN_ROUTING = 253  # RFC 4727 3.5, for experiments
_UNKNOWN_HEADER = 253  # RFC 3692, for experiments
_WITH_OPTIONS = (NextHeader.HOP_BY_HOP, NextHeader.DESTINATION_OPTIONS)
_DATA = bytes(number & 0xFF for number in range(1452))
_CLOSED = 9  # the discard service, which nobody runs
_TIMEOUT = 60.0  # seconds (4.5)
_GRACE = 5.0


def _with_option(kind: int, action: int) -> Extension:
    return Extension(kind, bytes((action << 6 | _UNKNOWN_OPTION, 4)) + bytes(4))


def _fragments(packet: IPv6, *ends: int, identification: int = 4712) -> list[IPv6]:
    """`packet` cut behind these octets of its payload."""
    bounds = (0, *ends, len(packet.payload))
    return [
        replace(
            packet,
            payload=packet.payload[begin:end],
            extensions=(Fragment6(begin, end < len(packet.payload), identification).extension(),),
        )
        for begin, end in pairwise(bounds)
    ]


def _problem(six: Wire6, code: int, pointer: int) -> None:
    """The guest complains of that octet."""
    error = six.wire.expect(Icmpv6, type=Icmpv6Type.PARAMETER_PROBLEM)[Icmpv6]
    assert (error.code, error.pointer) == (code, pointer)


def _no_error(six: Wire6) -> None:
    six.silence(Icmpv6, lambda message: message.is_error)


@judges("rfc8200/3/01")
def test_what_is_behind_the_payload_is_not_part_of_it(netemu_wire: Wire) -> None:
    six = Wire6(netemu_wire).up()
    netemu_wire.send(netemu_wire.ethernet(netemu_wire.guest.mac, EtherType.IPV6, six.echo_packet(b"data").pack() + b"behind"))
    assert six.answered()[Icmpv6].payload == b"data"


@judges("rfc8200/3/02")
def test_a_packet_at_its_end_needs_no_more_hops(netemu_wire: Wire) -> None:
    six = Wire6(netemu_wire).up()
    six.echo(hop_limit=0)
    six.answered()


@judges("rfc8200/4/01")
def test_an_unknown_next_header_is_reported(netemu_wire: Wire) -> None:
    six = Wire6(netemu_wire).up()
    six.send(IPv6(six.address, six.guest_address, _UNKNOWN_HEADER, b"an experiment"))
    _problem(six, Icmpv6ParameterProblemCode.NEXT_HEADER, 6)


@judges("rfc8200/4/01")
def test_an_unknown_header_behind_another_is_pointed_at(netemu_wire: Wire) -> None:
    six = Wire6(netemu_wire).up()
    extensions = (Extension(NextHeader.DESTINATION_OPTIONS, _PADDING),)
    six.send(IPv6(six.address, six.guest_address, _UNKNOWN_HEADER, b"an experiment", extensions=extensions))
    _problem(six, Icmpv6ParameterProblemCode.NEXT_HEADER, HEADER_LENGTH)


@judges("rfc8200/4/03")
def test_hop_by_hop_options_come_first_or_not_at_all(netemu_wire: Wire) -> None:
    six = Wire6(netemu_wire).up()
    kinds = (NextHeader.DESTINATION_OPTIONS, NextHeader.HOP_BY_HOP)
    six.echo(extensions=tuple(Extension(kind, _PADDING) for kind in kinds))
    _problem(six, Icmpv6ParameterProblemCode.NEXT_HEADER, HEADER_LENGTH)


@judges("rfc8200/4.7/01")
def test_behind_no_next_header_is_nothing(netemu_wire: Wire) -> None:
    six = Wire6(netemu_wire).up()
    six.send(IPv6(six.address, six.guest_address, NextHeader.NO_NEXT_HEADER, b"nothing"))
    _no_error(six)


@judges("rfc8200/4.1/01")
@pytest.mark.parametrize(
    "kinds",
    [
        (NextHeader.HOP_BY_HOP,),
        (NextHeader.DESTINATION_OPTIONS,),
        (NextHeader.HOP_BY_HOP, NextHeader.DESTINATION_OPTIONS, NextHeader.ROUTING, NextHeader.DESTINATION_OPTIONS),
    ],
    ids=lambda kinds: "then ".join(str(int(kind)) for kind in kinds),
)
def test_extension_headers_come_in_any_order(netemu_wire: Wire, kinds: tuple[int, ...]) -> None:
    six = Wire6(netemu_wire).up()
    ended = bytes((_UNKNOWN_ROUTING, 0)) + bytes(4)
    six.echo(extensions=tuple(Extension(kind, ended if kind == NextHeader.ROUTING else _PADDING) for kind in kinds))
    six.answered()


@judges("rfc8200/4.2/01")
@pytest.mark.parametrize("kind", _WITH_OPTIONS, ids=int)
def test_an_option_that_may_be_skipped_is(netemu_wire: Wire, kind: int) -> None:
    six = Wire6(netemu_wire).up()
    six.echo(extensions=(_with_option(kind, 0),))
    six.answered()


@judges("rfc8200/4.2/02")
@pytest.mark.parametrize("kind", _WITH_OPTIONS, ids=int)
def test_an_option_that_ends_the_packet_does(netemu_wire: Wire, kind: int) -> None:
    six = Wire6(netemu_wire).up()
    six.echo(extensions=(_with_option(kind, 1),))
    six.silence(Icmpv6, lambda message: message.is_error or message.payload == b"ping")


@judges("rfc8200/4.2/03")
@judges("rfc8200/4.2/04")
@pytest.mark.parametrize("action", [2, 3])
@pytest.mark.parametrize("kind", _WITH_OPTIONS, ids=int)
def test_an_option_that_wants_it_told_is_pointed_at(netemu_wire: Wire, kind: int, action: int) -> None:
    six = Wire6(netemu_wire).up()
    six.echo(extensions=(_with_option(kind, action),))
    _problem(six, Icmpv6ParameterProblemCode.OPTION, HEADER_LENGTH + 2)


@judges("rfc8200/4.4/01")
def test_a_routing_header_at_its_end_is_ignored(netemu_wire: Wire) -> None:
    six = Wire6(netemu_wire).up()
    six.echo(extensions=(Extension(NextHeader.ROUTING, bytes((_UNKNOWN_ROUTING, 0)) + bytes(4)),))
    six.answered()


@judges("rfc8200/4.4/02")
def test_a_routing_header_with_segments_left_is_refused(netemu_wire: Wire) -> None:
    six = Wire6(netemu_wire).up()
    six.echo(extensions=(Extension(NextHeader.ROUTING, bytes((_UNKNOWN_ROUTING, 1)) + bytes(4)),))
    _problem(six, Icmpv6ParameterProblemCode.HEADER_FIELD, HEADER_LENGTH + 2)


@judges("rfc8200/8.1/01")
def test_a_datagram_without_a_checksum_is_discarded(netemu_wire: Wire) -> None:
    six = Wire6(netemu_wire).up()
    datagram = bytearray(Udp(40_000, _CLOSED, b"nobody").pack(six.address, six.guest_address))
    datagram[6:8] = bytes(2)
    six.send(IPv6(six.address, six.guest_address, NextHeader.UDP, bytes(datagram)))
    _no_error(six)


# Fragments


@judges("rfc8200/5/01")
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)], ids=str)
def test_1500_octets_are_put_together_in_any_order(netemu_wire: Wire, order: tuple[int, ...]) -> None:
    six = Wire6(netemu_wire).up()
    parts = _fragments(six.echo_packet(_DATA), 512, 1024)
    for number in order:
        six.send(parts[number])
    assert six.answered()[Icmpv6].payload == _DATA


@judges("rfc8200/4.5/04")
def test_fragments_of_two_packets_are_not_mixed(netemu_wire: Wire) -> None:
    six = Wire6(netemu_wire).up()
    first = _fragments(six.echo_packet(_DATA), 512, identification=1)
    second = _fragments(six.echo_packet(_DATA[::-1], 2), 512, identification=2)
    for piece in (first[0], second[0], second[1], first[1]):
        six.send(piece)
    assert (six.answered(1)[Icmpv6].payload, six.answered(2)[Icmpv6].payload) == (_DATA, _DATA[::-1])


@judges("rfc8200/4.5/05")
def test_a_packet_in_one_fragment_stands_alone(netemu_wire: Wire) -> None:
    """Whatever other fragments have its identification."""
    six = Wire6(netemu_wire).up()
    six.send(_fragments(six.echo_packet(_DATA), 512)[0])
    for whole in _fragments(six.echo_packet(b"whole", 2)):
        six.send(whole)
    assert six.answered(2)[Icmpv6].payload == b"whole"


@judges("rfc8200/4.5/02")
def test_a_fragment_of_an_odd_length_is_refused(netemu_wire: Wire) -> None:
    six = Wire6(netemu_wire).up()
    packet = six.echo_packet(_DATA)
    six.send(replace(packet, payload=packet.payload[:509], extensions=(Fragment6(0, True, 4712).extension(),)))
    _problem(six, Icmpv6ParameterProblemCode.HEADER_FIELD, 4)


@judges("rfc8200/4.5/03")
def test_fragments_that_overlap_are_discarded(netemu_wire: Wire) -> None:
    six = Wire6(netemu_wire).up()
    packet = six.echo_packet(bytes(40))
    for begin, end in ((0, 32), (24, 48)):
        header = Fragment6(begin, end < len(packet.payload), 4713).extension()
        six.send(replace(packet, payload=packet.payload[begin:end], extensions=(header,)))
    six.unanswered()


@judges("rfc8200/4.5/06")
def test_a_packet_that_would_be_too_long_is_refused(netemu_wire: Wire) -> None:
    six = Wire6(netemu_wire).up()
    header = Fragment6(65_528, False, 4714).extension()
    six.send(IPv6(six.address, six.guest_address, NextHeader.ICMPV6, bytes(16), extensions=(header,)))
    _problem(six, Icmpv6ParameterProblemCode.HEADER_FIELD, HEADER_LENGTH + 2)


@judges("rfc8200/4.5/07")
def test_a_first_fragment_without_the_transports_header_is_refused(netemu_wire: Wire) -> None:
    six = Wire6(netemu_wire).up()
    options = bytes((NextHeader.ICMPV6, 1)) + b"\1\4" + bytes(12)  # says 16 octets, of which 8 are here
    header = Fragment6(0, True, 4715).extension()
    six.send(IPv6(six.address, six.guest_address, NextHeader.DESTINATION_OPTIONS, options[:8], extensions=(header,)))
    _problem(six, Icmpv6ParameterProblemCode.INCOMPLETE_CHAIN, 0)


@judges("rfc8200/4.5/01")
@pytest.mark.netemu_requires("virtual-clock")
def test_half_a_packet_is_not_kept_for_ever(netemu_wire: Wire) -> None:
    six = Wire6(netemu_wire).up()
    first, second = _fragments(six.echo_packet(_DATA), 512)
    six.send(first)
    netemu_wire.run_for(_TIMEOUT + _GRACE)
    six.send(second)
    six.unanswered()


@judges("rfc8200/4.5/08")
@pytest.mark.netemu_requires("virtual-clock")
def test_a_packet_that_stayed_incomplete_is_reported(netemu_wire: Wire) -> None:
    six = Wire6(netemu_wire).up()
    first, _ = _fragments(six.echo_packet(_DATA), 512)
    six.send(first)
    exceeded, code = Icmpv6Type.TIME_EXCEEDED, Icmpv6TimeExceededCode.REASSEMBLY
    error = netemu_wire.expect(Icmpv6, within=_TIMEOUT + _GRACE, type=exceeded, code=code)[Icmpv6]
    assert error.payload.startswith(first.pack()[:48])
