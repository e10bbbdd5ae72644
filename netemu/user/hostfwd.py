"""Forwarded ports: the only way into a user-mode network (QEMU's hostfwd=, `netemu.user.forward` has the grammar).

TCP: each connection that the host accepts becomes a connection to the guest (`netemu.user.tcp`). The host has accepted by then,
so a guest that refuses, or is not there, is seen by the host's peer as a reset.

UDP: each peer of the forwarded port is seen by the guest as an endpoint of its own (`netemu.user.visitors` says which). What the
guest sends back to that endpoint goes to that peer. A peer is forgotten after 300 s of silence, or when 256 others spoke since.

Forwards come and go while the network runs. A range of ports is one forward: the host gives all of its ports or none. Removing a
forward closes its listeners; TCP connections that came through it go on. A restricted network keeps its forwards, which is what
they are for there.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Protocol, cast

from netemu.errors import HostError, LocalError
from netemu.net.port import FrameView
from netemu.net.sockets import StreamSocket, TrainSocket, train_length
from netemu.user.flow import Flow
from netemu.user.forward import Forward, parse_forward
from netemu.user.idle import IdleTable
from netemu.user.plain import Layout, flow_key
from netemu.user.realm import Realm
from netemu.user.side import Packet, Quotation
from netemu.user.snapshot import PeerSnapshot
from netemu.user.tcp import TcpNat
from netemu.user.trains import KeptDatagram, TrainWriter, kept, train_of
from netemu.user.udp import MAPPING_TIMEOUT
from netemu.wire.address import Endpoint
from netemu.wire.udp import Udp
from netemu.wire.vnet_hdr import VnetHeader

__all__ = ["HostForwards"]

_PEERS: Final = 256


class _Closeable(Protocol):
    """A listener or a UDP socket of the host's."""

    def close(self) -> None: ...


@dataclass(slots=True)
class _Peer:
    """Somebody who sent to a forwarded UDP port. `visible` is what the guest calls it."""

    forward: Forward
    socket: TrainSocket
    address: Endpoint
    visible: Endpoint
    opened: int
    last_reply: Quotation | KeptDatagram | None = None
    sent: int = 0
    received: int = 0
    datagrams_sent: int = 0
    datagrams_received: int = 0


class HostForwards:
    """The forwards of one network."""

    def __init__(self, realm: Realm, tcp: TcpNat, writer: TrainWriter) -> None:
        self._realm = realm
        self._tcp = tcp
        self._writer = writer
        self._ports: dict[Forward, tuple[Forward, ...]] = {}  # each forward's, one by one
        self._sockets: dict[Forward, _Closeable] = {}  # of each port
        self._peers: IdleTable[tuple[Forward, Endpoint], _Peer] = IdleTable(_PEERS, MAPPING_TIMEOUT)
        self._by_guest: dict[bytes, _Peer] = {}  # by `flow_key` of what the guest sends them

    @property
    def forwards(self) -> tuple[Forward, ...]:
        return tuple(self._ports)

    def add(self, rule: str) -> Forward:
        """Begin to forward; the result has the port that was chosen for port 0. Raises `LocalError` and `HostError`."""
        wanted = parse_forward(rule, self._realm.options.places)
        return self._open(wanted)

    def remove(self, forward: Forward) -> None:
        """Stop to forward; raises `LocalError` if there is no such forward."""
        ports = self._ports.pop(forward, None)
        if ports is None:
            present = ", ".join(map(str, self._ports)) or "none"
            raise LocalError(f"forward {forward} is not there, so it cannot be removed; there are: {present}")
        for port in ports:
            self._sockets.pop(port).close()
        for peer in self._peers:
            if peer.forward in ports:
                self._peers.remove((peer.forward, peer.address))
                self._forget(peer)

    def _open(self, wanted: Forward) -> Forward:
        open_one = self._listen if wanted.protocol == "tcp" else self._bind
        sockets: dict[Forward, _Closeable] = {}
        try:
            for each in wanted.each():
                forward, socket = open_one(each)
                sockets[forward] = socket
        except HostError:
            for socket in sockets.values():
                socket.close()
            raise
        forward = replace(next(iter(sockets)), count=wanted.count)
        self._ports[forward] = tuple(sockets)
        self._sockets.update(sockets)
        return forward

    def _listen(self, wanted: Forward) -> tuple[Forward, _Closeable]:
        host = self._realm.host
        listener = host.open_listener(wanted.host) if wanted.path is None else host.open_path_listener(wanted.path)
        forward = replace(wanted, host=listener.local)
        listener.on_accept = partial(self._accepted, forward)
        return forward, listener

    def _bind(self, wanted: Forward) -> tuple[Forward, _Closeable]:
        socket = self._realm.host.open_datagram(wanted.host)
        forward = replace(wanted, host=socket.local)
        socket.on_train = lambda payload, size, source: self._realm.post(
            partial(self._arrived, forward, socket, payload, size, source), train_length(len(payload), size)
        )
        socket.on_error = lambda error, peer: self._realm.post(partial(self._failed, forward, error, peer))
        return forward, socket

    def _accepted(self, forward: Forward, stream: StreamSocket) -> None:
        if self._realm.inbox_full:
            stream.abort()  # rather than to leave it waiting for ever
        self._realm.post(partial(self._tcp.forward, stream, forward.guest))

    # UDP

    def reply(self, packet: Packet, datagram: Udp, now: int) -> bool:
        """A guest's datagram: True if it went to a peer of a forwarded port, whose it is then."""
        guest = Endpoint(packet.source, datagram.source_port)
        peer = self._by_guest.get(flow_key(guest, Endpoint(packet.destination, datagram.destination_port)))
        if peer is None:
            return False
        self._peers.use((peer.forward, peer.address), now)
        peer.last_reply = Quotation.of(packet)
        try:
            peer.socket.send_to(datagram.payload, peer.address)
            peer.sent += len(datagram.payload)
            peer.datagrams_sent += 1
        except HostError as error:
            self._refused(peer, error, now)
        return True

    def reply_fast(self, key: bytes, frame: FrameView, layout: Layout, end: int, header: VnetHeader | None, now: int) -> bool:
        """A `plain` frame with this key, perhaps a train; False if it is to go the long way, or is no reply."""
        peer = self._by_guest.get(key)
        train = None if peer is None else train_of(frame, layout, end, header)
        if peer is None or train is None:
            return False
        payload, size = train
        count = train_length(len(payload), size)
        self._peers.use((peer.forward, peer.address), now)
        peer.last_reply = kept(frame, layout, size, header)
        try:
            peer.socket.send_train(payload, size, peer.address)
            peer.sent += len(payload)
            peer.datagrams_sent += count
        except HostError as error:
            if count > 1:
                return False
            self._refused(peer, error, now)
        return True

    def _refused(self, peer: _Peer, error: HostError, now: int) -> None:
        self._realm.counters["udp-refused"] += 1
        self._realm.refused(error, peer.forward.guest, peer.visible.address)
        self._tell(peer, error.errno or 0, now)

    def _tell(self, peer: _Peer, error: int, now: int) -> None:
        """The last reply went nowhere."""
        last = peer.last_reply
        if last is not None:
            self._realm.unreachable(last if isinstance(last, Quotation) else last.quotation(), error, now)

    def _arrived(self, forward: Forward, socket: TrainSocket, payload: bytes, size: int, source: Endpoint, now: int) -> None:
        if forward not in self._sockets:
            return  # removed while this waited
        peer = self._peers.use((forward, source), now) or self._meet(forward, socket, source, now)
        peer.received += len(payload)
        peer.datagrams_received += train_length(len(payload), size)
        self._writer.put(peer.visible, forward.guest, payload, size, now)

    def _meet(self, forward: Forward, socket: TrainSocket, source: Endpoint, now: int) -> _Peer:
        wanted = self._realm.visitors.seen_as(source, forward.guest.address)
        visible = self._realm.free_endpoint(wanted, lambda each: flow_key(forward.guest, each) in self._by_guest)
        return self._add(forward, socket, source, visible, now)

    def _add(self, forward: Forward, socket: TrainSocket, source: Endpoint, visible: Endpoint, now: int) -> _Peer:
        peer = _Peer(forward, socket, source, visible, now)
        evicted = self._peers.add((forward, source), peer, now)
        if evicted is not None:
            self._realm.counters["udp-evicted"] += 1
            self._forget(evicted)
        self._by_guest[flow_key(forward.guest, visible)] = peer
        return peer

    def _forget(self, peer: _Peer) -> None:
        self._by_guest.pop(flow_key(peer.forward.guest, peer.visible), None)

    def _failed(self, forward: Forward, error: int, address: Endpoint, now: int) -> None:
        peer = self._peers.get((forward, address))
        if peer is not None and peer.last_reply is not None:
            self._realm.counters["udp-unreachable"] += 1
            self._tell(peer, error, now)

    def flows(self) -> list[Flow]:
        return [
            Flow(
                protocol="udp",
                state="forward",
                guest=peer.forward.guest,
                remote=peer.visible,
                local=peer.socket.local,
                peer=peer.address,
                sent=peer.sent,
                received=peer.received,
                datagrams_sent=peer.datagrams_sent,
                datagrams_received=peer.datagrams_received,
                opened=peer.opened,
                used=used,
                expires=expires,
            )
            for peer, used, expires in self._peers.entries()
        ]

    def snapshot(self, now: int) -> tuple[PeerSnapshot, ...]:
        """The peers of forwarded UDP ports."""
        return tuple(
            PeerSnapshot(
                forward=peer.forward,
                address=peer.address,
                visible=peer.visible,
                sent=peer.sent,
                received=peer.received,
                datagrams_sent=peer.datagrams_sent,
                datagrams_received=peer.datagrams_received,
                age=now - peer.opened,
                idle=now - used,
            )
            for peer, used, _ in self._peers.entries()
        )

    def restore(self, forwards: Iterable[Forward]) -> list[tuple[Forward, HostError]]:
        """Forward these ports and no others; those that the host does not give."""
        refused = []
        for present in self.forwards:
            self.remove(present)
        for wanted in forwards:
            try:
                self._open(wanted)
            except HostError as error:
                refused.append((wanted, error))
        return refused

    def restore_peer(self, state: PeerSnapshot, now: int) -> None:
        """Have a peer of a restored forward again."""
        socket = self._sockets.get(state.forward)
        if socket is None or state.forward.protocol != "udp":
            raise HostError(errno.EADDRNOTAVAIL, f"forward {state.forward}, which is not there")
        peer = self._add(state.forward, cast("TrainSocket", socket), state.address, state.visible, now - state.idle)
        self._realm.visitors.seen_as(state.visible, state.forward.guest.address)  # shown as it is, if it was
        peer.opened = now - state.age
        peer.sent, peer.datagrams_sent = state.sent, state.datagrams_sent
        peer.received, peer.datagrams_received = state.received, state.datagrams_received

    def deadline(self) -> int | None:
        return self._peers.deadline()

    def expire(self, now: int) -> None:
        for peer in self._peers.expire(now):
            self._forget(peer)

    def close(self) -> None:
        """Close every listener and socket."""
        for socket in self._sockets.values():
            socket.close()
        self._sockets.clear()
        self._ports.clear()
        self._peers.drain()
        self._by_guest.clear()
