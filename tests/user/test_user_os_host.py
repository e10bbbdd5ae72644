"""The same network over real sockets and in real time, no further than loopback."""

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from netemu.errors import HostError
from netemu.guest.protocol import Guest
from netemu.io.oshost import OsHost
from netemu.net.sockets import blocking_connect
from netemu.netdev.protocol import UserBackend
from netemu.network import Network

DATA = bytes(range(256)) * 1024


@pytest.fixture
def network() -> Iterator[Network]:
    with Network(clock="real", host=OsHost) as network:
        yield network


@pytest.fixture
def user(network: Network) -> UserBackend:
    return network.netdev("user,hostfwd=tcp:127.0.0.1:0-:80,hostfwd=udp:127.0.0.1:0-:53")


@pytest.fixture
def guest(network: Network, user: UserBackend) -> Guest:
    guest = network.guest(netdev=user)
    guest.dhcp4()
    return guest


def test_tcp_to_the_hosts_loopback(network: Network, guest: Guest) -> None:
    with network.host.tcp_listen("127.0.0.1") as listener, guest.tcp_connect("10.0.2.2", listener.port) as client:
        server = listener.accept()
        client.send(DATA[:50_000])
        client.shutdown()
        assert server.recv_all() == DATA[:50_000]
        server.send(DATA[:50_000])
        server.close()
        assert client.recv_all() == DATA[:50_000]


def test_what_is_closed_is_refused(guest: Guest) -> None:
    with pytest.raises(HostError) as caught:
        guest.tcp_connect("10.0.2.2", 1)
    assert caught.value.errno == errno.ECONNREFUSED
    with guest.udp() as socket:
        socket.send_to(b"x", "10.0.2.2", 1)
        with pytest.raises(HostError) as caught:
            socket.recv()
    assert caught.value.errno == errno.ECONNREFUSED


def test_resets_pass(network: Network, user: UserBackend, guest: Guest) -> None:
    (tcp, _) = user.forwards
    with guest.tcp_listen(80) as listener, network.host.tcp_connect("127.0.0.1", tcp.host.port) as client:
        server = listener.accept()
        client.abort()
        network.run_until(lambda: server.socket.error == errno.ECONNRESET, what="the reset")


def test_udp_both_ways(network: Network, user: UserBackend, guest: Guest) -> None:
    with network.host.udp("127.0.0.1") as server, guest.udp() as client:
        client.send_to(DATA[:9000], "10.0.2.2", server.port)
        received = server.recv()
        server.send_to(received.data, received.source.address, received.source.port)
        assert client.recv().data == DATA[:9000]
    (_, udp) = user.forwards
    with network.host.udp("127.0.0.1") as client, guest.udp(53) as server:
        client.send_to(b"question", "127.0.0.1", udp.host.port)
        received = server.recv()
        server.send_to(b"answer", received.source.address, received.source.port)
        assert client.recv() == (b"answer", udp.host)


def test_a_unix_socket_leads_to_the_guest(network: Network, user: UserBackend, guest: Guest, tmp_path: Path) -> None:
    path = str(tmp_path / "a-b.socket")
    forward = user.add_hostfwd(f"unix:{path}-:80")
    assert forward.path == path
    with guest.tcp_listen(80) as listener:
        ends = []
        for _ in range(2):
            with network.loop:
                opened = network.host.open_path_stream(path)
            client = blocking_connect(network.loop, opened)
            server = listener.accept()
            assert str(server.remote.address) == "10.0.2.2"
            ends.append(server.remote.port)
            client.send(DATA[:50_000])
            client.shutdown()
            assert server.recv_all() == DATA[:50_000]
            server.send(b"answer")
            server.close()
            assert client.recv_all() == b"answer"
            client.close()
    assert 0 not in ends
    user.remove_hostfwd(forward)
    with network.loop:
        opened = network.host.open_path_stream(path)
    assert opened.error == errno.ECONNREFUSED
    opened.close()
