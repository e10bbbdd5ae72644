"""Urgent data through a user-mode network: every octet stays in its place, and both ends learn where it ends (RFC 9293 3.8.5).

The host's socket has urgent data in line (SO_OOBINLINE), as RFC 6093 6 asks of those who still use it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from netemu.net.sockets import Listener, Stream
from netemu.wire.tcp import ACK, URG, Tcp
from pytest_netemu.suites import judges
from pytest_netemu.tester import Tester
from pytest_netemu.tester_tcp import TcpPeer

pytestmark = pytest.mark.netemu_requires("arp", "nat.tcp")

_LONG = bytes(range(256)) * 10  # two segments of it
_BEFORE, _URGENT, _BEHIND = b"ab", b"Z", b"cdefghijkl"
_QUIET = 1.5  # seconds without a segment: no more will come
_SECOND = 1_000_000_000
_WINDOW = 65_535


@pytest.fixture
def listener(netemu_tester: Tester) -> Iterator[Listener]:
    """A server on the host's loopback, which the guest knows as the gateway."""
    with netemu_tester.backend.host.tcp_listen("127.0.0.1") as listener:
        yield listener


def _arrived(tester: Tester, stream: Stream, octets: bytes) -> int:
    """The host reads these octets and no others; how many of them its socket called urgent before."""
    __tracebackhide__ = True
    loop = tester.network.loop
    loop.run_until(lambda: stream.socket.available() >= len(octets), loop.now() + 2 * _SECOND)
    urgent = stream.socket.urgent
    read = stream.recv_exactly(len(octets))
    wrong = next((place for place, (ours, theirs) in enumerate(zip(octets, read, strict=True)) if ours != theirs), None)
    assert wrong is None, f"the guest sent {octets[wrong:][:20]!r} from octet {wrong} on, the host read {read[wrong:][:20]!r}"
    return urgent


def _heard(tester: Tester, listener: Listener) -> tuple[int, list[Tcp]]:
    """What comes of urgent data between other data, that waited for the guest's window: the first octet's number, and segments."""
    peer = TcpPeer(tester, listener.port)
    peer.window = 0
    peer.connect()
    stream = listener.accept()
    stream.send(_BEFORE)
    stream.send_urgent(_URGENT)
    stream.send(_BEHIND)
    tester.run_for(0.1)
    begin, peer.window = peer.ack, _WINDOW
    peer.send()
    segments = []
    while (packet := peer.wait(lambda segment: bool(segment.payload), within=_QUIET)) is not None:
        segments.append(packet[Tcp])
        peer.send()
    return begin, segments


@judges("rfc9293/3.8.5/01")
def test_the_host_learns_where_urgent_data_ends(netemu_tester: Tester, listener: Listener) -> None:
    peer = TcpPeer(netemu_tester, listener.port).connect()
    stream = listener.accept()
    peer.send(b"abc", flags=ACK | URG, urgent_pointer=3)
    peer.send(b"defghi")
    urgent = _arrived(netemu_tester, stream, b"abcdefghi")
    assert urgent == 3, f"the guest's urgent pointer ends 3 octets, the host's socket calls {urgent} urgent"


@judges("rfc9293/3.8.5/02")
def test_urgent_data_may_be_longer_than_a_segment(netemu_tester: Tester, listener: Listener) -> None:
    peer = TcpPeer(netemu_tester, listener.port).connect()
    stream = listener.accept()
    for start in range(0, len(_LONG), 1280):
        peer.send(_LONG[start : start + 1280], flags=ACK | URG, urgent_pointer=len(_LONG) - start)
    urgent = _arrived(netemu_tester, stream, _LONG)
    assert urgent == len(_LONG), f"the guest's urgent pointer ends {len(_LONG)} octets, the host's socket calls {urgent} urgent"


@judges("rfc9293/2.2/01")
def test_urgent_data_leaves_the_stream_whole(netemu_tester: Tester, listener: Listener) -> None:
    """Read by its sequence numbers, for what comes again may be cut otherwise."""
    begin, segments = _heard(netemu_tester, listener)
    read = bytearray()
    for segment in segments:
        read[segment.sequence - begin :] = segment.payload
    sent = _BEFORE + _URGENT + _BEHIND
    assert bytes(read) == sent, f"the host wrote {sent!r}, the guest read {bytes(read)!r}"


@judges("rfc9293/3.8.5/03")
def test_the_guest_is_pointed_behind_the_urgent_data(netemu_tester: Tester, listener: Listener) -> None:
    begin, segments = _heard(netemu_tester, listener)
    ends = {(segment.sequence + segment.urgent_pointer - begin) % (1 << 32) for segment in segments if segment.flags & URG}
    end = len(_BEFORE + _URGENT)
    assert ends, f"urgent data ends with octet {end} of the stream, but no segment has URG"
    assert ends == {end}, f"urgent data ends with octet {end} of the stream, but urgent pointers say {sorted(ends)}"
