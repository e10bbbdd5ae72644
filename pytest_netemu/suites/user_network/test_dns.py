"""DNS of a user-mode network: questions to its DNS address reach the host's name server (RFC 1034, RFC 1035)."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from netemu.guest.protocol import Guest
from netemu.io.services import DnsServer, ServiceHost
from netemu.netdev.protocol import UserBackend
from netemu.wire.dns import DnsMessage, Question, RecordType, ResponseCode
from netemu.wire.ipv4 import IPv4
from netemu.wire.tcp import Tcp
from netemu.wire.udp import Udp
from pytest_netemu.packet import Packet
from pytest_netemu.suites import judges
from pytest_netemu.tester import Tester
from pytest_netemu.tester_tcp import TcpPeer

pytestmark = pytest.mark.netemu_requires("arp", "dns.forward")

_ZONE: dict[str, str | list[str]] = {"www.example": "198.51.100.7", "two.example": ["198.51.100.8", "198.51.100.9"]}
_PORT = 40_053
_QUERY = DnsMessage(0x1234, (Question("www.example", RecordType.A),), recursion_desired=True)


@pytest.fixture(autouse=True)
def server(netemu_backend: UserBackend) -> DnsServer:
    """A name server of the host's."""
    host = netemu_backend.host
    if not isinstance(host, ServiceHost):
        pytest.skip("platform: this backend's host cannot run a name server")
    return host.dns_server(_ZONE)


def _ask(tester: Tester, query: DnsMessage) -> Packet:
    tester.send_udp(query.pack(), 53, tester.backend.dns, source_port=_PORT)
    return tester.expect(DnsMessage, within=10)


@judges("rfc1035/4.1.1/01")
@pytest.mark.parametrize("identification", [0, 1, 0xFFFF])
def test_an_answer_has_the_identification_of_its_question(netemu_tester: Tester, identification: int) -> None:
    answer = _ask(netemu_tester, replace(_QUERY, identification=identification))
    assert answer[DnsMessage].identification == identification


@judges("rfc1035/4.1.1/02")
@pytest.mark.parametrize("opcode", [0, 2])
def test_an_answer_has_the_opcode_of_its_question(netemu_tester: Tester, opcode: int) -> None:
    assert _ask(netemu_tester, replace(_QUERY, opcode=opcode))[DnsMessage].opcode == opcode


@judges("rfc1035/4.1.1/03")
@pytest.mark.parametrize("desired", [False, True])
def test_recursion_desired_is_copied(netemu_tester: Tester, desired: bool) -> None:
    assert _ask(netemu_tester, replace(_QUERY, recursion_desired=desired))[DnsMessage].recursion_desired is desired


@judges("rfc1035/4.1.1/04")
def test_an_answer_says_that_it_is_one(netemu_tester: Tester) -> None:
    assert _ask(netemu_tester, _QUERY)[DnsMessage].response


@judges("rfc1035/4.1.1/05")
def test_a_name_that_does_not_exist_is_said_not_to(netemu_tester: Tester) -> None:
    query = replace(_QUERY, questions=(Question("nowhere.example", RecordType.A),))
    assert _ask(netemu_tester, query)[DnsMessage].response_code == ResponseCode.NAME_ERROR


@judges("rfc1035/4.2.1/01")
def test_the_answer_comes_from_where_the_question_went(netemu_tester: Tester) -> None:
    packet = _ask(netemu_tester, _QUERY)
    assert packet[IPv4].source == netemu_tester.backend.dns
    assert (packet[Udp].source_port, packet[Udp].destination_port) == (53, _PORT)


@judges("rfc1034/4.3.1/01")
def test_an_answer_is_no_referral(netemu_tester: Tester) -> None:
    answer = _ask(netemu_tester, _QUERY)[DnsMessage]
    assert [record.address for record in answer.answers] == [IPv4Address("198.51.100.7")]
    assert answer.questions == _QUERY.questions


@judges("rfc1035/4.2/01")
@pytest.mark.netemu_requires("dhcp4", "resolve")
def test_a_guest_resolves_names(netemu_guest: Guest) -> None:
    netemu_guest.dhcp4()
    assert netemu_guest.resolve("www.example") == [IPv4Address("198.51.100.7")]
    assert sorted(netemu_guest.resolve("two.example")) == [IPv4Address("198.51.100.8"), IPv4Address("198.51.100.9")]


@judges("rfc1035/4.2.2/01")
@pytest.mark.netemu_requires("nat.tcp")
def test_questions_may_come_over_tcp(netemu_tester: Tester) -> None:
    peer = TcpPeer(netemu_tester, 53, netemu_tester.backend.dns).connect()
    query = _QUERY.pack()
    peer.send(len(query).to_bytes(2) + query)
    octets = peer.expect(lambda segment: bool(segment.payload))[Tcp].payload
    assert int.from_bytes(octets[:2]) == len(octets) - 2
    assert DnsMessage.parse(octets[2:]).answers[0].address == IPv4Address("198.51.100.7")
