"""The services, on the host that lives in memory (test_io_oshost.py runs them on real sockets)."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from netemu.errors import LocalError
from netemu.io.simhost import SimHost
from netemu.net.loop import VirtualLoop
from netemu.wire.dns import CLASS_IN, DnsMessage, Question, RecordType, ResponseCode

ZONE = {"www.example.org": "192.0.2.1", "Two.Example.org": ["192.0.2.2", "192.0.2.3"], "empty.example.org": []}
MANY = [f"192.0.2.{last}" for last in range(1, 101)]


@pytest.fixture
def host():
    host = SimHost(VirtualLoop(), nameservers=["192.0.2.53"])
    yield host
    host.close()


@pytest.fixture
def server(host):
    return host.dns_server(dict(ZONE))


def ask(host, data):
    with host.udp("127.0.0.1") as client:
        client.send_to(data, "127.0.0.53", 53)
        return DnsMessage.parse(client.recv(timeout=1).data)


def question(name, kind=RecordType.A, class_=CLASS_IN, **fields):
    return DnsMessage(4711, (Question(name, kind, class_),), recursion_desired=True, **fields).pack()


@pytest.mark.parametrize(
    ("name", "addresses"),
    [
        ("www.example.org", ["192.0.2.1"]),
        ("WWW.example.ORG", ["192.0.2.1"]),
        ("two.example.org", ["192.0.2.2", "192.0.2.3"]),
        ("empty.example.org", []),
    ],
)
def test_addresses(host, server, name, addresses):
    reply = ask(host, question(name))
    assert [str(record.address) for record in reply.answers] == addresses
    assert (reply.identification, reply.response, reply.response_code) == (4711, True, ResponseCode.NO_ERROR)
    assert (reply.authoritative, reply.recursion_desired, reply.recursion_available) == (True, True, True)
    assert reply.questions == (Question(name, RecordType.A),)


@pytest.mark.parametrize(
    ("query", "code"),
    [
        (question("nowhere.example.org"), ResponseCode.NAME_ERROR),
        (question("www.example.org", RecordType.AAAA), ResponseCode.NO_ERROR),
        (question("www.example.org", class_=3), ResponseCode.REFUSED),
        (question("www.example.org", opcode=2), ResponseCode.NOT_IMPLEMENTED),
        (DnsMessage(4711).pack(), ResponseCode.FORMAT_ERROR),
        (question("www.example.org")[:-1], ResponseCode.FORMAT_ERROR),
    ],
    ids=["nxdomain", "nodata", "class", "opcode", "no question", "truncated"],
)
def test_no_answers(host, server, query, code):
    reply = ask(host, query)
    assert (reply.identification, reply.response_code, reply.answers) == (4711, code, ())


@pytest.mark.parametrize("data", [b"", b"short", DnsMessage(1, response=True).pack()])
def test_what_is_no_question_is_not_answered(host, server, data):
    with host.udp("127.0.0.1") as client:
        client.send_to(data, "127.0.0.53", 53)
        host.loop.run_for(0)
        client.send_to(question("www.example.org"), "127.0.0.53", 53)
        assert DnsMessage.parse(client.recv().data).identification == 4711
    assert server.counters == {"malformed": 1, "answered": 1}


def test_a_long_answer_comes_over_tcp(host, server):
    server.zone["many.example.org"] = MANY
    short = ask(host, question("many.example.org"))
    assert (short.truncated, short.answers) == (True, ())
    with host.tcp_connect("127.0.0.53", 53) as client:
        query = question("many.example.org")
        message = len(query).to_bytes(2, "big") + query
        client.send(message[:5])
        client.send(message[5:] + message)  # RFC 7766 6.2.1.1: two questions on one connection
        for _ in range(2):
            length = int.from_bytes(client.recv_exactly(2), "big")
            reply = DnsMessage.parse(client.recv_exactly(length))
            assert [record.address for record in reply.answers] == [IPv4Address(text) for text in MANY]
        client.send(message[:5])
        client.shutdown()
        assert client.recv() == b""


def test_the_questions_are_kept(host, server):
    ask(host, question("www.example.org"))
    ask(host, question("nowhere.example.org", RecordType.AAAA))
    assert server.questions == [("www.example.org", RecordType.A), ("nowhere.example.org", RecordType.AAAA)]


def test_nameservers_are_those_configured_and_those_served(host):
    assert [str(server) for server in host.nameservers()] == ["192.0.2.53:53"]
    host.dns_server({})
    host.dns_server({}, "127.0.0.54", 5353)
    assert [str(server) for server in host.nameservers()] == ["192.0.2.53:53", "127.0.0.53:53", "127.0.0.54:5353"]


def test_echo_over_udp(host):
    server = host.echo_server("127.0.0.1", 0, "udp")
    with host.udp("127.0.0.1") as client:
        client.send_to(b"hello", *map(str, server.local[:1]), server.local.port)
        assert client.recv() == (b"hello", server.local)
    assert server.counters == {"echoed-octets": 5}


def test_echo_finishes_after_its_client(host):
    server = host.echo_server("127.0.0.1")
    with host.tcp_connect("127.0.0.1", server.local.port) as client:
        client.send(b"hello")
        client.shutdown()
        assert client.recv_all() == b"hello"


def test_echo_knows_two_protocols(host):
    with pytest.raises(LocalError, match="tcp or udp"):
        host.echo_server("127.0.0.1", 0, "sctp")
