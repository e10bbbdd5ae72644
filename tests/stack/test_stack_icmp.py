from __future__ import annotations

import errno
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from netemu.net.clock import MILLISECOND, SECOND
from netemu.stack.icmp import IcmpReport, TokenBucket, error_about, is_martian, next_plateau
from netemu.wire.errors import WireError
from netemu.wire.icmpv4 import IcmpType, Icmpv4, UnreachableCode
from netemu.wire.ipv4 import IPv4, Protocol
from netemu.wire.udp import Udp

A, B, ROUTER = IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2"), IPv4Address("10.0.0.254")
UDP = IPv4(A, B, Protocol.UDP, Udp(1000, 2000, bytes(1000)).pack(A, B), ttl=9, identification=3)


def port_unreachable(quoted: bytes) -> Icmpv4:
    return Icmpv4.unreachable(UnreachableCode.PORT, quoted)


def test_an_error_quotes_and_fits_in_576_octets():
    error = error_about(UDP, B, port_unreachable, identification=5)
    assert (error.source, error.destination, error.protocol, error.identification) == (B, A, Protocol.ICMP, 5)
    message = Icmpv4.parse(error.payload)
    assert (message.type, message.code) == (IcmpType.DESTINATION_UNREACHABLE, UnreachableCode.PORT)
    assert message.payload == UDP.pack()[: len(message.payload)]
    assert error.header_length + len(error.payload) == 576


def icmp(message: Icmpv4) -> IPv4:
    return replace(UDP, protocol=Protocol.ICMP, payload=message.pack())


@pytest.mark.parametrize(
    "silent",
    [
        replace(UDP, fragment_offset=8),
        replace(UDP, source=IPv4Address("0.0.0.0")),
        replace(UDP, source=IPv4Address("127.0.0.1")),
        replace(UDP, source=IPv4Address("224.0.0.1")),
        replace(UDP, source=IPv4Address("240.0.0.1")),
        replace(UDP, source=IPv4Address("255.255.255.255")),
        replace(UDP, destination=IPv4Address("224.0.0.1")),
        replace(UDP, destination=IPv4Address("255.255.255.255")),
        icmp(Icmpv4.unreachable(1, bytes(28))),
        icmp(Icmpv4.time_exceeded(0, bytes(28))),
        icmp(Icmpv4.parameter_problem(0, bytes(28))),
        icmp(Icmpv4(IcmpType.REDIRECT, 0, 0, bytes(28))),
        icmp(Icmpv4(IcmpType.SOURCE_QUENCH, 0, 0, bytes(28))),
        replace(UDP, protocol=Protocol.ICMP, payload=b""),
    ],
)
def test_what_no_error_may_be_sent_about(silent):
    assert error_about(silent, B, port_unreachable) is None


def test_no_error_about_a_broadcast_that_only_the_link_knows():
    assert error_about(UDP, B, port_unreachable, broadcast=True) is None


@pytest.mark.parametrize("loud", [icmp(Icmpv4.echo_request(1, 2, b"")), replace(UDP, more_fragments=True)])
def test_what_an_error_may_be_sent_about(loud):
    assert error_about(loud, B, port_unreachable) is not None


@pytest.mark.parametrize(
    ("text", "martian"),
    [
        ("0.0.0.0", True),
        ("0.1.2.3", True),
        ("10.0.0.1", False),
        ("126.255.255.255", False),
        ("127.0.0.1", True),
        ("128.0.0.1", False),
        ("223.255.255.255", False),
        ("224.0.0.1", True),
        ("239.1.1.1", True),
        ("240.0.0.1", True),
        ("255.255.255.255", True),
    ],
)
def test_martians(text, martian):
    assert is_martian(int(IPv4Address(text))) is martian


def test_a_token_bucket_lets_a_burst_through_and_then_the_rate():
    bucket = TokenBucket(rate=100, burst=3)
    assert [bucket.take(0) for _ in range(4)] == [True, True, True, False]
    assert not bucket.take(10 * MILLISECOND - 1)
    assert bucket.take(10 * MILLISECOND)
    assert not bucket.take(10 * MILLISECOND)
    assert [bucket.take(SECOND) for _ in range(4)] == [True, True, True, False]


def test_a_report_says_what_was_quoted():
    error = error_about(UDP, B, port_unreachable)
    report = IcmpReport.parse(Icmpv4.parse(error.payload), B)
    assert (report.type, report.code, report.reporter) == (IcmpType.DESTINATION_UNREACHABLE, UnreachableCode.PORT, B)
    assert (report.source, report.destination, report.protocol) == (A, B, Protocol.UDP)
    assert report.ports == (1000, 2000)
    assert report.total_length == 1028
    assert report.errno == errno.ECONNREFUSED
    local = IcmpReport.local(UnreachableCode.HOST, UDP)
    assert (local.reporter, local.ports, local.total_length) == (None, (1000, 2000), 1028)
    assert local.errno == errno.EHOSTUNREACH


@pytest.mark.parametrize("length", [*range(28)])
def test_a_quotation_too_short_is_malformed(length):
    with pytest.raises(WireError) as caught:
        IcmpReport.parse(Icmpv4.unreachable(3, UDP.pack()[:length]), B)
    assert caught.value.field == "icmpv4.quotation"


def test_the_shortest_quotation():
    assert IcmpReport.parse(Icmpv4.unreachable(3, UDP.pack()[:28]), B).ports == (1000, 2000)


def test_a_quotation_of_something_else_is_malformed():
    for first in (0x65, 0x44, 0x4F):
        with pytest.raises(WireError):
            IcmpReport.parse(Icmpv4.unreachable(3, bytes((first,)) + UDP.pack()[1:28]), B)


@pytest.mark.parametrize(
    ("kind", "code", "expected"),
    [
        (IcmpType.DESTINATION_UNREACHABLE, 0, errno.ENETUNREACH),
        (IcmpType.DESTINATION_UNREACHABLE, 1, errno.EHOSTUNREACH),
        (IcmpType.DESTINATION_UNREACHABLE, 2, errno.ENOPROTOOPT),
        (IcmpType.DESTINATION_UNREACHABLE, 4, errno.EMSGSIZE),
        (IcmpType.DESTINATION_UNREACHABLE, 13, errno.EHOSTUNREACH),
        (IcmpType.DESTINATION_UNREACHABLE, 99, errno.EPROTO),
        (IcmpType.TIME_EXCEEDED, 0, errno.EHOSTUNREACH),
        (IcmpType.TIME_EXCEEDED, 1, errno.EHOSTUNREACH),
        (IcmpType.PARAMETER_PROBLEM, 0, errno.EPROTO),
    ],
)
def test_errno(kind, code, expected):
    assert IcmpReport.parse(Icmpv4(kind, code, 0, UDP.pack()), ROUTER).errno == expected


@pytest.mark.parametrize(
    ("size", "plateau"),
    [
        (65535, 32000),
        (32000, 17914),
        (17914, 8166),
        (8166, 4352),
        (4352, 2002),
        (2002, 1492),
        (1500, 1492),
        (1492, 1006),
        (1006, 508),
        (576, 508),
        (508, 296),
        (296, 68),
        (69, 68),
        (68, 68),
        (1, 68),
    ],
)
def test_plateaus(size, plateau):
    assert next_plateau(size) == plateau
