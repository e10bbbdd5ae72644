"""What a resolver's query does by itself; the guest's tests have the rest."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from netemu.errors import LocalError
from netemu.net.clock import SECOND
from netemu.stack.dns_client import DnsOutcome, DnsQuery
from netemu.wire.address import Endpoint
from netemu.wire.dns import DnsMessage, a_record

ONE, TWO = Endpoint(IPv4Address("192.0.2.1"), 53), Endpoint(IPv4Address("192.0.2.2"), 53)
ADDRESS = IPv4Address("198.51.100.7")


def ask(*servers: Endpoint) -> DnsQuery:
    return DnsQuery("host.test", servers, lambda bits: 77)


def answer(query: DnsQuery, **fields) -> bytes:
    asked = DnsMessage.parse(query.request)
    fields.setdefault("answers", (a_record("host.test", ADDRESS, 60),))
    return DnsMessage(asked.identification, asked.questions, response=True, **fields).pack()


def test_the_request():
    message = DnsMessage.parse(ask(ONE).request)
    assert (message.identification, message.recursion_desired, message.response) == (77, True, False)
    assert [question.name for question in message.questions] == ["host.test"]


def test_servers_take_turns_until_all_were_asked_three_times():
    query = ask(ONE, TWO)
    asked = []
    while (due := query.deadline()) is not None:
        asked += [(due // SECOND, server) for _, server in query.transmit(due)]
    assert asked == [(0, ONE), (5, TWO), (10, ONE), (15, TWO), (20, ONE), (25, TWO)]
    assert query.outcome is DnsOutcome.TIMED_OUT


def test_it_is_not_asked_before_its_time():
    query = ask(ONE)
    query.transmit(0)
    assert query.transmit(5 * SECOND - 1) == []


def test_only_a_server_that_was_asked_may_answer():
    query = ask(ONE, TWO)
    query.transmit(0)
    query.receive(answer(query), TWO)
    query.receive(answer(query), Endpoint(ONE.address, 54))
    assert query.outcome is DnsOutcome.ASKING
    query.transmit(5 * SECOND)
    query.receive(answer(query), ONE)  # late, but asked
    assert (query.outcome, query.addresses) == (DnsOutcome.ANSWERED, [ADDRESS])
    assert query.deadline() is None
    query.receive(answer(query, answers=()), ONE)
    assert query.outcome is DnsOutcome.ANSWERED


@pytest.mark.parametrize("garbage", [b"", b"\0" * 11, b"\0" * 12, bytes(range(64))])
def test_garbage_is_ignored(garbage):
    query = ask(ONE)
    query.transmit(0)
    query.receive(garbage, ONE)
    assert query.outcome is DnsOutcome.ASKING


def test_a_truncated_answer_is_completed_over_tcp():
    query = ask(ONE)
    query.transmit(0)
    query.receive(answer(query, truncated=True), ONE)
    assert query.outcome is DnsOutcome.TRUNCATED
    query.receive_tcp(answer(query))
    assert (query.outcome, query.addresses) == (DnsOutcome.ANSWERED, [ADDRESS])


def test_nonsense_over_tcp_is_a_failure():
    query = ask(ONE)
    query.transmit(0)
    query.receive(answer(query, truncated=True), ONE)
    query.receive_tcp(b"nonsense")
    assert query.outcome is DnsOutcome.FAILED


def test_other_records_are_no_data():
    query = ask(ONE)
    query.transmit(0)
    query.receive(answer(query, answers=(a_record("other.test", ADDRESS, 60),)), ONE)
    assert query.outcome is DnsOutcome.NO_DATA


def test_what_cannot_be_asked():
    for name, servers in (("host.test", ()), ("a..b", (ONE,)), ("x" * 64, (ONE,))):
        with pytest.raises(LocalError):
            DnsQuery(name, servers, lambda bits: 1)
