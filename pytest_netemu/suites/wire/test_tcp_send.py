"""TCP of a guest that sends: segments, windows, probes and loss (RFC 9293 3.7, 3.8; RFC 5681, 6298, 7323 2, 1191)."""

from __future__ import annotations

import errno
from itertools import pairwise

import pytest

from netemu.wire.icmpv4 import Icmpv4, UnreachableCode
from netemu.wire.ipv4 import IPv4
from netemu.wire.tcp import EMPTY_OPTIONS, FIN, PSH, RST, Tcp, TcpOptions
from pytest_netemu.suites import judges
from pytest_netemu.tester_tcp import TcpPeer
from pytest_netemu.wire import Wire
from pytest_netemu.wire_tcp import serve

pytestmark = pytest.mark.netemu_requires("tcp.listen")

_SECOND = 1_000_000_000
_DATA = bytes(range(256)) * 128  # 32 KiB, none of it like its neighbour
_MODULUS = 1 << 32
_BURST = 0.1  # seconds, in which all comes that may be sent at once
_NARROW = 800  # octets: the MTU of a link on the way


def _data(peer: TcpPeer, *, within: float = 1.0) -> Tcp:
    """The next segment with data, wherever it belongs."""
    __tracebackhide__ = True
    return peer.expect(lambda segment: bool(segment.payload), within=within)[Tcp]


def _burst(wire: Wire) -> list[Tcp]:
    """The segments with data that come at once, in order."""
    wire.run_for(_BURST)
    wire.barrier()
    segments = [packet[Tcp] for packet in wire.inbox if Tcp in packet and packet[Tcp].payload]
    wire.inbox.clear()
    return segments


def _reached(peer: TcpPeer, segments: list[Tcp]) -> int:
    """How far behind what was acknowledged they end."""
    return max(((segment.sequence - peer.ack) % _MODULUS + len(segment.payload) for segment in segments), default=0)


@judges("rfc9293/2.2/01")
@judges("rfc9293/3.1/04")
def test_a_stream_is_sent_in_order(netemu_wire: Wire) -> None:
    """Into a window that would be negative, if it had a sign."""
    served = serve(netemu_wire.up(), window=0xFFFF)
    served.stream.send(_DATA[:20_000])
    assert served.peer.receive(20_000) == _DATA[:20_000]


@judges("rfc9293/3.7.1/02")
def test_a_client_without_a_size_gets_536_octets(netemu_wire: Wire) -> None:
    served = serve(netemu_wire.up(), EMPTY_OPTIONS)
    served.stream.send(_DATA[:4000])
    assert len(_data(served.peer).payload) <= 536


@judges("rfc9293/3.7.1/03")
@pytest.mark.parametrize("mss", [536, 1000])
def test_no_segment_is_longer_than_announced(netemu_wire: Wire, mss: int) -> None:
    served = serve(netemu_wire.up(), TcpOptions(mss=mss))
    served.stream.send(_DATA[:4000])
    lengths: list[int] = []
    while sum(lengths) < 4000:
        lengths.append(len(_data(served.peer).payload))
        served.peer.send()
    assert max(lengths) <= mss


@judges("rfc9293/3.9.1.2/02")
def test_segments_are_as_long_as_may_be(netemu_wire: Wire) -> None:
    served = serve(netemu_wire.up())
    served.stream.send(_DATA[:8000])
    assert [len(_data(served.peer).payload) for _ in range(2)] == [1460, 1460]


@judges("rfc9293/3.9.1.2/01")
def test_the_last_segment_is_pushed(netemu_wire: Wire) -> None:
    served = serve(netemu_wire.up())
    end = served.peer.ack + 4000
    served.stream.send(_DATA[:4000])
    while (segment := _data(served.peer)).sequence + len(segment.payload) != end % _MODULUS:
        served.peer.send()
    assert segment.flags & PSH


@judges("rfc9293/3.8.6/01")
@pytest.mark.parametrize("window", [1000, 3000])
def test_no_more_than_the_window_is_sent(netemu_wire: Wire, window: int) -> None:
    served = serve(netemu_wire.up(), window=window)
    served.stream.send(_DATA[:10_000])
    assert _reached(served.peer, _burst(netemu_wire)) <= window


@judges("rfc9293/3.8.6/03")
def test_a_window_may_be_shrunk(netemu_wire: Wire) -> None:
    served = serve(netemu_wire.up())
    peer = served.peer
    served.stream.send(_DATA)
    first = _data(peer)
    peer.send(window=0)
    _burst(netemu_wire)
    peer.send()
    assert first.payload + peer.receive(len(_DATA) - len(first.payload), within=90) == _DATA


@judges("rfc9293/3.8.6/04")
def test_a_window_that_shrank_gets_nothing_new(netemu_wire: Wire) -> None:
    """The acknowledgement says nothing new but the window, which is closed now; one octet of probe is due."""
    served = serve(netemu_wire.up())
    peer = served.peer
    served.stream.send(_DATA[:1000])
    _data(peer)
    peer.send(acknowledgment=(peer.ack - 1000) % _MODULUS, window=0)
    netemu_wire.barrier()
    served.stream.send(_DATA[1000:2000])
    peer.silence(lambda segment: segment.sequence == peer.ack and len(segment.payload) > 1, within=0.5)


@judges("rfc9293/3.8.6.2.1/01")
def test_a_little_more_window_is_not_filled(netemu_wire: Wire) -> None:
    """The silly window syndrome: of a window that was forty times as large, a hundred octets are open."""
    served = serve(netemu_wire.up(), window=4000)
    peer = served.peer
    served.stream.send(_DATA[:1000])
    _data(peer)
    peer.window = 100
    peer.send()
    netemu_wire.barrier()
    served.stream.send(_DATA[1000:6000])
    peer.silence(lambda segment: bool(segment.payload), within=0.05)


@judges("rfc7323/2.3/01")
def test_a_window_is_scaled(netemu_wire: Wire) -> None:
    """All but the SYN's: 100 there is 100, and 6400 afterwards."""
    wire = netemu_wire.up()
    served = serve(wire, TcpOptions(mss=1460, window_scale=6), window=100)
    served.stream.send(_DATA[:10_000])
    assert 100 < _reached(served.peer, _burst(wire)) <= 6400


@judges("rfc7323/2.3/02")
def test_a_window_is_scaled_by_fourteen_at_most(netemu_wire: Wire) -> None:
    """A window of one is 16 KiB then, also when more than twice as much was received."""
    wire = netemu_wire.up()
    served = serve(wire, TcpOptions(mss=1460, window_scale=15), window=1)
    served.stream.send(2 * _DATA, timeout=20)
    served.peer.receive(len(_DATA))
    assert 0 < _reached(served.peer, _burst(wire)) <= 1 << 14


@judges("rfc5681/3/01")
def test_a_burst_is_not_sent_at_once(netemu_wire: Wire) -> None:
    """RFC 6928 allows ten segments for the start; the window would take 44."""
    served = serve(netemu_wire.up())
    served.stream.send(_DATA)
    sent = sum(len(segment.payload) for segment in _burst(netemu_wire))
    assert 0 < sent <= 10 * 1460, f"{sent} octets came at once"


@judges("rfc5681/3.2/01")
def test_three_duplicate_acks_are_enough(netemu_wire: Wire) -> None:
    """What was lost is sent again long before a second is over."""
    served = serve(netemu_wire.up())
    peer = served.peer
    served.stream.send(_DATA)
    peer.receive(8_000)  # some begin with three segments
    lost = peer.ack
    count = len(_burst(netemu_wire))
    assert count >= 4, f"only {count} segments came at once, too few for three duplicate acknowledgements"
    for _ in range(3):
        peer.send()
    peer.expect(lambda segment: segment.sequence == lost and bool(segment.payload), within=0.5)


@judges("rfc1191/3/01")
def test_a_path_that_takes_less_gets_smaller_segments(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    served = serve(wire)
    served.stream.send(_DATA[:1400])
    packet = served.peer.expect(lambda segment: bool(segment.payload))
    if not packet[IPv4].dont_fragment:
        return  # a router cuts it and says nothing
    wire.send_icmp(Icmpv4.unreachable(UnreachableCode.FRAGMENTATION_NEEDED, packet[IPv4].pack(), _NARROW))
    again = served.peer.expect(lambda segment: segment.sequence == packet[Tcp].sequence, within=10)
    assert len(again[IPv4].pack()) <= _NARROW or not again[IPv4].dont_fragment


# Timers


@judges("rfc9293/3.8.1/01")
@judges("rfc6298/2/01")
@pytest.mark.netemu_requires("virtual-clock")
def test_what_is_not_acknowledged_is_sent_again(netemu_wire: Wire) -> None:
    """After a second at least."""
    served = serve(netemu_wire.up())
    served.stream.send(_DATA[:500])
    first, again = (served.peer.expect(lambda segment: bool(segment.payload), within=10) for _ in range(2))
    assert again[Tcp].sequence == first[Tcp].sequence
    assert again[Tcp].payload[:500] == first[Tcp].payload
    assert again.time - first.time >= _SECOND


@judges("rfc9293/3.8.2/01")
@judges("rfc6298/5/01")
@pytest.mark.netemu_requires("virtual-clock")
def test_repetitions_become_rarer(netemu_wire: Wire) -> None:
    served = serve(netemu_wire.up())
    served.stream.send(_DATA[:500])
    times = [served.peer.expect(lambda segment: bool(segment.payload), within=70).time for _ in range(5)]
    gaps = [after - before for before, after in pairwise(times)]
    assert all(after >= 1.5 * before for before, after in pairwise(gaps)), (
        f"the gaps between repetitions are {[gap / _SECOND for gap in gaps]} s"
    )


@judges("rfc5681/3.1/01")
@pytest.mark.netemu_requires("virtual-clock")
def test_a_timeout_begins_with_one_segment(netemu_wire: Wire) -> None:
    served = serve(netemu_wire.up())
    served.stream.send(_DATA[:14_600])
    _burst(netemu_wire)
    _data(served.peer, within=10)
    assert _burst(netemu_wire) == []


@judges("rfc9293/3.8.3/02")
@judges("rfc9293/3.8.3/03")
@pytest.mark.netemu_requires("virtual-clock")
def test_a_dead_peer_is_given_up(netemu_wire: Wire) -> None:
    """Not within 100 seconds, but some time."""
    served = serve(netemu_wire.up())
    served.stream.send(_DATA[:500])
    netemu_wire.run_for(100)
    assert not served.stream.socket.error
    netemu_wire.run_for(3600)
    assert served.stream.socket.error == errno.ETIMEDOUT


# Probes of a closed window


@judges("rfc9293/3.8.6.1/01")
@judges("rfc9293/3.8.6.1/04")
@pytest.mark.netemu_requires("virtual-clock")
def test_a_closed_window_is_probed(netemu_wire: Wire) -> None:
    """First when it was closed for the time of a retransmission, which is no more than three seconds here."""
    served = serve(netemu_wire.up(), window=0)
    served.stream.send(_DATA[:1000])
    served.peer.expect(within=3)


@judges("rfc9293/3.8.6/05")
@pytest.mark.netemu_requires("virtual-clock")
def test_a_window_that_shrank_to_nothing_is_probed(netemu_wire: Wire) -> None:
    served = serve(netemu_wire.up())
    peer = served.peer
    served.stream.send(_DATA[:1000])
    _data(peer)
    peer.send(window=0)
    _burst(netemu_wire)
    served.stream.send(_DATA[1000:2000])
    peer.expect(within=120)


@judges("rfc9293/3.8.6.1/02")
@pytest.mark.netemu_requires("virtual-clock")
def test_a_probed_connection_stays_open(netemu_wire: Wire) -> None:
    wire = netemu_wire.up()
    served = serve(wire, window=0)
    served.stream.send(_DATA[:1000])
    start = wire.network.loop.now()
    while wire.network.loop.now() < start + 3600 * _SECOND:
        probe = served.peer.expect(within=150)[Tcp]
        assert not probe.flags & (RST | FIN)
        served.peer.send(acknowledgment=probe.sequence if probe.payload else served.peer.ack)
    assert not served.stream.socket.error


@judges("rfc9293/3.8.6.1/03")
@pytest.mark.netemu_requires("virtual-clock")
def test_probes_become_rarer(netemu_wire: Wire) -> None:
    served = serve(netemu_wire.up(), window=0)
    served.stream.send(_DATA[:1000])
    times = []
    for _ in range(5):
        probe = served.peer.expect(within=150)
        times.append(probe.time)
        served.peer.send(acknowledgment=probe[Tcp].sequence if probe[Tcp].payload else served.peer.ack)
    gaps = [after - before for before, after in pairwise(times)]
    assert all(after >= 1.5 * before for before, after in pairwise(gaps)), (
        f"the gaps between probes are {[gap / _SECOND for gap in gaps]} s"
    )
