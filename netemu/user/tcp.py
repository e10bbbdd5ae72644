"""TCP of a user-mode network: each guest connection ends here, and goes on as a connection of the host's (RFC 5382).

A flow is a `TcpConnection` to the guest and a stream of the host's. The stream is the connection's source and sink: what the host
has not taken is not acknowledged to the guest, and what the guest has not acknowledged stays in the host's socket. So back
pressure, half-closes, resets and the end of urgent data pass through in both directions without a buffer between.

Outwards, a guest's SYN opens the host's stream first, and the SYN-ACK is sent when that is connected. If it fails the guest learns
what it would have learnt on a real network:

    ECONNREFUSED                  RST
    ENETUNREACH, ENETDOWN         ICMP destination unreachable, code 0 (net)
    EHOSTUNREACH                  ICMP destination unreachable, code 1 (host)
    EACCES, EPERM                 ICMP destination unreachable, code 13 (communication administratively prohibited)
    ETIMEDOUT                     nothing: nobody answered, and the guest's own timer says so
    anything else                 RST, for the host cannot help (no descriptors, no port)

Inwards there is no way but a forwarded port: `forward` opens a connection to the guest for a stream that the host accepted. As
what the guest sees its peer is said in `netemu.user.visitors`.

At most 16,384 flows at a time, of which 128 may be half open; of those the oldest gives way. A full table refuses no old flow for
a new one, except those in TIME-WAIT. A guest that is silent for two hours is probed (RFC 9293 3.8.4), and its flow ends if it
is gone.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from netemu.errors import HostError
from netemu.net.clock import SECOND
from netemu.net.port import FrameView
from netemu.net.sockets import StreamSocket
from netemu.stack.deadlines import Deadlines
from netemu.stack.icmp import IcmpReport
from netemu.stack.tcp import State, TcpConfig, TcpConnection, reply_to_unknown
from netemu.stack.tcp.state import HANDSHAKE
from netemu.user.fastpath import SegmentWriter, segment_of
from netemu.user.flow import Flow
from netemu.user.plain import Layout, flow_key
from netemu.user.realm import Realm
from netemu.user.side import Packet, Quotation
from netemu.wire.address import Endpoint
from netemu.wire.ipv4 import IPv4, Protocol
from netemu.wire.ipv6 import IPv6
from netemu.wire.tcp import ACK, RST, SYN, URG, Tcp
from netemu.wire.tcp import MINIMUM_HEADER_LENGTH as TCP_HEADER_LENGTH
from netemu.wire.vnet_hdr import VnetHeader

__all__ = ["TcpFlow", "TcpNat"]

_FLOWS: Final = 16_384
_HALF_OPEN: Final = 128
_KEEPALIVE_IDLE: Final = 7200 * SECOND  # RFC 9293 3.8.4: two hours at least

_TOLD_BY_ICMP: Final = frozenset({errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTUNREACH, errno.EACCES, errno.EPERM})

_Key = tuple[Endpoint, Endpoint]  # the guest, and its peer as the guest knows it


class _Stream:
    """The host's stream as a connection's source and sink, with a count of what passed."""

    __slots__ = ("_stream", "available", "finish", "read_into", "received", "room", "sent")

    def __init__(self, stream: StreamSocket) -> None:
        self._stream = stream
        self.available = stream.available
        self.read_into = stream.read_into
        self.room = stream.room
        self.finish = stream.finish
        self.sent = 0
        self.received = 0

    @property
    def eof(self) -> bool:
        return self._stream.eof

    def discard(self, count: int) -> None:
        self.received += count
        self._stream.discard(count)

    def offer(self, data: bytes | memoryview) -> int:
        taken = self._stream.offer(data)
        self.sent += taken
        return taken

    def offer_urgent(self, data: bytes | memoryview) -> int:
        taken = self._stream.offer_urgent(data)
        self.sent += taken
        return taken


@dataclass(slots=True, eq=False)
class TcpFlow:
    """One flow: the guest's connection, and the host's stream that it goes on as."""

    key: _Key
    stream: StreamSocket
    octets: _Stream
    connection: TcpConnection
    asked: Quotation | None  # the guest's SYN, while the host's side is not connected
    opened: int
    used: int

    @property
    def state(self) -> str:
        return self.connection.state.value if self.asked is None else "CONNECTING"

    @property
    def half_open(self) -> bool:
        return self.connection.state in HANDSHAKE


class TcpNat:
    """The TCP flows of one network. Counters: `tcp-` and what happened.

    `servers` are endpoints that the network serves by itself (DNS, guestfwd), restricted or not, each with what opens a stream for
    a guest's connection; it may raise `HostError`.
    """

    def __init__(self, realm: Realm, writer: SegmentWriter) -> None:
        self.servers: dict[Endpoint, Callable[[], StreamSocket]] = {}
        self.realm = realm
        self._writer = writer
        self._configs = {
            family: TcpConfig(mss=realm.options.mtu - side.header_length - TCP_HEADER_LENGTH, keepalive_idle_ns=_KEEPALIVE_IDLE)
            for family, side in realm.sides.items()
        }
        self._flows: dict[_Key, TcpFlow] = {}
        self._by_octets: dict[bytes, TcpFlow] = {}  # those of IPv4, by `flow_key`
        self._half_open: dict[TcpFlow, None] = {}  # the oldest first
        self._changed: dict[TcpFlow, None] = {}
        self._timers: Deadlines[TcpFlow] = Deadlines()

    # From the guests

    def receive(self, packet: Packet, now: int) -> None:
        """A guest's segment; raises `WireError`."""
        segment = Tcp.parse(packet.payload, packet.source, packet.destination)
        guest = Endpoint(packet.source, segment.source_port)
        key = (guest, Endpoint(packet.destination, segment.destination_port))
        flow = self._flows.get(key)
        if flow is not None and flow.connection.accepts_new_incarnation(segment, now):
            self._remove(flow)
            flow = None
        if flow is not None:
            flow.connection.receive(segment, now)
            self._changed[flow] = None
        elif segment.flags & (SYN | ACK | RST) == SYN:
            self._open(key, packet, segment, now)
        else:
            self.realm.counters["tcp-unknown"] += 1
            self._refuse(key, segment, now)

    def receive_fast(self, frame: FrameView, layout: Layout, end: int, header: VnetHeader | None, now: int) -> bool:
        """A `plain` frame; False if it is to go the long way."""
        flow = self._by_octets.get(layout.key(frame))
        segment = None if flow is None else segment_of(frame, layout, end, header)
        if flow is None or segment is None:
            return False
        flow.connection.receive(segment, now)
        self._changed[flow] = None
        return True

    def guest_unreachable(self, packet: IPv4 | IPv6, now: int) -> None:
        """A segment of ours found no guest."""
        ports = packet.payload
        remote = Endpoint(packet.source, int.from_bytes(ports[:2], "big"))
        flow = self._flows.get((Endpoint(packet.destination, int.from_bytes(ports[2:4], "big")), remote))
        if flow is not None:
            flow.connection.unreachable(errno.EHOSTUNREACH, now)
            self._changed[flow] = None

    def reported(self, report: IcmpReport, now: int) -> bool:
        """A guest's ICMP error about a segment of ours, which ends a flow in its handshake; False if there is no such flow."""
        ours, guests = report.ports
        flow = self._flows.get((Endpoint(report.destination, guests), Endpoint(report.source, ours)))
        if flow is None or report.errno == errno.EMSGSIZE:
            return False
        flow.connection.unreachable(report.errno, now)
        self._changed[flow] = None
        return True

    def _open(self, key: _Key, packet: Packet, syn: Tcp, now: int) -> None:
        """A connection outwards."""
        realm = self.realm
        guest, remote = key
        opener = self.servers.get(remote) or self._way_out(remote)
        if opener is None:
            realm.counters["restricted" if realm.options.restrict else "tcp-refused"] += 1
            self._refuse(key, syn, now)
            return
        if not self._make_room():
            return  # the guest asks again
        try:
            stream = opener()
        except HostError as error:
            realm.counters["tcp-host-failed"] += 1
            realm.refused(error, guest, remote.address)
            self._refuse(key, syn, now)
            return
        flow = self._add(key, stream, Quotation.of(packet), now)
        flow.connection.open_passive(syn, now, defer=True)
        self._begin(flow)

    def _way_out(self, remote: Endpoint) -> Callable[[], StreamSocket] | None:
        """How the host reaches a guest's `remote`; None: nobody listens there, or the guest may not."""
        realm = self.realm
        if realm.options.restrict or not realm.is_outside(remote.address):
            return None
        target = Endpoint(realm.to_host(remote.address), remote.port)
        return partial(realm.host.open_stream, target, realm.local_for(target))

    def _refuse(self, key: _Key, segment: Tcp, now: int) -> None:
        reply = reply_to_unknown(segment)
        if reply is not None:
            self.send(key, reply, now)

    # From the host

    def forward(self, stream: StreamSocket, guest: Endpoint, now: int) -> None:
        """A connection inwards, for a stream that the host accepted on a forwarded port."""
        if not self._make_room():
            stream.abort()
            return
        wanted = self.realm.visitors.seen_as(stream.remote, guest.address)
        remote = self.realm.free_endpoint(wanted, lambda each: (guest, each) in self._flows)
        flow = self._add((guest, remote), stream, None, now)
        flow.connection.open_active(now)
        self._begin(flow)

    # From another network, and for one

    def adopt(self, key: _Key, stream: StreamSocket, now: int) -> TcpFlow:
        """A flow whose two halves are there already; its connection is the caller's to restore."""
        flow = self._add(key, stream, None, now)
        self._begin(flow)
        return flow

    def drain(self) -> list[TcpFlow]:
        """Every flow, each the caller's from now on."""
        flows = list(self._flows.values())
        for flow in flows:
            flow.stream.on_change = None
        self._clear()
        return flows

    # The table

    def _make_room(self) -> bool:
        if len(self._half_open) >= _HALF_OPEN:
            self.realm.counters["tcp-half-open-evicted"] += 1
            self._remove(next(iter(self._half_open)))
        if len(self._flows) < _FLOWS:
            return True
        for flow in self._flows.values():
            if flow.connection.state is State.TIME_WAIT:
                self._remove(flow)
                return True
        self.realm.counters["tcp-table-full"] += 1
        return False

    def _add(self, key: _Key, stream: StreamSocket, asked: Quotation | None, now: int) -> TcpFlow:
        guest, remote = key
        octets = _Stream(stream)
        config = self._configs[guest.address.version]
        limit = self._writer.segment_limit if guest.address.version == 4 else None
        if limit != config.segment_limit:
            config = self._configs[guest.address.version] = replace(config, segment_limit=limit)
        connection = TcpConnection(
            config,
            remote,
            guest,
            octets,
            octets,
            self.realm.getrandbits(32),
            self.realm.getrandbits(32),
            self._writer.payload,
        )
        return TcpFlow(key, stream, octets, connection, asked, now, now)

    def _begin(self, flow: TcpFlow) -> None:
        self._flows[flow.key] = flow
        if flow.key[0].address.version == 4:
            self._by_octets[flow_key(*flow.key)] = flow
        self._half_open[flow] = None
        self._changed[flow] = None
        flow.stream.on_change = lambda: self._stream_changed(flow)

    def _stream_changed(self, flow: TcpFlow) -> None:
        self._changed[flow] = None
        self.realm.wakeup()

    def _remove(self, flow: TcpFlow) -> None:
        """Forget a flow; the host's stream ends as the guest's connection did."""
        del self._flows[flow.key]
        self._by_octets.pop(flow_key(*flow.key), None)
        self._half_open.pop(flow, None)
        self._changed.pop(flow, None)
        self._timers.set(flow, None)
        flow.stream.on_change = None
        if flow.connection.error or flow.connection.state not in (State.CLOSED, State.TIME_WAIT):
            flow.stream.abort()
        else:
            flow.stream.close()

    # Both directions

    def transmit(self, now: int) -> Iterator[tuple[FrameView, VnetHeader | None] | None]:
        """Advance each flow that changed: a frame, good until the next is asked for, or None when there are some with the LAN."""
        while self._changed:
            changed, self._changed = self._changed, {}
            for flow in changed:
                if self._flows.get(flow.key) is flow:
                    yield from self._advance(flow, now)

    def _advance(self, flow: TcpFlow, now: int) -> Iterator[tuple[FrameView, VnetHeader | None] | None]:
        connection, stream = flow.connection, flow.stream
        flow.used = now
        if flow.asked is not None and connection.state is not State.CLOSED:
            if stream.error:
                self._connect_failed(flow, flow.asked, now)
                yield None
                return
            if stream.connected:
                flow.asked = None
                connection.accept(now)
        if flow.asked is None:
            if stream.error and connection.state is not State.CLOSED:
                self.realm.counters["tcp-host-reset"] += 1
                connection.abort(now)
            connection.sink_ready(now)
            if stream.urgent:
                connection.urge(stream.urgent)
        guest, remote = flow.key
        short = guest.address.version == 4
        for segment in connection.emit(now):
            frame = (
                self._writer.write(remote, guest, segment, connection.send_mss, now)
                if short and not segment.flags & (SYN | URG)
                else None
            )
            if frame is None:
                self.send(flow.key, segment, now)
            yield frame
        if connection.state is State.CLOSED:
            self._remove(flow)
            return
        if not flow.half_open:
            self._half_open.pop(flow, None)
        self._timers.set(flow, connection.deadline())

    def _connect_failed(self, flow: TcpFlow, asked: Quotation, now: int) -> None:
        error = flow.stream.error
        self.realm.counters[f"tcp-{errno.errorcode.get(error, str(error)).lower()}"] += 1
        if error in _TOLD_BY_ICMP:
            self.realm.unreachable(asked, error, now)
        elif error != errno.ETIMEDOUT:
            flow.connection.abort(now)
            for segment in flow.connection.transmit(now):
                self.send(flow.key, segment, now)
        self._remove(flow)

    def send(self, key: _Key, segment: Tcp, now: int) -> None:
        """A segment to the guest, the long way."""
        guest, remote = key
        payload = segment.pack(remote.address, guest.address)
        side = self.realm.side(guest.address)
        side.datagram(remote.address, guest.address, Protocol.TCP, payload, now, dont_fragment=True)

    def flows(self) -> list[Flow]:
        return [_flow(flow) for flow in self._flows.values()]

    def deadline(self) -> int | None:
        return self._timers.first()

    def expire(self, now: int) -> None:
        for flow in self._timers.due(now):
            flow.connection.expire(now)
            self._changed[flow] = None

    def close(self) -> None:
        """Reset every flow on the host's side; guests are not told, as when a machine is switched off."""
        for flow in self.drain():
            flow.stream.abort()

    def _clear(self) -> None:
        for table in (self._flows, self._by_octets, self._half_open, self._changed, self._timers):
            table.clear()


def _flow(flow: TcpFlow) -> Flow:
    guest, remote = flow.key
    stream = flow.stream
    return Flow(
        protocol="tcp",
        state=flow.state,
        guest=guest,
        remote=remote,
        local=stream.local,
        peer=stream.remote,
        sent=flow.octets.sent,
        received=flow.octets.received,
        guest_queue=stream.available(),
        host_queue=stream.undelivered(),
        opened=flow.opened,
        used=flow.used,
    )
