"""The sockets of an in-memory Internet: streams, listeners, datagrams and pings that never leave the process.

Both ends of a stream are objects here (`netemu.io.pipe`).

Not modelled: segments, windows and retransmission (the network inside is perfect), the time packets take, IP options, broadcast and
multicast.
"""

from __future__ import annotations

import errno
from collections import Counter, deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Self

from netemu.errors import HostError
from netemu.io.pipe import PipeStream
from netemu.io.simnet import IcmpReport
from netemu.io.streamstate import StreamSnapshot
from netemu.net.loop import Timer
from netemu.net.sockets import StreamSocket
from netemu.wire.address import Endpoint, Family, IPAddress

if TYPE_CHECKING:
    from netemu.io.simhost import SimHost

__all__ = ["SimDatagram", "SimListener", "SimPing", "SimStream"]

_MAX_DATAGRAM = 65_507  # octets: what an IPv4 packet holds behind its header and UDP's (RFC 768, RFC 791)
_SEQUENCE = 0xFFFFFFFF  # sequence numbers here count octets from 0
_BACKLOG = 128  # connections that wait to be accepted; more are refused, as Linux does with tcp_abort_on_overflow


class SimStream(PipeStream):
    """One end of a connection; `capacity` octets wait here at most."""

    def __init__(self, host: SimHost, local: Endpoint, remote: Endpoint, capacity: int) -> None:
        super().__init__(host.loop, local, remote, capacity)
        self._host = host
        self._giving_up: Timer | None = None

    def give_up_at(self, when: int) -> None:
        """Nobody answers: the connection attempt ends at `when` with ETIMEDOUT."""
        self._giving_up = self._loop.call_at(when, lambda: self.refuse(errno.ETIMEDOUT))

    def refuse(self, error: int) -> None:
        """There will be no connection, or no more."""
        self._fail(error)

    def park(self) -> tuple[StreamSnapshot, SimStream]:
        """Take the connection out of this stream: what it is, and where its peer waits, which can send nothing meanwhile."""
        peer = self._peer
        assert peer is not None
        state = StreamSnapshot(
            local=self.local,
            remote=self.remote,
            send_sequence=peer._arrived & _SEQUENCE,
            receive_sequence=self._arrived & _SEQUENCE,
            taken=b"",
            unsent=0,
            received=bytes(self._received),
            finished=self._finished,
            eof=self.eof,
        )
        waiting = SimStream(self._host, self.local, self.remote, 0)
        waiting._go_on(peer, state)
        self._peer = None
        self.close()
        return state, waiting

    def take_over(self, waiting: SimStream, state: StreamSnapshot) -> None:
        """Go on with the connection of which `state` was taken; `HostError` if an octet would be lost or come twice."""
        peer = waiting._peer
        assert peer is not None
        if (peer._arrived & _SEQUENCE, waiting._arrived & _SEQUENCE) != (state.send_sequence, state.receive_sequence):
            raise HostError(errno.EINVAL, f"move a connection to {self!r}, whose sequence numbers are others")
        self._go_on(peer, state)
        self._received += state.received
        self._finished = state.finished
        self.eof = state.eof or waiting.eof
        if waiting.error:
            self._fail(waiting.error)
        peer._tell()

    def _go_on(self, peer: Self, state: StreamSnapshot) -> None:
        self.connected = True
        self._arrived = state.receive_sequence
        self._peer, peer._peer = peer, self

    def _release(self, *, reset: bool) -> None:
        self._host.forget_stream(self)
        if self._giving_up is not None:
            self._giving_up.cancel()
        super()._release(reset=reset)


class SimListener:
    """A listening socket; at most 128 connections wait for `on_accept` to be set, more are refused."""

    def __init__(self, host: SimHost, local: Endpoint) -> None:
        self.local = local
        self._host = host
        self._waiting: deque[SimStream] = deque()
        self._on_accept: Callable[[StreamSocket], None] | None = None

    @property
    def on_accept(self) -> Callable[[StreamSocket], None] | None:
        return self._on_accept

    @on_accept.setter
    def on_accept(self, callback: Callable[[StreamSocket], None] | None) -> None:
        self._on_accept = callback
        self._host.loop.call_soon(self._hand_over)

    @property
    def full(self) -> bool:
        return len(self._waiting) >= _BACKLOG

    def arrive(self, stream: SimStream) -> None:
        """A connection was made."""
        self._waiting.append(stream)
        self._hand_over()

    def _hand_over(self) -> None:
        while self._waiting and self._on_accept is not None:
            self._on_accept(self._waiting.popleft())

    def close(self) -> None:
        """Stop listening; connections nobody accepted are reset."""
        self._host.tcp_ports.release(self.local, self)
        while self._waiting:
            self._waiting.popleft().abort()


class SimDatagram:
    """A UDP socket. `last_ttl` is the TTL that the datagram delivered last arrived with; `counters` has `received`, and
    `dropped-no-reader` for datagrams that came while `on_datagram` was not set.
    """

    def __init__(self, host: SimHost, local: Endpoint) -> None:
        self.on_datagram: Callable[[bytes, Endpoint], None] | None = None
        self.on_train: Callable[[bytes, int, Endpoint], None] | None = None
        self.on_error: Callable[[int, Endpoint], None] | None = None
        self.local = local
        self.last_ttl: int | None = None
        self.counters: Counter[str] = Counter()
        self._host = host
        self._closed = False

    def send_to(self, data: bytes, destination: Endpoint, ttl: int = 64) -> None:
        operation = f"send UDP {self.local} to {destination}"
        if self._closed:
            raise HostError(errno.EBADF, operation)
        if len(data) > _MAX_DATAGRAM:
            raise HostError(errno.EMSGSIZE, operation)
        if destination.address.version != self.local.address.version:
            raise HostError(errno.EAFNOSUPPORT, operation)
        data = bytes(data)
        source = Endpoint(self._host.source_for(self.local.address, destination.address), self.local.port)

        def arrive(left: int) -> None:
            receiver = self._host.udp_ports.find(destination)
            if receiver is None:
                failed(IcmpReport.unreachable(destination.address, errno.ECONNREFUSED))
            else:
                receiver.arrive(data, source, left)

        def failed(report: IcmpReport) -> None:
            if self.on_error is not None and not self._closed:
                self.on_error(report.error, destination)

        self._host.send_packet(destination.address, ttl, operation, arrive, failed)

    def send_train(self, payload: bytes | memoryview, size: int, destination: Endpoint, ttl: int = 64) -> None:
        for at in range(0, len(payload) or 1, size or 1):
            self.send_to(bytes(payload[at : at + size]), destination, ttl)

    def arrive(self, data: bytes, source: Endpoint, ttl: int) -> None:
        """A datagram was delivered with `ttl` left."""
        self.last_ttl = ttl
        if self.on_train is not None:
            self.on_train(data, len(data), source)
        elif self.on_datagram is not None:
            self.on_datagram(data, source)
        else:
            self.counters["dropped-no-reader"] += 1
            return
        self.counters["received"] += 1

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._host.udp_ports.release(self.local, self)


class SimPing:
    """A ping socket of one family: an address that can be reached answers at once."""

    def __init__(self, host: SimHost, family: Family) -> None:
        self.on_reply: Callable[[int, bytes, IPAddress], None] | None = None
        self.on_error: Callable[[int, int, IPAddress, int], None] | None = None
        self._host = host
        self._family = family
        self._closed = False

    def send_echo(self, destination: IPAddress, sequence: int, payload: bytes, ttl: int = 64) -> None:
        operation = f"ping {destination}"
        if self._closed:
            raise HostError(errno.EBADF, operation)
        if destination.version != self._family:
            raise HostError(errno.EAFNOSUPPORT, operation)
        payload = bytes(payload)

        def arrive(_left: int) -> None:
            if self.on_reply is not None and not self._closed:
                self.on_reply(sequence, payload, destination)

        def failed(report: IcmpReport) -> None:
            if self.on_error is not None and not self._closed:
                self.on_error(report.type, report.code, report.reporter, sequence)

        self._host.send_packet(destination, ttl, operation, arrive, failed)

    def close(self) -> None:
        self._closed = True
