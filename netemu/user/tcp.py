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

At most 16,384 flows at a time, of which 128 may be half open; of those the oldest gives way of the guest that has the most. A full
table refuses no old flow for a new one, except those in TIME-WAIT. A guest that is silent for two hours is probed (RFC 9293 3.8.4),
and its flow ends if it is gone.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, cast

from netemu.errors import HostError
from netemu.net.clock import SECOND
from netemu.net.port import FrameView
from netemu.net.sockets import StreamSocket
from netemu.stack.deadlines import Deadlines
from netemu.stack.icmp import IcmpReport
from netemu.stack.tcp import PlainSegment, State, TcpConfig, TcpConnection, reply_to_unknown
from netemu.stack.tcp.state import HANDSHAKE
from netemu.user.fastpath import ALIGNED_STAMPS, STAMPS, SegmentWriter, is_syn, packet_of, segment_of
from netemu.user.flow import Flow
from netemu.user.plain import PORTS_LENGTH, Layout, flow_key, opposite
from netemu.user.realm import Realm
from netemu.user.side import Packet, Quotation
from netemu.wire.address import Endpoint, IPAddress
from netemu.wire.errors import WireError
from netemu.wire.ipv4 import IPv4, Protocol
from netemu.wire.ipv6 import MINIMUM_MTU, IPv6
from netemu.wire.tcp import ACK, EMPTY_OPTIONS, FIN, RST, SYN, URG, Tcp, TcpOptions
from netemu.wire.tcp import MINIMUM_HEADER_LENGTH as TCP_HEADER_LENGTH
from netemu.wire.vnet_hdr import VnetHeader

__all__ = ["TcpFlow", "TcpNat"]

_FLOWS: Final = 16_384
_HALF_OPEN: Final = 128
_WAYS: Final = 1024
_KEEPALIVE_IDLE: Final = 7200 * SECOND  # RFC 9293 3.8.4: two hours at least

_TOLD_BY_ICMP: Final = frozenset({errno.ENETUNREACH, errno.ENETDOWN, errno.EHOSTUNREACH, errno.EACCES, errno.EPERM})


@dataclass(slots=True, eq=False)
class TcpFlow:
    """One flow: the guest's connection, and the host's stream that it goes on as."""

    guest: Endpoint
    remote: Endpoint  # its peer, as the guest knows it
    key: bytes  # `flow_key` of its frames
    back: bytes  # `flow_key` of the frames to it
    stream: StreamSocket
    connection: TcpConnection
    asked: Packet | None  # the guest's SYN, while the host's side is not connected
    opened: int
    used: int
    stirred: bool = True  # the host's stream has changed

    @property
    def state(self) -> str:
        return self.connection.state.value if self.asked is None else "CONNECTING"


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
        self._flows: dict[bytes, TcpFlow] = {}  # by `flow_key`
        self._ways: dict[bytes, tuple[IPAddress, IPAddress]] = {}  # between which the long way lets SYNs pass, by their octets
        self._half_open: dict[TcpFlow, None] = {}  # the oldest first
        self._time_wait: dict[TcpFlow, None] = {}  # likewise
        self._changed: dict[TcpFlow, None] = {}
        self._timers: Deadlines[TcpFlow] = Deadlines()
        self._look: int | None = None  # what `deadline` said last

    # From the guests

    def receive(self, packet: Packet, now: int) -> None:
        """A guest's segment; raises `WireError`."""
        segment = Tcp.parse(packet.payload, packet.source, packet.destination)
        guest, remote = Endpoint(packet.source, segment.source_port), Endpoint(packet.destination, segment.destination_port)
        flow = self._flows.get(flow_key(guest, remote))
        if flow is not None and flow.connection.accepts_new_incarnation(segment, now):
            self._remove(flow)
            flow = None
        if flow is not None:
            flow.connection.receive(segment, now)
            self._changed[flow] = None
        elif segment.flags & (SYN | ACK | RST) == SYN:
            if len(self._ways) >= _WAYS:
                self._ways.clear()
            self._ways[guest.address.packed + remote.address.packed] = guest.address, remote.address
            self._open(guest, remote, segment, lambda: packet, now)
        else:
            self.realm.counters["tcp-unknown"] += 1
            self._refuse(guest, remote, segment, now)

    def receive_fast(self, frame: FrameView, layout: Layout, end: int, header: VnetHeader | None, now: int) -> bool | None:
        """A `plain` frame; None if it is to go the long way.

        Else: may there be something to send, or an earlier deadline? Most often not: the ACK waits for an answer to go with.
        """
        key = layout.key(frame)
        flow = self._flows.get(key)
        if flow is None:
            return self._open_fast(key, frame, layout, end, header, now)
        segment = segment_of(frame, layout, end, header)
        if segment is None:
            return None
        sequence, acknowledgment, flags, window, stamps, payload = segment
        connection = flow.connection
        flow.used = now
        predicted = not flags & FIN and connection.receive_predicted(sequence, acknowledgment, window, stamps, payload, now)
        if not predicted:
            connection.receive(_segment(flow.guest.port, flow.remote.port, segment), now)
        if connection.has_segments():
            self._changed[flow] = None
            return True
        return self._set_timer(flow) if predicted else self._settle(flow)

    def guest_unreachable(self, packet: IPv4 | IPv6, now: int) -> None:
        """A segment of ours found no guest."""
        ports = packet.payload
        remote = Endpoint(packet.source, int.from_bytes(ports[:2], "big"))
        guest = Endpoint(packet.destination, int.from_bytes(ports[2:4], "big"))
        flow = self._flows.get(flow_key(guest, remote))
        if flow is not None:
            flow.connection.unreachable(errno.EHOSTUNREACH, now)
            self._changed[flow] = None

    def reported(self, report: IcmpReport, now: int) -> bool:
        """A guest's ICMP error about a segment of ours, False if there is no such flow.

        It ends a flow in its handshake. Where the guest's own network takes less than our frame, the flow's segments get smaller.
        """
        ours, guests = report.ports
        flow = self._flows.get(flow_key(Endpoint(report.destination, guests), Endpoint(report.source, ours)))
        if flow is None:
            return False
        if report.errno == errno.EMSGSIZE:
            side = self.realm.side(report.source)
            header, mtu = side.header_length + TCP_HEADER_LENGTH, report.path_mtu
            if side.family == 6 and mtu < MINIMUM_MTU:
                return False  # RFC 8201 4: discarded
            flow.connection.path_mss_lowered(mtu - header, int.from_bytes(report.transport[4:8], "big"), now)
        else:
            flow.connection.unreachable(report.errno, now)
        self._changed[flow] = None
        return True

    def _open_fast(
        self, key: bytes, frame: FrameView, layout: Layout, end: int, header: VnetHeader | None, now: int
    ) -> bool | None:
        """A SYN between addresses of which the long way brought one before; None if it is to go there."""
        way = self._ways.get(key[:-PORTS_LENGTH])
        if way is None or self.realm.is_own(way[0]) or not is_syn(frame, layout, end, header):
            return None
        try:
            syn = Tcp.parse(bytes(frame[layout.transport : end]))
        except WireError:
            return None
        guest, remote = Endpoint(way[0], syn.source_port), Endpoint(way[1], syn.destination_port)
        self._open(guest, remote, syn, lambda: packet_of(frame, layout, header), now)
        return True

    def _open(self, guest: Endpoint, remote: Endpoint, syn: Tcp, packet: Callable[[], Packet], now: int) -> None:
        """A connection outwards, for a SYN and the `packet` that brought it."""
        realm = self.realm
        opener = self.servers.get(remote) or self._way_out(remote)
        if opener is None:
            realm.counters["restricted" if realm.options.restrict else "tcp-refused"] += 1
            self._refuse(guest, remote, syn, now)
            return
        if not self._make_room():
            return  # the guest asks again
        try:
            stream = self.realm.open(opener)
        except HostError as error:
            realm.counters["tcp-host-failed"] += 1
            realm.refused(error, guest, remote.address)
            self._refuse(guest, remote, syn, now)
            return
        flow = self._add(guest, remote, stream, None if stream.connected else packet(), now)
        flow.connection.open_passive(syn, now, defer=flow.asked is not None)
        self._begin(flow)

    def _way_out(self, remote: Endpoint) -> Callable[[], StreamSocket] | None:
        """How the host reaches a guest's `remote`; None: nobody listens there, or the guest may not."""
        realm = self.realm
        if realm.options.restrict or not realm.is_outside(remote.address):
            return None
        target = Endpoint(realm.to_host(remote.address), remote.port)
        return partial(realm.host.open_stream, target, realm.local_for(target))

    def _refuse(self, guest: Endpoint, remote: Endpoint, segment: Tcp, now: int) -> None:
        reply = reply_to_unknown(segment)
        if reply is not None:
            self.send(guest, remote, reply, now)

    # From the host

    def forward(self, stream: StreamSocket, guest: Endpoint, now: int) -> None:
        """A connection inwards, for a stream that the host accepted on a forwarded port."""
        if not self._make_room():
            stream.abort()
            return
        wanted = self.realm.visitors.seen_as(stream.remote, guest.address)
        remote = self.realm.free_endpoint(wanted, lambda each: flow_key(guest, each) in self._flows)
        flow = self._add(guest, remote, stream, None, now)
        flow.connection.open_active(now)
        self._begin(flow)

    # From another network, and for one

    def adopt(self, guest: Endpoint, remote: Endpoint, stream: StreamSocket, now: int) -> TcpFlow:
        """A flow whose two halves are there already; its connection is the caller's to restore."""
        flow = self._add(guest, remote, stream, None, now)
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
            self._remove(self._oldest_of_the_crowd())
        if len(self._flows) < _FLOWS:
            return True
        if self._time_wait:
            self._remove(next(iter(self._time_wait)))
            return True
        self.realm.counters["tcp-table-full"] += 1
        return False

    def _oldest_of_the_crowd(self) -> TcpFlow:
        """Of the guest with the most half-open flows the oldest, so that one guest's flood is not the others' loss."""
        ((crowd, _),) = Counter(flow.guest.address for flow in self._half_open).most_common(1)
        return next(flow for flow in self._half_open if flow.guest.address == crowd)

    def _add(self, guest: Endpoint, remote: Endpoint, stream: StreamSocket, asked: Packet | None, now: int) -> TcpFlow:
        config = self._configs[guest.address.version]
        limit = self._writer.segment_limit(guest.address.version)
        if limit != config.segment_limit:
            config = self._configs[guest.address.version] = replace(config, segment_limit=limit)
        connection = TcpConnection(
            config,
            remote,
            guest,
            stream,
            stream,
            *divmod(self.realm.getrandbits(64), 1 << 32),
            self._writer.payload,
        )
        key = flow_key(guest, remote)
        return TcpFlow(guest, remote, key, opposite(key), stream, connection, asked, now, now)

    def _begin(self, flow: TcpFlow) -> None:
        self._flows[flow.key] = flow
        self._half_open[flow] = None
        self._changed[flow] = None
        flow.stream.on_change = partial(self._stream_changed, flow)

    def _stream_changed(self, flow: TcpFlow) -> None:
        flow.stirred = True
        self._changed[flow] = None
        self.realm.wakeup()

    def _remove(self, flow: TcpFlow) -> None:
        """Forget a flow; the host's stream ends as the guest's connection did."""
        del self._flows[flow.key]
        self._half_open.pop(flow, None)
        self._time_wait.pop(flow, None)
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
        connection = flow.connection
        flow.used = now
        if flow.stirred:
            flow.stirred = False
            if self._stirred(flow, now):
                yield None
                return
        while (waits := connection.has_segments()) and (plain := connection.next_plain(now)) is not None:
            sequence, acknowledgment, flags, window, stamps, payload = plain
            options = b"" if stamps is None else STAMPS.pack(ALIGNED_STAMPS, *stamps)
            size, mss = len(payload), connection.send_mss
            frame = self._writer.write(flow.back, sequence, acknowledgment, flags, window, options, size, mss, now)
            if frame is None:
                self.send(flow.guest, flow.remote, _segment(flow.remote.port, flow.guest.port, plain), now)
            yield frame
        if waits:
            for segment in connection.emit(now):
                yield self._frame(flow, segment, now)
        self._settle(flow)

    def _frame(self, flow: TcpFlow, segment: Tcp, now: int) -> tuple[FrameView, VnetHeader | None] | None:
        """The frame of a segment, or None if the LAN has it."""
        if not segment.flags & URG:
            options, size, mss = segment.options.pack(), len(segment.payload), flow.connection.send_mss
            fields = segment.sequence, segment.acknowledgment, segment.flags, segment.window
            frame = self._writer.write(flow.back, *fields, options, size, mss, now)
            if frame is not None:
                return frame
        self.send(flow.guest, flow.remote, segment, now)
        return None

    def _stirred(self, flow: TcpFlow, now: int) -> bool:
        """See what has become of the host's stream; True if that was the flow's end."""
        connection, stream = flow.connection, flow.stream
        if flow.asked is not None and connection.state is not State.CLOSED:
            if stream.error:
                self._connect_failed(flow, flow.asked, now)
                return True
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
        return False

    def _settle(self, flow: TcpFlow) -> bool:
        """Keep the tables in step with the connection's state; is there an earlier deadline?"""
        connection = flow.connection
        state = connection.state
        if state is State.CLOSED:
            self._remove(flow)
            return False
        if state is State.TIME_WAIT:
            self._time_wait[flow] = None
        if self._half_open and state not in HANDSHAKE:
            self._half_open.pop(flow, None)
        return self._set_timer(flow)

    def _set_timer(self, flow: TcpFlow) -> bool:
        deadline = flow.connection.deadline()
        self._timers.set(flow, deadline)
        return deadline is not None and (self._look is None or deadline < self._look)

    def _connect_failed(self, flow: TcpFlow, asked: Packet, now: int) -> None:
        error = flow.stream.error
        self.realm.counters[f"tcp-{errno.errorcode.get(error, str(error)).lower()}"] += 1
        if error in _TOLD_BY_ICMP:
            self.realm.unreachable(Quotation.of(asked), error, now)
        elif error != errno.ETIMEDOUT:
            flow.connection.abort(now)
            for segment in flow.connection.transmit(now):
                self.send(flow.guest, flow.remote, segment, now)
        self._remove(flow)

    def send(self, guest: Endpoint, remote: Endpoint, segment: Tcp, now: int) -> None:
        """A segment to the guest, the long way."""
        payload = segment.pack(remote.address, guest.address)
        side = self.realm.side(guest.address)
        side.datagram(remote.address, guest.address, Protocol.TCP, payload, now, dont_fragment=True)

    def flows(self) -> list[Flow]:
        return [_flow(flow) for flow in self._flows.values()]

    def deadline(self) -> int | None:
        self._look = self._timers.next_look()
        return self._look

    def expire(self, now: int) -> None:
        for flow in self._timers.due(now):
            flow.connection.expire(now)
            self._changed[flow] = None

    def close(self) -> None:
        """Reset every flow on the host's side; guests are not told, as when a machine is switched off."""
        for flow in self.drain():
            flow.stream.abort()

    def _clear(self) -> None:
        for table in (self._flows, self._half_open, self._time_wait, self._changed, self._timers):
            table.clear()


def _segment(source_port: int, destination_port: int, plain: PlainSegment) -> Tcp:
    """The value that has these fields."""
    sequence, acknowledgment, flags, window, stamps, payload = plain
    options = EMPTY_OPTIONS if stamps is None else TcpOptions(timestamps=stamps)
    octets = cast("bytes", payload)  # a view serves wherever octets are only read
    return Tcp(source_port, destination_port, sequence, acknowledgment, flags, window, octets, 0, options)


def _flow(flow: TcpFlow) -> Flow:
    stream = flow.stream
    return Flow(
        protocol="tcp",
        state=flow.state,
        guest=flow.guest,
        remote=flow.remote,
        local=stream.local,
        peer=stream.remote,
        sent=flow.connection.octets_received,
        received=flow.connection.octets_acknowledged,
        guest_queue=stream.available(),
        host_queue=stream.undelivered(),
        opened=flow.opened,
        used=flow.used,
    )
