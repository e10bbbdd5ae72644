from __future__ import annotations

import errno
from ipaddress import IPv4Address

import pytest

from netemu.errors import HostError, LocalError
from netemu.io.simhost import SimHost
from netemu.net.clock import SECOND
from netemu.net.loop import VirtualLoop
from netemu.net.sockets import endpoint


@pytest.fixture
def loop():
    return VirtualLoop()


@pytest.fixture
def host(loop):
    host = SimHost(loop)
    yield host
    host.close()


def refused(call):
    with pytest.raises(HostError) as caught:
        call()
    return caught.value.errno


class Heard:
    """The callbacks of a datagram or ping socket, in the order in which they came."""

    def __init__(self, socket):
        self.events = []
        for name in ("on_datagram", "on_reply", "on_error"):
            if hasattr(socket, name):
                setattr(socket, name, lambda *event, name=name: self.events.append((name, *event)))


# Streams


def test_a_connection_carries_bytes_both_ways(host):
    with host.tcp_listen("127.0.0.1", 80) as listener, host.tcp_connect("127.0.0.1", 80) as client:
        server = listener.accept()
        client.send(b"question")
        assert server.recv_exactly(8) == b"question"
        server.send(b"answer")
        assert client.recv_exactly(6) == b"answer"
        assert (server.remote, server.local) == (client.local, client.remote)
        assert client.local == endpoint("127.0.0.1", 49152)


def test_no_time_passes_inside_the_host(host, loop):
    host.echo_server("127.0.0.1", 7)
    with host.tcp_connect("127.0.0.1", 7) as client:
        client.send(b"x" * 1000)
        assert client.recv_exactly(1000) == b"x" * 1000
    assert loop.now() == 0


def test_source_is_loopback_for_loopback_and_the_own_address_for_the_rest(host):
    host.add_address("198.51.100.7")
    listener = host.tcp_listen("0.0.0.0", 80)
    for destination, source in (("127.9.9.9", "127.0.0.1"), ("198.51.100.7", "192.0.2.254")):
        client = host.tcp_connect(destination, 80)
        assert client.local.address == IPv4Address(source)
        assert listener.accept().local == endpoint(destination, 80)


def test_callbacks_come_from_the_loop_only(host, loop):
    listener = host.open_listener(endpoint("127.0.0.1", 80))
    accepted, told = [], []
    listener.on_accept = accepted.append
    client = host.open_stream(endpoint("127.0.0.1", 80))
    client.on_change = lambda: told.append(client.available())
    assert not client.connected
    loop.run_for(0)
    assert client.connected
    assert told == [0]
    accepted[0].offer(b"ab")
    accepted[0].offer(b"cd")
    assert told == [0]
    loop.run_for(0)
    assert told == [0, 4]  # two changes, told together


@pytest.mark.parametrize(
    ("prepare", "destination", "expected"),
    [
        (lambda host: None, "127.0.0.1", errno.ECONNREFUSED),
        (lambda host: None, "192.0.2.254", errno.ECONNREFUSED),
        (lambda host: None, "198.51.100.7", errno.ENETUNREACH),
        (lambda host: host.add_address("198.51.100.7"), "198.51.100.7", errno.ECONNREFUSED),
        (lambda host: host.unreachable("198.51.100.0/24", errno.EHOSTUNREACH), "198.51.100.7", errno.EHOSTUNREACH),
        (
            lambda host: host.unreachable("198.51.100.0/24", errno.EHOSTUNREACH, reporter="192.0.2.1"),
            "198.51.100.7",
            errno.EHOSTUNREACH,
        ),
        (lambda host: host.blackhole("198.51.100.0/24"), "198.51.100.7", errno.ETIMEDOUT),
    ],
)
def test_why_there_is_no_connection(host, loop, prepare, destination, expected):
    prepare(host)
    assert refused(lambda: host.tcp_connect(destination, 81, timeout=200)) == expected
    assert loop.now() == (127 * SECOND if expected == errno.ETIMEDOUT else 0)


def test_the_longest_prefix_decides(host):
    host.blackhole("198.51.100.0/24")
    host.add_address("198.51.100.7")
    host.echo_server("198.51.100.7", 7)
    with host.tcp_connect("198.51.100.7", 7) as client:
        client.send(b"here")
        assert client.recv_exactly(4) == b"here"


def test_full_buffers_push_back(loop):
    host = SimHost(loop, buffer=1000)
    with host.tcp_listen("127.0.0.1", 80) as listener, host.tcp_connect("127.0.0.1", 80) as client:
        server = listener.accept()
        assert client.socket.room() == 1000
        assert client.socket.offer(b"x" * 1500) == 1000
        assert (client.socket.room(), client.socket.offer(b"y")) == (0, 0)
        told = []
        client.socket.on_change = lambda: told.append(client.socket.room())
        assert server.recv(400) == b"x" * 400
        loop.run_for(0)
        assert told == [400]
        assert client.socket.offer(b"y" * 500) == 400
        assert server.recv_exactly(1000) == b"x" * 600 + b"y" * 400


def test_more_than_a_buffer_arrives_whole_and_in_order(loop):
    host = SimHost(loop, buffer=777)
    host.echo_server("127.0.0.1", 7)
    data = bytes(range(256)) * 40
    with host.tcp_connect("127.0.0.1", 7) as client:
        received = bytearray()
        for start in range(0, len(data), 512):
            client.send(data[start : start + 512])
            received += client.recv_exactly(min(512, len(data) - start))
        assert bytes(received) == data


def test_peeking_does_not_consume(host):
    with host.tcp_listen("127.0.0.1", 80) as listener, host.tcp_connect("127.0.0.1", 80) as client:
        socket = listener.accept().socket
        client.send(b"abcdef")
        buffer = bytearray(4)
        assert socket.read_into(1, memoryview(buffer)) == 4
        assert (bytes(buffer), socket.available()) == (b"bcde", 6)
        assert socket.read_into(6, memoryview(buffer)) == 0
        socket.discard(2)
        assert socket.read_into(2, memoryview(buffer)) == 2
        assert bytes(buffer) == b"efde"
        with pytest.raises(LocalError, match="5 octets cannot be discarded, 4 are available"):
            socket.discard(5)


def test_half_close_leaves_the_other_direction_open(host):
    with host.tcp_listen("127.0.0.1", 80) as listener, host.tcp_connect("127.0.0.1", 80) as client:
        server = listener.accept()
        client.send(b"all there is")
        client.shutdown()
        assert server.recv_all() == b"all there is"
        server.send(b"thanks")
        server.shutdown()
        assert client.recv_all() == b"thanks"
        with pytest.raises(LocalError, match="after finish"):
            client.send(b"more")


def test_finish_before_the_handshake_is_kept(host, loop):
    listener = host.tcp_listen("127.0.0.1", 80)
    client = host.open_stream(endpoint("127.0.0.1", 80))
    client.finish()
    assert listener.accept().recv_all() == b""


def test_abort_resets_the_other_side_behind_what_arrived(host):
    with host.tcp_listen("127.0.0.1", 80) as listener, host.tcp_connect("127.0.0.1", 80) as client:
        server = listener.accept()
        server.send(b"last words")
        server.abort()
        assert client.recv_exactly(10) == b"last words"
        assert refused(client.recv) == errno.ECONNRESET
        assert refused(lambda: client.send(b"?")) == errno.ECONNRESET
        assert refused(server.recv) == errno.ECONNABORTED


def test_close_with_unread_octets_resets(host):
    with host.tcp_listen("127.0.0.1", 80) as listener, host.tcp_connect("127.0.0.1", 80) as client:
        server = listener.accept()
        client.send(b"never read")
        server.close()
        assert refused(client.recv) == errno.ECONNRESET


def test_sending_to_a_closed_stream_is_answered_with_a_reset(host, loop):
    with host.tcp_listen("127.0.0.1", 80) as listener, host.tcp_connect("127.0.0.1", 80) as client:
        listener.accept().close()
        assert client.recv() == b""
        client.send(b"too late")  # taken, as by a kernel; the answer is a reset
        loop.run_for(0)
        assert client.socket.error == errno.ECONNRESET


def test_a_reader_who_comes_after_close_is_told(host):
    with host.tcp_listen("127.0.0.1", 80), host.tcp_connect("127.0.0.1", 80) as client:
        client.close()
        assert refused(client.recv) == errno.EBADF


def test_nothing_is_told_after_close(host, loop):
    with host.tcp_listen("127.0.0.1", 80) as listener, host.tcp_connect("127.0.0.1", 80) as client:
        told = []
        client.socket.on_change = lambda: told.append(True)
        listener.accept().send(b"x")
        client.close()
        loop.run_for(0)
        assert told == []


def test_connections_wait_for_accept_up_to_the_backlog(host, loop):
    listener = host.open_listener(endpoint("127.0.0.1", 80))
    clients = [host.open_stream(endpoint("127.0.0.1", 80)) for _ in range(130)]
    loop.run_for(0)
    assert [client.error for client in clients] == [0] * 128 + [errno.ECONNREFUSED] * 2
    accepted = []
    listener.on_accept = accepted.append
    assert not accepted
    loop.run_for(0)
    assert [server.remote for server in accepted] == [client.local for client in clients[:128]]


def test_closing_a_listener_resets_who_waited(host, loop):
    listener = host.open_listener(endpoint("127.0.0.1", 80))
    client = host.open_stream(endpoint("127.0.0.1", 80))
    loop.run_for(0)
    listener.close()
    assert client.error == errno.ECONNRESET
    assert refused(lambda: host.tcp_connect("127.0.0.1", 80)) == errno.ECONNREFUSED


@pytest.mark.parametrize("opener", ["open_listener", "open_datagram"])
def test_ports_are_held_and_given_back(host, opener):
    opened = getattr(host, opener)
    first = opened(endpoint("127.0.0.1", 80))
    assert refused(lambda: opened(endpoint("127.0.0.1", 80))) == errno.EADDRINUSE
    assert refused(lambda: opened(endpoint("0.0.0.0", 80))) == errno.EADDRINUSE
    opened(endpoint("127.0.0.2", 80))
    first.close()
    again = opened(endpoint("127.0.0.1", 80))
    first.close()  # a second close takes nothing away from its successor
    assert refused(lambda: opened(endpoint("127.0.0.1", 80))) == errno.EADDRINUSE
    again.close()
    assert refused(lambda: opened(endpoint("198.51.100.1", 80))) == errno.EADDRNOTAVAIL
    assert [opened(endpoint("127.0.0.3", 0)).local.port for _ in range(2)] == [49152, 49153]


def test_a_client_port_is_given_back(host, loop):
    host.echo_server("127.0.0.1", 7)
    bound = endpoint("127.0.0.1", 5000)
    for _ in range(3):
        client = host.open_stream(endpoint("127.0.0.1", 7), bound)
        loop.run_for(0)
        assert (client.local, client.connected) == (bound, True)
        assert refused(lambda: host.open_stream(endpoint("127.0.0.1", 7), bound)) == errno.EADDRINUSE
        client.close()


# Datagrams


def test_datagrams_go_both_ways(host):
    host.add_address("198.51.100.7")
    with host.udp("198.51.100.7", 53) as server, host.udp("0.0.0.0") as client:
        client.send_to(b"question", "198.51.100.7", 53)
        data, source = server.recv()
        assert (data, source) == (b"question", endpoint("192.0.2.254", client.port))
        server.send_to(b"answer", source.address, source.port)
        assert client.recv() == (b"answer", endpoint("198.51.100.7", 53))


def test_each_router_takes_one_from_the_ttl(host, loop):
    host.add_address("198.51.100.7", path=("192.0.2.1", "203.0.113.1"))
    server = host.open_datagram(endpoint("198.51.100.7", 53))
    client = host.open_datagram()
    heard, errors = Heard(server), Heard(client)
    for ttl in (1, 2, 3, 64):
        client.send_to(b"%d" % ttl, endpoint("198.51.100.7", 53), ttl)
        loop.run_for(0)
    assert [event[1] for event in heard.events] == [b"3", b"64"]
    assert server.last_ttl == 62
    assert errors.events == [("on_error", errno.EHOSTUNREACH, endpoint("198.51.100.7", 53))] * 2


def test_a_closed_port_answers_port_unreachable(host):
    with host.udp("127.0.0.1") as client:
        client.send_to(b"anybody?", "127.0.0.1", 9)
        assert refused(client.recv) == errno.ECONNREFUSED


def test_an_unreachable_network_refuses_at_once_or_later(host, loop):
    host.unreachable("198.51.100.0/24", errno.EHOSTUNREACH)
    host.unreachable("203.0.113.0/24", errno.EHOSTUNREACH, reporter="192.0.2.1")
    with host.udp("0.0.0.0") as client:
        assert refused(lambda: client.send_to(b"x", "198.51.100.1", 9)) == errno.EHOSTUNREACH
        client.send_to(b"x", "203.0.113.1", 9)
        assert refused(client.recv) == errno.EHOSTUNREACH
    with pytest.raises(LocalError, match="ENETUNREACH or EHOSTUNREACH"):
        host.unreachable("198.51.100.0/24", errno.EPERM)
    with pytest.raises(LocalError, match=r"write 203\.0\.113\.0/24"):
        host.blackhole("198.51.100.1/24")


def test_a_black_hole_is_silent(host, loop):
    host.blackhole("198.51.100.0/24")
    datagram, ping = host.open_datagram(), host.open_ping()
    heard = [Heard(datagram), Heard(ping)]
    datagram.send_to(b"x", endpoint("198.51.100.1", 9))
    ping.send_echo(IPv4Address("198.51.100.1"), 1, b"x")
    loop.run_for(1000 * SECOND)
    assert [each.events for each in heard] == [[], []]


def test_what_a_datagram_socket_refuses(host):
    client = host.open_datagram()
    assert refused(lambda: client.send_to(bytes(65508), endpoint("127.0.0.1", 9))) == errno.EMSGSIZE
    assert refused(lambda: client.send_to(b"x", endpoint("127.0.0.1", 9), ttl=0)) == errno.EINVAL
    client.close()
    assert refused(lambda: client.send_to(b"x", endpoint("127.0.0.1", 9))) == errno.EBADF


def test_datagrams_nobody_reads_are_counted(host, loop):
    server = host.open_datagram(endpoint("127.0.0.1", 9))
    host.open_datagram().send_to(b"x", server.local)
    loop.run_for(0)
    assert server.counters == {"dropped-no-reader": 1}


# Pings


def test_ping_reply_and_errors(host, loop):
    host.add_address("198.51.100.7", path=("192.0.2.1",))
    host.unreachable("203.0.113.0/24", errno.EHOSTUNREACH, reporter="192.0.2.1")
    ping = host.open_ping()
    heard = Heard(ping)
    ping.send_echo(IPv4Address("198.51.100.7"), 1, b"payload")
    ping.send_echo(IPv4Address("198.51.100.7"), 2, b"payload", ttl=1)
    ping.send_echo(IPv4Address("203.0.113.9"), 3, b"payload")
    loop.run_for(0)
    router = IPv4Address("192.0.2.1")
    assert heard.events == [
        ("on_reply", 1, b"payload", IPv4Address("198.51.100.7")),
        ("on_error", 11, 0, router, 2),
        ("on_error", 3, 1, router, 3),
    ]
    assert refused(lambda: ping.send_echo(IPv4Address("10.0.0.1"), 4, b"")) == errno.ENETUNREACH


@pytest.mark.parametrize(
    ("low", "high", "groups", "granted"),
    [
        (1, 0, (0,), False),
        (0, 0, (0,), True),
        (100, 200, (99,), False),
        (100, 200, (100,), True),
        (100, 200, (200,), True),
        (100, 200, (201,), False),
        (100, 200, (5, 150), True),
    ],
)
def test_ping_group_range(loop, low, high, groups, granted):
    host = SimHost(loop, groups=groups)
    host.set_ping_group_range(low, high)
    if granted:
        host.open_ping()
    else:
        assert refused(host.open_ping) == errno.EACCES


# The whole


def test_close_ends_everything(host, loop):
    client = host.open_stream(endpoint("127.0.0.1", 7))
    host.echo_server("127.0.0.1", 7)
    datagram, ping = host.open_datagram(endpoint("127.0.0.1", 9)), host.open_ping()
    loop.run_for(0)
    host.close()
    assert client.closed
    assert refused(lambda: ping.send_echo(IPv4Address("127.0.0.1"), 1, b"")) == errno.EBADF
    assert refused(lambda: datagram.send_to(b"", endpoint("127.0.0.1", 9))) == errno.EBADF
    assert not list(host.tcp_ports)
    assert not list(host.udp_ports)


def test_a_run_repeats_exactly():
    def run():
        loop = VirtualLoop()
        host = SimHost(loop, buffer=100)
        host.echo_server("127.0.0.1", 7)
        log = []
        clients = [host.open_stream(endpoint("127.0.0.1", 7)) for _ in range(3)]
        for number, client in enumerate(clients):
            client.on_change = lambda number=number, client=client: log.append((loop.now(), number, client.available()))
        loop.run_for(0)
        for client in clients:
            client.offer(b"x" * 300)
        loop.run_for(SECOND)
        return log

    first = run()
    assert first == run()
    assert {number for _, number, available in first if available} == {0, 1, 2}
