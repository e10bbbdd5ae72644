"""Fragments at a user-mode network (RFC 791 3.2, RFC 1122 3.3.2, RFC 4787 REQ-14)."""

from __future__ import annotations

import pytest

from netemu.wire.icmpv4 import IcmpType, Icmpv4, TimeExceededCode
from netemu.wire.ipv4 import IPv4, Protocol
from netemu.wire.udp import Udp
from pytest_netemu.fragmenting import pieces
from pytest_netemu.suites import judges
from pytest_netemu.tester import Tester

pytestmark = pytest.mark.netemu_requires("arp", "icmp.echo")

_TIMEOUT = 130  # seconds; RFC 1122 recommends a fixed value between 60 and 120
_DATA = bytes(number & 0xFF for number in range(600))


def _echo(tester: Tester, *, sequence: int = 1, data: bytes = _DATA) -> IPv4:
    return tester.ip(tester.gateway, Protocol.ICMP, Icmpv4.echo_request(3, sequence, data).pack())


def _udp(tester: Tester, port: int) -> IPv4:
    return tester.ip(tester.gateway, Protocol.UDP, Udp(40_000, port, _DATA).pack(tester.address, tester.gateway))


@judges("rfc1122/3.3.2/01")
def test_fragments_are_put_together(netemu_tester: Tester) -> None:
    for piece in pieces(_echo(netemu_tester), 296):
        netemu_tester.send_ip(piece)
    assert netemu_tester.expect(Icmpv4, type=IcmpType.ECHO_REPLY)[Icmpv4].payload == _DATA


@judges("rfc791/3.1/02")
@pytest.mark.parametrize("first", [8, 280, 536])
def test_576_octets_are_accepted_in_fragments(netemu_tester: Tester, first: int) -> None:
    data = _DATA[: 576 - 20 - 8]
    for piece in pieces(_echo(netemu_tester, data=data), first):
        netemu_tester.send_ip(piece)
    assert netemu_tester.expect(Icmpv4, type=IcmpType.ECHO_REPLY)[Icmpv4].payload == data


@judges("rfc4787/11/01")
@pytest.mark.netemu_requires("nat.udp")
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0), (0, 2, 1)], ids=str)
def test_fragments_in_any_order_reach_the_host(netemu_tester: Tester, order: tuple[int, ...]) -> None:
    tester = netemu_tester
    with tester.backend.host.udp("127.0.0.1") as socket:
        parts = pieces(_udp(tester, socket.port), 200, 200)
        for number in order:
            tester.send_ip(parts[number])
        assert socket.recv().data == _DATA


@judges("rfc791/3.2/01")
def test_fragments_of_two_datagrams_are_not_mixed(netemu_tester: Tester) -> None:
    tester = netemu_tester
    first, second = pieces(_echo(tester, sequence=1), 304), pieces(_echo(tester, sequence=2, data=_DATA[::-1]), 304)
    for piece in (first[0], second[0], second[1], first[1]):
        tester.send_ip(piece)
    replies = {1: _DATA, 2: _DATA[::-1]}
    for sequence, data in replies.items():
        assert tester.expect(Icmpv4, type=IcmpType.ECHO_REPLY, sequence=sequence)[Icmpv4].payload == data


@judges("rfc1122/3.3.2/02")
@pytest.mark.netemu_requires("virtual-clock")
def test_half_a_datagram_is_not_kept_for_ever(netemu_tester: Tester) -> None:
    tester = netemu_tester
    first, second = pieces(_echo(tester), 304)
    tester.send_ip(first)
    tester.run_for(_TIMEOUT)
    tester.send_ip(second)
    tester.silence(Icmpv4, type=IcmpType.ECHO_REPLY)


@judges("rfc1122/3.3.2/03")
@pytest.mark.netemu_requires("virtual-clock")
def test_a_datagram_that_stayed_incomplete_is_reported(netemu_tester: Tester) -> None:
    tester = netemu_tester
    first, _ = pieces(_echo(tester), 304)
    tester.send_ip(first)
    error = tester.expect(Icmpv4, within=_TIMEOUT, type=IcmpType.TIME_EXCEEDED, code=TimeExceededCode.REASSEMBLY)[Icmpv4]
    assert error.payload.startswith(first.pack()[:28])


@judges("rfc1122/3.2.2/06")
@pytest.mark.netemu_requires("virtual-clock")
def test_no_error_about_a_later_fragment(netemu_tester: Tester) -> None:
    tester = netemu_tester
    _, second = pieces(_echo(tester), 304)
    tester.send_ip(second)
    tester.silence(Icmpv4, within=_TIMEOUT)
