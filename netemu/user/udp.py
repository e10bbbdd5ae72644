"""UDP of a user-mode network: address and port translation onto the host's sockets (RFC 4787).

Each guest endpoint gets one socket, whatever it talks to (endpoint-independent mapping, REQ-1), with the guest's own port if
the host has it free. A mapping ends 300 s after its last datagram in either direction (REQ-5 and REQ-6: at least two minutes,
refreshed by what goes out), or when 1024 others were used since, or when the host has no descriptors left for something else.

What comes in passes only from an address that the guest has sent to through this mapping (address-dependent filtering, REQ-8): the
network is a firewall for what nobody asked for. A reply comes from the endpoint that the guest used: the gateway, where
that stands for the host's loopback.

When the host learns that a datagram went nowhere, the guest gets the ICMP error about that datagram: port unreachable from the
address the guest had sent to, the others from the gateway. Broadcast and multicast are not carried.

Datagrams come and go in trains (`netemu.user.trains`): those of one flow that are equally long, in one call to the host. What is
done for a train is what would be done for its datagrams one after the other.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from functools import partial
from typing import Final, NamedTuple

from netemu.errors import HostError
from netemu.net.clock import SECOND
from netemu.net.port import FrameView
from netemu.net.sockets import TrainSocket, train_length
from netemu.user.flow import Flow
from netemu.user.idle import IdleTable
from netemu.user.plain import Layout, flow_key
from netemu.user.realm import Realm
from netemu.user.side import Packet, Quotation
from netemu.user.snapshot import MappingSnapshot
from netemu.user.trains import KeptDatagram, TrainWriter, kept, train_of
from netemu.wire.address import Endpoint
from netemu.wire.udp import Udp
from netemu.wire.vnet_hdr import VnetHeader

__all__ = ["MAPPING_TIMEOUT", "UdpNat"]

MAPPING_TIMEOUT: Final = 300 * SECOND  # RFC 4787 REQ-5: two minutes at least, five recommended
_MAPPINGS: Final = 1024
_WAYS: Final = 4096
_REMOTES: Final = 64  # of one mapping: whom it lets in, and whose errors it can report


@dataclass(slots=True)
class _Mapping:
    guest: Endpoint
    socket: TrainSocket
    opened: int
    # The last datagram to each, None if that was to another network of ours; the longest idle first.
    remotes: dict[Endpoint, Quotation | KeptDatagram | None] = field(default_factory=dict)
    sent: int = 0
    received: int = 0
    datagrams_sent: int = 0
    datagrams_received: int = 0

    def admits(self, remote: Endpoint) -> bool:
        return remote in self.remotes or any(known.address == remote.address for known in self.remotes)


class _Way(NamedTuple):
    """The short way of a guest's datagrams to one remote, which is `target` to the host."""

    mapping: _Mapping
    remote: Endpoint
    target: Endpoint


class UdpNat:
    """Carries guests' datagrams to the host and the answers back. Counters: `udp-` and what happened."""

    def __init__(self, realm: Realm, writer: TrainWriter) -> None:
        self._realm = realm
        self._writer = writer
        self._ways: dict[bytes, _Way] = {}  # by `flow_key`
        self._mappings: IdleTable[Endpoint, _Mapping] = IdleTable(_MAPPINGS, MAPPING_TIMEOUT)
        realm.spare = self._spare

    def receive(self, packet: Packet, datagram: Udp, now: int) -> None:
        """A guest's datagram for the gateway or for an address beyond it."""
        realm = self._realm
        guest = Endpoint(packet.source, datagram.source_port)
        remote = Endpoint(packet.destination, datagram.destination_port)
        quotation = Quotation.of(packet)
        if realm.options.restrict:
            realm.counters["restricted"] += 1
            realm.unreachable(quotation, errno.EACCES, now)
            return
        try:
            mapping = self._mapping(guest, now)
            _remember(mapping, remote, quotation)
            target = Endpoint(realm.to_host(remote.address), remote.port)
            if len(self._ways) >= _WAYS:
                self._ways.clear()  # they come again with the next datagram
            self._ways[flow_key(guest, remote)] = _Way(mapping, remote, target)
            mapping.socket.send_to(datagram.payload, target, max(packet.ttl - 1, 1))
            mapping.sent += len(datagram.payload)
            mapping.datagrams_sent += 1
        except HostError as error:
            realm.counters["udp-refused"] += 1
            realm.refused(error, guest, remote.address)
            realm.unreachable(quotation, error.errno or 0, now)

    def receive_fast(self, key: bytes, frame: FrameView, layout: Layout, end: int, header: VnetHeader | None, now: int) -> bool:
        """A `plain` frame with this key, perhaps a train; False if it is to go the long way."""
        way = self._ways.get(key)
        if way is None or self._mappings.get(way.mapping.guest) is not way.mapping:
            return False
        train = train_of(frame, layout, end, header)
        if train is None:
            return False
        mapping, (payload, size) = way.mapping, train
        count = train_length(len(payload), size)
        last = kept(frame, layout, size, header)
        self._mappings.use(mapping.guest, now)
        _remember(mapping, way.remote, last)
        try:
            mapping.socket.send_train(payload, size, way.target, frame[layout.ttl] - 1)
            mapping.sent += len(payload)
            mapping.datagrams_sent += count
        except HostError as error:
            if count > 1:
                return False
            self._realm.counters["udp-refused"] += 1
            self._realm.refused(error, mapping.guest, way.remote.address)
            self._realm.unreachable(last.quotation(), error.errno or 0, now)
        return True

    def flows(self) -> list[Flow]:
        return [
            Flow(
                protocol="udp",
                state="active",
                guest=mapping.guest,
                remote=None,
                local=mapping.socket.local,
                sent=mapping.sent,
                received=mapping.received,
                datagrams_sent=mapping.datagrams_sent,
                datagrams_received=mapping.datagrams_received,
                opened=mapping.opened,
                used=used,
                expires=expires,
            )
            for mapping, used, expires in self._mappings.entries()
        ]

    def snapshot(self, now: int) -> tuple[MappingSnapshot, ...]:
        return tuple(
            MappingSnapshot(
                guest=mapping.guest,
                local=mapping.socket.local,
                remotes=tuple(mapping.remotes),
                sent=mapping.sent,
                received=mapping.received,
                datagrams_sent=mapping.datagrams_sent,
                datagrams_received=mapping.datagrams_received,
                age=now - mapping.opened,
                idle=now - used,
            )
            for mapping, used, _ in self._mappings.entries()
        )

    def restore(self, state: MappingSnapshot, now: int) -> None:
        """Have a mapping again, with its port; `HostError` where the host does not give that."""
        mapping = self._add(state.guest, self._realm.host.open_datagram(state.local), now - state.idle)
        mapping.opened = now - state.age
        mapping.remotes = dict.fromkeys(state.remotes)
        mapping.sent, mapping.datagrams_sent = state.sent, state.datagrams_sent
        mapping.received, mapping.datagrams_received = state.received, state.datagrams_received

    def deadline(self) -> int | None:
        return self._mappings.deadline()

    def expire(self, now: int) -> None:
        for mapping in self._mappings.expire(now):
            mapping.socket.close()

    def close(self) -> None:
        for mapping in self._mappings.drain():
            mapping.socket.close()

    def _mapping(self, guest: Endpoint, now: int) -> _Mapping:
        mapping = self._mappings.use(guest, now)
        if mapping is not None:
            return mapping
        return self._add(guest, self._open(guest), now)

    def _add(self, guest: Endpoint, socket: TrainSocket, now: int) -> _Mapping:
        realm = self._realm
        mapping = _Mapping(guest, socket, now)
        socket.on_train = lambda payload, size, source: realm.post(
            partial(self._answered, mapping, payload, size, source), train_length(len(payload), size)
        )
        socket.on_error = lambda error, destination: realm.post(partial(self._failed, mapping, error, destination))
        evicted = self._mappings.add(guest, mapping, now)
        if evicted is not None:
            realm.counters["udp-evicted"] += 1
            evicted.socket.close()
        return mapping

    def _open(self, guest: Endpoint) -> TrainSocket:
        realm = self._realm
        source = realm.source_for(guest.address.version)
        try:
            return realm.open(partial(realm.host.open_datagram, Endpoint(source, guest.port)))
        except HostError:  # in use there, or a port for which the host wants a privilege
            return realm.open(partial(realm.host.open_datagram, Endpoint(source, 0)))

    def _spare(self) -> bool:
        """End the mapping that is idle for the longest time; False if there is none."""
        mapping = self._mappings.pop()
        if mapping is None:
            return False
        self._realm.counters["udp-evicted"] += 1
        mapping.socket.close()
        return True

    def _answered(self, mapping: _Mapping, payload: bytes, size: int, source: Endpoint, now: int) -> None:
        count = train_length(len(payload), size)
        remote = self._realm.to_guest(source, mapping.guest.address.version)
        if not mapping.admits(remote):
            self._realm.counters["udp-filtered"] += count
            return
        if self._mappings.get(mapping.guest) is not mapping:
            self._realm.counters["udp-late"] += count  # the mapping ended while this waited
            return
        self._mappings.use(mapping.guest, now)
        mapping.received += len(payload)
        mapping.datagrams_received += count
        self._writer.put(remote, mapping.guest, payload, size, now)

    def _failed(self, mapping: _Mapping, error: int, destination: Endpoint, now: int) -> None:
        quotation = mapping.remotes.get(self._realm.to_guest(destination, mapping.guest.address.version))
        if quotation is None:
            self._realm.counters["udp-late"] += 1
            return
        self._realm.counters["udp-unreachable"] += 1
        self._realm.unreachable(quotation if isinstance(quotation, Quotation) else quotation.quotation(), error, now)


def _remember(mapping: _Mapping, remote: Endpoint, quotation: Quotation | KeptDatagram) -> None:
    """The last datagram to `remote` is this one; of too many remotes the longest idle is forgotten."""
    mapping.remotes.pop(remote, None)
    if len(mapping.remotes) >= _REMOTES:
        del mapping.remotes[next(iter(mapping.remotes))]
    mapping.remotes[remote] = quotation
