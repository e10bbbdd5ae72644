"""TCP of a guest: how connections end, and what must not end them (RFC 9293 3.5.3, 3.6, 3.8.4, 3.10.7.4)."""

from __future__ import annotations

import errno

import pytest

from netemu.net.sockets import Stream
from netemu.wire.tcp import ACK, FIN, RST, SYN, Tcp
from pytest_netemu.suites import judges
from pytest_netemu.wire import Wire
from pytest_netemu.wire_tcp import Served, serve

pytestmark = pytest.mark.netemu_requires("tcp.listen")

_SECOND = 1_000_000_000
_HOURS = 3600
_MODULUS = 1 << 32


def _is_fin(segment: Tcp) -> bool:
    return bool(segment.flags & FIN)


def _quiet(wire: Wire) -> None:
    """What came so far is forgotten, so that what comes next is an answer."""
    wire.barrier()
    wire.inbox.clear()


def _told(wire: Wire, stream: Stream) -> int:
    """The errno that the guest's application gets, when it has got one."""
    loop = wire.network.loop
    loop.run_until(lambda: stream.socket.error != 0, loop.now() + 5 * _SECOND)
    return stream.socket.error


def _closed_by_the_guest(wire: Wire) -> Served:
    """A connection in TIME-WAIT, if the guest has that."""
    served = serve(wire)
    served.stream.close()
    served.peer.expect(_is_fin)
    served.peer.finish()
    served.peer.expect(flags=ACK, acknowledgment=served.peer.seq)
    return served


@judges("rfc9293/3.5.3/01")
def test_a_reset_outside_the_window_is_ignored(netemu_wire: Wire) -> None:
    served = serve(netemu_wire.up())
    for offset in (-1, 200_000):
        served.peer.send(flags=RST, sequence=(served.peer.seq + offset) % _MODULUS)
    served.works()


@judges("rfc9293/3.10.7.4/05")
@pytest.mark.parametrize("offset", [1, 1000])
def test_a_reset_beside_its_place_is_challenged(netemu_wire: Wire, offset: int) -> None:
    served = serve(netemu_wire.up())
    _quiet(netemu_wire)
    served.peer.send(flags=RST, sequence=(served.peer.seq + offset) % _MODULUS)
    served.peer.expect(flags=ACK, acknowledgment=served.peer.seq)
    served.works()


@judges("rfc9293/3.10.7.4/03")
@pytest.mark.parametrize("offset", [0, 500])
def test_a_syn_inside_a_connection_is_challenged(netemu_wire: Wire, offset: int) -> None:
    served = serve(netemu_wire.up())
    _quiet(netemu_wire)
    served.peer.send(flags=SYN, sequence=(served.peer.seq + offset) % _MODULUS)
    served.peer.expect(flags=ACK, acknowledgment=served.peer.seq)
    served.works()


@judges("rfc9293/3.10.7.4/09")
def test_an_acknowledgement_of_the_future_is_dropped(netemu_wire: Wire) -> None:
    """Whether it is answered too depends on the version of Linux."""
    served = serve(netemu_wire.up())
    served.peer.send(b"wrong", sequence=served.peer.seq, acknowledgment=(served.peer.ack + 100) % _MODULUS)
    served.works()


@judges("rfc9293/3.10.7.4/10")
def test_a_segment_without_ack_is_dropped(netemu_wire: Wire) -> None:
    served = serve(netemu_wire.up())
    served.peer.send(b"wrong", flags=0, sequence=served.peer.seq, acknowledgment=served.peer.ack)
    served.works()


@judges("rfc9293/3.5.3/02")
def test_a_reset_may_carry_data(netemu_wire: Wire) -> None:
    served = serve(netemu_wire.up())
    served.peer.send(b"why I leave", flags=RST | ACK)
    assert _told(netemu_wire, served.stream) == errno.ECONNRESET


@judges("rfc9293/3.6/01")
@pytest.mark.parametrize("how", ["finished", "aborted"])
def test_the_application_learns_how_its_peer_left(netemu_wire: Wire, how: str) -> None:
    served = serve(netemu_wire.up())
    if how == "finished":
        served.peer.finish()
        assert served.stream.recv_all() == b""
        assert not served.stream.socket.error
    else:
        served.peer.reset()
        assert _told(netemu_wire, served.stream) == errno.ECONNRESET


@judges("rfc9293/3.6/02")
def test_all_that_was_sent_comes_before_the_end(netemu_wire: Wire) -> None:
    served = serve(netemu_wire.up())
    data = bytes(range(256)) * 20
    served.stream.send(data)
    served.stream.close()
    heard, flags = bytearray(), 0
    while not flags & FIN:
        segment = served.peer.expect(lambda segment: segment.sequence == served.peer.ack and segment.segment_length > 0)[Tcp]
        heard, flags = heard + segment.payload, segment.flags
        served.peer.send()
    assert heard == data


@judges("rfc9293/3.6.1/02")
@pytest.mark.netemu_requires("tcp.half-close")
def test_one_direction_ends_the_other_goes_on(netemu_wire: Wire) -> None:
    served = serve(netemu_wire.up())
    served.stream.shutdown()
    served.peer.expect(_is_fin)
    served.peer.send()
    served.peer.send(b"last words", flags=FIN | ACK)
    assert served.stream.recv_all() == b"last words"


@judges("rfc9293/3.6.1/02")
def test_a_guest_answers_after_its_peer_finished(netemu_wire: Wire) -> None:
    served = serve(netemu_wire.up())
    served.peer.finish()
    assert served.stream.recv_all() == b""
    served.stream.send(b"still talking")
    assert served.peer.receive(13) == b"still talking"


@judges("rfc9293/3.6/03")
def test_both_sides_may_close_at_once(netemu_wire: Wire) -> None:
    """The FINs cross; each is acknowledged."""
    served = serve(netemu_wire.up())
    served.stream.close()
    fin = served.peer.expect(_is_fin)[Tcp]
    served.peer.send(flags=FIN | ACK, acknowledgment=fin.sequence)
    served.peer.expect(flags=ACK, acknowledgment=served.peer.seq)
    served.peer.send()
    _quiet(netemu_wire)
    served.peer.silence(_is_fin)


@judges("rfc9293/3.6.1/03")
def test_what_was_not_read_is_reported_lost(netemu_wire: Wire) -> None:
    """The application closes while data waits for it."""
    served = serve(netemu_wire.up())
    served.peer.send(b"unread")
    loop = netemu_wire.network.loop
    assert loop.run_until(lambda: served.stream.socket.available() == 6, loop.now() + 5 * _SECOND)
    served.stream.close()
    served.peer.expect(lambda segment: bool(segment.flags & RST))


@judges("rfc9293/3.10.8/01")
@pytest.mark.netemu_requires("virtual-clock")
def test_a_fin_is_repeated(netemu_wire: Wire) -> None:
    served = serve(netemu_wire.up())
    served.stream.close()
    first = served.peer.expect(_is_fin)[Tcp]
    again = served.peer.expect(_is_fin, within=10)[Tcp]
    assert again.sequence == first.sequence


@judges("rfc9293/3.10.7.4/04")
def test_a_repeated_fin_is_acknowledged_again(netemu_wire: Wire) -> None:
    served = _closed_by_the_guest(netemu_wire.up())
    served.peer.send(flags=FIN | ACK, sequence=(served.peer.seq - 1) % _MODULUS)
    served.peer.expect(flags=ACK, acknowledgment=served.peer.seq)


@judges("rfc9293/3.6.1/01")
@pytest.mark.netemu_requires("virtual-clock")
def test_the_side_that_closed_lingers(netemu_wire: Wire) -> None:
    """Five seconds later a repeated FIN still belongs to the connection."""
    served = _closed_by_the_guest(netemu_wire.up())
    netemu_wire.run_for(5)
    served.peer.send(flags=FIN | ACK, sequence=(served.peer.seq - 1) % _MODULUS)
    served.peer.expect(flags=ACK, acknowledgment=served.peer.seq)


@judges("rfc9293/3.8.4/01")
@pytest.mark.netemu_requires("virtual-clock")
def test_an_idle_connection_is_left_alone_for_two_hours(netemu_wire: Wire) -> None:
    served = serve(netemu_wire.up())
    netemu_wire.drain()
    served.peer.silence(within=2 * _HOURS - 60)
