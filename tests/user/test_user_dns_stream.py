"""DNS over TCP: names of the test's own, and those of the host's name servers, of either family."""

from collections.abc import Iterator
from typing import Self

import pytest

from netemu.guest.inproc import InprocGuest
from netemu.io.simhost import SimHost
from netemu.net.sockets import Stream
from netemu.netdev.user import UserNetdev
from netemu.network import Network
from netemu.user.dns_names import DnsNames
from netemu.user.options import UserOptions
from netemu.wire.dns import DnsMessage, Question, RecordType, ResponseCode

NAMES = "user,dns-name=db.test=192.0.2.9,dns-name=db.test=2001:db8::9,dns-name=www.test=db.test,dns-name=old.test=www.test"
MANY = [f"192.0.2.{number}" for number in range(1, 101)]
DNS, DNS6 = "10.0.2.3", "fec0::3"


class Site:
    def __init__(self, options: str = NAMES) -> None:
        self.network = Network()
        user, host = self.network.netdev(options), self.network.host
        assert isinstance(user, UserNetdev)
        assert isinstance(host, SimHost)
        self.user, self.host = user, host
        guest = self.network.guest(netdev=user)
        assert isinstance(guest, InprocGuest)
        guest.dhcp4()
        guest.slaac()
        self.guest = guest

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.network.close()


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as site:
        yield site


def question(name: str, kind: int = RecordType.A, identification: int = 0x4242) -> DnsMessage:
    return DnsMessage(identification, (Question(name, kind),), recursion_desired=True)


def framed(*messages: DnsMessage) -> bytes:
    return b"".join(len(packed).to_bytes(2, "big") + packed for packed in (message.pack() for message in messages))


def read(stream: Stream) -> DnsMessage:
    return DnsMessage.parse(stream.recv_exactly(int.from_bytes(stream.recv_exactly(2), "big")))


def told(reply: DnsMessage) -> list[str]:
    return [str(record.address) for record in reply.answers if record.address]


@pytest.mark.parametrize("server", [DNS, DNS6])
@pytest.mark.parametrize(
    ("name", "kind", "addresses", "records"),
    [
        ("DB.test", RecordType.A, ["192.0.2.9"], 1),
        ("db.test", RecordType.AAAA, ["2001:db8::9"], 1),
        ("db.test", RecordType.ANY, ["192.0.2.9", "2001:db8::9"], 2),
        ("db.test", RecordType.MX, [], 0),
        ("old.test", RecordType.A, ["192.0.2.9"], 3),
        ("www.test", RecordType.CNAME, [], 1),
        ("9.2.0.192.in-addr.arpa", RecordType.PTR, [], 1),
    ],
)
def test_a_name_of_the_tests_own(site: Site, server: str, name: str, kind: int, addresses: list[str], records: int) -> None:
    with site.guest.tcp_connect(server, 53) as stream:
        stream.send(framed(question(name, kind)))
        reply = read(stream)
    assert (reply.identification, reply.authoritative, reply.response_code) == (0x4242, True, ResponseCode.NO_ERROR)
    assert (told(reply), len(reply.answers)) == (addresses, records)


def test_an_address_leads_back_to_its_names() -> None:
    names = DnsNames(UserOptions.from_pairs([("dns-name", f"{name}=2001:db8::9") for name in ("a.test", "b.test.")]).dns_name)
    reply = names.answer(question(f"9.{'0.' * 23}8.b.d.0.1.0.0.2.ip6.arpa", RecordType.PTR))
    assert reply is not None
    assert [record.data for record in reply.answers] == [b"\1a\4test\0", b"\1b\4test\0"]


@pytest.mark.parametrize("server", [DNS, DNS6])
@pytest.mark.parametrize("resolver", ["127.0.0.53", "::1"])
def test_what_is_truncated_over_udp_is_whole_over_tcp(site: Site, server: str, resolver: str) -> None:
    served = site.host.dns_server({"many.example": MANY}, resolver)
    asked = question("many.example")
    with site.guest.udp() as socket:
        socket.send_to(asked.pack(), server, 53)
        short = DnsMessage.parse(socket.recv().data)
    assert (short.truncated, short.answers) == (True, ())
    with site.guest.tcp_connect(server, 53) as stream:
        stream.send(framed(asked, question("db.test", identification=1)))
        replies = {reply.identification: reply for reply in (read(stream), read(stream))}
    assert told(replies[0x4242]) == MANY
    assert told(replies[1]) == ["192.0.2.9"]
    assert len(served.questions) == 2


def test_a_question_in_pieces_and_the_end_of_the_guests(site: Site) -> None:
    site.host.dns_server({"www.example": "192.0.2.80"})
    octets = framed(question("db.test", identification=1), question("www.example", identification=2))
    with site.guest.tcp_connect(DNS, 53) as stream:
        for at in range(len(octets)):
            stream.send(octets[at : at + 1])
        stream.shutdown()
        assert {read(stream).identification, read(stream).identification} == {1, 2}
        assert stream.recv_all() == b""
    site.network.run_for(20)
    assert site.user.flows() == ()


def test_more_questions_than_may_wait(site: Site) -> None:
    site.host.dns_server({"www.example": "192.0.2.80"})
    with site.guest.tcp_connect(DNS, 53) as stream:
        stream.send(framed(*(question("www.example", identification=number) for number in range(200))))
        assert sorted(read(stream).identification for _ in range(200)) == list(range(200))


@pytest.mark.parametrize("first", ["closed", "mute"])
def test_the_next_server_is_asked(first: str) -> None:
    with Site() as site:
        listener = site.host.tcp_listen("127.0.0.3", 53)
        site.host._nameservers = [listener.local]
        if first == "closed":
            listener.close()
        site.host.dns_server({"www.example": "192.0.2.80"})
        with site.guest.tcp_connect(DNS, 53) as stream:
            stream.send(framed(question("www.example")))
            if first == "mute":
                listener.accept().close()
            assert told(read(stream)) == ["192.0.2.80"]


def test_no_server_is_a_server_failure(site: Site) -> None:
    with site.guest.tcp_connect(DNS, 53) as stream:
        stream.send(framed(question("www.example")))
        reply = read(stream)
        assert (reply.identification, reply.response_code) == (0x4242, ResponseCode.SERVER_FAILURE)
        stream.send(framed(question("db.test")))
        assert told(read(stream)) == ["192.0.2.9"]


def test_a_restricted_guest_hears_the_tests_own_names_only() -> None:
    with Site(f"{NAMES},restrict=on") as site:
        served = site.host.dns_server({"www.example": "192.0.2.80"})
        with site.guest.tcp_connect(DNS, 53) as stream:
            stream.send(framed(question("www.example"), question("db.test")))
            assert read(stream).response_code == ResponseCode.REFUSED
            assert told(read(stream)) == ["192.0.2.9"]
        assert served.questions == []


def test_an_answer_is_no_question(site: Site) -> None:
    with site.guest.tcp_connect(DNS, 53) as stream:
        stream.send(framed(question("db.test").reply(), question("db.test", identification=7)))
        assert read(stream).identification == 7
    assert site.user.counters["dns-not-a-question"] == 1


def test_a_guest_that_reads_late_misses_nothing(site: Site) -> None:
    """There is not room for all the answers at once."""
    names = tuple(Question(f"{number:060}.example", RecordType.A) for number in range(50))
    large = [DnsMessage(identification, names) for identification in range(100)]
    with site.guest.tcp_connect(DNS, 53) as stream:
        for message in large:
            stream.send(framed(message))
        site.network.run_for(1)
        replies = [read(stream) for _ in large]
    assert [reply.identification for reply in replies] == list(range(100))
    assert {reply.response_code for reply in replies} == {ResponseCode.SERVER_FAILURE}


@pytest.mark.parametrize("octets", [b"\x10\x01", b"\0\2ab", framed(question("a.test"))[:2] + bytes(24)[:5] + b"\xff" * 30])
def test_what_is_no_question_ends_the_connection(site: Site, octets: bytes) -> None:
    with site.guest.tcp_connect(DNS, 53) as stream:
        stream.send(octets)
        site.network.run_for(1)
        assert stream.socket.error


def test_half_an_answer_ends_the_connection(site: Site) -> None:
    with site.host.tcp_listen("127.0.0.3", 53) as listener:
        site.host._nameservers = [listener.local]
        with site.guest.tcp_connect(DNS, 53) as stream:
            stream.send(framed(question("www.example")))
            with listener.accept() as server:
                server.send(b"\0\x40" + (0x4242).to_bytes(2, "big"))
            site.network.run_for(1)
            assert stream.socket.error
