"""TCP sockets of a stack: two stacks on a cable, in virtual time."""

from __future__ import annotations

import errno
import random
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from netemu.errors import HostError, LocalError
from netemu.guest.inproc import InprocGuest
from netemu.net.clock import MILLISECOND, SECOND
from netemu.net.faults import Fault
from netemu.net.link import Link
from netemu.net.loop import VirtualLoop
from netemu.stack.tcp import State, TcpConfig
from netemu.wire.address import Endpoint, MacAddress
from netemu.wire.ether import Ethernet, EtherType
from netemu.wire.icmpv4 import Icmpv4, TimeExceededCode, UnreachableCode
from netemu.wire.ipv4 import IPv4, Protocol
from netemu.wire.tcp import RST, SYN, Tcp

A, B = IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2")
SERVICE = Endpoint(B, 80)


class Pair:
    """Guests `a` and `b` on a link of 1 ms, and every IPv4 datagram that entered it."""

    def __init__(self, *, mtu: int = 1500, tcp: TcpConfig | None = None) -> None:
        self.loop = VirtualLoop()
        bits = random.Random(7).getrandbits
        macs = (MacAddress("52:54:00:00:00:0a"), MacAddress("52:54:00:00:00:0b"))
        self.a, self.b = (
            InprocGuest(self.loop, name, mac, getrandbits=bits, mtu=mtu, tcp=tcp) for name, mac in zip("ab", macs, strict=True)
        )
        self.link = Link(self.loop, "link", self.a.port, self.b.port, delay=MILLISECOND)
        self.a.configure(A, 24)
        self.b.configure(B, 24)
        self.seen: list[IPv4] = []
        self.link.taps.append(self._tap)

    def _tap(self, record) -> None:
        frame = Ethernet.parse(record.frame)
        if frame.ethertype == EtherType.IPV4:
            self.seen.append(IPv4.parse(frame.payload))

    def segments(self) -> list[Tcp]:
        return [Tcp.parse(packet.payload) for packet in self.seen if packet.protocol == Protocol.TCP]

    def run(self, seconds: float = 1.0) -> None:
        self.loop.run_for(round(seconds * SECOND))

    def connect(self):
        """A connection: its socket at `a`, its socket at `b`."""
        accepted = []
        listener = self.b.stack.tcp.listen(80)
        listener.on_accept = accepted.append
        socket = self.a.stack.tcp.connect(SERVICE, self.loop.now())
        self.run(0.1)
        listener.close()
        (other,) = accepted
        assert socket.connected
        assert other.connected
        return socket, other

    def icmp_to_a(self, message: Icmpv4) -> None:
        self.b.stack.send(B, A, Protocol.ICMP, message.pack())
        self.run(0.1)


@pytest.fixture
def pair() -> Pair:
    return Pair()


def read(socket) -> bytes:
    buffer = bytearray(socket.available())
    socket.read_into(0, memoryview(buffer))
    socket.discard(len(buffer))
    return bytes(buffer)


def test_both_ends_say_who_they_are(pair):
    socket, other = pair.connect()
    assert socket.remote == other.local == SERVICE
    assert socket.local == other.remote
    assert socket.local.port in range(49152, 65536)
    assert (socket.error, socket.eof, socket.available()) == (0, False, 0)


def test_octets_pass_and_on_change_tells(pair):
    socket, other = pair.connect()
    heard = []
    other.on_change = lambda: heard.append(other.available())
    assert socket.offer(b"hello") == 5
    pair.run(0.1)
    assert heard == [5]
    assert read(other) == b"hello"
    socket.finish()
    pair.run(0.1)
    assert other.eof
    assert len(heard) == 2
    with pytest.raises(LocalError, match="after finish"):
        socket.offer(b"more")
    assert other.offer(b"still open") == 10  # half-closed
    pair.run(0.1)
    assert read(socket) == b"still open"


def test_reading_part_by_part(pair):
    socket, other = pair.connect()
    socket.offer(b"0123456789")
    pair.run(0.1)
    buffer = bytearray(4)
    assert other.read_into(3, memoryview(buffer)) == 4
    assert buffer == b"3456"
    other.discard(8)
    assert read(other) == b"89"


def test_what_is_not_read_fills_the_window_and_then_the_room(pair):
    socket, other = pair.connect()
    total = 0
    while taken := socket.offer(bytes(65536)):
        total += taken
        pair.run(1)
    assert socket.room() == 0
    assert total == other.available() + 262_144  # both rings are full
    read(other)
    pair.run(1)
    assert socket.room() > 0


def test_a_refused_connection(pair):
    socket = pair.a.stack.tcp.connect(SERVICE, 0)
    changes = []
    socket.on_change = lambda: changes.append(socket.error)
    pair.run()
    assert (socket.connected, socket.error, socket.room()) == (False, errno.ECONNREFUSED, 0)
    assert changes == [errno.ECONNREFUSED]
    assert socket.offer(b"too late") == 0


def test_abort_resets(pair):
    socket, other = pair.connect()
    socket.abort()
    pair.run()
    assert other.error == errno.ECONNRESET
    assert pair.a.stack.tcp.deadline() is None


def test_connections_that_wait_are_handed_over_when_somebody_wants_them(pair):
    listener = pair.b.stack.tcp.listen(80)
    for _ in range(3):
        pair.a.stack.tcp.connect(SERVICE, pair.loop.now())
    pair.run()
    accepted = []
    listener.on_accept = accepted.append
    assert len(accepted) == 3


def test_what_came_before_a_handler_is_announced_to_it(pair):
    listener = pair.b.stack.tcp.listen(80)
    socket = pair.a.stack.tcp.connect(SERVICE, pair.loop.now())
    socket.offer(b"early")
    pair.run()
    heard = []

    def accept(accepted) -> None:
        accepted.on_change = lambda: heard.append(accepted.available())

    listener.on_accept = accept
    assert heard == [5]
    other = pair.a.stack.tcp.connect(SERVICE, pair.loop.now())
    other.offer(b"with the last segment of the handshake")
    pair.run()
    assert heard == [5, 38]


def test_the_backlog_holds_so_many(pair):
    listener = pair.b.stack.tcp.listen(80, backlog=2)
    sockets = [pair.a.stack.tcp.connect(SERVICE, 0) for _ in range(3)]
    pair.run(0.5)
    assert [socket.connected for socket in sockets] == [True, True, False]
    assert pair.b.stack.counters["tcp-backlog-full"] == 1
    listener.on_accept = lambda socket: None
    pair.run(2)  # the SYN is sent again
    assert sockets[2].connected


def test_a_handshake_that_is_reset_gives_its_place_back(pair):
    listener = pair.b.stack.tcp.listen(80, backlog=1)
    listener.on_accept = lambda socket: None
    syn = Tcp(1000, 80, 5, 0, SYN, 1000)
    pair.a.stack.send(A, B, Protocol.TCP, syn.pack(A, B))  # nobody at `a` knows of it, so the SYN-ACK is reset
    pair.run()
    assert not listener.full
    assert pair.a.stack.counters["tcp-reset-sent"] == 1


def test_closing_a_listener_resets_what_nobody_accepted(pair):
    listener = pair.b.stack.tcp.listen(80)
    socket = pair.a.stack.tcp.connect(SERVICE, 0)
    pair.run()
    listener.close()
    pair.run()
    assert socket.error == errno.ECONNRESET
    late = pair.a.stack.tcp.connect(SERVICE, pair.loop.now())
    pair.run()
    assert late.error == errno.ECONNREFUSED
    listener.close()  # twice is fine


def test_ports_that_are_taken(pair):
    layer = pair.a.stack.tcp
    listener = layer.listen(80)
    with pytest.raises(HostError) as caught:
        layer.listen(80)
    assert caught.value.errno == errno.EADDRINUSE
    layer.connect(SERVICE, 0, port=5000)
    with pytest.raises(HostError):
        layer.connect(SERVICE, 0, port=5000)
    layer.connect(Endpoint(B, 81), 0, port=5000)  # another four-tuple
    assert listener.local == Endpoint(A, 80)
    assert layer.listen().port in range(49152, 65536)
    with pytest.raises(LocalError):
        layer.listen(81, backlog=0)


def test_many_connections_are_kept_apart(pair):
    accepted = []
    pair.b.stack.tcp.listen(80).on_accept = accepted.append
    sockets = [pair.a.stack.tcp.connect(SERVICE, pair.loop.now()) for _ in range(100)]
    pair.run()
    for number, socket in enumerate(sockets):
        socket.offer(str(number).encode())
    pair.run()
    by_port = {socket.local.port: number for number, socket in enumerate(sockets)}
    assert {by_port[socket.remote.port]: read(socket).decode() for socket in accepted} == {n: str(n) for n in range(100)}


# Closing (RFC 1122 4.2.2.13).


def test_close_delivers_what_was_taken(pair):
    socket, other = pair.connect()
    socket.offer(bytes(100_000))
    socket.close()
    pair.run()
    assert len(read(other)) == 100_000
    pair.run()
    assert other.eof
    assert other.error == 0
    other.close()
    pair.run(61)
    assert socket.connection.state is State.CLOSED
    assert not any(segment.flags & RST for segment in pair.segments())


def test_close_with_unread_data_delivers_first_and_resets_then(pair):
    socket, other = pair.connect()
    other.offer(b"never read")
    pair.run(0.1)
    socket.offer(b"last words")
    socket.close()
    assert socket.available() == 0
    pair.run()
    assert read(other) == b"last words"
    assert other.error == errno.ECONNRESET


def test_data_after_close_is_reset(pair):
    socket, other = pair.connect()
    socket.close()
    pair.run()
    assert other.eof
    other.offer(b"are you there?")
    pair.run()
    assert other.error == errno.ECONNRESET


def test_a_peer_that_never_closes_does_not_keep_a_closed_socket(pair):
    socket, _ = pair.connect()
    socket.close()
    pair.run(1)
    assert socket.connection.state is State.FIN_WAIT_2
    pair.run(58)
    assert pair.a.stack.tcp._sockets
    pair.run(2)
    assert pair.a.stack.tcp.deadline() is None
    assert not pair.a.stack.tcp._sockets
    assert not pair.a.stack.tcp._orphans


def test_nothing_is_left_after_both_closed(pair):
    socket, other = pair.connect()
    socket.close()
    other.close()
    pair.run(61)
    for guest in (pair.a, pair.b):
        assert guest.stack.tcp.deadline() is None
        assert not guest.stack.tcp._sockets
        assert not guest.stack.tcp._parents
        assert not guest.stack.tcp._orphans


def test_a_four_tuple_in_time_wait_is_used_again(pair):
    listener = pair.b.stack.tcp.listen(80)
    accepted = []
    listener.on_accept = accepted.append
    for _ in range(2):
        socket = pair.a.stack.tcp.connect(SERVICE, pair.loop.now(), port=5000)
        pair.run(0.1)
        assert socket.connected
        accepted[-1].close()  # the server closes first and stays in TIME-WAIT
        pair.run(0.1)
        socket.close()
        pair.run(0.1)
        assert accepted[-1].connection.state is State.TIME_WAIT
    assert len(accepted) == 2


# Initial sequence numbers (RFC 6528).


def test_sequence_numbers_run_with_the_clock_and_differ_by_flow(pair):
    layer = pair.a.stack.tcp
    local, remote = Endpoint(A, 1), Endpoint(B, 2)
    first, offset = layer._numbers(local, remote, 0)
    assert layer._numbers(local, remote, 4000 * 1000) == ((first + 1000) & 0xFFFFFFFF, offset)
    assert layer._numbers(local, Endpoint(B, 3), 0)[0] != first
    assert pair.b.stack.tcp._numbers(local, remote, 0)[0] != first  # another key


# ICMP (RFC 5461, RFC 5927).


def quoted_syn(socket, **changes) -> bytes:
    syn = Tcp(socket.local.port, 80, socket.initial_sequence, 0, SYN, 1000)
    return IPv4(A, B, Protocol.TCP, replace(syn, **changes).pack(A, B)).pack()[:28]


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (lambda quoted: Icmpv4.unreachable(UnreachableCode.NET, quoted), errno.ENETUNREACH),
        (lambda quoted: Icmpv4.unreachable(UnreachableCode.HOST, quoted), errno.EHOSTUNREACH),
        (lambda quoted: Icmpv4.unreachable(UnreachableCode.COMMUNICATION_PROHIBITED, quoted), errno.EHOSTUNREACH),
        (lambda quoted: Icmpv4.time_exceeded(TimeExceededCode.TTL, quoted), errno.EHOSTUNREACH),
    ],
)
def test_an_error_about_its_syn_ends_an_attempt(pair, message, error):
    pair.b.stack.tcp.listen(80)
    pair.link.set_faults(forward=[Fault(1, "drop")])  # the SYN; ARP goes first
    socket = pair.a.stack.tcp.connect(SERVICE, 0)
    pair.run(0.1)
    pair.icmp_to_a(message(quoted_syn(socket)))
    assert socket.error == error


def test_an_error_about_another_syn_is_not_believed(pair):
    pair.link.set_faults(forward=[Fault(1, "drop")])
    socket = pair.a.stack.tcp.connect(SERVICE, 0)
    pair.run(0.1)
    pair.icmp_to_a(Icmpv4.unreachable(UnreachableCode.HOST, quoted_syn(socket, sequence=socket.initial_sequence ^ 1)))
    pair.icmp_to_a(Icmpv4.unreachable(UnreachableCode.HOST, quoted_syn(socket, source_port=1)))
    assert socket.connection.state is State.SYN_SENT
    assert pair.a.stack.counters["icmp-error-unexpected"] == 2


def test_an_error_does_not_end_a_connection(pair):
    socket, other = pair.connect()
    pair.icmp_to_a(Icmpv4.unreachable(UnreachableCode.PORT, quoted_syn(socket)))
    socket.offer(b"unharmed")
    pair.run(0.1)
    assert (socket.error, read(other)) == (0, b"unharmed")


# Segments and MTUs.


def test_segments_fit_the_link():
    pair = Pair(mtu=600)
    socket, other = pair.connect()
    socket.offer(bytes(50_000))
    pair.run()
    assert len(read(other)) == 50_000
    assert max(packet.header_length + len(packet.payload) for packet in pair.seen) == 600
    assert all(packet.dont_fragment for packet in pair.seen)


def test_segments_pass_a_path_that_proves_to_be_narrow(pair):
    socket, other = pair.connect()
    needed = Icmpv4.unreachable(UnreachableCode.FRAGMENTATION_NEEDED, quoted_syn(socket), 700)
    pair.icmp_to_a(needed)
    pair.seen.clear()
    socket.offer(bytes(20_000))
    pair.run()
    assert len(read(other)) == 20_000
    assert max(packet.header_length + len(packet.payload) for packet in pair.seen) <= 700


@pytest.mark.parametrize(("told", "longest"), [(700, 700), (0, 1006)])
def test_segments_get_smaller_when_one_was_too_long(pair, told, longest):
    socket, other = pair.connect()
    socket.offer(bytes(1440))
    pair.run(0.0001)
    pair.icmp_to_a(Icmpv4.unreachable(UnreachableCode.FRAGMENTATION_NEEDED, pair.seen[-1].pack()[:28], told))
    pair.seen.clear()
    socket.offer(bytes(20_000))
    pair.run()
    assert len(read(other)) == 21_440
    assert max(packet.header_length + len(packet.payload) for packet in pair.seen) == longest
    assert all(packet.dont_fragment for packet in pair.seen)


# Ten million octets through a cable that drops, doubles, reorders and corrupts.


def test_a_bad_cable_changes_nothing():
    pair = Pair(tcp=TcpConfig(min_rto_ns=20 * MILLISECOND))
    generator = random.Random(2024)
    data = generator.randbytes(10_000_000)
    socket, other = pair.connect()
    pair.link.set_faults(forward=faults(generator, 20_000), backward=faults(generator, 20_000))
    pair.link.taps.clear()
    received = bytearray()
    other.on_change = lambda: received.extend(read(other))
    position = 0

    def feed() -> None:
        nonlocal position
        position += socket.offer(memoryview(data)[position : position + 65536])

    socket.on_change = feed
    feed()
    pair.loop.run_until(lambda: len(received) >= len(data), pair.loop.now() + 3600 * SECOND)
    assert received == data
    counters = pair.b.stack.counters
    assert sum(count for reason, count in counters.items() if reason.startswith("malformed-")) > 50
    assert socket.connection.counters["retransmissions"] > 50


def faults(generator: random.Random, frames: int) -> list[Fault]:
    """One frame in ten is dropped, doubled, overtaken or has a bit turned over."""
    actions = {"drop": 0, "duplicate": 1, "reorder": 3, "flip": 0}
    chosen = []
    for number in range(frames):
        if generator.random() < 0.1:
            action = generator.choice(list(actions))
            value = generator.randrange(12_000) if action == "flip" else actions[action]
            chosen.append(Fault(number, action, value))
    return chosen
