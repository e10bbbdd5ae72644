"""TCP of a guest that receives: acknowledgements, windows, and their options (RFC 9293 3.8.6; RFC 5681 4, 2018 4, 7323 3 and 5)."""

from __future__ import annotations

import pytest

from netemu.net.sockets import Stream
from netemu.wire.tcp import ACK, RST, SYN, Tcp, TcpOptions
from pytest_netemu.suites import judges
from pytest_netemu.tester_tcp import TcpPeer
from pytest_netemu.wire import Wire
from pytest_netemu.wire_tcp import PORT, Served, serve, works

pytestmark = pytest.mark.netemu_requires("tcp.listen")

_DATA = bytes(range(256)) * 16
_MODULUS = 1 << 32
_AT_ONCE = 0.02  # seconds: sooner than any delayed acknowledgement
_SEGMENTS = 400  # as many fill any window that has no scale
_STAMP = 1_000_000


def _answered_at_once(served: Served, acknowledgment: int) -> Tcp:
    """The acknowledgement that has come when a `barrier` is over."""
    __tracebackhide__ = True
    return served.peer.expect(flags=ACK, acknowledgment=acknowledgment, within=_AT_ONCE)[Tcp]


def _fill(wire: Wire) -> Served:
    """A connection whose guest reads nothing, and has no window any more."""
    served = serve(wire)
    peer, window = served.peer, 1460
    for _ in range(_SEGMENTS):
        peer.send(bytes(min(window, 1460)))
        window = peer.expect(acknowledgment=peer.seq)[Tcp].window
        if not window:
            wire.barrier()
            wire.inbox.clear()
            return served
    raise AssertionError(f"{_SEGMENTS} segments that nobody read did not fill the window: {window} octets are offered still")


@judges("rfc9293/3.8.6.3/01")
@pytest.mark.netemu_requires("virtual-clock")
def test_data_is_acknowledged_within_half_a_second(netemu_wire: Wire) -> None:
    served = serve(netemu_wire.up())
    served.peer.send(b"one small segment")
    served.peer.expect(within=0.5, acknowledgment=served.peer.seq)


@judges("rfc9293/3.8.6.3/02")
def test_every_second_segment_is_acknowledged(netemu_wire: Wire) -> None:
    served = serve(netemu_wire.up())
    for _ in range(3):
        served.peer.send(bytes(1460))
        served.peer.send(bytes(1460))
        netemu_wire.barrier()
        _answered_at_once(served, served.peer.seq)


@judges("rfc9293/3.10.7.4/01")
@judges("rfc5681/3.2/02")
def test_what_came_too_early_is_kept(netemu_wire: Wire) -> None:
    """It is answered at once; the acknowledgement of what fills the gap covers it."""
    served = serve(netemu_wire.up())
    begin = _early(netemu_wire, served)
    served.peer.expect(acknowledgment=begin + 2000)
    assert served.stream.recv_exactly(2000) == _DATA[:2000]


@judges("rfc5681/3.2/03")
def test_what_fills_a_gap_is_acknowledged_at_once(netemu_wire: Wire) -> None:
    served = serve(netemu_wire.up())
    begin = _early(netemu_wire, served)
    netemu_wire.barrier()
    _answered_at_once(served, begin + 2000)


def _early(wire: Wire, served: Served) -> int:
    """The second of two segments comes first; gives the first one's sequence number."""
    __tracebackhide__ = True
    peer, begin = served.peer, served.peer.seq
    wire.inbox.clear()
    peer.send(_DATA[1000:2000], sequence=begin + 1000)
    wire.barrier()
    _answered_at_once(served, begin)
    peer.send(_DATA[:1000], sequence=begin)
    return begin


@judges("rfc9293/3.10.7.4/02")
def test_what_is_outside_the_window_is_answered(netemu_wire: Wire) -> None:
    """With an acknowledgement, also when it is a probe that keeps a connection alive, with an octet or without one."""
    served = serve(netemu_wire.up())
    peer = served.peer
    for offset, payload in ((-5, b"wrong"), (200_000, b"wrong"), (-1, b"\x00"), (-1, b"")):
        netemu_wire.barrier()
        netemu_wire.inbox.clear()
        peer.send(payload, sequence=(peer.seq + offset) % _MODULUS)
        peer.expect(flags=ACK, acknowledgment=peer.seq)
    served.works()


@judges("rfc9293/3.8.6/02")
def test_the_window_is_not_shrunk(netemu_wire: Wire) -> None:
    """The guest does not read; the right edge may stand still, not move to the left."""
    served = serve(netemu_wire.up())
    edges = []
    for _ in range(20):
        served.peer.send(bytes(1000))
        segment = served.peer.expect(acknowledgment=served.peer.seq)[Tcp]
        edges.append(segment.acknowledgment + segment.window)
    assert edges == sorted(edges)


@judges("rfc9293/3.8.6.1/05")
def test_a_closed_window_is_said_again(netemu_wire: Wire) -> None:
    """Whether or not the octet that asks is taken."""
    served = _fill(netemu_wire.up())
    end = served.peer.seq
    served.peer.send(b"?", sequence=end)
    assert served.peer.expect(flags=ACK, acknowledgment=lambda number: number in (end, end + 1))[Tcp].window == 0


@judges("rfc9293/3.8.6.2.2/01")
def test_a_window_is_not_opened_by_an_octet(netemu_wire: Wire) -> None:
    """What opens it is a large segment's worth at least."""
    served = _fill(netemu_wire.up())
    assert served.stream.recv(1)
    served.peer.silence(lambda segment: 0 < segment.window < 536, within=0.5)


@judges("rfc9293/3.4/01")
def test_a_reset_is_read_in_a_closed_window(netemu_wire: Wire) -> None:
    served = _fill(netemu_wire.up())
    served.peer.reset()
    served.peer.send()
    served.peer.expect(lambda segment: bool(segment.flags & RST))


# Selective acknowledgements


@judges("rfc2018/4/01")
@judges("rfc2018/2/01")
def test_no_selective_acknowledgements_without_permission(netemu_wire: Wire) -> None:
    served = serve(netemu_wire.up(), TcpOptions(mss=1460))
    netemu_wire.inbox.clear()
    served.peer.send(b"early", sequence=served.peer.seq + 100)
    options = served.peer.expect(flags=ACK)[Tcp].options
    assert (options.sack, options.sack_permitted) == ((), False)


@judges("rfc2018/4/02")
@judges("rfc2018/4/03")
def test_a_selective_acknowledgement_begins_with_what_came_last(netemu_wire: Wire) -> None:
    served = serve(netemu_wire.up(), TcpOptions(mss=1460, sack_permitted=True))
    peer, begin = served.peer, served.peer.seq
    if not peer.offered.sack_permitted:
        return  # a stack that has none
    netemu_wire.inbox.clear()
    for offset in (1000, 3000, 2000):
        peer.send(_DATA[:500], sequence=begin + offset)
        blocks = peer.expect(flags=ACK, acknowledgment=begin)[Tcp].options.sack
        assert blocks[0] == (begin + offset, begin + offset + 500)
    assert {*blocks} == {(begin + offset, begin + offset + 500) for offset in (1000, 2000, 3000)}


# Timestamps


def _stamped(wire: Wire) -> tuple[TcpPeer, Stream, bool]:
    """A connection with timestamps, and whether the guest agreed to them. The wire's clock stands at `_STAMP`."""
    listener = wire.guest.tcp_listen(PORT)
    peer = TcpPeer(wire, PORT)
    peer.send(flags=SYN, options=TcpOptions(mss=1460, timestamps=(_STAMP, 0)))
    peer.expect(flags=SYN | ACK, acknowledgment=peer.seq)
    agreed = peer.offered.timestamps is not None
    peer.send(options=_stamp(peer) if agreed else TcpOptions())
    return peer, listener.accept(), agreed


def _stamp(peer: TcpPeer, value: int = _STAMP) -> TcpOptions:
    stamps = peer.offered.timestamps
    return TcpOptions(timestamps=(value, stamps[0] if stamps else 0))


@judges("rfc7323/3.2/02")
def test_every_segment_has_timestamps(netemu_wire: Wire) -> None:
    """And echoes the one that came last in order."""
    peer, stream, agreed = _stamped(netemu_wire.up())
    if not agreed:
        return  # a stack that has none
    peer.send(b"hello", options=_stamp(peer, _STAMP + 5))
    stamps = peer.expect(acknowledgment=peer.seq)[Tcp].options.timestamps
    assert stamps is not None
    assert stamps[1] == _STAMP + 5
    stream.send(b"and back")
    assert peer.expect(lambda segment: bool(segment.payload))[Tcp].options.timestamps is not None


@judges("rfc7323/5.3/01")
def test_an_old_segment_is_not_taken_for_a_new_one(netemu_wire: Wire) -> None:
    peer, stream, agreed = _stamped(netemu_wire.up())
    if not agreed:
        return  # a stack that has none
    netemu_wire.barrier()
    netemu_wire.inbox.clear()
    peer.send(b"old", options=_stamp(peer, _STAMP - 1000), sequence=peer.seq)
    peer.expect(flags=ACK, acknowledgment=peer.seq)
    peer.send(b"new", options=_stamp(peer))
    assert stream.recv_exactly(3) == b"new"


@judges("rfc7323/3.2/03")
def test_a_segment_without_timestamps_ends_nothing(netemu_wire: Wire) -> None:
    peer, stream, agreed = _stamped(netemu_wire.up())
    if not agreed:
        works(peer, stream)
        return
    peer.send(b"", sequence=peer.seq)
    peer.send(b"still here", options=_stamp(peer))
    assert stream.recv_exactly(10) == b"still here"
