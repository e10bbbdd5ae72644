"""Real sockets under either loop: on 127.0.0.1, and in a private namespace."""

from __future__ import annotations

import errno
import resource
import select
import socket
import struct
from ipaddress import IPv4Address

import pytest

from netemu.errors import HostError, LocalError
from netemu.io.oshost import NetnsHost, OsHost
from netemu.net.clock import MILLISECOND, SECOND
from netemu.net.sockets import endpoint
from netemu.wire.dns import DnsMessage, Question, RecordType

GENEROUS = 20 * SECOND
LOOPBACK = "127.0.0.1"


@pytest.fixture
def host(loop):
    host = OsHost(loop)
    yield host
    host.close()


@pytest.fixture
def inside(loop, namespace):
    host = NetnsHost(loop, namespace, addresses=("192.0.2.1", "198.51.100.7"))
    yield host
    host.close()


@pytest.fixture(params=["peeks", "buffers"])
def pair(host, request, monkeypatch):
    """A connection: our stream, and the one that was accepted; on a kernel that peeks (if this one does) and on others."""
    if request.param == "buffers":
        monkeypatch.setattr("netemu.io.oshost.kernel_peeks", lambda: False)
    with (
        host.tcp_listen(LOOPBACK) as listener,
        host.tcp_connect(LOOPBACK, listener.port) as client,
        listener.accept() as server,
    ):
        yield client, server


def refused(call):
    with pytest.raises(HostError) as caught:
        call()
    return caught.value.errno


def until(loop, condition):
    assert loop.run_until(condition, loop.now() + GENEROUS)


class Heard:
    """The callbacks of a datagram or ping socket, in the order in which they came."""

    def __init__(self, socket):
        self.events = []
        for name in ("on_datagram", "on_reply", "on_error"):
            if hasattr(socket, name):
                setattr(socket, name, lambda *event, name=name: self.events.append((name, *event)))


# Streams


def test_bytes_go_both_ways(pair):
    client, server = pair
    client.send(b"question")
    assert server.recv_exactly(8) == b"question"
    server.send(b"answer")
    assert client.recv_exactly(6) == b"answer"
    assert (server.remote, server.local) == (client.local, client.remote)


def test_what_was_not_discarded_can_be_read_again_from_anywhere(pair, loop):
    client, server = pair
    octets = bytes(range(256)) * 40
    client.send(octets)
    until(loop, lambda: server.socket.available() == len(octets))

    def read(offset, count):
        buffer = bytearray(count)
        with loop:
            return bytes(buffer[: server.socket.read_into(offset, memoryview(buffer))])

    for offset, count in ((0, 100), (100, 50), (5000, 10), (0, 20_000), (len(octets) - 1, 5), (len(octets), 5)):
        assert read(offset, count) == octets[offset : offset + count]
    with loop:
        server.socket.discard(3000)
    assert server.socket.available() == len(octets) - 3000
    for offset, count in ((0, 100), (7, 50), (0, 20_000)):
        assert read(offset, count) == octets[3000 + offset : 3000 + offset + count]
    client.send(b"more")
    client.shutdown()
    assert server.recv_all() == octets[3000:] + b"more"


def test_half_close_leaves_the_other_direction_open(pair):
    client, server = pair
    client.send(b"all there is")
    client.shutdown()
    assert server.recv_all() == b"all there is"
    server.send(b"thanks")
    server.shutdown()
    assert client.recv_all() == b"thanks"
    with pytest.raises(LocalError, match="after finish"):
        client.send(b"more")


def test_a_refused_connection(host):
    with host.tcp_listen(LOOPBACK) as listener:
        port = listener.port
    assert refused(lambda: host.tcp_connect(LOOPBACK, port)) == errno.ECONNREFUSED


def test_the_local_end_can_be_chosen(host, loop):
    with host.tcp_listen(LOOPBACK) as listener, host.udp("127.0.0.1") as spare:
        with loop:
            client = host.open_stream(listener.local, endpoint("127.0.0.9", 0))
        assert listener.accept().remote.address == IPv4Address("127.0.0.9")
        with loop:
            client.close()
            assert refused(lambda: host.open_stream(listener.local, endpoint("192.0.2.77", 0))) == errno.EADDRNOTAVAIL
            assert refused(lambda: host.open_listener(listener.local)) == errno.EADDRINUSE
            assert refused(lambda: host.open_datagram(spare.local)) == errno.EADDRINUSE


@pytest.mark.parametrize("finished", [False, True], ids=["open", "finished"])
def test_abort_resets_the_other_side(pair, loop, finished):
    client, server = pair
    server.send(b"last words")
    assert client.recv_exactly(10) == b"last words"
    if finished:  # Linux says EPIPE then
        server.shutdown()
        until(loop, lambda: client.socket.eof)
    server.abort()
    until(loop, lambda: client.socket.error)
    assert client.socket.error == errno.ECONNRESET
    assert refused(lambda: client.send(b"?")) == errno.ECONNRESET
    assert refused(server.recv) == errno.ECONNABORTED


def test_urgent_data_is_in_line_and_its_end_is_marked(pair, loop):
    client, server = pair
    client.send(b"ab")
    client.send_urgent(b"urgent")
    client.send(b"and on")
    until(loop, lambda: server.socket.available() == 14 and server.socket.urgent)
    assert server.socket.urgent == 8
    assert server.recv_exactly(5) == b"aburg"
    assert server.socket.urgent == 3
    assert server.recv_exactly(9) == b"entand on"
    assert server.socket.urgent == 0


def test_a_later_mark_takes_the_place_of_an_earlier_one(pair, loop):
    client, server = pair
    client.send_urgent(b"one")
    until(loop, lambda: server.socket.urgent == 3)
    client.send_urgent(b"two")
    until(loop, lambda: server.socket.urgent == 6)
    assert server.recv_exactly(6) == b"onetwo"


def test_a_program_that_reads_out_of_band_gets_the_last_octet(loop, host):
    with host.tcp_listen(LOOPBACK) as listener, socket.create_connection((LOOPBACK, listener.port)) as program:
        listener.accept().send_urgent(b"abc")
        assert program.recv(10) == b"ab"
        assert select.select([], [], [program], 20)[2]  # exceptional: out-of-band data has come
        assert program.recv(1, socket.MSG_OOB) == b"c"


def test_close_with_unread_octets_resets(pair, loop):
    client, server = pair
    client.send(b"never read")
    until(loop, lambda: server.socket.available() == 10)
    server.close()
    assert refused(client.recv) == errno.ECONNRESET


def test_sending_to_a_closed_stream_is_answered_with_a_reset(pair, loop):
    client, server = pair
    server.close()
    assert client.recv() == b""
    client.send(b"too late")
    until(loop, lambda: client.socket.error)
    assert client.socket.error == errno.ECONNRESET


def test_back_pressure_from_end_to_end(pair, loop):
    """Nobody reads: what holds octets fills, then nothing more is taken; reading starts it again."""
    client, server = pair
    pattern = bytes(range(256)) * 256
    sent = bytearray()

    def offer():
        while taken := client.socket.offer(pattern):
            sent.extend(pattern[:taken])

    with loop:
        client.socket.on_change = offer
        offer()
    until(loop, lambda: server.socket.available() >= 65_536 and client.socket.room() == 0)
    loop.run_for(50 * MILLISECOND)
    held = server.socket.available()
    loop.run_for(50 * MILLISECOND)  # neither end is busy for nothing, nor takes more
    assert server.socket.available() == held
    with loop:
        client.socket.on_change = None
        total = len(sent)
    assert server.recv_exactly(total) == bytes(sent)
    until(loop, lambda: client.socket.room() > 0)


def test_room_is_what_the_send_buffer_holds(pair, loop):
    client, server = pair
    with loop:
        room = client.socket.room()
        taken = client.socket.offer(bytes(room))
    assert (room >= 4096, taken) == (True, room)
    assert server.recv_exactly(room) == bytes(room)


def test_a_reset_while_the_buffer_is_full_comes_behind_the_octets(pair, loop):
    client, server = pair
    with loop:
        while client.socket.offer(bytes(65536)):
            pass
    until(loop, lambda: server.socket.available() >= 65_536)
    client.abort()
    loop.run_for(20 * MILLISECOND)
    received = []
    assert refused(lambda: read_on(server, received)) == errno.ECONNRESET
    assert sum(received) >= 65_536


def read_on(stream, received):
    for _ in range(10_000):
        received.append(len(stream.recv()))


def test_connections_wait_until_somebody_accepts(host, loop):
    with loop:
        listener = host.open_listener(endpoint(LOOPBACK, 0))
        clients = [host.open_stream(listener.local) for _ in range(3)]
    until(loop, lambda: all(client.connected for client in clients))
    accepted = []
    with loop:
        listener.on_accept = accepted.append
    until(loop, lambda: len(accepted) == 3)
    assert {stream.remote for stream in accepted} == {client.local for client in clients}


def test_a_listener_outlives_want_of_descriptors(host, loop):
    with host.tcp_listen(LOOPBACK) as listener, socket.socket() as client:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            began = loop.now()
            client.connect((LOOPBACK, listener.port))
            until(loop, lambda: listener.socket.counters["EMFILE"] == 2)
            assert loop.now() - began >= 100 * MILLISECOND  # it does not insist
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        listener.accept().close()


# Datagrams


def test_datagrams_carry_their_ttl(host, loop):
    with host.udp(LOOPBACK) as server, host.udp("0.0.0.0") as client:
        client.send_to(b"question", LOOPBACK, server.port, ttl=9)
        data, source = server.recv()
        assert (data, source) == (b"question", endpoint(LOOPBACK, client.port))
        assert server.socket.last_ttl == 9
        server.send_to(b"answer", source.address, source.port)
        assert client.recv() == (b"answer", server.local)


def test_an_error_about_one_destination_does_not_stop_another(host, loop):
    with host.udp(LOOPBACK) as server, host.udp(LOOPBACK) as client, host.udp(LOOPBACK) as gone:
        closed = gone.local
        gone.close()
        with loop:
            heard = Heard(client.socket)
            for _ in range(5):
                client.socket.send_to(b"x", closed)
                client.socket.send_to(b"y", server.local)
        for _ in range(5):
            assert server.recv().data == b"y"
        until(loop, lambda: heard.events)
        assert set(heard.events) == {("on_error", errno.ECONNREFUSED, closed)}


def test_what_a_datagram_socket_refuses(host, loop):
    with host.udp(LOOPBACK) as client:
        assert refused(lambda: client.send_to(bytes(65508), LOOPBACK, 9)) == errno.EMSGSIZE
        assert refused(lambda: client.send_to(b"x", LOOPBACK, 9, ttl=0)) == errno.EINVAL
    assert refused(lambda: client.send_to(b"x", LOOPBACK, 9)) == errno.EBADF


def test_datagrams_nobody_reads_are_counted(host, loop):
    with loop:
        server = host.open_datagram(endpoint(LOOPBACK, 0))
        host.open_datagram().send_to(b"x", server.local)
    until(loop, lambda: server.counters["dropped-no-reader"])


# The whole


def test_close_ends_everything(host, loop):
    with loop:
        listener = host.open_listener(endpoint(LOOPBACK, 0))
        stream, datagram = host.open_stream(listener.local), host.open_datagram()
    until(loop, lambda: stream.connected)
    host.echo_server(LOOPBACK)
    host.close()  # the fixture sees that every descriptor is closed
    assert stream.closed
    assert refused(lambda: datagram.send_to(b"", endpoint(LOOPBACK, 9))) == errno.EBADF


def test_many_octets_through_the_echo_server(host):
    server = host.echo_server(LOOPBACK)
    data = bytes(range(251)) * 1000
    with host.tcp_connect(LOOPBACK, server.local.port) as client:
        for start in range(0, len(data), 50_000):
            client.send(data[start : start + 50_000])
            assert client.recv_exactly(len(data[start : start + 50_000])) == data[start : start + 50_000]


def test_nameservers_are_read_from_the_file(loop, tmp_path):
    path = tmp_path / "resolv.conf"
    path.write_text("# comment\nsearch example.org\nnameserver 192.0.2.53\nnameserver ::1\nnameserver\nnameserver\t192.0.2.54 x\n")
    host = OsHost(loop, resolv_conf=str(path))
    assert [str(server) for server in host.nameservers()] == ["192.0.2.53:53", "[::1]:53", "192.0.2.54:53"]
    path.unlink()
    assert host.nameservers() == []
    host.close()


# In a namespace


def test_the_namespace_is_an_internet_of_its_own(inside):
    inside.echo_server("198.51.100.7", 7)
    inside.echo_server("198.51.100.7", 7, "udp")
    with inside.tcp_connect("198.51.100.7", 7) as client:
        client.send(b"hello")
        assert client.recv_exactly(5) == b"hello"
    with inside.udp("192.0.2.1") as client:
        client.send_to(b"hello", "198.51.100.7", 7)
        assert client.recv() == (b"hello", endpoint("198.51.100.7", 7))
    with pytest.raises(OSError, match="assign"):  # it is not the machine's
        socket.create_server(("198.51.100.7", 0))


def test_errors_as_configured(inside, loop):
    inside.unreachable("203.0.113.0/25", errno.EHOSTUNREACH)
    inside.unreachable("203.0.113.128/26", errno.ENETUNREACH)
    inside.blackhole("203.0.113.192/27")
    inside.blackhole("203.0.113.224/27")
    for address, expected in [
        ("192.0.2.1", errno.ECONNREFUSED),
        ("203.0.113.1", errno.EHOSTUNREACH),
        ("203.0.113.129", errno.ENETUNREACH),
        ("10.1.2.3", errno.ENETUNREACH),
    ]:
        assert refused(lambda address=address: inside.tcp_connect(address, 9)) == expected
        with inside.udp("0.0.0.0") as client:

            def exchange(client=client, address=address):
                client.send_to(b"x", address, 9)
                client.recv()

            assert refused(exchange) == expected
    for address in ("203.0.113.193", "203.0.113.225"):
        with pytest.raises(TimeoutError):
            inside.tcp_connect(address, 9, timeout=0.05)
    with pytest.raises(LocalError, match="ENETUNREACH or EHOSTUNREACH"):
        inside.unreachable("203.0.113.0/24", errno.EPERM)


def test_ping(inside, loop):
    inside.set_ping_group_range(0, 0)
    with loop:
        ping = inside.open_ping()
        heard = Heard(ping)
        ping.send_echo(IPv4Address("198.51.100.7"), 513, b"payload", ttl=9)
    until(loop, lambda: heard.events)
    assert heard.events == [("on_reply", 513, b"payload", IPv4Address("198.51.100.7"))]
    inside.unreachable("203.0.113.0/24", errno.EHOSTUNREACH)
    with loop:
        assert refused(lambda: ping.send_echo(IPv4Address("203.0.113.1"), 1, b"")) == errno.EHOSTUNREACH
        assert refused(lambda: ping.send_echo(IPv4Address("10.1.2.3"), 1, b"")) == errno.ENETUNREACH


@pytest.mark.parametrize(("low", "high", "granted"), [(1, 0, False), (0, 0, True), (1, 100, False), (0, 2147483647, True)])
def test_ping_group_range(inside, loop, low, high, granted):
    """The thread in the namespace is in group 0."""
    inside.set_ping_group_range(low, high)
    with loop:
        if granted:
            inside.open_ping()
        else:
            assert refused(inside.open_ping) == errno.EACCES


def test_icmp_errors_come_with_type_code_and_sender(inside, loop):
    """A raw socket answers the ping with an error of a router's, as the network would."""
    inside.blackhole("203.0.113.0/24")
    inside.set_ping_group_range(0, 0)
    raw = inside.namespace.call(socket.socket, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    with raw, loop:
        ping, datagram = inside.open_ping(), inside.open_datagram(endpoint("192.0.2.1", 0))
        heard, heard_datagram = Heard(ping), Heard(datagram)
        ping.send_echo(IPv4Address("203.0.113.9"), 77, b"payload")
        identifier = ping._socket.getsockname()[1]
        for protocol, quoted in [
            (1, struct.pack("!BBHHH", 8, 0, 0, identifier, 77) + b"payload"),
            (17, struct.pack("!HHHH", datagram.local.port, 9, 8, 0)),
        ]:
            original = ipv4_header("192.0.2.1", "203.0.113.9", protocol, len(quoted)) + quoted
            error = checked(struct.pack("!BBHI", 3, 1, 0, 0) + original)
            raw.sendto(ipv4_header("198.51.100.7", "192.0.2.1", 1, len(error)) + error, ("192.0.2.1", 0))
        until(loop, lambda: heard.events and heard_datagram.events)
    assert heard.events == [("on_error", 3, 1, IPv4Address("198.51.100.7"), 77)]
    assert heard_datagram.events == [("on_error", errno.EHOSTUNREACH, endpoint("203.0.113.9", 9))]


def ipv4_header(source, destination, protocol, length):
    addresses = IPv4Address(source).packed + IPv4Address(destination).packed
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, 1, 0, 64, protocol, 0) + addresses
    return header[:10] + checked(header, 10)[10:12] + header[12:]


def checked(data, at=2):
    """`data` with its Internet checksum (RFC 1071), reckoned the slow way."""
    padded = data + bytes(len(data) % 2)
    total = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return data[:at] + struct.pack("!H", 0xFFFF - total) + data[at + 2 :]


def test_dns_in_the_namespace(inside):
    inside.dns_server({"www.example.org": "198.51.100.7"})
    assert inside.nameservers() == [endpoint("127.0.0.53", 53)]
    with inside.udp(LOOPBACK) as client:
        client.send_to(DnsMessage(1, (Question("www.example.org", RecordType.A),)).pack(), "127.0.0.53", 53)
        reply = DnsMessage.parse(client.recv().data)
    assert [record.address for record in reply.answers] == [IPv4Address("198.51.100.7")]


def test_the_c_library_inside_asks_our_server(real_loop, namespace):
    host = NetnsHost(real_loop, namespace)
    host.dns_server({"www.example.org": "198.51.100.7"})
    asked = namespace.call(socket.getaddrinfo, "www.example.org", 80, socket.AF_INET, socket.SOCK_STREAM)
    host.close()
    assert [address for *_, address in asked] == [("198.51.100.7", 80)]
