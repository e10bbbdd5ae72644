"""IPv4 at the gateway of a user-mode network: what is discarded and what is not (RFC 791, RFC 1122 3.2.1)."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from netemu.wire.ether import EtherType, pad
from netemu.wire.icmpv4 import IcmpType, Icmpv4
from netemu.wire.ipv4 import IPv4, Protocol
from netemu.wire.udp import Udp
from pytest_netemu.station import LIMITED_BROADCAST
from pytest_netemu.suites import judges
from pytest_netemu.tester import Tester
from pytest_netemu.tester_tcp import TcpPeer

pytestmark = pytest.mark.netemu_requires("arp", "icmp.echo")

_VERSION_IHL = 0  # octets of a header
_TTL = 8
_CHECKSUM = 10
_UNKNOWN_OPTION = bytes((0x9E, 4, 0, 0))  # copied, class 0, number 30 (RFC 4727: experiments)


def _echo(tester: Tester) -> bytearray:
    """An echo request for the gateway, as octets to be damaged."""
    return bytearray(tester.ip(tester.gateway, Protocol.ICMP, Icmpv4.echo_request(7, 1, b"ping").pack()).pack())


def _send(tester: Tester, datagram: bytes) -> None:
    tester.send(tester.ethernet(tester.gateway_mac, EtherType.IPV4, datagram))


@judges("rfc1122/3.2.1.1/01")
@pytest.mark.parametrize("version", [0, 5, 6, 15])
def test_another_version_is_discarded(netemu_tester: Tester, version: int) -> None:
    octets = _echo(netemu_tester)
    octets[_VERSION_IHL] = version << 4 | 5
    total = sum(int.from_bytes(octets[at : at + 2]) for at in range(0, 20, 2)) - int.from_bytes(octets[_CHECKSUM : _CHECKSUM + 2])
    total = (total & 0xFFFF) + (total >> 16)
    octets[_CHECKSUM : _CHECKSUM + 2] = (~((total & 0xFFFF) + (total >> 16)) & 0xFFFF).to_bytes(2)
    _send(netemu_tester, bytes(octets))
    netemu_tester.silence(IPv4)


@judges("rfc1122/3.2.1.2/01")
def test_a_bad_header_checksum_is_discarded(netemu_tester: Tester) -> None:
    octets = _echo(netemu_tester)
    octets[_CHECKSUM] ^= 0x55
    _send(netemu_tester, bytes(octets))
    netemu_tester.silence(IPv4)


@judges("rfc1122/3.2.1.7/02")
def test_the_last_hop_needs_no_more_time_to_live(netemu_tester: Tester) -> None:
    """With one left; what zero means, RFC 791 and RFC 1122 do not agree about."""
    netemu_tester.send_icmp(Icmpv4.echo_request(7, 1, b"ping"), ttl=1)
    netemu_tester.expect(Icmpv4, type=IcmpType.ECHO_REPLY, sequence=1)


@judges("rfc1122/3.2.1.7/01")
@pytest.mark.netemu_requires("nat.tcp", "nat.udp", "dhcp4.server")
def test_nothing_is_sent_with_a_time_to_live_of_zero(netemu_tester: Tester) -> None:
    tester = netemu_tester
    tester.lease()
    tester.send_icmp(Icmpv4.echo_request(7, 1, b"ping"), ttl=1)
    with tester.backend.host.udp("127.0.0.1") as socket:
        tester.send_udp(b"question", socket.port, source_port=40_001, ttl=2)
        question = socket.recv()
        socket.send_to(b"answer", question.source.address, question.source.port)
        tester.expect(Udp, payload=b"answer")
    TcpPeer(tester, 9).send(flags=2)
    tester.run_for(1)
    sent = [record.frame for record in tester.network.frames.records if record.destination == "tester"]
    datagrams = [frame[14:] for frame in sent if int.from_bytes(frame[12:14]) == EtherType.IPV4]
    assert len(datagrams) >= 5
    assert all(datagram[_TTL] for datagram in datagrams)


@judges("rfc1122/3.2.1.8/01")
def test_an_unknown_option_is_ignored(netemu_tester: Tester) -> None:
    netemu_tester.send_icmp(Icmpv4.echo_request(7, 1, b"ping"), options=_UNKNOWN_OPTION)
    netemu_tester.expect(Icmpv4, type=IcmpType.ECHO_REPLY, payload=b"ping")


@judges("rfc894/frame-format/01")
def test_padding_is_not_data(netemu_tester: Tester) -> None:
    tester = netemu_tester
    request = tester.ip(tester.gateway, Protocol.ICMP, Icmpv4.echo_request(7, 1, b"ab").pack())
    tester.send(pad(tester.ethernet(tester.gateway_mac, EtherType.IPV4, request.pack())).ljust(80, b"\xee"))
    assert tester.expect(Icmpv4, type=IcmpType.ECHO_REPLY)[Icmpv4].payload == b"ab"


@judges("rfc1122/3.2.1.3/01")
@pytest.mark.netemu_requires("nat.udp")
def test_errors_come_from_an_address_of_the_network(netemu_tester: Tester) -> None:
    """A closed port of the host's loopback, which the guest knows as the gateway."""
    tester = netemu_tester
    tester.send_udp(b"nobody", 9)
    source = tester.expect(Icmpv4, type=IcmpType.DESTINATION_UNREACHABLE)[IPv4].source
    assert source in tester.backend.net, f"the error comes from {source}, which is no address of {tester.backend.net}"
    assert source not in (tester.backend.net.network_address, tester.backend.net.broadcast_address)


@judges("rfc1122/3.2.2/05")
@pytest.mark.netemu_requires("nat.udp")
@pytest.mark.parametrize("destination", [LIMITED_BROADCAST, IPv4Address("224.0.0.251")], ids=str)
def test_no_error_about_a_broadcast(netemu_tester: Tester, destination: IPv4Address) -> None:
    netemu_tester.send_udp(b"everybody", 9, destination)
    netemu_tester.silence(Icmpv4)
