"""In-process guests on the user-mode network: the verbs of a test, in virtual time."""

import errno
from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest

from netemu.errors import HostError
from netemu.guest.inproc import InprocGuest
from netemu.io.simhost import SimHost
from netemu.netdev.user import UserNetdev
from netemu.network import Network
from netemu.wire.icmpv4 import IcmpType, UnreachableCode

SERVER = "198.51.100.7"
FAR = "203.0.113.9"
MEGABYTE = bytes(range(256)) * 4096


class Site:
    """A network, its host, a user netdev and a guest with a lease."""

    def __init__(self, options: str = "user") -> None:
        self.network = Network()
        host = self.network.host
        assert isinstance(host, SimHost)
        self.host = host
        host.add_address(SERVER)
        user = self.network.netdev(options)
        assert isinstance(user, UserNetdev)
        self.user = user
        self.guest = self.add_guest(user)

    def add_guest(self, where: object) -> InprocGuest:
        guest = self.network.guest(netdev=where)  # type: ignore[arg-type] # a netdev or a hub
        assert isinstance(guest, InprocGuest)
        guest.dhcp4()
        return guest


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.network.close()


def test_lease(site: Site) -> None:
    lease = site.guest.lease
    assert lease is not None
    assert [str(address) for address in (lease.address, lease.server, lease.router, *lease.dns)] == [
        "10.0.2.15",
        "10.0.2.2",
        "10.0.2.2",
        "10.0.2.3",
    ]
    assert (lease.prefix_length, lease.lease_time, lease.mtu) == (24, 86_400, 1500)
    assert site.user.leases[0].mac == site.guest.mac


def test_the_lease_is_renewed_for_days(site: Site) -> None:
    site.network.run_for(5 * 86_400)
    assert site.guest.address == IPv4Address("10.0.2.15")
    (lease,) = site.user.leases
    assert lease.state == "bound"
    assert lease.expires > site.network.loop.now()


def test_ping(site: Site) -> None:
    for address in ("10.0.2.2", "10.0.2.3", SERVER):
        assert site.guest.ping(address, count=3, size=1000).ok


def test_ping_denied(site: Site) -> None:
    site.host.set_ping_group_range(1, 0)
    assert site.guest.ping("10.0.2.2").ok
    result = site.guest.ping(SERVER)
    assert result.outcome == "error"
    (error,) = result.errors
    assert (error.type, error.code) == (IcmpType.DESTINATION_UNREACHABLE, UnreachableCode.COMMUNICATION_PROHIBITED)
    assert error.source == IPv4Address("10.0.2.2")
    assert site.user.counters["ping-forbidden"] == 1


def test_udp_echo_with_fragments(site: Site) -> None:
    echo = site.host.echo_server(SERVER, 7, "udp")
    with site.guest.udp() as socket:
        for size in (0, 1, 1472, 1473, 9000, 60_000):
            socket.send_to(MEGABYTE[:size], SERVER, 7)
            received = socket.recv()
            assert (received.data, received.source) == (MEGABYTE[:size], echo.local)


def test_udp_to_a_closed_port(site: Site) -> None:
    with site.guest.udp() as socket:
        for address in (SERVER, "10.0.2.2"):
            socket.send_to(b"x", address, 9)
            with pytest.raises(HostError) as caught:
                socket.recv()
            assert caught.value.errno == errno.ECONNREFUSED


def test_a_megabyte_through_an_echo_server(site: Site) -> None:
    """More than any buffer holds: the echo server waits for its client, and its client for the guest."""
    site.host.echo_server(SERVER, 7)
    received = bytearray()
    with site.guest.tcp_connect(SERVER, 7) as stream:
        view = memoryview(MEGABYTE)
        while len(received) < len(MEGABYTE):
            if view:
                view = view[stream.socket.offer(view[:30_000]) :]
            received += stream.recv()
        stream.shutdown()
        assert stream.recv_all() == b""
    assert received == MEGABYTE
    (flow,) = [flow for flow in site.user.flows() if flow.protocol == "tcp"]
    assert (flow.sent, flow.received) == (len(MEGABYTE), len(MEGABYTE))


@pytest.mark.parametrize("direction", ["up", "down"])
def test_back_pressure(site: Site, direction: str) -> None:
    """A reader that does not read stops the writer; nothing is lost when it reads again."""
    data = MEGABYTE * 4
    with site.host.tcp_listen(SERVER, 80) as listener, site.guest.tcp_connect(SERVER, 80) as client:
        server = listener.accept()
        writer, reader = (client, server) if direction == "up" else (server, client)
        view = memoryview(data)

        def write() -> None:
            nonlocal view
            view = view[writer.socket.offer(view) :] if view else view

        writer.socket.on_change = write
        write()
        site.network.run_for(60)
        assert len(data) - len(view) < 1_000_000  # what fits on the way: the buffers of both ends and the host's
        assert reader.recv_exactly(len(data), timeout=200) == data


def test_half_close_both_ways(site: Site) -> None:
    with site.host.tcp_listen(SERVER, 80) as listener, site.guest.tcp_connect(SERVER, 80) as client:
        server = listener.accept()
        client.send(b"request")
        client.shutdown()
        assert server.recv_all() == b"request"
        server.send(MEGABYTE[:50_000])
        server.close()
        assert client.recv_all() == MEGABYTE[:50_000]
    site.network.run_for(120)
    assert site.user.flows() == ()


def test_half_close_by_the_server(site: Site) -> None:
    with site.host.tcp_listen(SERVER, 80) as listener, site.guest.tcp_connect(SERVER, 80) as client:
        server = listener.accept()
        server.shutdown()
        assert client.recv_all() == b""
        client.send(MEGABYTE[:50_000])
        client.close()
        assert server.recv_all() == MEGABYTE[:50_000]


def test_reset_both_ways(site: Site) -> None:
    with site.host.tcp_listen(SERVER, 80) as listener:
        client = site.guest.tcp_connect(SERVER, 80)
        server = listener.accept()
        client.abort()
        site.network.run_for(1)
        assert server.socket.error == errno.ECONNRESET
        client = site.guest.tcp_connect(SERVER, 80)
        listener.accept().abort()
        site.network.run_for(1)
        assert client.socket.error == errno.ECONNRESET
    assert site.user.flows() == ()


@pytest.mark.parametrize(
    ("prepare", "error"),
    [
        (lambda host: host.add_address(FAR), errno.ECONNREFUSED),
        (lambda host: host.unreachable("203.0.113.0/24", errno.ENETUNREACH), errno.ENETUNREACH),
        (lambda host: host.unreachable("203.0.113.0/24", errno.EHOSTUNREACH, reporter="192.0.2.1"), errno.EHOSTUNREACH),
        (lambda host: host.blackhole("203.0.113.0/24"), errno.ETIMEDOUT),
    ],
    ids=["refused", "net", "host", "silent"],
)
def test_connect_fails_as_it_would_without_nat(site: Site, prepare: object, error: int) -> None:
    prepare(site.host)  # type: ignore[operator] # a function of the host
    with pytest.raises(HostError) as caught:
        site.guest.tcp_connect(FAR, 80, timeout=300)
    assert caught.value.errno == error


def test_resolve(site: Site) -> None:
    assert site.host.dns_server({"www.example.org": ["192.0.2.80", "192.0.2.81"]}).questions == []
    found = site.guest.resolve("www.example.org")
    assert sorted(map(str, found)) == ["192.0.2.80", "192.0.2.81"]
    assert site.guest.resolve("nowhere.example.org") == []


def test_resolve_an_answer_that_needs_tcp(site: Site) -> None:
    addresses = [f"192.0.2.{last}" for last in range(100)]
    site.host.dns_server({"many.example.org": addresses})
    assert len(site.guest.resolve("many.example.org")) == 100


def test_hostfwd_tcp() -> None:
    site = Site("user,hostfwd=tcp:127.0.0.1:0-:80")
    with site.network, site.guest.tcp_listen(80) as listener:
        (forward,) = site.user.forwards
        with site.host.tcp_connect(forward.host.address, forward.host.port) as client:
            server = listener.accept()
            assert server.remote.address == IPv4Address("10.0.2.2")
            client.send(MEGABYTE[:100_000])
            client.shutdown()
            assert server.recv_all() == MEGABYTE[:100_000]
            server.send(b"done")
            server.close()
            assert client.recv_all() == b"done"


def test_hostfwd_to_a_closed_port(site: Site) -> None:
    forward = site.user.add_hostfwd("tcp::0-:81")
    with site.host.tcp_connect(forward.host.address, forward.host.port) as client:
        site.network.run_for(1)
        assert client.socket.error == errno.ECONNRESET


def test_hostfwd_udp(site: Site) -> None:
    forward = site.user.add_hostfwd("udp::0-:53")
    with site.guest.udp(53) as server, site.host.udp("127.0.0.1") as client:
        client.send_to(b"question", forward.host.address, forward.host.port)
        received = server.recv()
        assert (received.data, received.source.address) == (b"question", IPv4Address("10.0.2.2"))
        server.send_to(b"answer", received.source.address, received.source.port)
        assert client.recv() == (b"answer", forward.host)


def test_restrict() -> None:
    site = Site("user,restrict=on,hostfwd=tcp:127.0.0.1:0-:80")
    with site.network:
        lease = site.guest.lease
        assert lease is not None
        assert (lease.router, lease.dns) == (None, ())
        site.guest.configure("10.0.2.15", 24, "10.0.2.2")  # a guest that helps itself to a way out
        assert site.guest.ping("10.0.2.2").ok
        assert not site.guest.ping(SERVER, timeout=5).ok
        site.host.echo_server(SERVER, 7)
        site.host.echo_server("127.0.0.1", 7)
        for address in (SERVER, "10.0.2.2"):
            with pytest.raises(HostError):
                site.guest.tcp_connect(address, 7)
        (forward,) = site.user.forwards
        with site.guest.tcp_listen(80) as listener, site.host.tcp_connect("127.0.0.1", forward.host.port) as client:
            listener.accept().send(b"through the forward")
            assert client.recv_exactly(19) == b"through the forward"


def test_two_guests_on_a_hub() -> None:
    with Network() as network:
        host = network.host
        assert isinstance(host, SimHost)
        host.echo_server("127.0.0.1", 7)
        user = network.netdev("user")
        hub = network.hub()
        network.link(hub.port(), user.port)
        guests = [network.guest(netdev=hub) for _ in range(2)]
        assert [str(guest.dhcp4().address) for guest in guests] == ["10.0.2.15", "10.0.2.16"]
        for guest in guests:
            assert guest.ping("10.0.2.2").ok
            with guest.tcp_connect("10.0.2.2", 7) as stream:
                stream.send(b"hello")
                assert stream.recv_exactly(5) == b"hello"
        assert guests[0].ping("10.0.2.16").ok
        with guests[1].tcp_listen(80) as listener, guests[0].tcp_connect("10.0.2.16", 80) as client:
            client.send(b"neighbour")
            assert listener.accept().recv_exactly(9) == b"neighbour"
        assert isinstance(user, UserNetdev)
        assert user.counters["other-station"] > 0
        assert user.counters["tcp-unknown"] == 0


def test_the_same_run_twice_is_the_same_run() -> None:
    logs = []
    for _ in range(2):
        site = Site()
        with site.network:
            site.host.echo_server(SERVER, 7)
            with site.guest.tcp_connect(SERVER, 7) as stream:
                stream.send(MEGABYTE[:20_000])
                stream.recv_exactly(20_000)
            logs.append([(record.time, record.source, record.frame) for record in site.network.frames])
    assert logs[0] == logs[1]
