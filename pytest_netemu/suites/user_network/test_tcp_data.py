"""TCP at a user-mode network: data, windows and loss (RFC 9293 3.7, 3.8; RFC 5681)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest

from netemu.net.sockets import Listener, Stream
from netemu.wire.icmpv4 import Icmpv4, UnreachableCode
from netemu.wire.ipv4 import IPv4, Protocol
from netemu.wire.tcp import ACK, EMPTY_OPTIONS, FIN, RST, Tcp, TcpOptions
from pytest_netemu.suites import judges
from pytest_netemu.tester import Tester
from pytest_netemu.tester_tcp import TcpPeer

pytestmark = pytest.mark.netemu_requires("arp", "nat.tcp")

_SECOND = 1_000_000_000
_DATA = bytes(range(256)) * 128  # 32 KiB, none of it like its neighbour
_MODULUS = 1 << 32
_WINDOW = 65_535
_NARROW = 800  # octets: the MTU of a network behind the guest
_OPTIONS = TcpOptions(mss=1460)


@pytest.fixture
def listener(netemu_tester: Tester) -> Iterator[Listener]:
    """A server on the host's loopback, which the guest knows as the gateway."""
    with netemu_tester.backend.host.tcp_listen("127.0.0.1") as listener:
        yield listener


def _pair(tester: Tester, listener: Listener, options: TcpOptions = _OPTIONS, *, window: int = _WINDOW) -> tuple[TcpPeer, Stream]:
    """An open connection: the tester's end, which offers `window` from the start, and the host's."""
    peer = TcpPeer(tester, listener.port)
    peer.window = window
    return peer.connect(options), listener.accept()


@judges("rfc1191/3/01")
def test_a_guest_behind_which_less_fits_gets_smaller_segments(netemu_tester: Tester, listener: Listener) -> None:
    peer, stream = _pair(netemu_tester, listener)
    stream.send(_DATA[:1400])
    packet = peer.expect(lambda segment: bool(segment.payload))
    if not packet[IPv4].dont_fragment:
        return  # a router cuts it and says nothing
    told = Icmpv4.unreachable(UnreachableCode.FRAGMENTATION_NEEDED, packet[IPv4].pack(), _NARROW)
    netemu_tester.send_ip(netemu_tester.ip(peer.remote, Protocol.ICMP, told.pack()))
    again = peer.expect(lambda segment: segment.sequence == packet[Tcp].sequence, within=10)
    assert len(again[IPv4].pack()) <= _NARROW or not again[IPv4].dont_fragment


def _data(peer: TcpPeer, *, within: float = 1.0) -> Tcp:
    """The next segment with data, wherever it belongs."""
    return peer.expect(lambda segment: bool(segment.payload), within=within)[Tcp]


@judges("rfc9293/3.7.1/02")
def test_536_octets_where_no_size_was_announced(netemu_tester: Tester, listener: Listener) -> None:
    peer, stream = _pair(netemu_tester, listener, EMPTY_OPTIONS)
    stream.send(_DATA[:4000])
    length = len(_data(peer).payload)
    assert length <= 536, f"no segment size was announced, and a segment has {length} octets of data"


@judges("rfc9293/3.7.1/03")
@pytest.mark.parametrize("mss", [536, 1000])
def test_no_segment_is_longer_than_announced(netemu_tester: Tester, listener: Listener, mss: int) -> None:
    peer, stream = _pair(netemu_tester, listener, TcpOptions(mss=mss))
    stream.send(_DATA[:4000])
    assert peer.receive(4000) == _DATA[:4000]
    sent = [Tcp.parse(r.frame[34:]) for r in netemu_tester.network.frames.records if r.destination == "tester" and r.frame[23] == 6]
    longest = max(len(segment.payload) for segment in sent)
    assert longest <= mss, f"the guest announced segments of {mss} octets, and got one of {longest}"


@judges("rfc9293/3.1/04")
def test_a_large_window_is_not_a_negative_one(netemu_tester: Tester, listener: Listener) -> None:
    peer, stream = _pair(netemu_tester, listener, window=0xFFFF)
    stream.send(_DATA[:8000])
    assert peer.receive(8000) == _DATA[:8000]


@judges("rfc9293/3.8.6/01")
@pytest.mark.parametrize("window", [1, 1000, 3000])
def test_no_more_than_the_window_is_sent(netemu_tester: Tester, listener: Listener, window: int) -> None:
    peer, stream = _pair(netemu_tester, listener, window=window)
    stream.send(_DATA[:10_000])
    netemu_tester.run_for(0.2)
    sent = [packet[Tcp] for packet in netemu_tester.inbox if Tcp in packet and packet[Tcp].payload]
    reached = max(((segment.sequence - peer.ack) % _MODULUS + len(segment.payload) for segment in sent), default=0)
    assert reached <= window


@judges("rfc9293/3.8.6/02")
def test_the_window_is_not_shrunk(netemu_tester: Tester, listener: Listener) -> None:
    """The host does not read; the right edge may stand still, not move to the left."""
    peer, stream = _pair(netemu_tester, listener)
    peer.send(_DATA[:1000])
    edges = []
    for _ in range(20):
        packet = peer.wait(within=0.5)
        if packet is None:
            break
        edges.append(packet[Tcp].acknowledgment + packet[Tcp].window)
        if packet[Tcp].window >= 1000:
            peer.send(_DATA[:1000])
    assert edges == sorted(edges)
    assert stream.socket.available(), "the host got nothing of what was sent"


@judges("rfc9293/3.8.6/03")
def test_a_window_may_be_shrunk(netemu_tester: Tester, listener: Listener) -> None:
    peer, stream = _pair(netemu_tester, listener)
    stream.send(_DATA)
    first = _data(peer)
    peer.send(window=0)
    netemu_tester.run_for(1)
    peer.window = _WINDOW
    peer.send()
    assert first.payload + peer.receive(len(_DATA) - len(first.payload), within=90) == _DATA


@judges("rfc9293/3.8.6/04")
def test_a_window_that_shrank_gets_nothing_new(netemu_tester: Tester, listener: Listener) -> None:
    """The acknowledgement says nothing new but the window, which is closed now; one octet of probe is due."""
    peer, stream = _pair(netemu_tester, listener)
    stream.send(_DATA[:1000])
    _data(peer)
    peer.send(acknowledgment=(peer.ack - 1000) % _MODULUS, window=0)
    netemu_tester.drain()
    stream.send(_DATA[1000:2000])
    new = peer.wait(lambda segment: segment.sequence == peer.ack and len(segment.payload) > 1, within=1)
    assert new is None, f"the window was closed, and new data came: {new}"


@judges("rfc9293/3.8.6.1/01")
@pytest.mark.netemu_requires("virtual-clock")
def test_a_closed_window_is_probed(netemu_tester: Tester, listener: Listener) -> None:
    peer, stream = _pair(netemu_tester, listener, window=0)
    stream.send(_DATA[:1000])
    peer.expect(within=120)


@judges("rfc9293/3.8.6.1/02")
@pytest.mark.netemu_requires("virtual-clock")
def test_a_probed_connection_stays_open(netemu_tester: Tester, listener: Listener) -> None:
    peer, stream = _pair(netemu_tester, listener, window=0)
    stream.send(_DATA[:1000])
    start = netemu_tester.network.loop.now()
    while netemu_tester.network.loop.now() < start + 3600 * _SECOND:
        probe = peer.expect(within=150)[Tcp]
        assert not probe.flags & (RST | FIN)
        peer.send(acknowledgment=peer.ack if not probe.payload else probe.sequence)
    assert not stream.socket.error


@judges("rfc9293/3.8.6.1/03")
@pytest.mark.netemu_requires("virtual-clock")
def test_probes_become_rarer(netemu_tester: Tester, listener: Listener) -> None:
    peer, stream = _pair(netemu_tester, listener, window=0)
    stream.send(_DATA[:1000])
    times = []
    for _ in range(5):
        probe = peer.expect(within=150)
        times.append(probe.time)
        peer.send(acknowledgment=probe[Tcp].sequence if probe[Tcp].payload else peer.ack)
    gaps = [after - before for before, after in pairwise(times)]
    assert all(after >= 1.5 * before for before, after in pairwise(gaps)), (
        f"the gaps between repetitions are {[gap / _SECOND for gap in gaps]} s"
    )


@judges("rfc9293/3.8.6.3/01")
def test_data_is_acknowledged_within_half_a_second(netemu_tester: Tester, listener: Listener) -> None:
    peer, _ = _pair(netemu_tester, listener)
    peer.send(b"one small segment")
    peer.expect(within=0.5, acknowledgment=peer.seq)


@judges("rfc9293/3.10.7.4/01")
def test_what_came_too_early_is_kept(netemu_tester: Tester, listener: Listener) -> None:
    """The acknowledgement of the gap's filling covers what came before it."""
    peer, stream = _pair(netemu_tester, listener)
    begin = peer.seq
    peer.send(_DATA[1000:2000], sequence=begin + 1000)
    netemu_tester.drain()
    peer.send(_DATA[:1000], sequence=begin)
    peer.expect(acknowledgment=begin + 2000)
    assert stream.recv(2000) == _DATA[:2000]


@judges("rfc9293/3.10.7.4/02")
@pytest.mark.parametrize("offset", [-5, 100_000])
def test_data_outside_the_window_is_answered_with_an_ack(netemu_tester: Tester, listener: Listener, offset: int) -> None:
    peer, stream = _pair(netemu_tester, listener)
    netemu_tester.drain()
    peer.send(b"wrong", sequence=(peer.seq + offset) % _MODULUS)
    peer.expect(flags=ACK, acknowledgment=peer.seq)
    assert not stream.socket.available()


@judges("rfc9293/3.8.1/01")
@pytest.mark.netemu_requires("virtual-clock")
def test_what_is_not_acknowledged_is_sent_again(netemu_tester: Tester, listener: Listener) -> None:
    peer, stream = _pair(netemu_tester, listener)
    stream.send(_DATA[:500])
    first = _data(peer)
    again = _data(peer, within=10)
    assert again.sequence == first.sequence
    assert again.payload[: len(first.payload)] == first.payload


@judges("rfc9293/3.8.2/01")
@pytest.mark.netemu_requires("virtual-clock")
def test_repetitions_become_rarer(netemu_tester: Tester, listener: Listener) -> None:
    peer, stream = _pair(netemu_tester, listener)
    stream.send(_DATA[:500])
    times = [peer.expect(lambda segment: bool(segment.payload), within=70).time for _ in range(5)]
    gaps = [after - before for before, after in pairwise(times)]
    assert all(after >= 1.5 * before for before, after in pairwise(gaps)), (
        f"the gaps between repetitions are {[gap / _SECOND for gap in gaps]} s"
    )


@judges("rfc5681/3/01")
def test_a_burst_is_not_sent_at_once(netemu_tester: Tester, listener: Listener) -> None:
    """RFC 6928 allows ten segments for the start; the window would take 44."""
    peer, stream = _pair(netemu_tester, listener)
    stream.send(_DATA)
    netemu_tester.run_for(0.1)
    sent = sum(len(packet[Tcp].payload) for packet in netemu_tester.inbox if Tcp in packet)
    assert 0 < sent <= 10 * 1460, f"{sent} octets came at once"
    assert peer.receive(len(_DATA)) == _DATA


@judges("rfc5681/3.2/01")
def test_three_duplicate_acks_are_enough(netemu_tester: Tester, listener: Listener) -> None:
    peer, stream = _pair(netemu_tester, listener)
    stream.send(_DATA[:14_600])
    netemu_tester.run_for(0.1)
    lost = peer.ack
    segments = sum(1 for packet in netemu_tester.inbox if Tcp in packet and packet[Tcp].payload)
    assert segments >= 4, f"only {segments} segments came at once, too few for three duplicate acknowledgements"
    netemu_tester.inbox.clear()
    for _ in range(3):
        peer.send(sequence=peer.seq)
    peer.expect(lambda segment: segment.sequence == lost and bool(segment.payload), within=0.5)


@judges("rfc5382/4.2/01")
@pytest.mark.parametrize("first", ["guest", "host"])
def test_each_side_may_finish_first(netemu_tester: Tester, listener: Listener, first: str) -> None:
    """One direction ends, the other goes on."""
    peer, stream = _pair(netemu_tester, listener)
    if first == "guest":
        peer.send(b"last words", flags=FIN | ACK)
        assert stream.recv_all() == b"last words"
        stream.send(_DATA[:3000])
        assert peer.receive(3000) == _DATA[:3000]
        stream.close()
        peer.expect(lambda segment: bool(segment.flags & FIN))
    else:
        stream.shutdown()
        peer.expect(lambda segment: bool(segment.flags & FIN))
        peer.send()
        peer.send(b"last words", flags=FIN | ACK)
        assert stream.recv_all() == b"last words"
