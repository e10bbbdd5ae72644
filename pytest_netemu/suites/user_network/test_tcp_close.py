"""TCP at a user-mode network: how connections end, and what must not end them (RFC 9293 3.5.3, 3.6; RFC 5382)."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest

from netemu.net.sockets import Listener, Stream
from netemu.wire.icmpv4 import Icmpv4, UnreachableCode
from netemu.wire.ipv4 import Protocol
from netemu.wire.tcp import ACK, FIN, RST, SYN, TcpOptions
from pytest_netemu.suites import judges
from pytest_netemu.tester import Tester
from pytest_netemu.tester_tcp import TcpPeer

pytestmark = pytest.mark.netemu_requires("arp", "nat.tcp")

_HOURS = 3600
_IDLE = 2 * _HOURS + 4 * 60  # RFC 5382 REQ-5
_MODULUS = 1 << 32


@pytest.fixture
def listener(netemu_tester: Tester) -> Iterator[Listener]:
    """A server on the host's loopback, which the guest knows as the gateway."""
    with netemu_tester.backend.host.tcp_listen("127.0.0.1") as listener:
        yield listener


def _pair(tester: Tester, listener: Listener) -> tuple[TcpPeer, Stream]:
    peer = TcpPeer(tester, listener.port).connect(TcpOptions(mss=1460))
    return peer, listener.accept()


def _fate(stream: Stream) -> str:
    """What became of the host's end."""
    error = stream.socket.error
    return f"met {errno.errorcode[error]}" if error else "came to an orderly end" if stream.socket.eof else "is open"


def _works(peer: TcpPeer, stream: Stream) -> None:
    """Octets go both ways still."""
    peer.send(b"there")
    heard = stream.recv(5)
    assert heard == b"there", f"the guest sent b'there' over a connection that should be open, and the host read {heard!r}"
    stream.send(b"and back")
    assert peer.receive(8) == b"and back"


@judges("rfc9293/3.5.3/01")
@pytest.mark.parametrize("offset", [-1, 200_000])
def test_a_reset_outside_the_window_is_ignored(netemu_tester: Tester, listener: Listener, offset: int) -> None:
    peer, stream = _pair(netemu_tester, listener)
    peer.send(flags=RST, sequence=(peer.seq + offset) % _MODULUS)
    netemu_tester.drain()
    _works(peer, stream)


@judges("rfc9293/3.10.7.4/05")
@pytest.mark.parametrize("offset", [1, 1000])
def test_a_reset_beside_its_place_is_challenged(netemu_tester: Tester, listener: Listener, offset: int) -> None:
    peer, stream = _pair(netemu_tester, listener)
    netemu_tester.drain()
    peer.send(flags=RST, sequence=(peer.seq + offset) % _MODULUS)
    peer.expect(flags=ACK, acknowledgment=peer.seq)
    _works(peer, stream)


@judges("rfc9293/3.5.3/02")
def test_a_reset_may_carry_data(netemu_tester: Tester, listener: Listener) -> None:
    peer, stream = _pair(netemu_tester, listener)
    peer.send(b"why I leave", flags=RST | ACK)
    netemu_tester.run_for(0.5)
    assert stream.socket.error == errno.ECONNRESET, f"the guest reset with data, and the host's socket {_fate(stream)}"


@judges("rfc9293/3.6/01")
@pytest.mark.parametrize("how", ["finished", "aborted"])
def test_the_host_learns_how_the_guest_left(netemu_tester: Tester, listener: Listener, how: str) -> None:
    peer, stream = _pair(netemu_tester, listener)
    if how == "finished":
        peer.finish()
        assert stream.recv_all() == b""
        assert not stream.socket.error
    else:
        peer.reset()
        netemu_tester.run_for(0.5)
        assert stream.socket.error == errno.ECONNRESET, f"the guest reset, and the host's socket {_fate(stream)}"


@judges("rfc9293/3.6.1/01")
@pytest.mark.netemu_requires("virtual-clock")
def test_the_side_that_closed_lingers(netemu_tester: Tester, listener: Listener) -> None:
    """The host closes first; five seconds later a repeated FIN still belongs to the connection."""
    peer, stream = _pair(netemu_tester, listener)
    _close_from_the_host(peer, stream)
    netemu_tester.run_for(5)
    peer.send(flags=FIN | ACK, sequence=(peer.seq - 1) % _MODULUS)
    peer.expect(flags=ACK, acknowledgment=peer.seq)


@judges("rfc9293/3.10.7.4/04")
def test_a_repeated_fin_is_acknowledged_again(netemu_tester: Tester, listener: Listener) -> None:
    peer, stream = _pair(netemu_tester, listener)
    _close_from_the_host(peer, stream)
    peer.send(flags=FIN | ACK, sequence=(peer.seq - 1) % _MODULUS)
    peer.expect(flags=ACK, acknowledgment=peer.seq)


def _close_from_the_host(peer: TcpPeer, stream: Stream) -> None:
    stream.close()
    peer.expect(lambda segment: bool(segment.flags & FIN))
    peer.finish()
    peer.expect(flags=ACK, acknowledgment=peer.seq)


@judges("rfc9293/3.10.7.4/03")
@pytest.mark.parametrize("offset", [0, 500])
def test_a_syn_inside_a_connection_is_challenged(netemu_tester: Tester, listener: Listener, offset: int) -> None:
    peer, stream = _pair(netemu_tester, listener)
    netemu_tester.drain()
    peer.send(flags=SYN, sequence=(peer.seq + offset) % _MODULUS)
    peer.expect(flags=ACK, acknowledgment=peer.seq)
    _works(peer, stream)


@judges("rfc9293/3.8.4/01")
@pytest.mark.netemu_requires("virtual-clock")
def test_an_idle_connection_is_left_alone_for_two_hours(netemu_tester: Tester, listener: Listener) -> None:
    peer, _ = _pair(netemu_tester, listener)
    netemu_tester.drain()
    peer.silence(within=2 * _HOURS - 60)


@judges("rfc5382/5/01")
@pytest.mark.netemu_requires("virtual-clock")
def test_an_idle_connection_is_still_there(netemu_tester: Tester, listener: Listener) -> None:
    """Probes, if they come, are answered, as an idle kernel would."""
    peer, stream = _pair(netemu_tester, listener)
    begin = netemu_tester.network.loop.now()
    while netemu_tester.network.loop.now() < begin + _IDLE * 1_000_000_000:
        if peer.wait(within=60) is not None:
            peer.send()
    _works(peer, stream)


@judges("rfc5382/7.3/01")
@pytest.mark.parametrize("code", [UnreachableCode.NET, UnreachableCode.HOST, UnreachableCode.PORT], ids=lambda code: code.name)
def test_an_icmp_error_does_not_end_a_connection(netemu_tester: Tester, listener: Listener, code: UnreachableCode) -> None:
    tester = netemu_tester
    peer, stream = _pair(tester, listener)
    stream.send(b"quoted")
    peer.expect(payload=b"quoted")
    seen = next(record.frame for record in reversed(tester.network.frames.records) if record.destination == "tester")
    tester.send_icmp(Icmpv4.unreachable(code, seen[14:]), tester.gateway)
    assert seen[23] == Protocol.TCP
    tester.run_for(0.1)
    peer.send()
    _works(peer, stream)
