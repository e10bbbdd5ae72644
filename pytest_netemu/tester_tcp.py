"""One TCP connection of the tester: it keeps the sequence numbers, the check decides every segment.

    peer = TcpPeer(tester, port).connect()                # SYN, SYN+ACK, ACK
    peer.send(b"hello")                                    # at the right place in the sequence space
    peer.expect(flags=ACK, acknowledgment=peer.seq)
    peer.send(b"late", sequence=peer.seq + 100)            # or at any other

`seq` is the next sequence number the tester will send, `ack` the next it wants; `expect` moves `ack` on over what came in
order, and nothing is acknowledged unless the check says so.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Final, Self

from netemu.wire.ipv4 import IPv4, Protocol
from netemu.wire.tcp import ACK, EMPTY_OPTIONS, FIN, PSH, RST, SYN, Tcp, TcpOptions
from pytest_netemu.packet import Packet
from pytest_netemu.station import Station

__all__ = ["TcpPeer"]

_MODULUS: Final = 1 << 32
_ISN: Final = 1_000_000
_DEFAULT_OPTIONS: Final = TcpOptions(mss=1460)
_WINDOW: Final = 65_535
_UPDATE_COMES: Final = 0.01  # seconds; a SYN,ACK may offer no window, when the real one is known only now


class TcpPeer:
    """The tester's end of a connection to `port` of `remote` (the opposite of the station unless given)."""

    def __init__(self, tester: Station, port: int, remote: IPv4Address | None = None, *, local_port: int | None = None) -> None:
        self.tester = tester
        self.remote = remote or tester.opposite
        self.remote_port = port
        self.local_port = local_port or tester.fresh_port()
        self.seq = _ISN
        self.ack = 0
        self.window = _WINDOW
        self.last_sent: IPv4 | None = None
        self.offered = EMPTY_OPTIONS  # in the other side's SYN

    def segment(self, flags: int, payload: bytes = b"", **fields: int | TcpOptions) -> Tcp:
        """A segment at the current place of the sequence space, unless `fields` of `Tcp` say otherwise."""
        usual = {
            "sequence": self.seq,
            "acknowledgment": self.ack if flags & ACK else 0,
            "window": self.window,
        }
        return Tcp(self.local_port, self.remote_port, flags=flags, payload=payload, **{**usual, **fields})  # type: ignore[arg-type] # Tcp's own fields

    def send(self, payload: bytes = b"", flags: int = ACK, **fields: int | TcpOptions) -> None:
        """Send a segment; `seq` moves on unless the check gave a `sequence` of its own."""
        segment = self.segment(flags | PSH if payload else flags, payload, **fields)
        octets = segment.pack(self.tester.address, self.remote)
        self.last_sent = self.tester.send_ip(self.tester.ip(self.remote, Protocol.TCP, octets))
        if "sequence" not in fields:
            self.seq = (self.seq + segment.segment_length) % _MODULUS

    def expect(self, condition: Callable[[Tcp], bool] | None = None, *, within: float = 1.0, **fields: object) -> Packet:
        """A segment of this connection with these fields; `ack` moves on if it is the next in order."""
        __tracebackhide__ = True
        packet = self.tester.expect(Tcp, condition, within=within, **self._ours(fields))
        self.take(packet[Tcp])
        return packet

    def wait(self, condition: Callable[[Tcp], bool] | None = None, *, within: float = 1.0, **fields: object) -> Packet | None:
        """As `expect`, but None if nothing came."""
        packet = self.tester.wait(Tcp, condition, within=within, **self._ours(fields))
        if packet is not None:
            self.take(packet[Tcp])
        return packet

    def silence(self, condition: Callable[[Tcp], bool] | None = None, *, within: float = 2.0, **fields: object) -> None:
        """No such segment of this connection for `within` seconds."""
        __tracebackhide__ = True
        self.tester.silence(Tcp, condition, within=within, **self._ours(fields))

    def take(self, segment: Tcp) -> None:
        """Count a segment as received, if it is the next in order."""
        if segment.flags & SYN:
            self.offered = segment.options
            self.ack = (segment.sequence + 1) % _MODULUS
        elif segment.sequence == self.ack and not segment.flags & RST:
            self.ack = (self.ack + segment.segment_length) % _MODULUS

    def connect(self, options: TcpOptions = _DEFAULT_OPTIONS) -> Self:
        """The three-way handshake, begun by the tester, and the window update that may follow."""
        __tracebackhide__ = True
        self.send(flags=SYN, options=options)
        self.expect(flags=SYN | ACK, acknowledgment=self.seq)
        self.send()
        self.wait(flags=ACK, within=_UPDATE_COMES)
        return self

    @classmethod
    def accept(cls, tester: Station, port: int, options: TcpOptions = _DEFAULT_OPTIONS, *, within: float = 2.0) -> Self:
        """The three-way handshake, begun by the other side (a forwarded port): waits for its SYN to `port`."""
        __tracebackhide__ = True
        peer = cls.awaited(tester, port, within=within)
        peer.send(flags=SYN | ACK, options=options)
        peer.expect(flags=ACK, acknowledgment=peer.seq)
        return peer

    @classmethod
    def awaited(cls, tester: Station, port: int, *, within: float = 2.0) -> Self:
        """The connection whose SYN to `port` has come and was not answered yet."""
        __tracebackhide__ = True
        return cls.asked(tester, tester.expect(Tcp, within=within, flags=SYN, destination_port=port))

    @classmethod
    def asked(cls, tester: Station, packet: Packet) -> Self:
        """The connection that this SYN asks for."""
        syn = packet[Tcp]
        peer = cls(tester, syn.source_port, packet[IPv4].source, local_port=syn.destination_port)
        peer.take(syn)
        return peer

    def send_octets(self, octets: bytes) -> None:
        """Send a segment as these octets; `seq` stays."""
        self.last_sent = self.tester.send_ip(self.tester.ip(self.remote, Protocol.TCP, octets))

    def receive(self, count: int, *, within: float = 10.0) -> bytes:
        """`count` octets in order, each segment acknowledged as it comes."""
        __tracebackhide__ = True
        received = bytearray()
        while len(received) < count:
            segment = self.expect(lambda segment: segment.sequence == self.ack and bool(segment.payload), within=within)[Tcp]
            received += segment.payload
            self.send()
        return bytes(received)

    def finish(self) -> None:
        """Send FIN."""
        self.send(flags=FIN | ACK)

    def reset(self) -> None:
        """Send RST at the place the other side expects."""
        self.send(flags=RST | ACK)

    def _ours(self, fields: dict[str, object]) -> dict[str, object]:
        return {"source_port": self.remote_port, "destination_port": self.local_port, **fields}
