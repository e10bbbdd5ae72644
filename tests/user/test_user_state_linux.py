"""A user network between two kernels is replaced while a connection carries octets both ways: Linux as guest, Linux as server."""

from __future__ import annotations

import ctypes
import errno
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from netemu.guest.netns import NetnsGuest
from netemu.io.namespace import Namespace
from netemu.io.oshost import NetnsHost
from netemu.net.sockets import Stream
from netemu.netdev.user import UserNetdev
from netemu.network import Network
from netemu.user.snapshot import Restored

SERVER = "198.51.100.7"
SERVER6 = "2001:db8:7::7"
OPTIONS = "user,hostfwd=tcp:127.0.0.1:0-:80"
LENGTH = 4_000_000  # octets in each direction
DATA = bytes(range(251)) * (LENGTH // 251 + 1)
PATIENCE = 120.0  # seconds

_CAPABILITY_VERSION_3 = 0x20080522  # linux/capability.h
_CAP_NET_ADMIN = 12


class Site:
    """A guest and a host, each a namespace of its own, and a user netdev between them that can be replaced."""

    def __init__(self, network: Network) -> None:
        assert isinstance(network.host, NetnsHost)
        self.network, self.host = network, network.host
        self.user = self._netdev()
        guest = network.guest("netns", netdev=self.user)
        assert isinstance(guest, NetnsGuest)
        self.guest = guest
        guest.dhcp4()

    def _netdev(self) -> UserNetdev:
        user = self.network.netdev(OPTIONS)
        assert isinstance(user, UserNetdev)
        return user

    def move(self, pause: float = 0.0) -> Restored:
        """Save the netdev, take it down, let its successor have the TAP device and the ports."""
        state = self.user.save_state()
        with self.network.loop:
            self.user.close()
            self.guest.port.disconnect()
        self.network.backends.remove(self.user)
        self.network.run_for(pause)
        self.user = self._netdev()
        with self.network.loop:  # a frame of the guest's in between would meet an empty network, and be reset
            self.network.link(self.guest.port, self.user.port)
            return self.user.load_state(state)


class Transfer:
    """The first `LENGTH` octets of `DATA`, both ways at once; the loop's thread does it."""

    def __init__(self, network: Network, *ends: Stream) -> None:
        self.network, self.ends = network, ends
        self.sent = dict.fromkeys(ends, 0)
        self.got = {end: bytearray() for end in ends}
        with network.loop:
            for end in ends:
                end.socket.on_change = self.turn
            self.turn()

    def turn(self) -> None:
        for end in self.ends:
            socket = end.socket
            self.sent[end] += socket.offer(memoryview(DATA)[self.sent[end] : min(self.sent[end] + 65_536, LENGTH)])
            buffer = bytearray(socket.available())
            socket.read_into(0, memoryview(buffer))
            socket.discard(len(buffer))
            self.got[end] += buffer
        if any(self.sent[end] < LENGTH and end.socket.room() for end in self.ends):
            self.network.loop.call_soon(self.turn)

    def run(self, octets: int) -> None:
        self.network.run_until(
            lambda: min(map(len, self.got.values())) >= octets, timeout=PATIENCE, what=f"{octets} octets both ways"
        )

    def is_right(self) -> bool:
        return all(got == memoryview(DATA)[:LENGTH] for got in self.got.values())


@contextmanager
def without_net_admin() -> Iterator[None]:
    """This thread has not the capability meanwhile."""
    libc = ctypes.CDLL(None, use_errno=True)
    head = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    had, less = (ctypes.c_uint32 * 6)(), (ctypes.c_uint32 * 6)()
    assert libc.capget(head, had) == 0
    less[:] = had[:]
    less[0] &= ~(1 << _CAP_NET_ADMIN)
    assert libc.capset(head, less) == 0
    try:
        yield
    finally:
        assert libc.capset(head, had) == 0


@pytest.fixture
def site() -> Iterator[Site]:
    reason = NetnsGuest.probe()
    if reason is not None:
        pytest.skip(reason)
    with (
        Namespace("internet") as internet,
        Network(clock="real", host=lambda loop: NetnsHost(loop, internet, addresses=[SERVER, SERVER6])) as network,
    ):
        yield Site(network)


@pytest.mark.parametrize("pause", [0.0, 0.5])
def test_a_connection_outwards_goes_on_octet_by_octet(site: Site, pause: float) -> None:
    with site.host.tcp_listen(SERVER, 80) as listener, site.guest.tcp_connect(SERVER, 80) as client:
        transfer = Transfer(site.network, client, listener.accept())
        transfer.run(200_000)
        restored = site.move(pause)
        assert restored.lost == ()
        assert [(flow.protocol, flow.state) for flow in restored.moved] == [("tcp", "ESTABLISHED")]
        transfer.run(1_000_000)
        assert site.move().lost == ()
        transfer.run(LENGTH)
        assert transfer.is_right()
        assert (client.socket.error, site.user.leases[0].state) == (0, "bound")


def test_a_forwarded_connection_goes_on_and_its_port_serves_others(site: Site) -> None:
    (forward,) = site.user.forwards
    with (
        site.guest.tcp_listen(80) as listener,
        site.host.tcp_connect(forward.host.address, forward.host.port) as client,
    ):
        transfer = Transfer(site.network, client, listener.accept())
        transfer.run(200_000)
        assert site.move().lost == ()
        assert site.user.forwards == (forward,)
        transfer.run(LENGTH)
        assert transfer.is_right()
        with site.host.tcp_connect(forward.host.address, forward.host.port) as another:
            listener.accept().send(b"welcome")
            assert another.recv_exactly(7) == b"welcome"


def test_a_connection_over_ipv6_and_a_half_close(site: Site) -> None:
    for _ in range(100):
        site.network.run_for(0.2)
        addresses = site.guest.run("ip -6 addr show dev eth0").output
        if "fec0::" in addresses and "tentative" not in addresses:
            break
    with site.host.tcp_listen(SERVER6, 80) as listener, site.guest.tcp_connect(SERVER6, 80) as client:
        server = listener.accept()
        client.send(b"last words")
        client.shutdown()
        assert server.recv_all() == b"last words"
        restored = site.move()
        assert restored.lost == ()
        server.send(DATA[:300_000])
        server.close()
        assert client.recv_all(timeout=PATIENCE) == DATA[:300_000]


def test_without_the_capability_the_connection_is_reset_and_named(site: Site) -> None:
    with site.host.tcp_listen(SERVER, 80) as listener, site.guest.tcp_connect(SERVER, 80) as client:
        server = listener.accept()
        client.send(b"x")
        assert server.recv_exactly(1) == b"x"
        with without_net_admin():
            (lost,) = site.move().lost
        assert (lost.protocol, lost.guest, lost.remote) == ("tcp", client.local, server.local)
        assert "CAP_NET_ADMIN" in lost.reason
        site.network.run_until(lambda: bool(client.socket.error and server.socket.error), timeout=PATIENCE)
        assert (client.socket.error, server.socket.error) == (errno.ECONNRESET, errno.ECONNRESET)
