"""DNS forwarding: there, back, and what the guest hears when there is no answer."""

from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from user_driver import DNS, GUEST, Lab, Seen

from netemu.wire.address import Endpoint
from netemu.wire.dns import DnsMessage, Question, RecordType, ResponseCode, a_record

QUERY = DnsMessage(0x4242, (Question("www.example.org", RecordType.A),), recursion_desired=True)
ANSWER = replace(QUERY, response=True, recursion_available=True, answers=(a_record("www.example.org", IPv4Address("192.0.2.80"), 60),))


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


def test_no_name_server_is_a_server_failure_at_once() -> None:
    lab = Lab()
    lab.udp(DNS, 53, QUERY.pack())
    reply = message(lab.one())
    assert (reply.identification, reply.questions) == (QUERY.identification, QUERY.questions)
    assert (reply.response, reply.response_code) == (True, ResponseCode.SERVER_FAILURE)
    assert lab.user.refusals[0].guest == Endpoint(GUEST, 5000)


def test_a_name_server_that_is_not_there_is_a_server_failure_at_once() -> None:
    lab = Lab()
    server = lab.host.dns_server({})
    server.close()
    lab.udp(DNS, 53, QUERY.pack())
    assert message(lab.one()).response_code == ResponseCode.SERVER_FAILURE


def silent(lab: Lab) -> list[tuple[bytes, Endpoint]]:
    """A name server that only listens."""
    lab.host.dns_server({}, "127.0.0.53").close()
    asked: list[tuple[bytes, Endpoint]] = []
    server = lab.host.open_datagram(Endpoint(IPv4Address("127.0.0.53"), 53))
    server.on_datagram = lambda data, source: asked.append((data, source))
    lab.server = server  # type: ignore[attr-defined] # for the test to answer with
    return asked


def test_silence_is_a_server_failure_after_four_seconds() -> None:
    lab = Lab()
    asked = silent(lab)
    lab.udp(DNS, 53, QUERY.pack())
    assert lab.take(3.9) == []
    assert [flow.protocol for flow in lab.network.flows()] == ["dns"]
    assert message(lab.one(0.1)).response_code == ResponseCode.SERVER_FAILURE
    assert len(asked) == 1
    assert lab.network.flows() == ()
    assert lab.network.deadline() is None or lab.network.deadline() > lab.loop.now()


def test_a_question_asked_again_is_sent_again_and_does_not_wait_longer() -> None:
    lab = Lab()
    asked = silent(lab)
    lab.udp(DNS, 53, QUERY.pack())
    lab.run(2)
    lab.udp(DNS, 53, QUERY.pack())
    assert message(lab.one(2)).response_code == ResponseCode.SERVER_FAILURE
    assert [data for data, _ in asked] == [QUERY.pack()] * 2
    assert len({source for _, source in asked}) == 1


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
    lab = Lab()
    asked = silent(lab)
    lab.udp(DNS, 53, QUERY.pack())
    lab.run()
    _, source = asked[0]
    lab.server.send_to(wrong.pack(), source)
    lab.server.send_to(b"\x42\x42nonsense", source)
    assert lab.take() == []
    assert lab.counters["dns-mismatched"] == 2
    lab.server.send_to(replace(ANSWER, questions=(Question("WWW.example.ORG", RecordType.A),)).pack(), source)
    assert message(lab.one()).answers == ANSWER.answers


def test_an_answer_from_somebody_else_is_ignored() -> None:
    lab = Lab()
    asked = silent(lab)
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
    lab = Lab()
    silent(lab)
    for number in range(200):
        lab.udp(DNS, 53, replace(QUERY, identification=number).pack())
    lab.run()
    assert len(lab.network.flows()) == 128
    assert lab.counters["dns-evicted"] == 72
