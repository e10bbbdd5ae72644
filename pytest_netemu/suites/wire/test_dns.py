"""The guest's resolver: its questions, the answers it believes, and what it does without one (RFC 1034, RFC 1035, RFC 1123 6.1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from netemu.errors import HostError, NetemuTimeoutError
from netemu.net.clock import SECOND
from netemu.wire.dhcpv4 import DhcpMessageType, DhcpOption, pack_addresses
from netemu.wire.dns import DnsMessage, Question, RecordType, ResponseCode, a_record, name_record
from netemu.wire.ipv4 import IPv4
from netemu.wire.tcp import SYN, Tcp
from netemu.wire.udp import Udp
from pytest_netemu.packet import Packet
from pytest_netemu.suites import judges
from pytest_netemu.wire import Wire
from pytest_netemu.wire_dhcp import DhcpServer

pytestmark = pytest.mark.netemu_requires("resolve")

_NAME = "www.example.org"
_RIGHT, _WRONG = IPv4Address("192.0.2.1"), IPv4Address("192.0.2.66")
_HEADER = 12  # octets
_RESERVED = 0x40  # what is left of Z since RFC 4035 took the two bits beside it
_LOOP = b"\xc0\x0c"  # a name that is a pointer to itself, if it is the first one

Replies = Callable[[DnsMessage], Sequence[DnsMessage | bytes]]


def _answer(question: DnsMessage, address: IPv4Address = _RIGHT) -> DnsMessage:
    return replace(question.reply(), answers=(a_record(_NAME, address, 60),))


def _serve(wire: Wire, replies: Replies) -> list[Packet]:
    """Answer the guest's questions; the list has them, oldest first."""
    asked: list[Packet] = []

    def reply(packet: Packet) -> None:
        asked.append(packet)
        ip, port = packet[IPv4], packet[Udp].source_port
        for each in replies(packet[DnsMessage]):
            payload = each if isinstance(each, bytes) else each.pack()
            wire.send_udp(payload, port, ip.source, source_port=53, source=ip.destination)

    wire.answer(DnsMessage, reply, response=False)
    return asked


def _asked(wire: Wire) -> Packet:
    """What the guest asks."""
    asked = _serve(wire, lambda question: [_answer(question)])
    assert [*wire.guest.resolve(_NAME, server=wire.address)] == [_RIGHT]
    return asked[0]


def _believes_the_second(wire: Wire, wrong: Callable[[DnsMessage], DnsMessage | bytes]) -> None:
    """Of a wrong answer and the right one behind it, the guest believes the right one."""
    _serve(wire, lambda question: [wrong(question), _answer(question)])
    assert [*wire.guest.resolve(_NAME, server=wire.address)] == [_RIGHT]


# What it asks


@judges("rfc1035/4.1.1/04")
def test_a_question_is_no_response(netemu_wire: Wire) -> None:
    question = _asked(netemu_wire.up())[DnsMessage]
    assert (question.response, question.opcode, question.answers) == (False, 0, ())


@judges("rfc1035/4.1.1/06")
def test_the_reserved_bit_is_zero(netemu_wire: Wire) -> None:
    assert _asked(netemu_wire.up())[Udp].payload[3] & _RESERVED == 0


@judges("rfc1035/4.1.2/01")
def test_the_question_is_the_one_that_was_put(netemu_wire: Wire) -> None:
    assert _asked(netemu_wire.up())[DnsMessage].questions == (Question(_NAME, RecordType.A),)


@judges("rfc1035/4.2.1/01")
def test_questions_go_to_port_53(netemu_wire: Wire) -> None:
    assert _asked(netemu_wire.up())[Udp].destination_port == 53


@judges("rfc1123/6.1.3.2/01")
def test_a_question_goes_over_udp_first(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    asked = _asked(wire)
    before = [packet for packet in wire.inbox if packet.time <= asked.time and Tcp in packet]
    assert not before


# What it believes


@judges("rfc1035/7.3/01")
def test_a_question_is_no_answer(netemu_wire: Wire) -> None:
    _believes_the_second(netemu_wire.up(), lambda question: replace(_answer(question, _WRONG), response=False))


@judges("rfc1035/7.3/02")
def test_an_answer_has_the_number_of_its_question(netemu_wire: Wire) -> None:
    _believes_the_second(
        netemu_wire.up(), lambda question: replace(_answer(question, _WRONG), identification=question.identification ^ 1)
    )


@judges("rfc1035/7.3/03")
def test_an_answer_repeats_its_question(netemu_wire: Wire) -> None:
    other = (Question("www.example.com", RecordType.A),)
    _believes_the_second(netemu_wire.up(), lambda question: replace(_answer(question, _WRONG), questions=other))


@judges("rfc1035/7.3/04")
def test_a_name_that_points_at_itself_is_survived(netemu_wire: Wire) -> None:
    def endless(question: DnsMessage) -> bytes:
        octets = _answer(question, _WRONG).pack()
        return octets[:_HEADER] + _LOOP + octets[_HEADER + len(_NAME) + 2 :]

    _believes_the_second(netemu_wire.up(), endless)


@judges("rfc1035/2.3.3/01")
def test_case_does_not_count(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    loud = Question(_NAME.upper(), RecordType.A)
    _serve(wire, lambda question: [replace(_answer(question), questions=(loud,))])
    assert [*wire.guest.resolve(_NAME, server=wire.address)] == [_RIGHT]


@judges("rfc1034/3.6.2/01")
def test_aliases_are_followed(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    chain = (
        name_record(_NAME, RecordType.CNAME, "one.example.org", 60),
        name_record("one.example.org", RecordType.CNAME, "two.example.org", 60),
        a_record("two.example.org", _RIGHT, 60),
    )
    _serve(wire, lambda question: [replace(question.reply(), answers=chain)])
    assert [*wire.guest.resolve(_NAME, server=wire.address)] == [_RIGHT]


@judges("rfc1035/7.1/01")
def test_a_circle_of_aliases_ends(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    circle = (
        name_record(_NAME, RecordType.CNAME, "one.example.org", 60),
        name_record("one.example.org", RecordType.CNAME, _NAME, 60),
    )
    asked = _serve(wire, lambda question: [replace(question.reply(), answers=circle)])
    try:
        found = [*wire.guest.resolve(_NAME, server=wire.address)]
    except HostError:
        found = []
    assert not found
    assert len(asked) < 20


@judges("rfc1035/4.1.1/05")
def test_a_name_that_does_not_exist_has_no_address(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    _serve(wire, lambda question: [question.reply(ResponseCode.NAME_ERROR)])
    assert [*wire.guest.resolve(_NAME, server=wire.address)] == []


@judges("rfc1034/5.2.3/01")
def test_a_failure_is_not_the_absence_of_a_name(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    _serve(wire, lambda question: [question.reply(ResponseCode.SERVER_FAILURE)])
    with pytest.raises((HostError, NetemuTimeoutError)):
        wire.guest.resolve(_NAME, server=wire.address)


@judges("rfc1123/6.1.3.2/02")
@pytest.mark.netemu_requires("virtual-clock")
def test_what_was_truncated_is_asked_again_over_tcp(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    _serve(wire, lambda question: [replace(question.reply(), truncated=True)])
    with pytest.raises((HostError, NetemuTimeoutError)):  # nobody listens
        wire.guest.resolve(_NAME, server=wire.address, timeout=2)
    wire.expect(Tcp, within=0, destination_port=53, flags=lambda flags: flags & SYN)


# Without an answer


@judges("rfc1035/4.2.1/02")
def test_a_lost_question_is_asked_again(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    asked = _serve(wire, lambda question: [_answer(question)] if len(asked) > 1 else ())
    assert [*wire.guest.resolve(_NAME, server=wire.address)] == [_RIGHT]


@judges("rfc1035/4.2.1/04")
@pytest.mark.netemu_requires("virtual-clock")
def test_there_are_seconds_between_questions(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    asked = _serve(wire, lambda question: [_answer(question)] if len(asked) > 1 else ())
    assert [*wire.guest.resolve(_NAME, server=wire.address)] == [_RIGHT]
    assert asked[1].time - asked[0].time >= 2 * SECOND


@judges("rfc1123/6.1.3.3/01")
@pytest.mark.netemu_requires("virtual-clock")
def test_the_guest_gives_up(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    asked = _serve(wire, lambda _: ())
    begun = wire.network.loop.now()
    with pytest.raises((HostError, NetemuTimeoutError)):
        wire.guest.resolve(_NAME, server=wire.address, timeout=3600)
    assert len(asked) > 1
    assert (wire.network.loop.now() - begun) / SECOND < 3600


@judges("rfc1035/4.2.1/03")
@pytest.mark.netemu_requires("dhcp4", "virtual-clock")
def test_another_server_is_asked_before_one_is_asked_again(netemu_wire: Wire) -> None:
    """The two that a lease names; the first of them is silent."""
    wire, servers = netemu_wire, (IPv4Address("198.51.100.3"), IPv4Address("198.51.100.4"))
    dhcp = DhcpServer(wire)
    names: dict[int, bytes] = {DhcpOption.DOMAIN_NAME_SERVER: pack_addresses(*servers)}
    dhcp.replies[DhcpMessageType.REQUEST] = lambda message: [dhcp.ack(message, names)]
    wire.guest.dhcp4()
    asked = _serve(wire, lambda question: [_answer(question)] if len(asked) > 1 else ())
    assert [*wire.guest.resolve(_NAME)] == [_RIGHT]
    assert [packet[IPv4].destination for packet in asked] == [*servers]
