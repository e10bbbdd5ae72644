"""ICMPv6: each rule, on literal octets; and the transports over IPv6."""

from __future__ import annotations

import pytest
from wire_strategies import V6_DESTINATION, V6_SOURCE

from netemu.errors import LocalError
from netemu.wire.errors import WireError
from netemu.wire.icmpv6 import (
    Icmpv6,
    Icmpv6ParameterProblemCode,
    Icmpv6TimeExceededCode,
    Icmpv6Type,
    Icmpv6UnreachableCode,
)
from netemu.wire.ipv6 import IPv6, NextHeader
from netemu.wire.tcp import SYN, Tcp
from netemu.wire.udp import Udp


def test_an_echo_octet_by_octet():
    request = Icmpv6.echo_request(0x1234, 7, b"ab")
    octets = request.pack(V6_SOURCE, V6_DESTINATION)
    # Pseudo-header fec0+0015+fec0+0002+000a+003a, message 8000+1234+0007+6162: 0x2f178, folded 0xf17a; ~0xf17a = 0x0e85.
    assert octets == bytes.fromhex("80 00 0e85 1234 0007") + b"ab"
    assert Icmpv6.parse(octets, V6_SOURCE, V6_DESTINATION) == request
    assert (request.identifier, request.sequence) == (0x1234, 7)


def test_a_reply_returns_what_was_asked():
    reply = Icmpv6.echo_reply(0x1234, 7, b"ab")
    assert (reply.type, reply.code, reply.rest, reply.payload) == (129, 0, 0x12340007, b"ab")


def test_identifier_and_sequence_do_not_spill():
    for echo in (Icmpv6.echo_request(0x5FFFF, 0x1FFFF, b""), Icmpv6.echo_reply(0x5FFFF, 0x1FFFF, b"")):
        assert (echo.identifier, echo.sequence) == (0xFFFF, 0xFFFF)


def test_packet_too_big_tells_the_mtu():
    message = Icmpv6.packet_too_big(70000, b"packet")
    assert (message.type, message.code, message.mtu) == (2, 0, 70000)
    assert message.pack(V6_SOURCE, V6_DESTINATION)[4:8] == (70000).to_bytes(4, "big")


def test_parameter_problem_points_at_an_octet():
    message = Icmpv6.parameter_problem(Icmpv6ParameterProblemCode.NEXT_HEADER, 40, b"packet")
    assert (message.type, message.code, message.pointer) == (4, 1, 40)


def test_a_quote_keeps_the_error_within_the_minimum_mtu():
    for message in (
        Icmpv6.unreachable(Icmpv6UnreachableCode.PORT, bytes(1500)),
        Icmpv6.packet_too_big(1280, bytes(1500)),
        Icmpv6.time_exceeded(Icmpv6TimeExceededCode.HOP_LIMIT, bytes(1500)),
        Icmpv6.parameter_problem(Icmpv6ParameterProblemCode.HEADER_FIELD, 0, bytes(1500)),
    ):
        octets = message.pack(V6_SOURCE, V6_DESTINATION)
        assert len(IPv6(V6_SOURCE, V6_DESTINATION, NextHeader.ICMPV6, octets).pack()) == 1280


def test_which_messages_are_errors():
    # RFC 4443, 2.1: the high bit of the type says so.
    assert {kind for kind in range(256) if Icmpv6(kind, 0, 0, b"").is_error} == set(range(128))
    assert not Icmpv6(Icmpv6Type.ECHO_REQUEST, 0, 0, b"").is_error


def test_the_checksum_covers_the_addresses():
    octets = Icmpv6.echo_request(1, 1, b"odd").pack(V6_SOURCE, V6_DESTINATION)
    with pytest.raises(WireError) as caught:
        Icmpv6.parse(octets, V6_SOURCE, V6_SOURCE)
    assert (caught.value.field, caught.value.offset) == ("icmpv6.checksum", 2)


def test_a_short_message_is_refused():
    with pytest.raises(WireError, match="at least 8 octets, 7 are here"):
        Icmpv6.parse(bytes(7), V6_SOURCE, V6_DESTINATION)


def test_a_field_out_of_range_is_a_local_error():
    with pytest.raises(LocalError, match=r"Icmpv6\.rest"):
        Icmpv6.packet_too_big(1 << 32, b"").pack(V6_SOURCE, V6_DESTINATION)


@pytest.mark.parametrize("transport", [Udp(1, 2, b"x"), Tcp(1, 2, 3, 0, SYN, 4)], ids=["udp", "tcp"])
def test_a_transport_checksum_over_ipv6_covers_the_addresses(transport):
    octets = transport.pack(V6_SOURCE, V6_DESTINATION)
    assert type(transport).parse(octets, V6_SOURCE, V6_DESTINATION) == transport
    with pytest.raises(WireError, match="does not sum"):
        type(transport).parse(octets, V6_SOURCE, V6_SOURCE)
