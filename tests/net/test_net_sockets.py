"""The blocking face over sockets that never block, in virtual time."""

from __future__ import annotations

import errno
from ipaddress import IPv4Address

import pytest

from netemu.errors import HostError, LocalError, NetemuTimeoutError, PeerError
from netemu.net.clock import SECOND
from netemu.net.loop import VirtualLoop
from netemu.net.sockets import Datagram, Listener, Received, Stream, blocking_connect, endpoint
from netemu.wire.address import Endpoint

HERE, THERE = Endpoint(IPv4Address("192.0.2.1"), 1000), Endpoint(IPv4Address("192.0.2.2"), 80)


class Socket:
    """A stream socket whose peer is the test: it takes `capacity` octets and reads what is put into `inbox`."""

    local, remote = HERE, THERE

    def __init__(self, capacity=100):
        self.capacity = capacity
        self.taken = bytearray()
        self.inbox = bytearray()
        self.eof = False
        self.error = 0
        self.connected = False
        self.calls = []

    def available(self):
        return len(self.inbox)

    def read_into(self, offset, buffer):
        part = self.inbox[offset : offset + len(buffer)]
        buffer[: len(part)] = part
        return len(part)

    def discard(self, count):
        del self.inbox[:count]

    def room(self):
        return self.capacity - len(self.taken)

    def offer(self, data):
        count = min(len(data), self.room())
        self.taken += bytes(data[:count])
        return count

    def __getattr__(self, name):
        return lambda *given: self.calls.append(name)


@pytest.fixture
def loop():
    return VirtualLoop()


@pytest.fixture
def socket():
    return Socket()


@pytest.fixture
def stream(loop, socket):
    return Stream(loop, socket)


class TestSend:
    def test_everything_is_taken(self, stream, socket):
        stream.send(b"hello")
        assert socket.taken == b"hello"

    def test_a_full_socket_is_waited_for(self, loop, stream, socket):
        got = bytearray()

        def drain():
            got.extend(socket.taken)
            socket.taken.clear()
            loop.call_at(loop.now() + SECOND, drain)

        drain()
        stream.send(bytes(range(256)))
        assert bytes(got + socket.taken) == bytes(range(256))
        assert loop.now() == 2 * SECOND

    def test_a_socket_that_stays_full_is_a_timeout(self, loop, stream):
        with pytest.raises(NetemuTimeoutError, match=r"send on <Stream .*: nothing within 3 s"):
            stream.send(bytes(101), timeout=3)
        assert loop.now() == 3 * SECOND

    def test_a_reset_while_waiting_is_an_error(self, loop, stream, socket):
        loop.call_at(SECOND, lambda: setattr(socket, "error", errno.ECONNRESET))
        with pytest.raises(HostError) as refused:
            stream.send(bytes(101))
        assert refused.value.errno == errno.ECONNRESET


class TestReceive:
    def test_what_is_there_at_once(self, stream, socket):
        socket.inbox += b"hello"
        assert stream.recv(3) == b"hel"
        assert stream.recv() == b"lo"

    def test_what_comes_later(self, loop, stream, socket):
        loop.call_at(SECOND, lambda: socket.inbox.extend(b"late"))
        assert stream.recv() == b"late"
        assert loop.now() == SECOND

    def test_silence_is_a_timeout(self, stream):
        with pytest.raises(NetemuTimeoutError, match="recv on"):
            stream.recv(timeout=1)

    def test_the_end(self, stream, socket):
        socket.inbox += b"last"
        socket.eof = True
        assert stream.recv_all() == b"last"
        assert stream.recv() == b""

    def test_data_before_a_reset_is_still_given(self, stream, socket):
        socket.inbox += b"data"
        socket.error = errno.ECONNRESET
        assert stream.recv() == b"data"
        with pytest.raises(HostError):
            stream.recv()

    def test_exactly(self, loop, stream, socket):
        socket.inbox += b"abc"
        loop.call_at(SECOND, lambda: socket.inbox.extend(b"defg"))
        assert stream.recv_exactly(6) == b"abcdef"
        socket.eof = True
        with pytest.raises(PeerError, match="ended after 1 of 4 octets"):
            stream.recv_exactly(4)


def test_leaving_a_stream_closes_it(stream, socket):
    with stream as same:
        assert same is stream
    assert "close" in socket.calls


class TestConnect:
    def test_waits(self, loop, socket):
        loop.call_at(SECOND, lambda: setattr(socket, "connected", True))
        assert blocking_connect(loop, socket).remote == THERE
        assert loop.now() == SECOND

    def test_a_refusal_has_its_errno(self, loop, socket):
        loop.call_at(SECOND, lambda: setattr(socket, "error", errno.ECONNREFUSED))
        with pytest.raises(HostError, match=r"connect to 192\.0\.2\.2:80: ECONNREFUSED") as refused:
            blocking_connect(loop, socket)
        assert refused.value.errno == errno.ECONNREFUSED

    def test_silence_aborts(self, loop, socket):
        with pytest.raises(NetemuTimeoutError):
            blocking_connect(loop, socket, timeout=2)
        assert "abort" in socket.calls


class TestListener:
    @pytest.fixture
    def listening(self, loop, socket):
        listener = Listener(loop, socket)
        return listener, socket.on_accept

    def test_accepts_in_order_and_waits(self, loop, listening):
        listener, arrive = listening
        first, second = Socket(), Socket()
        arrive(first)
        loop.call_at(SECOND, lambda: arrive(second))
        assert listener.accept().socket is first
        assert listener.accept().socket is second
        with pytest.raises(NetemuTimeoutError, match=r"accept on 192\.0\.2\.1:1000"):
            listener.accept(timeout=1)

    def test_a_handler_gets_those_that_wait_too(self, listening, socket):
        listener, arrive = listening
        waiting, later = Socket(), Socket()
        arrive(waiting)
        served = []
        listener.serve(served.append)
        socket.on_accept(later)
        assert served == [waiting, later]


class TestDatagram:
    @pytest.fixture
    def datagram(self, loop, socket):
        return Datagram(loop, socket)

    def test_datagrams_keep_their_bounds_and_senders(self, loop, socket, datagram):
        socket.on_datagram(b"one", THERE)
        loop.call_at(SECOND, lambda: socket.on_datagram(b"", HERE))
        assert datagram.recv() == Received(b"one", THERE)
        assert datagram.recv() == Received(b"", HERE)

    def test_an_error_is_raised_where_the_answer_would_be(self, socket, datagram):
        socket.on_error(errno.ECONNREFUSED, THERE)
        with pytest.raises(HostError, match=r"UDP 192\.0\.2\.1:1000 to 192\.0\.2\.2:80: ECONNREFUSED"):
            datagram.recv()
        with pytest.raises(NetemuTimeoutError):
            datagram.recv(timeout=1)


@pytest.mark.parametrize(
    ("address", "port", "words"),
    [
        ("10.0.2", 1, "an IPv4 address such as"),
        ("::g", 1, "or an IPv6 address such as ::1"),
        ("10.0.2.2", 65536, "0 to 65535"),
        ("10.0.2.2", -1, "0 to"),
    ],
)
def test_an_endpoint_is_checked(address, port, words):
    with pytest.raises(LocalError, match=words):
        endpoint(address, port)


@pytest.mark.parametrize(
    ("address", "words"), [("10.0.2.2", "10.0.2.2:80"), ("::1", "[::1]:80"), ("2001:DB8::1", "[2001:db8::1]:80")]
)
def test_an_endpoint_is_printed_as_in_a_uri(address, words):
    assert str(endpoint(address, 80)) == words
