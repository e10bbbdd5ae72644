"""Servers that guests find in their network: sockets and callables, on an in-memory host in virtual time."""

import errno
from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest

from netemu.errors import HostError, LocalError
from netemu.guest.inproc import InprocGuest
from netemu.io.simhost import SimHost
from netemu.net.sockets import StreamSocket
from netemu.netdev.user import UserNetdev
from netemu.network import Network
from netemu.user.guest_forward import GuestForward, parse_guestfwd
from netemu.user.options import UserOptions
from netemu.wire.address import Endpoint

SERVER = "10.0.2.100"


class Site:
    """A user netdev and a guest with a lease."""

    def __init__(self, options: str = "user") -> None:
        self.network = Network()
        user, host = self.network.netdev(options), self.network.host
        assert isinstance(user, UserNetdev)
        assert isinstance(host, SimHost)
        self.user, self.host = user, host
        guest = self.network.guest(netdev=user)
        assert isinstance(guest, InprocGuest)
        guest.dhcp4()
        self.guest = guest


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.network.close()


def shout(stream: StreamSocket) -> None:
    """Give back what comes, louder, until it ends."""

    def changed() -> None:
        if count := min(stream.available(), stream.room()):
            buffer = memoryview(bytearray(count))
            stream.read_into(0, buffer)
            stream.discard(stream.offer(bytes(buffer).upper()))
        if stream.eof and not stream.available():
            stream.finish()

    stream.on_change = changed
    changed()


@pytest.mark.parametrize(
    ("rule", "server", "target"),
    [
        ("tcp:10.0.2.100:80-cmd:cat -n | tr a-z A-Z", "10.0.2.100:80", "cmd:cat -n | tr a-z A-Z"),
        (":10.0.2.100:80-tcp:127.0.0.1:8080", "10.0.2.100:80", "tcp:127.0.0.1:8080"),
        ("tcp::7-unix:/run/x-y.sock", "10.0.2.4:7", "unix:/run/x-y.sock"),
        ("tcp:[fec0::100]:80-tcp:[::1]:8080", "[fec0::100]:80", "tcp:[::1]:8080"),
    ],
)
def test_rules(rule: str, server: str, target: str) -> None:
    forward = parse_guestfwd(rule, UserOptions().net, UserOptions().ipv6_net)
    assert (str(forward.server), forward.target) == (server, target)
    assert str(forward) == f"tcp:{server}-{target}"


def test_a_callable_serves_each_connection(site: Site) -> None:
    forward = site.user.add_guestfwd(f"tcp:{SERVER}:80", shout)
    assert site.user.guest_forwards == (forward,) == (GuestForward(Endpoint(IPv4Address(SERVER), 80), ""),)
    for word in (b"one", b"two" * 100_000):
        with site.guest.tcp_connect(SERVER, 80) as stream:
            stream.send(word)
            stream.shutdown()
            assert stream.recv_all() == word.upper()
    assert site.guest.ping(SERVER).ok
    with pytest.raises(HostError) as caught:
        site.guest.tcp_connect(SERVER, 81)
    assert caught.value.errno == errno.ECONNREFUSED


def test_a_server_that_was_removed_is_not_there(site: Site) -> None:
    forward = site.user.add_guestfwd(f"tcp:{SERVER}:80", shout)
    stream = site.guest.tcp_connect(SERVER, 80)
    site.user.remove_guestfwd(forward)
    stream.send(b"still")
    assert stream.recv_exactly(5) == b"STILL"
    with pytest.raises(HostError):
        site.guest.tcp_connect(SERVER, 80)
    with pytest.raises(LocalError, match="is not there, so it cannot be removed; there are: none"):
        site.user.remove_guestfwd(forward)


@pytest.mark.parametrize("target", ["127.0.0.1", "[::1]"])
def test_a_server_in_ipv6(target: str) -> None:
    site = Site(f"user,restrict=on,guestfwd=tcp:[fec0::100]:80-tcp:{target}:8080")
    site.guest.slaac()
    with site.host.tcp_listen(target.strip("[]"), 8080) as listener, site.guest.tcp_connect("fec0::100", 80) as stream:
        listener.accept().send(b"welcome")
        assert stream.recv_exactly(7) == b"welcome"
    forward = site.user.add_guestfwd("tcp:[fec0::101]:7", shout)
    with site.guest.tcp_connect("fec0::101", 7) as stream:
        stream.send(b"hello")
        assert stream.recv_exactly(5) == b"HELLO"
    site.user.remove_guestfwd(forward)
    with pytest.raises(HostError) as caught:
        site.guest.tcp_connect("fec0::101", 7)
    assert caught.value.errno == errno.ECONNREFUSED
    site.network.close()


@pytest.mark.parametrize("address", ["[fec0::2]", "[fec0::3]", "[fec0::]", "[fec1::1]", "[::1"])
def test_an_address_that_no_server_can_have(address: str) -> None:
    with pytest.raises(LocalError):
        Site(f"user,guestfwd=tcp:{address}:80-cmd:cat")


def test_a_family_that_is_not_spoken() -> None:
    with pytest.raises(LocalError, match="does not speak the family"):
        Site("user,ipv6=off,guestfwd=tcp:[fec0::100]:80-cmd:cat")


def test_a_socket_serves_restricted_guests_too() -> None:
    site = Site(f"user,restrict=on,guestfwd=tcp:{SERVER}:80-tcp:127.0.0.1:8080")
    with site.host.tcp_listen("127.0.0.1", 8080) as listener, site.guest.tcp_connect(SERVER, 80) as stream:
        served = listener.accept()
        served.send(b"welcome")
        assert stream.recv_exactly(7) == b"welcome"
        with pytest.raises(HostError):
            site.guest.tcp_connect("10.0.2.2", 8080)
    with pytest.raises(HostError) as caught:
        site.guest.tcp_connect(SERVER, 80)
    assert caught.value.errno == errno.ECONNREFUSED
    site.network.close()


@pytest.mark.parametrize("target", ["cmd:cat", "unix:/run/x"])
def test_what_the_host_cannot_give_is_refused_to_the_guest(target: str) -> None:
    site = Site(f"user,guestfwd=tcp:{SERVER}:80-{target}")
    with pytest.raises(HostError) as caught:
        site.guest.tcp_connect(SERVER, 80)
    assert caught.value.errno == errno.ECONNREFUSED
    assert site.user.refusals[-1].errno == errno.EOPNOTSUPP
    site.network.close()


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        (f"tcp:{SERVER}:80", "is served already"),
        ("tcp:10.0.2.2:80", "has another use"),
        ("tcp:10.0.2.3:53", "has another use"),
        ("tcp:10.0.2.15:80", "has another use"),
        (f"tcp:{SERVER}:80-cmd:cat", "give "),
    ],
)
def test_conflicts(site: Site, rule: str, sentence: str) -> None:
    site.user.add_guestfwd(f"tcp:{SERVER}:80", shout)
    with pytest.raises(LocalError, match=sentence):
        site.user.add_guestfwd(rule, shout)
    assert len(site.user.guest_forwards) == 1


def test_two_rules_for_one_server_are_refused() -> None:
    with Network() as network, pytest.raises(LocalError, match="is served already"):
        network.netdev(f"user,guestfwd=tcp:{SERVER}:80-cmd:cat,guestfwd=tcp:{SERVER}:80-cmd:tac")


def test_a_server_in_the_pool_is_leased_to_nobody() -> None:
    options = UserOptions(guestfwd=("tcp:10.0.2.16:80-cmd:cat",))
    assert len(options.pool) == 15
    assert IPv4Address("10.0.2.16") not in options.pool
