"""ICMP at a user-mode network: the echo server, and errors (RFC 792, RFC 1122 3.2.2, RFC 1812 4.3.2)."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest

from netemu.io.oshost import NetnsHost
from netemu.io.simhost import SimHost
from netemu.wire.icmpv4 import IcmpType, Icmpv4, TimeExceededCode, UnreachableCode
from netemu.wire.ipv4 import IPv4, Protocol
from netemu.wire.tcp import SYN
from netemu.wire.udp import Udp
from pytest_netemu.suites import judges
from pytest_netemu.tester import Tester
from pytest_netemu.tester_tcp import TcpPeer

pytestmark = pytest.mark.netemu_requires("arp", "icmp.echo")

_OUTSIDE = IPv4Address("198.51.100.7")  # TEST-NET-2
_NOWHERE = "203.0.113.0/24"  # TEST-NET-3
_CLOSED = 9  # the discard service, which nobody runs
_UNKNOWN_TYPE = 42


@judges("rfc1122/3.2.2.6/01")
@pytest.mark.parametrize("which", ["gateway", "dns"])
def test_own_addresses_answer(netemu_tester: Tester, which: str) -> None:
    netemu_tester.send_icmp(Icmpv4.echo_request(1, 1, b"ping"), getattr(netemu_tester.backend, which))
    netemu_tester.expect(Icmpv4, type=IcmpType.ECHO_REPLY)


@judges("rfc1122/3.2.2.6/02")
@pytest.mark.parametrize("which", ["gateway", "dns"])
def test_the_reply_comes_from_the_address_that_was_asked(netemu_tester: Tester, which: str) -> None:
    address = getattr(netemu_tester.backend, which)
    netemu_tester.send_icmp(Icmpv4.echo_request(1, 1, b"ping"), address)
    assert netemu_tester.expect(Icmpv4, type=IcmpType.ECHO_REPLY)[IPv4].source == address


@judges("rfc1122/3.2.2.6/03")
@pytest.mark.parametrize("size", [0, 1, 56, 1472])
def test_all_data_comes_back(netemu_tester: Tester, size: int) -> None:
    data = bytes(number & 0xFF for number in range(size))
    netemu_tester.send_icmp(Icmpv4.echo_request(1, 1, data))
    assert netemu_tester.expect(Icmpv4, type=IcmpType.ECHO_REPLY)[Icmpv4].payload == data


@judges("rfc792/echo/01")
def test_a_reply_reverses_the_addresses(netemu_tester: Tester) -> None:
    netemu_tester.send_icmp(Icmpv4.echo_request(1, 1, b"ping"))
    reply = netemu_tester.expect(Icmpv4, type=IcmpType.ECHO_REPLY)
    assert (reply[IPv4].source, reply[IPv4].destination) == (netemu_tester.gateway, netemu_tester.address)
    assert reply[Icmpv4].code == 0


@judges("rfc792/echo/02")
@pytest.mark.parametrize("identifier", [0, 1, 0xFFFF])
def test_identifier_and_sequence_come_back(netemu_tester: Tester, identifier: int) -> None:
    for sequence in (0, 7, 0xFFFF):
        netemu_tester.send_icmp(Icmpv4.echo_request(identifier, sequence, b"ping"))
        netemu_tester.expect(Icmpv4, type=IcmpType.ECHO_REPLY, identifier=identifier, sequence=sequence)


@judges("rfc792/echo/03")
def test_an_odd_length_has_the_right_checksum(netemu_tester: Tester) -> None:
    netemu_tester.send_icmp(Icmpv4.echo_request(1, 1, b"odd"))
    assert netemu_tester.expect(IPv4, protocol=Protocol.ICMP).broken == ""


@judges("rfc792/echo/04")
def test_a_bad_checksum_is_not_answered(netemu_tester: Tester) -> None:
    tester = netemu_tester
    message = bytearray(Icmpv4.echo_request(1, 1, b"ping").pack())
    message[2] ^= 0x55
    tester.send_ip(tester.ip(tester.gateway, Protocol.ICMP, bytes(message)))
    tester.silence(IPv4)


@judges("rfc1122/3.2.2/01")
def test_an_unknown_type_is_discarded(netemu_tester: Tester) -> None:
    netemu_tester.send_icmp(Icmpv4(_UNKNOWN_TYPE, 0, 0, b"what is this"))
    netemu_tester.silence(IPv4)


@judges("rfc1122/3.2.2.7/01")
def test_information_requests_are_not_answered(netemu_tester: Tester) -> None:
    netemu_tester.send_icmp(Icmpv4(IcmpType.INFORMATION_REQUEST, 0, 1 << 16 | 1, b""))
    netemu_tester.silence(IPv4)


@judges("rfc1122/3.2.2.9/01")
def test_address_mask_requests_are_not_answered(netemu_tester: Tester) -> None:
    netemu_tester.send_icmp(Icmpv4(IcmpType.ADDRESS_MASK_REQUEST, 0, 1 << 16 | 1, bytes(4)))
    netemu_tester.silence(IPv4)


@judges("rfc1122/3.2.2/04")
def test_no_error_about_an_error(netemu_tester: Tester) -> None:
    tester = netemu_tester
    about = tester.ip(tester.gateway, Protocol.UDP, Udp(1, 2, b"").pack(tester.address, tester.gateway))
    tester.send_icmp(Icmpv4.unreachable(UnreachableCode.PORT, about.pack()), ttl=1)
    tester.send_icmp(Icmpv4.time_exceeded(TimeExceededCode.TTL, about.pack()), ttl=0)
    tester.silence(IPv4)


def _refused(tester: Tester, payload: bytes) -> tuple[IPv4, Icmpv4, IPv4]:
    """A datagram to a closed port: what was sent, the error about it, and the error's own header."""
    sent = tester.send_udp(payload, _CLOSED)
    packet = tester.expect(Icmpv4, type=IcmpType.DESTINATION_UNREACHABLE)
    return sent, packet[Icmpv4], packet[IPv4]


@judges("rfc1122/4.1.3.1/01")
@pytest.mark.netemu_requires("nat.udp")
def test_a_closed_port_is_reported(netemu_tester: Tester) -> None:
    _, error, _ = _refused(netemu_tester, b"nobody")
    assert error.code == UnreachableCode.PORT


@judges("rfc1122/3.2.2/02")
@pytest.mark.netemu_requires("nat.udp")
def test_an_error_quotes_what_was_sent(netemu_tester: Tester) -> None:
    sent, error, _ = _refused(netemu_tester, b"nobody listens here")
    quoted, was = error.payload.hex(), sent.pack()[: len(error.payload)].hex()
    assert quoted == was, f"the error quotes {quoted}, what was sent begins with {was}"


@judges("rfc792/unreachable/01")
@pytest.mark.netemu_requires("nat.udp")
def test_an_error_quotes_the_ports(netemu_tester: Tester) -> None:
    sent, error, _ = _refused(netemu_tester, b"nobody")
    assert len(error.payload) >= sent.header_length + 8
    assert error.payload[sent.header_length :][:4] == sent.payload[:4]


@judges("rfc1812/4.3.2.3/01")
@pytest.mark.netemu_requires("nat.udp")
@pytest.mark.parametrize("size", [100, 1000])
def test_an_error_quotes_as_much_as_fits(netemu_tester: Tester, size: int) -> None:
    sent, error, header = _refused(netemu_tester, bytes(size))
    length = header.header_length + 8 + len(error.payload)
    assert length <= 576
    quoted = len(error.payload)
    fits = min(len(sent.pack()), 576 - header.header_length - 8)
    assert quoted >= fits, f"the error quotes {quoted} octets, and {fits} fit"


@judges("rfc1122/3.2.2/03")
@pytest.mark.netemu_requires("nat.udp")
def test_an_error_has_the_normal_type_of_service(netemu_tester: Tester) -> None:
    _, _, header = _refused(netemu_tester, b"nobody")
    assert (header.dscp, header.ecn) == (0, 0), f"the error has dscp {header.dscp} and ecn {header.ecn}"


@judges("rfc1812/5.3.1/01")
@pytest.mark.netemu_requires("nat.udp")
@pytest.mark.parametrize("ttl", [0, 1])
def test_an_expired_datagram_goes_no_further(netemu_tester: Tester, ttl: int) -> None:
    host = netemu_tester.backend.host
    if not isinstance(host, SimHost | NetnsHost):
        pytest.skip("platform: this backend's host is no test's to configure")
    host.add_address(_OUTSIDE)
    with host.udp(_OUTSIDE) as socket:
        netemu_tester.send_udp(b"expired", socket.port, _OUTSIDE, ttl=ttl)
        netemu_tester.send_udp(b"alive", socket.port, _OUTSIDE, ttl=2)
        first = socket.recv().data
    assert first == b"alive", f"the host read {first!r}, from a datagram with time to live {ttl}"


@judges("rfc1812/5.3.1/02")
@pytest.mark.netemu_requires("nat.udp", "icmp.forward")
@pytest.mark.parametrize("protocol", [Protocol.UDP, Protocol.ICMP], ids=lambda protocol: protocol.name)
def test_an_expired_datagram_is_reported(netemu_tester: Tester, protocol: Protocol) -> None:
    beyond = netemu_tester.backend.net.broadcast_address + 1
    if protocol == Protocol.UDP:
        netemu_tester.send_udp(b"far", 33_434, beyond, ttl=1)
    else:
        netemu_tester.send_icmp(Icmpv4.echo_request(7, 1, b"far"), beyond, ttl=1)
    netemu_tester.expect(Icmpv4, type=IcmpType.TIME_EXCEEDED, code=TimeExceededCode.TTL)


@judges("rfc1812/4.3.3.1/01")
@pytest.mark.netemu_requires("nat.tcp", "nat.udp")
@pytest.mark.parametrize("protocol", [Protocol.UDP, Protocol.TCP], ids=lambda protocol: protocol.name)
def test_a_network_without_a_way_to_it_is_reported(netemu_tester: Tester, protocol: Protocol) -> None:
    tester = netemu_tester
    host = tester.backend.host
    if not isinstance(host, SimHost | NetnsHost):
        pytest.skip("platform: this backend's host is no test's to configure")
    host.unreachable(_NOWHERE)
    target = IPv4Network(_NOWHERE)[7]
    if protocol == Protocol.UDP:
        tester.send_udp(b"where?", 7, target)
    else:
        TcpPeer(tester, 7, target).send(flags=SYN)
    tester.expect(Icmpv4, type=IcmpType.DESTINATION_UNREACHABLE, code=UnreachableCode.NET)
