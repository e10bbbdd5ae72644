"""UDP through a user-mode network: datagrams arrive as they were sent, and the mapping is a good NAT's (RFC 768, RFC 4787)."""

from __future__ import annotations

import pytest

from netemu.net.sockets import Datagram
from netemu.wire.icmpv4 import IcmpType, Icmpv4, UnreachableCode
from netemu.wire.ipv4 import IPv4, Protocol
from netemu.wire.udp import Udp
from pytest_netemu.outcomes import Inconclusive
from pytest_netemu.suites import judges
from pytest_netemu.tester import Tester

pytestmark = pytest.mark.netemu_requires("arp", "nat.udp")

_PORT = 40_010  # the tester's
_CLOSED = 9
_CHECKSUM = slice(6, 8)  # where length and checksum are in a datagram
_LENGTH = slice(4, 6)


@pytest.fixture
def server(netemu_tester: Tester) -> Datagram:
    """A socket on the host's loopback, which the guest knows as the gateway."""
    return netemu_tester.backend.host.udp("127.0.0.1")


def _send_raw(tester: Tester, octets: bytes) -> None:
    tester.send_ip(tester.ip(tester.gateway, Protocol.UDP, octets))


def _ask(tester: Tester, server: Datagram, payload: bytes = b"question", port: int = _PORT) -> int:
    """Send a datagram to the server; the port it comes from on the host."""
    tester.send_udp(payload, server.port, source_port=port)
    received = server.recv()
    assert received.data == payload, f"the guest sent {payload!r}, the host read {received.data!r}"
    return received.source.port


def _answer(tester: Tester, server: Datagram, port: int, payload: bytes = b"answer") -> None:
    """Send to that port of the host; the tester gets it."""
    server.send_to(payload, "127.0.0.1", port)
    tester.expect(Udp, payload=payload, source_port=server.port)


def _last_checksum(tester: Tester) -> bytes:
    """As it was in the last frame that the tester got."""
    frame = next(r.frame for r in reversed(tester.network.frames.records) if r.destination == "tester")
    return frame[14 + 20 :][_CHECKSUM]


@judges("rfc768/fields/01")
def test_no_checksum_is_accepted(netemu_tester: Tester, server: Datagram) -> None:
    octets = bytearray(Udp(_PORT, server.port, b"unsummed").pack(netemu_tester.address, netemu_tester.gateway))
    octets[_CHECKSUM] = bytes(2)
    _send_raw(netemu_tester, bytes(octets))
    assert server.recv().data == b"unsummed"


@judges("rfc768/fields/02")
def test_a_checksum_of_zero_is_sent_as_ones(netemu_tester: Tester, server: Datagram) -> None:
    """An answer whose last two octets are chosen so that the sum comes out as zero."""
    tester = netemu_tester
    port = _ask(tester, server)
    _answer(tester, server, port, b"ordinary")
    if _last_checksum(tester) == bytes(2):
        raise Inconclusive("answers have no checksum, which is what a zero means (RFC 768)")
    blank = Udp(server.port, _PORT, bytes(2)).pack(tester.gateway, tester.address)
    payload = blank[_CHECKSUM]  # adding the complement of the rest's sum makes the whole sum 0xffff
    _answer(tester, server, port, payload)
    assert _last_checksum(tester) == b"\xff\xff"


@judges("rfc768/fields/03")
def test_what_is_behind_the_length_is_not_data(netemu_tester: Tester, server: Datagram) -> None:
    octets = Udp(_PORT, server.port, b"data").pack(netemu_tester.address, netemu_tester.gateway)
    _send_raw(netemu_tester, octets + b"behind")
    data = server.recv().data
    assert data == b"data", f"the datagram's length ends it behind b'data', and the host read {data!r}"


@judges("rfc768/fields/04")
def test_an_empty_datagram_is_one(netemu_tester: Tester, server: Datagram) -> None:
    port = _ask(netemu_tester, server, b"")
    _answer(netemu_tester, server, port, b"")


@judges("rfc768/fields/05")
def test_the_answer_goes_to_the_port_that_asked(netemu_tester: Tester, server: Datagram) -> None:
    ports = {_PORT: b"one", _PORT + 1: b"two"}
    outside = {port: _ask(netemu_tester, server, payload, port) for port, payload in ports.items()}
    for port, payload in ports.items():
        server.send_to(payload, "127.0.0.1", outside[port])
        packet = netemu_tester.expect(Udp, destination_port=port)
        assert packet[Udp].payload == payload
        assert packet[IPv4].source == netemu_tester.gateway


@judges("rfc1122/4.1.3.4/01")
def test_a_wrong_checksum_is_discarded(netemu_tester: Tester, server: Datagram) -> None:
    octets = bytearray(Udp(_PORT, server.port, b"damaged").pack(netemu_tester.address, netemu_tester.gateway))
    octets[_CHECKSUM.start] ^= 0x55
    _send_raw(netemu_tester, bytes(octets))
    _ask(netemu_tester, server, b"whole")


@judges("rfc1122/4.1.3.4/02")
def test_answers_have_a_checksum(netemu_tester: Tester, server: Datagram) -> None:
    port = _ask(netemu_tester, server)
    server.send_to(b"answer", "127.0.0.1", port)
    payload = netemu_tester.expect(IPv4, protocol=Protocol.UDP)[IPv4].payload
    assert payload[_CHECKSUM] != bytes(2), "the datagram has no checksum"
    Udp.parse(payload, netemu_tester.gateway, netemu_tester.address)


@judges("rfc4787/4.1/01")
def test_one_mapping_for_all_remote_endpoints(netemu_tester: Tester, server: Datagram) -> None:
    with netemu_tester.backend.host.udp("127.0.0.1") as other:
        assert _ask(netemu_tester, server) == _ask(netemu_tester, other)


@judges("rfc4787/4.2.1/01")
def test_two_guest_ports_have_two_outside_ports(netemu_tester: Tester, server: Datagram) -> None:
    outside = [_ask(netemu_tester, server, port=_PORT + number) for number in range(8)]
    assert len(set(outside)) == len(outside)


@judges("rfc4787/4.3/01")
@pytest.mark.netemu_requires("virtual-clock")
def test_a_mapping_lives_for_two_minutes(netemu_tester: Tester, server: Datagram) -> None:
    port = _ask(netemu_tester, server)
    netemu_tester.run_for(119)
    _answer(netemu_tester, server, port)


@judges("rfc4787/4.3/02")
@pytest.mark.netemu_requires("virtual-clock")
def test_a_mapping_lives_for_five_minutes(netemu_tester: Tester, server: Datagram) -> None:
    port = _ask(netemu_tester, server)
    netemu_tester.run_for(299)
    _answer(netemu_tester, server, port)


@judges("rfc4787/4.3/03")
@pytest.mark.netemu_requires("virtual-clock")
@pytest.mark.parametrize("times", [1, 2, 4, 8])
def test_what_goes_out_refreshes_the_mapping(netemu_tester: Tester, server: Datagram, times: int) -> None:
    """However long the timer is: one that is not refreshed ends before one of these answers."""
    port = _ask(netemu_tester, server)
    for _ in range(times):
        netemu_tester.run_for(119)
        assert _ask(netemu_tester, server) == port
    netemu_tester.run_for(119)
    _answer(netemu_tester, server, port)


@judges("rfc4787/8/01")
def test_a_mapping_does_not_change_under_others(netemu_tester: Tester, server: Datagram) -> None:
    port = _ask(netemu_tester, server)
    for number in range(1, 100):
        _ask(netemu_tester, server, port=_PORT + number)
    _answer(netemu_tester, server, port)
    assert _ask(netemu_tester, server) == port


@judges("rfc4787/9/01")
def test_an_icmp_error_does_not_end_the_mapping(netemu_tester: Tester, server: Datagram) -> None:
    tester = netemu_tester
    port = _ask(tester, server)
    tester.send_udp(b"nobody", _CLOSED, source_port=_PORT)
    tester.expect(Icmpv4, type=IcmpType.DESTINATION_UNREACHABLE)
    _answer(tester, server, port)
    answer = tester.ip(tester.gateway, Protocol.UDP, Udp(server.port, _PORT, b"").pack(tester.gateway, tester.address))
    tester.send_icmp(Icmpv4.unreachable(UnreachableCode.HOST, answer.pack()))
    _answer(tester, server, port)
    assert _ask(tester, server) == port
