"""QEMU's option grammar, and the types there are."""

import random

import pytest

from netemu.errors import HostError, LocalError
from netemu.io.simhost import SimHost
from netemu.net.hub import Hub
from netemu.net.loop import VirtualLoop
from netemu.net.port import Port, connect
from netemu.netdev import TYPES, create
from netemu.netdev.hubport import HubportNetdev
from netemu.netdev.options import parse_options, reject_unknown
from netemu.netdev.protocol import BACKEND_CAPABILITIES, Backend
from netemu.netdev.user import UserNetdev


@pytest.mark.parametrize(
    ("text", "kind", "pairs"),
    [
        ("user", "user", []),
        ("user,restrict", "user", [("restrict", "on")]),
        ("user,hostname=a,,b", "user", [("hostname", "a,b")]),
        ("user,hostname=,,", "user", [("hostname", ",")]),
        ("user,domainname=", "user", [("domainname", "")]),
        ("user,hostname=a=b", "user", [("hostname", "a=b")]),
        ("user,hostfwd=tcp::1-:2,hostfwd=udp::3-:4", "user", [("hostfwd", "tcp::1-:2"), ("hostfwd", "udp::3-:4")]),
        ("user,lease-time=60,addr.type=x", "user", [("lease-time", "60"), ("addr.type", "x")]),
    ],
)
def test_grammar(text: str, kind: str, pairs: list[tuple[str, str]]) -> None:
    assert parse_options(text) == (kind, pairs)


@pytest.mark.parametrize("text", ["", ",", "restrict=on", "user,", "user,=on", "user,UPPER=1", "user, restrict=on"])
def test_what_is_no_option_gets_one_sentence(text: str) -> None:
    with pytest.raises(LocalError, match=r"^netdev "):
        parse_options(text)


def test_unknown_keys_are_told_what_there_is() -> None:
    with pytest.raises(LocalError, match="netdev x has no option 'c': it has a, b"):
        reject_unknown("x", [("a", "1"), ("c", "2")], {"b", "a"})
    reject_unknown("x", [("a", "1")], {"a"})


class Bench:
    def __init__(self) -> None:
        self.loop = VirtualLoop()
        self.host = SimHost(self.loop)
        self.hubs: dict[int, Hub] = {}

    def hub(self, number: int) -> Hub:
        return self.hubs.setdefault(number, Hub(self.loop, number))

    def create(self, text: str) -> Backend:
        return create(self.loop, text, id="net0", host=self.host, getrandbits=random.Random(0).getrandbits, hub=self.hub)


def test_user() -> None:
    bench = Bench()
    user = bench.create("user,net=192.168.76.0/24,dns=192.168.76.5,hostfwd=tcp::0-:80")
    assert isinstance(user, UserNetdev)
    assert (user.id, user.kind, user.port.name) == ("net0", "user", "net0")
    assert [str(each) for each in (user.net, user.gateway, user.dns, user.dhcpstart)] == [
        "192.168.76.0/24",
        "192.168.76.2",
        "192.168.76.5",
        "192.168.76.15",
    ]
    assert user.host is bench.host
    assert user.capabilities == BACKEND_CAPABILITIES.keys()
    assert [str(forward.guest) for forward in user.forwards] == ["192.168.76.15:80"]


def test_an_id_in_the_text_counts() -> None:
    assert Bench().create("user,id=mynet").id == "mynet"


def test_close_gives_everything_back() -> None:
    bench = Bench()
    user = bench.create("user,hostfwd=tcp::2222-:22,hostfwd=udp::5353-:53")
    guest = Port(bench.loop, "guest")
    connect(guest, user.port)
    user.port.flush()
    user.close()
    bench.loop.run_for(1)
    assert guest.peer is None
    assert bench.loop._timers.next_deadline() is None
    bench.create("user,hostfwd=tcp::2222-:22,hostfwd=udp::5353-:53")


def test_a_forward_that_cannot_be_had_takes_the_others_back() -> None:
    bench = Bench()
    with bench.host.tcp_listen("127.0.0.1", 2222), pytest.raises(HostError, match="EADDRINUSE"):
        bench.create("user,hostfwd=tcp::2221-:21,hostfwd=tcp::2222-:22")
    bench.host.tcp_listen("127.0.0.1", 2221)


def test_hubport() -> None:
    bench = Bench()
    first, second = bench.create("hubport,hubid=3"), bench.create("hubport,hubid=3,id=other")
    assert isinstance(first, HubportNetdev)
    assert [port.name for port in bench.hubs[3].ports] == ["net0", "other"]
    assert [first.port, second.port] == bench.hubs[3].ports
    first.close()
    assert bench.hubs[3].ports == [second.port]
    first.close()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("hubport", "give the hub's number"),
        ("hubport,hubid=x", "give the hub's number"),
        ("hubport,hubid=4294967296", "give the hub's number"),
        ("hubport,hubid=0,netdev=a", "no option 'netdev': it has hubid"),
        ("tap,ifname=tap0", "netdev type 'tap' is not there: these are: hubport, user"),
        ("user,colour=red", "no option 'colour': it has "),
    ],
)
def test_one_sentence_for_each_mistake(text: str, sentence: str) -> None:
    with pytest.raises(LocalError, match=sentence):
        Bench().create(text)


def test_a_hubport_needs_hubs() -> None:
    loop = VirtualLoop()
    with pytest.raises(LocalError, match="through a Network"):
        create(loop, "hubport,hubid=0", id="h", host=SimHost(loop), getrandbits=random.Random(0).getrandbits)


def test_the_types_are_those_of_the_modules() -> None:
    assert TYPES.keys() == {UserNetdev.kind, HubportNetdev.kind}
