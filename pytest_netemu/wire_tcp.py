"""TCP connections of the wire with its guest: either may be the one that opens it.

    listener, peer, stream = serve(wire)                  # the guest listens, the wire connects
    peer, stream = connect(wire)                          # the guest connects, the wire answers

`peer` is the wire's end (`pytest_netemu.tester_tcp`), `stream` the guest's. A guest's `tcp_connect` blocks, so what answers its SYN
is a function that is called from inside the loop; with another one than the usual, a handshake goes as the check wants it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from netemu.net.sockets import DEFAULT_TIMEOUT, Listener, Stream
from netemu.wire.tcp import ACK, SYN, Tcp, TcpOptions
from pytest_netemu.packet import Packet
from pytest_netemu.tester_tcp import TcpPeer
from pytest_netemu.wire import Wire

__all__ = ["PORT", "Served", "accept_syn", "connect", "serve", "works"]

PORT: Final = 7000
_OPTIONS: Final = TcpOptions(mss=1460)


@dataclass(frozen=True, slots=True)
class Served:
    """A connection to the guest: its listener, the wire's end and the guest's."""

    listener: Listener
    peer: TcpPeer
    stream: Stream

    def works(self) -> None:
        """Octets go both ways still."""
        __tracebackhide__ = True
        works(self.peer, self.stream)


def works(peer: TcpPeer, stream: Stream) -> None:
    """Octets go both ways still."""
    __tracebackhide__ = True
    peer.send(b"there")
    heard = stream.recv_exactly(5)
    assert heard == b"there", f"b'there' was sent over a connection that should be open, and the guest read {heard!r}"
    stream.send(b"and back")
    assert peer.receive(8) == b"and back"


def serve(wire: Wire, options: TcpOptions = _OPTIONS, *, window: int = 0xFFFF) -> Served:
    """The guest listens on `PORT`, and the wire connects to it, with these options and this window from the start."""
    __tracebackhide__ = True
    listener = wire.guest.tcp_listen(PORT)
    peer = TcpPeer(wire, PORT)
    peer.window = window
    peer.connect(options)
    return Served(listener, peer, listener.accept())


def accept_syn(peer: TcpPeer) -> None:
    """What a server does with a SYN."""
    peer.send(flags=SYN | ACK, options=_OPTIONS)


def connect(
    wire: Wire,
    respond: Callable[[TcpPeer], None] = accept_syn,
    *,
    timeout: float = DEFAULT_TIMEOUT,
) -> tuple[TcpPeer, Stream]:
    """The guest connects to `PORT` of the wire; `respond` is called when its SYN comes. Raises what `tcp_connect` raises."""
    __tracebackhide__ = True
    peers: list[TcpPeer] = []

    def begin(packet: Packet) -> None:
        if not peers:
            peers.append(TcpPeer.asked(wire, packet))
            respond(peers[0])

    stop = wire.answer(Tcp, begin, flags=SYN, destination_port=PORT)
    try:
        stream = wire.guest.tcp_connect(wire.address, PORT, timeout=timeout)
    finally:
        stop()
    return peers[0], stream
