"""Names of the test's own, name servers that fail over, and questions too large to be read."""

from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from user_driver import DNS, SERVER, Lab

from netemu.net.sockets import Datagram
from netemu.user.dns_names import DnsNames
from netemu.user.options import UserOptions
from netemu.wire.dns import CLASS_IN, DnsMessage, Question, RecordType, ResponseCode, a_record

QUERY = DnsMessage(0x4242, (Question("db.test", RecordType.A),), recursion_desired=True)
FIRST, SECOND_ADDRESS = IPv4Address("192.0.2.9"), IPv4Address("192.0.2.10")
OPTIONS = UserOptions(dns_name=(("DB.test.", FIRST), ("db.test", SECOND_ADDRESS)))
ELSEWHERE = replace(QUERY, questions=(Question("www.example.org", RecordType.A),))


def asked(lab: Lab, query: DnsMessage = QUERY, seconds: float = 0.0) -> DnsMessage:
    lab.udp(DNS, 53, query.pack())
    seen = lab.one(seconds)
    assert seen.udp is not None, seen
    return DnsMessage.parse(seen.udp.payload)


@pytest.mark.parametrize("restrict", [False, True])
def test_a_name_of_the_tests_own(restrict: bool) -> None:
    lab = Lab(replace(OPTIONS, restrict=restrict))
    reply = asked(lab, replace(QUERY, questions=(Question("Db.Test", RecordType.A),)))
    assert (reply.identification, reply.response, reply.authoritative) == (0x4242, True, True)
    assert (reply.recursion_desired, reply.recursion_available) == (True, True)
    assert [record.address for record in reply.answers] == [FIRST, SECOND_ADDRESS]
    assert lab.network.flows() == ()


def test_another_type_has_no_answer() -> None:
    reply = asked(Lab(OPTIONS), replace(QUERY, questions=(Question("db.test", RecordType.AAAA),)))
    assert (reply.response_code, reply.answers, reply.authoritative) == (ResponseCode.NO_ERROR, (), True)


@pytest.mark.parametrize(
    "query",
    [
        ELSEWHERE,
        replace(QUERY, questions=(Question("www.db.test", RecordType.A),)),
        replace(QUERY, opcode=2),
        replace(QUERY, questions=(Question("db.test", RecordType.A, CLASS_IN + 2),)),
        replace(QUERY, questions=QUERY.questions * 2),
        replace(QUERY, questions=()),
    ],
)
def test_what_is_not_its_own_to_answer(query: DnsMessage) -> None:
    assert DnsNames(OPTIONS.dns_name).answer(query) is None


@pytest.mark.parametrize(("count", "truncated"), [(30, False), (31, True)])
def test_what_does_not_fit_is_truncated(count: int, truncated: bool) -> None:
    names = DnsNames(("db.test", FIRST + number) for number in range(count))
    reply = names.answer(QUERY)
    assert reply is not None
    assert (reply.truncated, bool(reply.answers)) == (truncated, not truncated)
    assert len(reply.pack()) <= 512


def test_a_giant_is_not_read() -> None:
    lab = Lab(OPTIONS)
    lab.udp(DNS, 53, QUERY.pack().ljust(1400, b"\0"))
    assert len(lab.take()) == 1
    lab = Lab(replace(OPTIONS, mtu=9000))
    lab.udp(DNS, 53, QUERY.pack().ljust(4096, b"\0"))
    assert len(lab.take()) == 1
    lab.udp(DNS, 53, QUERY.pack().ljust(4097, b"\0"))
    assert lab.take() == []
    assert lab.counters["dns-too-large"] == 1


class Servers:
    """A network whose host has two name servers: `first`, which the test plays, and one that answers."""

    def __init__(self) -> None:
        self.lab = Lab(nameserver=str(SERVER))
        self.lab.host.dns_server({"www.example.org": "192.0.2.80"}, "127.0.0.53")

    def first(self) -> Datagram:
        return self.lab.host.udp(SERVER, 53)


def test_a_server_that_is_not_there_is_passed_over_at_once() -> None:
    servers = Servers()
    assert asked(servers.lab, ELSEWHERE).answers[0].address == IPv4Address("192.0.2.80")
    assert servers.lab.counters["dns-next-server"] == 1
    assert servers.lab.network.flows() == ()


def test_a_silent_server_is_passed_over_in_time() -> None:
    servers = Servers()
    with servers.first() as silent:
        servers.lab.udp(DNS, 53, ELSEWHERE.pack())
        assert servers.lab.take(3.9) == []
        assert len(servers.lab.take(0.2)) == 1
        assert silent.recv().data == ELSEWHERE.pack()
    assert len(list(servers.lab.host.udp_ports)) == 1


def test_a_repeated_question_goes_to_the_next_server() -> None:
    servers = Servers()
    with servers.first() as silent:
        servers.lab.udp(DNS, 53, ELSEWHERE.pack())
        assert servers.lab.take(1) == []
        assert asked(servers.lab, ELSEWHERE).response_code == ResponseCode.NO_ERROR
        question = silent.recv()
        late = replace(ELSEWHERE, response=True, answers=(a_record("www.example.org", FIRST, 60),))
        silent.send_to(late.pack(), str(question.source.address), question.source.port)
        assert servers.lab.take(1) == []


def test_the_guest_hears_when_the_last_server_failed() -> None:
    lab = Lab(nameserver=str(SERVER))
    lab.host.dns_server({}, "127.0.0.53").close()
    assert asked(lab, ELSEWHERE).response_code == ResponseCode.SERVER_FAILURE
    assert len(lab.network.refusals) == 2
