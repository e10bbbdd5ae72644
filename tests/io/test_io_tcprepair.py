"""Connections of the kernel's are taken out of one socket and put into another (TCP_REPAIR), against plain sockets of Linux."""

from __future__ import annotations

import ctypes
import errno
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from netemu.errors import HostError
from netemu.io.oshost import NetnsHost
from netemu.net.clock import MILLISECOND, SECOND
from netemu.net.sockets import Stream
from netemu.wire.address import Endpoint

PATIENCE = 20.0  # seconds
ADDRESSES = ["192.0.2.1", "2001:db8::1"]
DATA = bytes(range(251)) * 8000

_CAPABILITY_VERSION_3 = 0x20080522  # linux/capability.h
_CAP_NET_ADMIN = 12


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
def loop(real_loop):
    """Segments that came while nobody listened come again in the kernel's time."""
    return real_loop


@pytest.fixture
def host(loop, namespace):
    host = NetnsHost(loop, namespace, addresses=ADDRESSES)
    if not host.moves_streams:
        host.close()
        pytest.fail("root may repair connections")
    yield host
    host.close()


@pytest.fixture(params=["peek", "buffer"])
def kind(request, monkeypatch):
    """Streams that leave what comes in the kernel, and those that keep it."""
    if request.param == "buffer":
        monkeypatch.setattr("netemu.io.oshost.kernel_peeks", lambda: False)


def pair(host: NetnsHost, address: str = "192.0.2.1") -> tuple[Stream, socket.socket]:
    """A stream of the host's, and its peer: a plain, blocking socket."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with host.namespace.call(socket.socket, family) as listener:
        listener.bind((address, 0))
        listener.listen()
        stream = host.tcp_connect(address, listener.getsockname()[1])
        peer, _ = listener.accept()
    peer.settimeout(PATIENCE)
    return stream, peer


def move(host: NetnsHost, stream: Stream) -> Stream:
    with host.loop:
        return Stream(host.loop, host.restore_stream(host.park_stream(stream.socket)))


def receive(peer: socket.socket, count: int) -> bytes:
    octets = bytearray()
    while len(octets) < count and (part := peer.recv(count - len(octets))):
        octets += part
    return bytes(octets)


@pytest.mark.parametrize("address", ADDRESSES)
def test_what_waits_in_both_queues_moves(host, kind, address):
    stream, peer = pair(host, address)
    with peer:
        local = stream.local
        stream.send(b"first")
        assert receive(peer, 5) == b"first"
        peer.sendall(b"waits to be read")
        host.loop.run_until(lambda: stream.socket.available() == 16, host.loop.now() + 20 * SECOND)
        stream = move(host, stream)
        assert (stream.local, stream.remote) == (local, Endpoint(local.address, peer.getsockname()[1]))
        assert stream.recv_exactly(16) == b"waits to be read"
        peer.sendall(b"and more")
        assert stream.recv_exactly(8) == b"and more"
        stream.send(b"second")
        assert receive(peer, 6) == b"second"
        stream.close()
        assert peer.recv(1) == b""


def test_full_queues_move(host, kind):
    """Nobody reads: both windows are closed, some octets were never sent."""
    stream, peer = pair(host)
    with peer:
        peer.setblocking(False)
        written = {"up": 0, "down": 0}
        for _ in range(200):
            written["up"] += stream.socket.offer(memoryview(DATA)[written["up"] : written["up"] + 65_536])
            with suppress(BlockingIOError):
                written["down"] += peer.send(DATA[written["down"] : written["down"] + 65_536])
            host.loop.run_until(lambda: False, host.loop.now() + MILLISECOND)
        assert min(written.values()) > 200_000
        with host.loop:
            state = host.park_stream(stream.socket)
            assert state.taken
            assert state.window is not None
            stream = Stream(host.loop, host.restore_stream(state))
        peer.settimeout(PATIENCE)
        got = []
        reader = threading.Thread(target=lambda: got.append(receive(peer, written["up"])))
        reader.start()
        assert stream.recv_exactly(written["down"], timeout=PATIENCE) == DATA[: written["down"]]
        reader.join(PATIENCE)
        assert got == [DATA[: written["up"]]]


def test_our_half_close_moves(host, kind):
    stream, peer = pair(host)
    with peer:
        stream.send(b"last words")
        stream.shutdown()
        assert receive(peer, 11) == b"last words"  # and its end
        stream = move(host, stream)
        peer.sendall(b"still here")
        assert stream.recv_exactly(10) == b"still here"
        peer.close()
        assert stream.recv() == b""


def test_our_half_close_that_was_not_read_moves(host, kind):
    stream, peer = pair(host)
    with peer:
        stream.send(b"last words")
        stream.shutdown()
        stream = move(host, stream)
        assert receive(peer, 11) == b"last words"
        peer.sendall(b"still here")
        assert stream.recv_exactly(10) == b"still here"


def test_the_peers_half_close_moves(host, kind):
    stream, peer = pair(host)
    with peer:
        peer.sendall(b"last words")
        peer.shutdown(socket.SHUT_WR)
        host.loop.run_until(lambda: stream.socket.eof, host.loop.now() + 20 * SECOND)
        stream = move(host, stream)
        assert stream.recv_all() == b"last words"
        stream.send(b"still here")
        assert receive(peer, 10) == b"still here"
        stream.close()
        assert peer.recv(1) == b""


def test_what_comes_while_it_is_parked_is_not_lost(host, kind):
    stream, peer = pair(host)
    with peer:
        with host.loop:
            state = host.park_stream(stream.socket)
        peer.sendall(b"is anybody there")
        peer.shutdown(socket.SHUT_WR)
        with host.loop:
            stream = Stream(host.loop, host.restore_stream(state))
        assert stream.recv_all(timeout=PATIENCE) == b"is anybody there"


def test_a_parked_connection_ends_with_the_host_and_says_nothing(loop, namespace):
    host = NetnsHost(loop, namespace)
    stream, peer = pair(host)
    with peer:
        with loop:
            host.park_stream(stream.socket)
        host.close()
        peer.setblocking(False)
        with pytest.raises(BlockingIOError):
            peer.recv(1)


def test_a_connection_that_is_elsewhere_is_refused(host):
    stream, peer = pair(host)
    with peer:
        with host.loop:
            state = host.park_stream(stream.socket)
            again = host.restore_stream(state)
            with pytest.raises(HostError) as caught:
                host.restore_stream(state)
            assert caught.value.errno in (errno.EADDRNOTAVAIL, errno.EADDRINUSE)
        peer.sendall(b"x")
        assert Stream(host.loop, again).recv_exactly(1) == b"x"


def test_without_the_capability_nothing_changes(host):
    stream, peer = pair(host)
    with peer:
        with without_net_admin(), host.loop:
            assert not host.moves_streams
            with pytest.raises(HostError, match="CAP_NET_ADMIN") as caught:
                host.park_stream(stream.socket)
            assert caught.value.errno == errno.EPERM
        assert host.moves_streams
        peer.sendall(b"goes on")
        assert stream.recv_exactly(7) == b"goes on"
        stream.send(b"both ways")
        assert receive(peer, 9) == b"both ways"


def test_a_stream_that_is_none_of_the_hosts_is_refused(host):
    stream, peer = pair(host)
    with peer:
        stream.close()
        with pytest.raises(HostError) as caught:
            host.park_stream(stream.socket)
        assert caught.value.errno == errno.EOPNOTSUPP
