"""TCP at a user-mode network: how connections begin, and what is refused (RFC 9293 3.4, 3.5, 3.10.7)."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address
from itertools import pairwise

import pytest

from netemu.net.sockets import Listener
from netemu.netdev.protocol import UserBackend
from netemu.network import Network
from netemu.wire.ipv4 import IPv4, Protocol
from netemu.wire.tcp import ACK, FIN, RST, SYN, Tcp, TcpOptions
from pytest_netemu.factories import BackendFactory
from pytest_netemu.station import LIMITED_BROADCAST
from pytest_netemu.suites import judges
from pytest_netemu.tester import Tester
from pytest_netemu.tester_tcp import TcpPeer

pytestmark = pytest.mark.netemu_requires("arp", "nat.tcp")

_CLOSED = 9
_SECOND = 1_000_000_000
_EXPERIMENT = 254  # RFC 4727: an option kind that nobody knows
_CHECKSUM = 16  # octets of a segment
_OFFSET = 12
_HEADER = 20


@pytest.fixture
def listener(netemu_tester: Tester) -> Iterator[Listener]:
    """A server on the host's loopback, which the guest knows as the gateway."""
    with netemu_tester.backend.host.tcp_listen("127.0.0.1") as listener:
        yield listener


def _send_raw(tester: Tester, octets: bytes) -> None:
    tester.send_ip(tester.ip(tester.gateway, Protocol.TCP, octets))


@judges("rfc9293/3.10.7.2/01")
def test_a_syn_is_answered(netemu_tester: Tester, listener: Listener) -> None:
    peer = TcpPeer(netemu_tester, listener.port)
    peer.send(flags=SYN)
    answer = peer.expect(flags=SYN | ACK)
    assert answer[Tcp].acknowledgment == peer.seq
    assert answer[IPv4].source == netemu_tester.gateway
    peer.send()
    assert listener.accept().socket.connected


@judges("rfc9293/3.10.8/01")
def test_an_answer_to_a_syn_is_repeated_as_it_was(netemu_tester: Tester, listener: Listener) -> None:
    peer = TcpPeer(netemu_tester, listener.port)
    peer.send(flags=SYN)
    first = peer.expect(flags=SYN | ACK)[Tcp]
    again = peer.expect(within=8)[Tcp]
    repeated, was = ((each.flags, each.sequence, each.acknowledgment) for each in (again, first))
    assert repeated == was, f"the SYN,ACK had (flags, sequence, acknowledgment) {was}, and was repeated with {repeated}"


@judges("rfc9293/3.10.8/01")
@pytest.mark.netemu_requires("hostfwd.tcp")
def test_a_syn_is_repeated_as_it_was(netemu: Network, netemu_backend: UserBackend, netemu_backend_factory: BackendFactory) -> None:
    del netemu_backend  # it says which kind
    tester = Tester(netemu, netemu_backend_factory(hostfwd=["tcp:127.0.0.1:0-:7000"]))
    (forward,) = tester.backend.forwards
    tester.lease()  # one that is forwarded to the guest wants to know it
    with tester.backend.host.tcp_connect(forward.host.address, forward.host.port) as stream:
        stream.send(b"patience")
        first = tester.expect(Tcp, within=8, flags=SYN, destination_port=7000)[Tcp]
        again = tester.expect(Tcp, within=8, destination_port=7000)[Tcp]
    assert again.flags == SYN, f"the repeated SYN has other flags: {again}"
    moved = again.sequence - first.sequence
    assert not moved, f"the first SYN has sequence number {first.sequence}, the repeated one {again.sequence}, {moved} more"


@judges("rfc9293/3.1/01")
def test_a_wrong_checksum_is_discarded(netemu_tester: Tester, listener: Listener) -> None:
    peer = TcpPeer(netemu_tester, listener.port)
    octets = bytearray(peer.segment(SYN).pack(netemu_tester.address, netemu_tester.gateway))
    octets[_CHECKSUM] ^= 0x55
    _send_raw(netemu_tester, bytes(octets))
    netemu_tester.silence(Tcp, within=0.5)


@judges("rfc9293/3.1/02")
def test_an_unknown_option_is_ignored(netemu_tester: Tester, listener: Listener) -> None:
    peer = TcpPeer(netemu_tester, listener.port)
    peer.connect(TcpOptions(mss=1460, unknown=((_EXPERIMENT, b"?!"),)))
    peer.send(b"hello", options=TcpOptions(unknown=((_EXPERIMENT, b"?!"),)))
    assert listener.accept().recv(5) == b"hello"


@judges("rfc9293/3.1/03")
@pytest.mark.parametrize("length", [0, 1, 40])
def test_an_illegal_option_length_does_no_harm(netemu_tester: Tester, listener: Listener, length: int) -> None:
    tester = netemu_tester
    peer = TcpPeer(tester, listener.port)
    octets = bytearray(peer.segment(SYN, options=TcpOptions(unknown=((_EXPERIMENT, b"??"),))).pack(tester.address, tester.gateway))
    before = int.from_bytes(octets[_CHECKSUM : _CHECKSUM + 2])
    octets[_HEADER + 1] = length  # 4 was there, in the low octet of a 16-bit word
    octets[_CHECKSUM : _CHECKSUM + 2] = _adjusted(before, 4, length)
    _send_raw(tester, bytes(octets))
    tester.run_for(0.5)
    TcpPeer(tester, listener.port).connect().send(b"alive")
    # The damaged SYN may have made a connection too: one of those that arrived says the word.
    tester.run_for(0.5)
    said = [listener.accept()]
    if not said[0].socket.available():
        said.append(listener.accept())
    assert said[-1].recv(5) == b"alive"


def _adjusted(checksum: int, old: int, new: int) -> bytes:
    """A checksum after one word of what it covers changed (RFC 1624)."""
    total = (~checksum & 0xFFFF) + (~old & 0xFFFF) + new
    total = (total & 0xFFFF) + (total >> 16)
    return (~((total & 0xFFFF) + (total >> 16)) & 0xFFFF).to_bytes(2)


@judges("rfc9293/3.1/05")
def test_an_option_may_come_in_any_segment(netemu_tester: Tester, listener: Listener) -> None:
    peer = TcpPeer(netemu_tester, listener.port).connect()
    peer.send(b"hello", options=TcpOptions(mss=1000, timestamps=(1, 0)))
    assert listener.accept().recv(5) == b"hello"


@judges("rfc9293/3.4.1/01")
def test_initial_sequence_numbers_are_not_guessed(netemu_tester: Tester, listener: Listener) -> None:
    """Neither constant nor in equal steps."""
    numbers = []
    for _ in range(6):
        peer = TcpPeer(netemu_tester, listener.port)
        peer.send(flags=SYN)
        numbers.append(peer.expect(flags=SYN | ACK)[Tcp].sequence)
    steps = {(after - before) % (1 << 32) for before, after in pairwise(numbers)}
    assert len(steps) == len(numbers) - 1, f"initial sequence numbers in equal steps: {numbers}"


@judges("rfc9293/3.5/01")
@pytest.mark.netemu_requires("hostfwd.tcp", "hostfwd.runtime")
def test_both_sides_may_open_at_once(netemu_tester: Tester) -> None:
    tester = netemu_tester
    forward = tester.backend.add_hostfwd("tcp:127.0.0.1:0-:7000")
    with tester.backend.host.tcp_connect(forward.host.address, forward.host.port) as stream:
        peer = TcpPeer.awaited(tester, 7000)
        peer.send(flags=SYN, options=TcpOptions(mss=1460))
        answer = peer.expect(flags=SYN | ACK, within=3)[Tcp]
        assert answer.acknowledgment == peer.seq
        peer.send(flags=SYN | ACK, sequence=(peer.seq - 1) % (1 << 32))
        peer.send(b"hello")
        assert stream.recv(5) == b"hello"


@judges("rfc9293/3.5.2/01")
def test_a_closed_port_resets(netemu_tester: Tester) -> None:
    peer = TcpPeer(netemu_tester, _CLOSED)
    peer.send(flags=SYN)
    peer.expect(lambda segment: bool(segment.flags & RST))


@judges("rfc9293/3.5.2/02")
@pytest.mark.parametrize("flags", [ACK, FIN | ACK, SYN | ACK])
def test_a_reset_takes_its_number_from_the_ack(netemu_tester: Tester, flags: int) -> None:
    peer = TcpPeer(netemu_tester, _CLOSED)
    peer.send(flags=flags, acknowledgment=0x1234_5678)
    reset = peer.expect(lambda segment: bool(segment.flags & RST))[Tcp]
    assert (reset.flags & ACK, reset.sequence) == (0, 0x1234_5678)


@judges("rfc9293/3.5.2/03")
@pytest.mark.parametrize("payload", [b"", b"early data"])
def test_a_reset_of_a_syn_acknowledges_it(netemu_tester: Tester, payload: bytes) -> None:
    peer = TcpPeer(netemu_tester, _CLOSED)
    peer.send(payload, flags=SYN)
    reset = peer.expect(lambda segment: bool(segment.flags & RST))[Tcp]
    assert reset.flags & ACK, f"the reset of a SYN has no ACK: {reset}"
    assert reset.sequence == 0, f"the reset of a SYN has the sequence number {reset.sequence}, not 0"
    behind = (reset.acknowledgment - peer.seq) % (1 << 32)
    assert not behind, f"the reset acknowledges {reset.acknowledgment}, where {peer.seq} follows the SYN and its data"


@judges("rfc9293/3.10.7.1/01")
@pytest.mark.parametrize("flags", [RST, RST | ACK])
def test_a_reset_is_not_answered(netemu_tester: Tester, flags: int) -> None:
    TcpPeer(netemu_tester, _CLOSED).send(flags=flags)
    netemu_tester.silence(Tcp)


@judges("rfc9293/3.7.1/01")
def test_the_segment_size_is_announced(netemu_tester: Tester, listener: Listener) -> None:
    peer = TcpPeer(netemu_tester, listener.port)
    peer.send(flags=SYN, options=TcpOptions(mss=1460))
    announced = peer.expect(flags=SYN | ACK)[Tcp].options.mss
    assert announced is not None
    assert announced >= 536


@judges("rfc9293/3.9.2.3/01")
@pytest.mark.parametrize("destination", [LIMITED_BROADCAST, IPv4Address("224.0.0.251")], ids=str)
def test_a_syn_to_everybody_is_discarded(netemu_tester: Tester, listener: Listener, destination: IPv4Address) -> None:
    TcpPeer(netemu_tester, listener.port, destination).send(flags=SYN)
    netemu_tester.silence(Tcp)


@judges("rfc9293/3.8.3/01")
@pytest.mark.netemu_requires("hostfwd.tcp", "hostfwd.runtime", "virtual-clock")
def test_a_syn_is_repeated_for_three_minutes(netemu_tester: Tester) -> None:
    tester = netemu_tester
    forward = tester.backend.add_hostfwd("tcp:127.0.0.1:0-:7000")
    stream = tester.backend.host.tcp_connect(forward.host.address, forward.host.port)
    begin = tester.network.loop.now()
    tester.network.loop.run_until(lambda: stream.socket.error != 0, begin + 600 * _SECOND)
    given_up = tester.network.loop.now() - begin
    syns = [packet[Tcp] for packet in tester.inbox if Tcp in packet and packet[Tcp].flags == SYN]
    assert len({segment.sequence for segment in syns}) == 1, "a repeated SYN has the first one's sequence number"
    assert given_up >= 180 * _SECOND, f"given up after {given_up / _SECOND:.0f} s and {len(syns)} SYNs"


@judges("rfc5382/7.1/01")
def test_two_connections_have_two_outside_ports(netemu_tester: Tester, listener: Listener) -> None:
    for _ in range(4):
        TcpPeer(netemu_tester, listener.port).connect()
    outside = [listener.accept().remote.port for _ in range(4)]
    assert len(set(outside)) == 4
