"""DNS forwarding: there, back, and what the guest hears when there is no answer."""

import errno
from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from user_driver import DNS, GUEST, Lab, Seen

from netemu.user.options import UserOptions
from netemu.wire.address import Endpoint
from netemu.wire.dns import DnsMessage, Question, RecordType, ResponseCode, a_record

QUERY = DnsMessage(0x4242, (Question("www.example.org", RecordType.A),), recursion_desired=True)
RECORD = a_record("www.example.org", IPv4Address("192.0.2.80"), 60)
ANSWER = replace(QUERY, response=True, recursion_available=True, answers=(RECORD,))


def message(seen: Seen, port: int = 5000) -> DnsMessage:
    assert seen.udp is not None, seen
    assert seen.ip is not None
    assert (seen.ip.source, seen.udp.source_port) == (DNS, 53)
    assert (seen.ip.destination, seen.udp.destination_port) == (GUEST, port)
    return DnsMessage.parse(seen.udp.payload)


def test_the_hosts_name_server_answers() -> None:
    lab = Lab()
    lab.host.dns_server({"www.example.org": "192.0.2.80"})
    lab.udp(DNS, 53, QUERY.pack())
    reply = message(lab.one())
    assert reply.identification == 0x4242
    assert [record.address for record in reply.answers] == [IPv4Address("192.0.2.80")]
    assert lab.network.flows() == ()
    assert len(list(lab.host.udp_ports)) == 1  # the name server's own: the question's socket is closed


def test_a_dns_address_outside_the_net_is_reached_through_the_gateway() -> None:
    outside = IPv4Address("192.0.2.53")
    lab = Lab(UserOptions(dns=outside))
    lab.host.dns_server({"www.example.org": "192.0.2.80"})
    lab.udp(outside, 53, QUERY.pack())
    seen = lab.one()
    assert seen.ip is not None
    assert seen.udp is not None
    assert (seen.ip.source, DnsMessage.parse(seen.udp.payload).answers) == (outside, (replace(RECORD, ttl=300),))


def test_no_name_server_is_a_server_failure_at_once() -> None:
    lab = Lab()
    lab.udp(DNS, 53, QUERY.pack())
    reply = message(lab.one())
    assert (reply.identification, reply.questions) == (QUERY.identification, QUERY.questions)
    assert (reply.response, reply.response_code) == (True, ResponseCode.SERVER_FAILURE)
    assert lab.user.refusals[0].guest == Endpoint(GUEST, 5000)


def test_a_name_server_that_is_not_there_is_a_server_failure_at_once() -> None:
    lab = Lab(nameserver="127.0.0.53")
    lab.udp(DNS, 53, QUERY.pack())
    assert message(lab.one()).response_code == ResponseCode.SERVER_FAILURE
    assert [refusal.errno for refusal in lab.user.refusals] == [errno.ECONNREFUSED]


def test_a_name_server_without_a_route_is_a_server_failure_at_once() -> None:
    lab = Lab(nameserver="203.0.113.53")
    lab.udp(DNS, 53, QUERY.pack())
    assert message(lab.one()).response_code == ResponseCode.SERVER_FAILURE
    assert [refusal.errno for refusal in lab.user.refusals] == [errno.ENETUNREACH]
    assert lab.network.flows() == ()
    assert list(lab.host.udp_ports) == []
    assert lab.counters["dns-failed"] == 1
    assert lab.take(10) == []


class SilentServer:
    """A lab whose host has a name server that only listens; `say` is what it says in the end, to whom asked first."""

    def __init__(self) -> None:
        self.lab = Lab(nameserver="127.0.0.53")
        self.asked: list[tuple[bytes, Endpoint]] = []
        self.socket = self.lab.host.open_datagram(Endpoint(IPv4Address("127.0.0.53"), 53))
        self.socket.on_datagram = lambda data, source: self.asked.append((data, source))

    def say(self, octets: bytes) -> None:
        self.socket.send_to(octets, self.asked[0][1])


def test_silence_is_a_server_failure_after_four_seconds() -> None:
    server = SilentServer()
    lab, asked = server.lab, server.asked
    lab.udp(DNS, 53, QUERY.pack())
    assert lab.take(3.9) == []
    assert [flow.protocol for flow in lab.network.flows()] == ["dns"]
    assert message(lab.one(0.1)).response_code == ResponseCode.SERVER_FAILURE
    assert len(asked) == 1
    assert lab.network.flows() == ()
    assert lab.network.deadline() is None or lab.network.deadline() > lab.loop.now()


def test_a_question_asked_again_is_sent_again_and_does_not_wait_longer() -> None:
    server = SilentServer()
    lab, asked = server.lab, server.asked
    lab.udp(DNS, 53, QUERY.pack())
    lab.run(2)
    lab.udp(DNS, 53, QUERY.pack())
    assert message(lab.one(2)).response_code == ResponseCode.SERVER_FAILURE
    assert [data for data, _ in asked] == [QUERY.pack()] * 2
    assert len({source for _, source in asked}) == 1


def test_another_question_with_the_same_identification_replaces_the_first() -> None:
    server = SilentServer()
    lab, other = server.lab, replace(QUERY, questions=(Question("other.example.org", RecordType.A),))
    lab.udp(DNS, 53, QUERY.pack())
    lab.udp(DNS, 53, other.pack())
    lab.run()
    assert [data for data, _ in server.asked] == [QUERY.pack(), other.pack()]
    assert len(lab.network.flows()) == 1
    assert len(list(lab.host.udp_ports)) == 2  # the server's and one
    lab.user.close()
    assert len(list(lab.host.udp_ports)) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        replace(ANSWER, identification=0x4243),
        replace(ANSWER, response=False),
        replace(ANSWER, questions=(Question("www.example.com", RecordType.A),)),
        replace(ANSWER, questions=(Question("www.example.org", RecordType.AAAA),)),
        replace(ANSWER, questions=()),
    ],
)
def test_an_answer_to_another_question_is_ignored(wrong: DnsMessage) -> None:
    server = SilentServer()
    lab = server.lab
    lab.udp(DNS, 53, QUERY.pack())
    lab.run()
    server.say(wrong.pack())
    server.say(b"\x42\x42nonsense")
    assert lab.take() == []
    assert lab.counters["dns-mismatched"] == 2
    server.say(replace(ANSWER, questions=(Question("WWW.example.ORG", RecordType.A),)).pack())
    assert message(lab.one()).answers == ANSWER.answers


def test_an_answer_from_somebody_else_is_ignored() -> None:
    server = SilentServer()
    lab, asked = server.lab, server.asked
    lab.udp(DNS, 53, QUERY.pack())
    lab.run()
    with lab.host.udp("127.0.0.66", 53) as forger:
        forger.send_to(ANSWER.pack(), asked[0][1].address, asked[0][1].port)
        assert lab.take() == []
    assert lab.counters["dns-mismatched"] == 1


def test_two_guests_may_choose_the_same_identification() -> None:
    lab = Lab()
    lab.host.dns_server({"www.example.org": "192.0.2.80"})
    lab.udp(DNS, 53, QUERY.pack(), source_port=1000)
    lab.udp(DNS, 53, QUERY.pack(), source_port=1001)
    assert sorted(seen.udp.destination_port for seen in lab.take() if seen.udp) == [1000, 1001]


def test_what_is_no_question_is_counted() -> None:
    lab = Lab()
    lab.udp(DNS, 53, ANSWER.pack())
    lab.udp(DNS, 53, b"\0" * 11)
    assert lab.take() == []
    assert lab.counters["dns-not-a-question"] == 1
    assert lab.counters["malformed-dns"] == 1


def test_waiting_questions_are_bounded() -> None:
    lab = SilentServer().lab
    for number in range(200):
        lab.udp(DNS, 53, replace(QUERY, identification=number).pack())
    lab.run()
    assert len(lab.network.flows()) == 128
    assert lab.counters["dns-evicted"] == 72
