"""TCP of a guest that listens: how connections begin, and what is refused (RFC 9293 3.1, 3.4, 3.5.2, 3.7.1, 3.10.7.1 and .2)."""

from __future__ import annotations

from ipaddress import IPv4Address
from itertools import pairwise

import pytest

from netemu.wire.address import BROADCAST_MAC
from netemu.wire.ipv4 import IPv4, Protocol
from netemu.wire.tcp import ACK, EMPTY_OPTIONS, FIN, RST, SYN, Tcp, TcpOptions
from pytest_netemu.segments import odd_segment, spoilt_checksum
from pytest_netemu.station import LIMITED_BROADCAST
from pytest_netemu.suites import judges
from pytest_netemu.tester_tcp import TcpPeer
from pytest_netemu.wire import Wire
from pytest_netemu.wire_tcp import PORT, serve

pytestmark = pytest.mark.netemu_requires("tcp.listen")

_CLOSED = 9
_EXPERIMENT = 254  # RFC 4727: an option kind that nobody knows
_NO_OPERATION = b"\x01"
_END = b"\x00"
_MSS_600 = b"\x02\x04\x02\x58"
_MODULUS = 1 << 32


def _is_reset(segment: Tcp) -> bool:
    return bool(segment.flags & RST)


def _odd(peer: TcpPeer, segment: Tcp, **oddities: bytes | int) -> None:
    """Send a segment with such options or reserved bits."""
    peer.send_octets(odd_segment(segment, peer.tester.address, peer.remote, **oddities))  # type: ignore[arg-type] # its own
    peer.seq = (segment.sequence + segment.segment_length) % _MODULUS


@judges("rfc9293/3.10.7.2/01")
def test_a_syn_is_answered(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    listener = wire.guest.tcp_listen(PORT)
    peer = TcpPeer(wire, PORT)
    peer.send(flags=SYN)
    answer = peer.expect(flags=SYN | ACK)
    assert answer[Tcp].acknowledgment == peer.seq
    assert (answer[IPv4].source, answer[IPv4].destination) == (wire.opposite, wire.address)
    peer.send()
    assert listener.accept().remote.port == peer.local_port


@judges("rfc9293/3.10.7.2/02")
def test_nothing_is_acknowledged_before_a_connection(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    wire.guest.tcp_listen(PORT)
    peer = TcpPeer(wire, PORT)
    peer.send(flags=ACK, acknowledgment=0x1234_5678)
    assert peer.expect(_is_reset)[Tcp].sequence == 0x1234_5678


@judges("rfc9293/3.10.7.2/03")
def test_a_listener_ignores_a_reset(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    listener = wire.guest.tcp_listen(PORT)
    peer = TcpPeer(wire, PORT)
    peer.send(flags=RST)
    peer.silence()
    peer.connect()
    assert listener.accept().remote.port == peer.local_port


@judges("rfc9293/3.10.8/01")
@pytest.mark.netemu_requires("virtual-clock")
def test_an_answer_to_a_syn_is_repeated_as_it_was(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    wire.guest.tcp_listen(PORT)
    peer = TcpPeer(wire, PORT)
    peer.send(flags=SYN)
    first = peer.expect(flags=SYN | ACK)[Tcp]
    again = peer.expect(within=8)[Tcp]
    repeated, was = ((each.flags, each.sequence, each.acknowledgment) for each in (again, first))
    assert repeated == was, f"the SYN,ACK had (flags, sequence, acknowledgment) {was}, and was repeated with {repeated}"


@judges("rfc9293/3.10.7.4/06")
def test_a_reset_leaves_the_listener_alone(netemu_wire: Wire) -> None:
    """A connection that came from LISTEN ends with a RST in SYN-RECEIVED, and the same ports may begin another."""
    wire = netemu_wire.up()
    listener = wire.guest.tcp_listen(PORT)
    peer = TcpPeer(wire, PORT)
    peer.send(flags=SYN)
    peer.expect(flags=SYN | ACK)
    peer.send(flags=RST)
    wire.barrier()
    peer.connect()
    assert listener.accept().remote.port == peer.local_port


@judges("rfc9293/3.10.7.4/07")
@pytest.mark.parametrize("offset", [-1, 1, 1 << 31])
def test_a_handshake_is_not_ended_by_a_guess(netemu_wire: Wire, offset: int) -> None:
    wire = netemu_wire.up()
    wire.guest.tcp_listen(PORT)
    peer = TcpPeer(wire, PORT)
    peer.send(flags=SYN)
    peer.expect(flags=SYN | ACK)
    guess = (peer.ack + offset) % _MODULUS
    peer.send(acknowledgment=guess)
    assert peer.expect(_is_reset)[Tcp].sequence == guess


@judges("rfc9293/3.1/01")
def test_a_wrong_checksum_is_discarded(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    wire.guest.tcp_listen(PORT)
    peer = TcpPeer(wire, PORT)
    peer.send_octets(spoilt_checksum(peer.segment(SYN), wire.address, wire.opposite))
    wire.silence(Tcp)


@judges("rfc9293/3.1/01")
@pytest.mark.parametrize("length", [1, 2, 255])
def test_a_checksum_is_generated(netemu_wire: Wire, length: int) -> None:
    served = serve(netemu_wire.up())
    served.stream.send(bytes(range(length)))
    packet = netemu_wire.expect(IPv4, lambda ip: ip.protocol == Protocol.TCP and len(ip.payload) > length)
    assert packet.broken == ""


@judges("rfc9293/3.1/02")
def test_an_unknown_option_is_ignored(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    listener = wire.guest.tcp_listen(PORT)
    peer = TcpPeer(wire, PORT)
    peer.connect(TcpOptions(mss=1460, unknown=((_EXPERIMENT, b"?!"),)))
    peer.send(b"hello", options=TcpOptions(unknown=((_EXPERIMENT, b"?!"),)))
    assert listener.accept().recv(5) == b"hello"


@judges("rfc9293/3.1/03")
@pytest.mark.parametrize("length", [0, 1, 40, 255])
def test_an_illegal_option_length_does_no_harm(netemu_wire: Wire, length: int) -> None:
    wire = netemu_wire.up()
    listener = wire.guest.tcp_listen(PORT)
    damaged = TcpPeer(wire, PORT)
    _odd(damaged, damaged.segment(SYN), options=bytes((_EXPERIMENT, length, 0, 0)))
    wire.barrier()
    peer = TcpPeer(wire, PORT).connect()
    peer.send(b"alive")
    assert listener.accept().recv(5) == b"alive"


@judges("rfc9293/3.1/05")
def test_an_option_may_come_in_any_segment(netemu_wire: Wire) -> None:
    served = serve(netemu_wire.up())
    served.peer.send(b"hello", options=TcpOptions(mss=1000, timestamps=(1, 0)))
    assert served.stream.recv(5) == b"hello"


@judges("rfc9293/3.1/06")
@judges("rfc9293/3.1/08")
@pytest.mark.parametrize(
    "options",
    [
        _NO_OPERATION + _MSS_600 + 3 * _NO_OPERATION,
        3 * _NO_OPERATION + _MSS_600 + _NO_OPERATION,
        2 * _NO_OPERATION + _MSS_600 + _END + b"\xff",
    ],
    ids=["after-one", "after-three", "before-the-end"],
)
def test_an_option_may_begin_anywhere(netemu_wire: Wire, options: bytes) -> None:
    wire = netemu_wire.up()
    listener = wire.guest.tcp_listen(PORT)
    peer = TcpPeer(wire, PORT)
    _odd(peer, peer.segment(SYN), options=options)
    peer.expect(flags=SYN | ACK, acknowledgment=peer.seq)
    peer.send()
    listener.accept().send(bytes(1200))
    assert len(peer.expect(lambda segment: bool(segment.payload))[Tcp].payload) == 600


@judges("rfc9293/3.1/07")
def test_reserved_bits_mean_nothing(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    listener = wire.guest.tcp_listen(PORT)
    peer = TcpPeer(wire, PORT)
    _odd(peer, peer.segment(SYN), reserved=0b0110)
    answer = peer.expect(flags=SYN | ACK, acknowledgment=peer.seq)
    assert answer[IPv4].payload[12] & 0x0F == 0
    _odd(peer, peer.segment(ACK, b"hello"), reserved=0b0110)
    assert listener.accept().recv(5) == b"hello"


@judges("rfc9293/3.4.1/01")
def test_initial_sequence_numbers_are_not_guessed(netemu_wire: Wire) -> None:
    """Neither constant nor in equal steps."""
    wire = netemu_wire.up()
    wire.guest.tcp_listen(PORT)
    numbers = []
    for _ in range(6):
        peer = TcpPeer(wire, PORT)
        peer.send(flags=SYN)
        numbers.append(peer.expect(flags=SYN | ACK)[Tcp].sequence)
    steps = {(after - before) % _MODULUS for before, after in pairwise(numbers)}
    assert len(steps) == len(numbers) - 1, f"initial sequence numbers in equal steps: {numbers}"


@judges("rfc9293/3.5.2/01")
def test_a_closed_port_resets(netemu_wire: Wire) -> None:
    peer = TcpPeer(netemu_wire.up(), _CLOSED)
    peer.send(flags=SYN)
    peer.expect(_is_reset)


@judges("rfc9293/3.5.2/02")
@pytest.mark.parametrize("flags", [ACK, FIN | ACK, SYN | ACK])
def test_a_reset_takes_its_number_from_the_ack(netemu_wire: Wire, flags: int) -> None:
    peer = TcpPeer(netemu_wire.up(), _CLOSED)
    peer.send(flags=flags, acknowledgment=0x1234_5678)
    reset = peer.expect(_is_reset)[Tcp]
    assert (reset.flags & ACK, reset.sequence) == (0, 0x1234_5678)


@judges("rfc9293/3.5.2/03")
@pytest.mark.parametrize("payload", [b"", b"early data"])
def test_a_reset_of_a_syn_acknowledges_it(netemu_wire: Wire, payload: bytes) -> None:
    peer = TcpPeer(netemu_wire.up(), _CLOSED)
    peer.send(payload, flags=SYN)
    reset = peer.expect(_is_reset)[Tcp]
    assert (bool(reset.flags & ACK), reset.sequence, reset.acknowledgment) == (True, 0, peer.seq)


@judges("rfc9293/3.10.7.1/01")
@pytest.mark.parametrize("flags", [RST, RST | ACK])
def test_a_reset_is_not_answered(netemu_wire: Wire, flags: int) -> None:
    wire = netemu_wire.up()
    TcpPeer(wire, _CLOSED).send(flags=flags)
    wire.silence(Tcp)


@judges("rfc9293/3.7.1/01")
@judges("rfc9293/3.7.1/04")
@judges("rfc9293/3.7.1/05")
def test_the_segment_size_is_announced(netemu_wire: Wire) -> None:
    """To one who announced his; no more than fits into a frame with both headers."""
    wire = netemu_wire.up()
    wire.guest.tcp_listen(PORT)
    peer = TcpPeer(wire, PORT)
    peer.send(flags=SYN, options=TcpOptions(mss=1460))
    announced = peer.expect(flags=SYN | ACK)[Tcp].options.mss
    assert announced is not None
    assert 536 <= announced <= 1500 - 40


@judges("rfc7323/2.2/01")
@judges("rfc7323/3.2/01")
def test_nothing_is_agreed_to_that_was_not_offered(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    wire.guest.tcp_listen(PORT)
    peer = TcpPeer(wire, PORT)
    peer.send(flags=SYN, options=EMPTY_OPTIONS)
    options = peer.expect(flags=SYN | ACK)[Tcp].options
    assert (options.window_scale, options.timestamps) == (None, None)


@judges("rfc9293/3.9.2.3/01")
@pytest.mark.parametrize("destination", [LIMITED_BROADCAST, IPv4Address("10.0.2.255"), IPv4Address("224.0.0.1")], ids=str)
def test_a_syn_to_everybody_is_discarded(netemu_wire: Wire, destination: IPv4Address) -> None:
    wire = netemu_wire.up()
    wire.guest.tcp_listen(PORT)
    syn = TcpPeer(wire, PORT, destination).segment(SYN)
    wire.send_ip(wire.ip(destination, Protocol.TCP, syn.pack(wire.address, destination)), BROADCAST_MAC)
    wire.silence(Tcp)


@judges("rfc9293/3.9.2.3/02")
@pytest.mark.parametrize("source", ["224.0.0.1", "255.255.255.255", "10.0.2.255", "0.0.0.0"])
def test_a_syn_from_nobody_in_particular_is_discarded(netemu_wire: Wire, source: str) -> None:
    wire = netemu_wire.up()
    wire.guest.tcp_listen(PORT)
    whence = IPv4Address(source)
    syn = TcpPeer(wire, PORT).segment(SYN)
    wire.send_ip(wire.ip(wire.opposite, Protocol.TCP, syn.pack(whence, wire.opposite), source=whence))
    wire.silence(Tcp)
