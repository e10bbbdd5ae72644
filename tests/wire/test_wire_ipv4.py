"""IPv4 and ICMP: each rule, on literal octets."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from netemu.errors import LocalError
from netemu.wire.checksum import internet_checksum
from netemu.wire.errors import WireError
from netemu.wire.icmpv4 import IcmpType, Icmpv4, TimeExceededCode, UnreachableCode
from netemu.wire.ipv4 import IPv4, Protocol

DATAGRAM = IPv4(IPv4Address("192.168.0.1"), IPv4Address("192.168.0.199"), Protocol.UDP, b"payload!", dont_fragment=True)
# The words but the checksum sum to 4500+001c+4000+4011+c0a8+0001+c0a8+00c7 = 0x24745, folded 0x4747; ~0x4747 = 0xb8b8.
OCTETS = bytes.fromhex("4500 001c 0000 4000 4011 b8b8 c0a80001 c0a800c7") + b"payload!"


def with_checksum(octets: bytes) -> bytes:
    """The same header with its checksum made right, so that only the rule under test is broken."""
    length = max((octets[0] & 0xF) * 4, 20)
    header = octets[:10] + b"\0\0" + octets[12:length]
    return header[:10] + internet_checksum(header).to_bytes(2, "big") + header[12:] + octets[length:]


def test_a_datagram_octet_by_octet():
    assert DATAGRAM.pack() == OCTETS
    assert IPv4.parse(OCTETS) == DATAGRAM


def test_octets_behind_the_total_length_are_dropped():
    assert IPv4.parse(OCTETS + bytes(18)) == DATAGRAM


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({0: 0x65}, "ipv4.version"),
        ({0: 0x44}, "ipv4.ihl"),
        ({0: 0x4F}, "ipv4.ihl"),
        ({3: 19}, "ipv4.total_length"),
        ({3: 29}, "ipv4.total_length"),
        ({0: 0x46, 3: 23}, "ipv4.total_length"),  # less than a header with options
    ],
)
def test_each_length_rule_of_rfc_1122(change, field):
    octets = bytearray(OCTETS)
    for offset, value in change.items():
        octets[offset] = value
    with pytest.raises(WireError) as caught:
        IPv4.parse(with_checksum(bytes(octets)))
    assert caught.value.field == field


def test_a_wrong_header_checksum_is_refused():
    with pytest.raises(WireError) as caught:
        IPv4.parse(OCTETS[:8] + b"\x3f" + OCTETS[9:])
    assert (caught.value.field, caught.value.offset) == ("ipv4.header_checksum", 10)


def test_the_reserved_flag_is_ignored():
    assert IPv4.parse(with_checksum(OCTETS[:6] + b"\xc0" + OCTETS[7:])) == DATAGRAM


@pytest.mark.parametrize(
    ("change", "is_fragment"),
    [({}, False), ({"more_fragments": True}, True), ({"fragment_offset": 8}, True), ({"dont_fragment": True}, False)],
)
def test_what_a_fragment_is(change, is_fragment):
    datagram = replace(DATAGRAM, dont_fragment=False)
    assert replace(datagram, **change).is_fragment is is_fragment


def test_fragment_offset_is_in_octets():
    assert IPv4.parse(replace(DATAGRAM, fragment_offset=1480).pack()).fragment_offset == 1480
    assert replace(DATAGRAM, fragment_offset=1480).pack()[6:8] == (0x4000 | 185).to_bytes(2, "big")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"fragment_offset": 4}, "multiple of 8"),
        ({"fragment_offset": 65536}, "from 0 to 65528"),
        ({"options": b"\1"}, "multiple of 4"),
        ({"options": bytes(44)}, "at most 40"),
        ({"payload": bytes(65516)}, "65,535 is the most"),
        ({"dscp": 64}, "from 0 to 63"),
        ({"ecn": 4}, "from 0 to 3"),
        ({"ttl": 256}, r"IPv4\.ttl is 256: give an integer from 0 to 255"),
    ],
)
def test_pack_refuses_what_the_header_cannot_hold(change, words):
    with pytest.raises(LocalError, match=words):
        replace(DATAGRAM, **change).pack()


def test_options_count_in_the_header_length():
    datagram = replace(DATAGRAM, options=bytes((148, 4, 0, 0)))  # router alert, RFC 2113
    octets = datagram.pack()
    assert octets[0] == 0x46
    assert datagram.header_length == 24
    assert IPv4.parse(octets) == datagram


def test_an_echo_octet_by_octet():
    request = Icmpv4.echo_request(0x1234, 7, b"ab")
    # 0800+1234+0007+6162 = 0x7b9d; ~0x7b9d = 0x8462.
    assert request.pack() == bytes.fromhex("08 00 8462 1234 0007") + b"ab"
    assert (request.identifier, request.sequence) == (0x1234, 7)
    assert Icmpv4.parse(request.pack()) == request


def test_a_reply_returns_what_was_asked():
    reply = Icmpv4.echo_reply(0x1234, 7, b"ab")
    assert (reply.type, reply.code, reply.rest, reply.payload) == (0, 0, 0x12340007, b"ab")


def test_identifier_and_sequence_do_not_spill():
    request = Icmpv4.echo_request(0x51234, 0x10007, b"")
    assert (request.identifier, request.sequence) == (0x1234, 7)


def test_fragmentation_needed_tells_the_mtu():
    message = Icmpv4.unreachable(UnreachableCode.FRAGMENTATION_NEEDED, OCTETS, mtu=1400)
    assert message.mtu == 1400
    assert message.pack()[4:8] == (1400).to_bytes(4, "big")


def test_parameter_problem_points_at_an_octet():
    message = Icmpv4.parameter_problem(20, OCTETS)
    assert message.pointer == 20
    assert message.pack()[4:8] == bytes((20, 0, 0, 0))


def test_a_quote_keeps_the_error_within_576_octets():
    for message in (
        Icmpv4.unreachable(UnreachableCode.PORT, bytes(1500)),
        Icmpv4.time_exceeded(TimeExceededCode.TTL, bytes(1500)),
        Icmpv4.parameter_problem(0, bytes(1500)),
    ):
        assert len(IPv4(DATAGRAM.source, DATAGRAM.destination, Protocol.ICMP, message.pack()).pack()) == 576


def test_which_messages_are_errors():
    # RFC 1122, 3.2.2.
    errors = {kind for kind in range(256) if Icmpv4(kind, 0, 0, b"").is_error}
    assert errors == {3, 4, 5, 11, 12}
    assert not Icmpv4(IcmpType.ECHO_REQUEST, 0, 0, b"").is_error


def test_a_wrong_icmp_checksum_is_refused():
    octets = bytearray(Icmpv4.echo_request(1, 1, b"odd").pack())
    octets[-1] ^= 1
    with pytest.raises(WireError) as caught:
        Icmpv4.parse(octets)
    assert caught.value.field == "icmpv4.checksum"
