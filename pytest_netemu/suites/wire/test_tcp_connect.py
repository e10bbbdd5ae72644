"""TCP of a guest that connects: the SYN it sends, and what it does with the answers (RFC 9293 3.5, 3.8.3, 3.10.7.3; 3.9.2.2)."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest

from netemu.errors import HostError, NetemuTimeoutError
from netemu.wire.icmpv4 import IcmpType, Icmpv4, TimeExceededCode, UnreachableCode
from netemu.wire.ipv4 import IPv4
from netemu.wire.tcp import ACK, EMPTY_OPTIONS, FIN, RST, SYN, Tcp, TcpOptions
from pytest_netemu.packet import Packet
from pytest_netemu.suites import judges
from pytest_netemu.tester_tcp import TcpPeer
from pytest_netemu.wire import Wire
from pytest_netemu.wire_tcp import PORT, accept_syn, connect, works

pytestmark = pytest.mark.netemu_requires("tcp.connect")

_SECOND = 1_000_000_000
_MODULUS = 1 << 32


def _syn(wire: Wire) -> tuple[TcpPeer, Tcp]:
    """An established connection and the SYN that began it."""
    syns: list[Tcp] = []
    stop = wire.answer(Tcp, lambda packet: syns.append(packet[Tcp]), flags=SYN)
    peer, _ = connect(wire)
    stop()
    return peer, syns[0]


def _refused(wire: Wire, respond: Callable[[TcpPeer], None]) -> int:
    """The errno of a connection that `respond` prevented."""
    with pytest.raises(HostError) as caught:
        connect(wire, respond)
    return caught.value.errno or 0


@judges("rfc9293/3.10.7.3/01")
def test_a_handshake_ends_with_an_acknowledgement(netemu_wire: Wire) -> None:
    peer, stream = connect(netemu_wire.up())
    last = peer.expect(flags=ACK)[Tcp]
    assert (last.sequence, last.acknowledgment) == (peer.ack, peer.seq)
    works(peer, stream)


@judges("rfc9293/3.7.1/01")
@judges("rfc9293/3.7.1/04")
@judges("rfc9293/3.7.1/05")
def test_a_syn_announces_the_segment_size(netemu_wire: Wire) -> None:
    announced = _syn(netemu_wire.up())[1].options.mss
    assert announced is not None
    assert 536 <= announced <= 1500 - 40


@judges("rfc9293/3.4.1/01")
def test_syns_are_not_guessed(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    numbers = [_syn(wire)[1].sequence for _ in range(6)]
    steps = {(after - before) % _MODULUS for before, after in pairwise(numbers)}
    assert len(steps) == len(numbers) - 1, f"initial sequence numbers in equal steps: {numbers}"


@judges("rfc9293/3.10.7.3/02")
@pytest.mark.parametrize("offset", [-1, 1, 1 << 31])
def test_an_acknowledgement_of_something_else_is_reset(netemu_wire: Wire, offset: int) -> None:
    """And the connection is made all the same, when the right answer comes."""
    wire = netemu_wire.up()
    guesses: list[int] = []

    def guess(peer: TcpPeer) -> None:
        guesses.append((peer.ack + offset) % _MODULUS)
        peer.send(flags=SYN | ACK, sequence=77, acknowledgment=guesses[0])
        accept_syn(peer)

    peer, stream = connect(wire, guess)
    reset = peer.expect(lambda segment: bool(segment.flags & RST))[Tcp]
    assert reset.sequence == guesses[0]
    works(peer, stream)


@judges("rfc9293/3.10.7.3/03")
def test_a_reset_refuses(netemu_wire: Wire) -> None:
    assert _refused(netemu_wire.up(), lambda peer: peer.send(flags=RST | ACK, sequence=0)) == errno.ECONNREFUSED


@judges("rfc9293/3.10.7.3/04")
@pytest.mark.parametrize("flags", [RST, RST | ACK], ids=["alone", "with-another-ack"])
def test_a_reset_of_something_else_is_dropped(netemu_wire: Wire, flags: int) -> None:
    def attack(peer: TcpPeer) -> None:
        peer.send(flags=flags, sequence=peer.ack, acknowledgment=(peer.ack - 7) % _MODULUS)
        accept_syn(peer)

    peer, stream = connect(netemu_wire.up(), attack)
    works(peer, stream)


@judges("rfc9293/3.10.7.3/05")
@pytest.mark.parametrize("flags", [ACK, FIN | ACK, 0], ids=["ack", "fin-ack", "nothing"])
def test_what_has_neither_syn_nor_reset_is_dropped(netemu_wire: Wire, flags: int) -> None:
    def interject(peer: TcpPeer) -> None:
        peer.send(flags=flags, sequence=peer.seq, acknowledgment=peer.ack)
        accept_syn(peer)

    peer, stream = connect(netemu_wire.up(), interject)
    works(peer, stream)


@judges("rfc9293/3.5/01")
def test_both_sides_may_open_at_once(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()

    def cross(peer: TcpPeer) -> None:
        stop = wire.answer(Tcp, lambda _: finish(peer), flags=SYN | ACK, destination_port=PORT)
        ends.append(stop)
        peer.send(flags=SYN, options=TcpOptions(mss=1460))

    def finish(peer: TcpPeer) -> None:
        ends.pop()()
        peer.send(flags=SYN | ACK, sequence=(peer.seq - 1) % _MODULUS)

    ends: list[Callable[[], None]] = []
    peer, stream = connect(wire, cross)
    answer = peer.expect(flags=SYN | ACK)[Tcp]
    assert (answer.sequence, answer.acknowledgment) == ((peer.ack - 1) % _MODULUS, peer.seq)
    works(peer, stream)


@judges("rfc9293/3.10.7.4/08")
def test_a_reset_refuses_both_who_open(netemu_wire: Wire) -> None:
    """In SYN-RECEIVED that came from SYN-SENT."""
    wire = netemu_wire.up()

    def cross(peer: TcpPeer) -> None:
        wire.answer(Tcp, lambda _: peer.reset(), flags=SYN | ACK, destination_port=PORT)
        peer.send(flags=SYN, options=TcpOptions(mss=1460))

    assert _refused(wire, cross) == errno.ECONNREFUSED


@judges("rfc9293/3.7.1/02")
def test_a_server_without_a_size_gets_536_octets(netemu_wire: Wire) -> None:
    peer, stream = connect(netemu_wire.up(), lambda peer: peer.send(flags=SYN | ACK, options=EMPTY_OPTIONS))
    stream.send(bytes(2000))
    assert len(peer.expect(lambda segment: bool(segment.payload))[Tcp].payload) <= 536


@judges("rfc9293/3.10.8/01")
@pytest.mark.netemu_requires("virtual-clock")
def test_a_syn_is_repeated_as_it_was(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    peers: list[TcpPeer] = []

    def answer_another(packet: Packet) -> None:
        if not peers:
            peers.append(TcpPeer.asked(wire, packet))
        elif packet[Tcp].flags & SYN:
            accept_syn(peers[0])

    wire.answer(Tcp, answer_another, destination_port=PORT)
    wire.guest.tcp_connect(wire.address, PORT)
    first, again = (packet[Tcp] for packet in wire.inbox if Tcp in packet and packet[Tcp].flags & SYN)
    assert (again.flags, again.sequence) == (SYN, first.sequence)


@judges("rfc9293/3.8.3/01")
@pytest.mark.netemu_requires("virtual-clock")
def test_a_syn_is_repeated_for_three_minutes(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    begin = wire.network.loop.now()
    with pytest.raises((HostError, NetemuTimeoutError)):
        connect(wire, lambda _: None, timeout=600)
    given_up = wire.network.loop.now() - begin
    syns = [packet[Tcp] for packet in wire.inbox if Tcp in packet and packet[Tcp].flags == SYN]
    assert len({segment.sequence for segment in syns}) == 1, "a repeated SYN has the first one's sequence number"
    assert given_up >= 180 * _SECOND, f"given up after {given_up / _SECOND:.0f} s and {len(syns)} SYNs"


# ICMP errors (RFC 9293 3.9.2.2)


def _tell(wire: Wire, message: Callable[[int, bytes], Icmpv4], code: int) -> None:
    """An error about the guest's last segment."""
    last = next(packet for packet in reversed(wire.inbox) if Tcp in packet)
    wire.send_icmp(message(code, last.frame[14:]))


@judges("rfc9293/3.9.2.2/01")
@judges("rfc9293/3.9.2.2/04")
@pytest.mark.parametrize("code", [UnreachableCode.PROTOCOL, UnreachableCode.PORT], ids=lambda code: code.name.lower())
def test_a_hard_error_ends_an_attempt(netemu_wire: Wire, code: UnreachableCode) -> None:
    wire = netemu_wire.up()
    assert _refused(wire, lambda _: _tell(wire, Icmpv4.unreachable, code))


@judges("rfc9293/3.9.2.2/03")
@pytest.mark.parametrize(
    "code", [UnreachableCode.NET, UnreachableCode.HOST, UnreachableCode.SOURCE_ROUTE_FAILED], ids=lambda code: code.name.lower()
)
def test_a_soft_error_does_not_end_a_connection(netemu_wire: Wire, code: UnreachableCode) -> None:
    wire = netemu_wire.up()
    peer, stream = connect(wire)
    _tell(wire, Icmpv4.unreachable, code)
    works(peer, stream)


@judges("rfc9293/3.9.2.2/03")
@pytest.mark.parametrize("code", TimeExceededCode, ids=lambda code: code.name.lower())
def test_a_lost_segment_does_not_end_a_connection(netemu_wire: Wire, code: TimeExceededCode) -> None:
    wire = netemu_wire.up()
    peer, stream = connect(wire)
    _tell(wire, Icmpv4.time_exceeded, code)
    works(peer, stream)


@judges("rfc9293/3.9.2.2/02")
def test_a_source_quench_is_discarded(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    peer, stream = connect(wire)
    _tell(wire, lambda code, original: Icmpv4(IcmpType.SOURCE_QUENCH, code, 0, original), 0)
    works(peer, stream)


@judges("rfc9293/3.9.2.2/01")
def test_an_error_about_another_connection_does_no_harm(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()

    def mislead(peer: TcpPeer) -> None:
        syn = next(packet for packet in reversed(wire.inbox) if Tcp in packet)
        other = replace(syn[Tcp], source_port=syn[Tcp].source_port ^ 1).pack(wire.opposite, wire.address)
        wire.send_icmp(Icmpv4.unreachable(UnreachableCode.PORT, replace(syn[IPv4], payload=other).pack()))
        accept_syn(peer)

    peer, stream = connect(wire, mislead)
    works(peer, stream)
