"""The agent and the sockets that use it, joined by a socket pair in one virtual loop, over an in-memory host."""

import errno
import socket
from functools import partial
from ipaddress import IPv4Address
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netemu.errors import HostError, PeerError
from netemu.guest.agent import Agent
from netemu.guest.channel import PACE, WINDOW, Decoder, Kind, Message, MessagePipe, encode
from netemu.guest.ping import ping
from netemu.guest.remote import RemoteSockets
from netemu.io.simhost import SimHost
from netemu.net.clock import SECOND
from netemu.net.loop import VirtualLoop
from netemu.net.sockets import Datagram, Listener, Stream, blocking_connect, endpoint

SERVER = "198.51.100.7"


class Setup:
    def __init__(self):
        self.loop = VirtualLoop()
        self.host = SimHost(self.loop)
        self.host.add_address(SERVER)
        self.near, self.far = socket.socketpair()
        self.ends = []
        self.most_waiting = 0
        self.pipe = MessagePipe(self.loop, self.far.fileno(), self.receive, self.ends.append, on_read=self.read)
        self.remote = RemoteSockets(self.loop, partial(MessagePipe, self.loop, self.near.fileno(), pace=PACE))
        self.agent = Agent(self.host, self.pipe.send)
        assert self.remote.wait_ready(1)

    def receive(self, message):
        self.agent.receive(message)

    def read(self, octets):
        self.most_waiting = max(self.most_waiting, octets)
        self.pipe.send(Message(Kind.READ, 0, (octets,)))

    def connect(self, port=80):
        with self.loop:
            return blocking_connect(self.loop, self.remote.open_stream(endpoint(SERVER, port)))

    def run(self):
        self.loop.run_until(lambda: False, self.loop.now() + SECOND)

    def close(self):
        self.remote.close()
        self.pipe.close()
        self.host.close()
        self.near.close()
        self.far.close()


@pytest.fixture
def setup():
    setup = Setup()
    yield setup
    setup.close()


def test_a_connection_carries_both_ways_and_closes_half(setup):
    with setup.host.tcp_listen(SERVER, 80) as listener:
        stream, peer = setup.connect(), listener.accept()
        assert stream.local == peer.remote
        stream.send(b"question")
        assert peer.recv_exactly(8) == b"question"
        peer.send(b"answer")
        peer.shutdown()
        assert stream.recv_all() == b"answer"
        stream.send(b"more")
        stream.shutdown()
        assert peer.recv_all() == b"more"


def test_octets_wait_for_their_reader_and_none_are_lost(setup):
    sent = bytes(range(251)) * 4000  # far more than the windows and the host's buffers hold
    with setup.host.tcp_listen(SERVER, 80) as listener:
        stream, peer = setup.connect(), listener.accept()
        for source, sink in ((stream, peer), (peer, stream)):
            taken, got = 0, bytearray()
            while len(got) < len(sent):
                taken += source.socket.offer(sent[taken:])
                setup.run()
                got += sink.recv(100_000)
            assert got == sent
            assert sink.socket.available() == 0


def test_a_slow_reader_stops_its_connection_only(setup):
    with setup.host.tcp_listen(SERVER, 80) as listener:
        slow, _ = setup.connect(), listener.accept()
        while slow.socket.offer(bytes(WINDOW)):
            setup.run()
        assert slow.socket.room() == 0
        quick, peer = setup.connect(), listener.accept()
        quick.send(b"through")
        assert peer.recv_exactly(7) == b"through"


def test_the_channel_never_holds_more_than_its_pace(setup):
    """More would make a console of User-mode Linux deaf."""
    with setup.host.tcp_listen(SERVER, 80) as listener:
        stream, peer = setup.connect(), listener.accept()
        stream.send(bytes(50_000))
        assert len(peer.recv_exactly(50_000)) == 50_000
    assert 0 < setup.most_waiting <= PACE


def test_what_was_sent_before_close_arrives(setup):
    with setup.host.tcp_listen(SERVER, 80) as listener:
        stream, peer = setup.connect(), listener.accept()
        stream.send(bytes(60_000))
        stream.close()
        assert len(peer.recv_all()) == 60_000


def test_a_reset_is_a_reset_at_the_other_end(setup):
    with setup.host.tcp_listen(SERVER, 80) as listener:
        stream, peer = setup.connect(), listener.accept()
        stream.abort()
        with pytest.raises(HostError) as caught:
            peer.recv()
        assert caught.value.errno == errno.ECONNRESET
        stream, peer = setup.connect(), listener.accept()
        peer.abort()
        with pytest.raises(HostError) as caught:
            stream.recv()
        assert caught.value.errno == errno.ECONNRESET


@pytest.mark.parametrize(("address", "error"), [(SERVER, errno.ECONNREFUSED), ("203.0.113.1", errno.ENETUNREACH)])
def test_a_refusal_keeps_its_errno(setup, address, error):
    with pytest.raises(HostError) as caught, setup.loop:
        blocking_connect(setup.loop, setup.remote.open_stream(endpoint(address, 81)))
    assert caught.value.errno == error


def test_a_listener_accepts_and_a_port_in_use_is_refused(setup):
    with setup.loop:
        listener = Listener(setup.loop, setup.remote.open_listener(endpoint(SERVER, 0)))
    client = setup.host.tcp_connect(SERVER, listener.port)
    with listener.accept() as served:
        assert (served.local, served.remote) == (client.remote, client.local)
        client.send(b"hello")
        assert served.recv_exactly(5) == b"hello"
    with pytest.raises(HostError) as caught:
        setup.remote.open_listener(listener.local)
    assert caught.value.errno == errno.EADDRINUSE
    listener.close()
    setup.run()
    with pytest.raises(HostError) as caught:
        setup.host.tcp_connect(SERVER, listener.port)
    assert caught.value.errno == errno.ECONNREFUSED


def test_a_connection_that_a_closed_listener_had_is_reset(setup):
    remote = setup.remote.open_listener(endpoint(SERVER, 80))
    client = setup.host.tcp_connect(SERVER, 80)
    setup.run()
    remote.close()
    with pytest.raises(HostError) as caught:
        client.recv()
    assert caught.value.errno == errno.ECONNRESET


def test_datagrams_and_the_errors_about_them(setup):
    server = setup.host.udp(SERVER, 53)
    with Datagram(setup.loop, setup.remote.open_datagram()) as client:
        client.send_to(b"ping", SERVER, 53)
        assert server.recv().data == b"ping"
        server.send_to(b"x" * 9000, server.local.address, client.port)
        assert client.recv() == (b"x" * 9000, server.local)
        client.send_to(b"", SERVER, 54)
        with pytest.raises(HostError) as caught:
            client.recv()
        assert caught.value.errno == errno.ECONNREFUSED
        with pytest.raises(HostError) as caught:
            client.send_to(b"", SERVER, 53, ttl=0)
        assert caught.value.errno == errno.EINVAL


def test_pings_their_errors_and_their_refusals(setup):
    setup.host.unreachable("203.0.113.0/24", errno.EHOSTUNREACH, reporter="192.0.2.1")
    with setup.loop:
        socket_ = setup.remote.open_ping()
        deadline = setup.loop.now() + 5 * SECOND

        def result(address):
            return ping(setup.loop, socket_, IPv4Address(address), own=None, count=2, size=4000, ttl=64, deadline=deadline)

        assert result(SERVER).outcome == "reply"
        unreachable = result("203.0.113.1")
        assert [(error.type, error.code, str(error.source)) for error in unreachable.errors] == [(3, 1, "192.0.2.1")] * 2
        refused = result("100.64.0.1")  # no route
        assert [(error.type, error.code, error.source) for error in refused.errors] == [(3, 0, None)] * 2
        socket_.close()


def test_a_refused_ping_socket(setup):
    setup.host.set_ping_group_range(1, 0)
    with pytest.raises(HostError) as caught:
        setup.remote.open_ping()
    assert caught.value.errno == errno.EACCES


def test_when_the_guest_goes_everything_fails(setup):
    with setup.host.tcp_listen(SERVER, 80):
        stream = setup.connect()
    setup.far.shutdown(socket.SHUT_RDWR)
    setup.run()
    assert stream.socket.error == errno.EHOSTDOWN
    for opener in (setup.remote.open_datagram, setup.remote.open_ping):
        with pytest.raises(HostError) as caught:
            opener()
        assert caught.value.errno == errno.EHOSTDOWN
    with pytest.raises(HostError) as caught:
        setup.connect()
    assert caught.value.errno == errno.EHOSTDOWN
    assert setup.ends == ["the other side closed it"]


MESSAGES = st.builds(Message, st.just(Kind.DATA), st.integers(0, 2**32 - 1), st.just(()), st.binary(max_size=300))


@given(messages=st.lists(MESSAGES, max_size=8), cuts=st.lists(st.integers(0, 2000), max_size=8))
@settings(max_examples=100, deadline=None)
def test_messages_survive_any_cutting(messages, cuts):
    octets = b"".join(map(encode, messages))
    places = sorted({0, len(octets), *(cut for cut in cuts if cut < len(octets))})
    decoder = Decoder()
    pieces = [octets[start:end] for start, end in pairwise(places)]
    assert [message for piece in pieces for message in decoder.feed(piece)] == messages


@given(octets=st.binary(max_size=60))
@settings(max_examples=200, deadline=None)
def test_nonsense_is_a_peer_error_or_waits(octets):
    try:
        messages = list(Decoder().feed(octets))
    except PeerError:
        return
    assert sum(len(encode(message)) for message in messages) <= len(octets)


def test_nonsense_ends_the_channel(setup):
    setup.far.send(b"\xff" * 20)
    setup.run()
    assert setup.remote.ended is not None
    assert "octets" in setup.remote.ended


def test_streams_are_streams(setup):
    with setup.host.tcp_listen(SERVER, 80) as listener:
        stream = setup.connect()
        assert isinstance(stream, Stream)
        listener.accept().close()
        assert stream.recv_all() == b""
