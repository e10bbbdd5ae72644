"""ICMP of a user-mode network: echo.

The network's own addresses answer echo requests themselves; those over IPv4 from a guest that was answered before, without a value
for each layer. Beyond, a request leaves through one of the host's ping sockets,
one for each guest and identifier, and what comes back gets the guest's identifier again and the address that was pinged as its
source. An error that comes back instead (unreachable, time exceeded) becomes an error about the guest's own datagram, from the
router that sent it; so traceroute by ICMP works, as far as the host's sockets tell.

Where ping_group_range grants the host no ping socket, the guest is told so: destination unreachable, communication administratively
prohibited (code 13, RFC 1812 5.2.7.1). The counter `ping-forbidden` and `refusals` say it on our side.

A session lives for 60 s after its last request (RFC 5508 REQ-1), with the last 64 requests that were not answered.
"""

from __future__ import annotations

import errno
import struct
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from netemu.errors import HostError
from netemu.io.host import PingSocket
from netemu.net.clock import SECOND
from netemu.net.port import FrameView
from netemu.user.flow import Flow
from netemu.user.idle import IdleTable
from netemu.user.lan import Lan
from netemu.user.plain import Layout
from netemu.user.realm import Realm
from netemu.user.side import Packet, Quotation
from netemu.user.snapshot import EchoSnapshot
from netemu.wire.address import Endpoint, IPAddress
from netemu.wire.checksum import internet_checksum
from netemu.wire.ether import MINIMUM_LENGTH, EtherType
from netemu.wire.icmpv4 import IcmpType, Icmpv4
from netemu.wire.icmpv6 import Icmpv6
from netemu.wire.ipv4 import Protocol
from netemu.wire.vnet_hdr import VnetHeader

__all__ = ["EchoService"]

SESSION_TIMEOUT: Final = 60 * SECOND  # RFC 5508 REQ-1
_SESSIONS: Final = 64
_PENDING: Final = 64
_REQUEST: Final = b"\x08\0"  # type, code
_REPLY: Final = struct.Struct("!6s6sHBBHHHBBH4s4sBBH")
_ETHERNET: Final = 14
_TTL: Final = 64
_FORBIDDEN: Final = frozenset({errno.EACCES, errno.EPERM})


@dataclass(slots=True)
class _Session:
    guest: IPAddress
    identifier: int
    socket: PingSocket
    opened: int
    pending: dict[int, Quotation] = field(default_factory=dict)  # by sequence number, the oldest first
    sent: int = 0
    received: int = 0
    datagrams_sent: int = 0
    datagrams_received: int = 0


class EchoService:
    """Answers and forwards echo requests."""

    def __init__(self, realm: Realm, lan: Lan) -> None:
        self._realm = realm
        self._lan = lan
        self._answered: set[bytes] = set()  # the addresses of who asked whom over IPv4, as they stand in a frame
        self._sessions: IdleTable[tuple[IPAddress, int], _Session] = IdleTable(_SESSIONS, SESSION_TIMEOUT)

    def receive(self, packet: Packet, message: Icmpv4 | Icmpv6, now: int) -> None:
        """A guest's echo request."""
        side = self._realm.side(packet.destination)
        if side.is_own(packet.destination):
            if len(self._answered) >= _SESSIONS:
                self._answered.clear()
            self._answered.add(packet.source.packed + packet.destination.packed)
            side.echo_reply(packet.destination, packet.source, message.identifier, message.sequence, message.payload, now)
        elif self._realm.options.restrict:
            self._realm.counters["restricted"] += 1
            self._realm.unreachable(Quotation.of(packet), errno.EACCES, now)
        else:
            self._forward(packet, message, now)

    def receive_fast(self, frame: FrameView, layout: Layout, end: int, header: VnetHeader | None, now: int) -> bool | None:
        """A `plain` frame with ICMP; None if it is to go the long way, as all do but requests like one answered before."""
        at = layout.transport
        addresses = bytes(frame[layout.addresses : at])
        if addresses not in self._answered or header is not None or frame[at : at + 2] != _REQUEST:
            return None
        mac, length = self._lan.reachable(addresses[:4], now), end - _ETHERNET
        if mac is None or length > self._realm.options.mtu or internet_checksum(frame[at:end]):
            return None
        number, rest = self._lan.next_identification(), bytes(frame[at + 4 : end])
        sum_ = (0x4500 + length + number + (_TTL << 8 | Protocol.ICMP) + int.from_bytes(addresses, "big")) % 0xFFFF
        reply = _REPLY.pack(
            mac,
            self._lan.mac,
            EtherType.IPV4,
            0x45,
            0,
            length,
            number,
            0,
            _TTL,
            Protocol.ICMP,
            0xFFFF - sum_ if sum_ else 0,
            addresses[4:],
            addresses[:4],
            IcmpType.ECHO_REPLY,
            0,
            internet_checksum(rest),
        )
        self._lan.put_octets((reply + rest).ljust(MINIMUM_LENGTH, b"\0"))
        return True

    def flows(self) -> list[Flow]:
        return [
            Flow(
                protocol="icmp",
                state="active",
                guest=Endpoint(session.guest, session.identifier),
                remote=None,
                sent=session.sent,
                received=session.received,
                datagrams_sent=session.datagrams_sent,
                datagrams_received=session.datagrams_received,
                opened=session.opened,
                used=used,
                expires=expires,
            )
            for session, used, expires in self._sessions.entries()
        ]

    def snapshot(self, now: int) -> tuple[EchoSnapshot, ...]:
        return tuple(
            EchoSnapshot(
                guest=session.guest,
                identifier=session.identifier,
                sent=session.sent,
                received=session.received,
                datagrams_sent=session.datagrams_sent,
                datagrams_received=session.datagrams_received,
                age=now - session.opened,
                idle=now - used,
            )
            for session, used, _ in self._sessions.entries()
        )

    def restore(self, state: EchoSnapshot, now: int) -> None:
        """Have a session again; `HostError` where the host gives no ping socket."""
        session = self._session(state.guest, state.identifier, now - state.idle)
        session.opened = now - state.age
        session.sent, session.datagrams_sent = state.sent, state.datagrams_sent
        session.received, session.datagrams_received = state.received, state.datagrams_received

    def deadline(self) -> int | None:
        return self._sessions.deadline()

    def expire(self, now: int) -> None:
        for session in self._sessions.expire(now):
            session.socket.close()

    def close(self) -> None:
        for session in self._sessions.drain():
            session.socket.close()

    def _forward(self, packet: Packet, message: Icmpv4 | Icmpv6, now: int) -> None:
        quotation = Quotation.of(packet)
        try:
            session = self._session(packet.source, message.identifier, now)
            session.socket.send_echo(packet.destination, message.sequence, message.payload, packet.ttl - 1)
        except HostError as error:
            self._realm.counters["ping-forbidden" if error.errno in _FORBIDDEN else "ping-failed"] += 1
            self._realm.refused(error, Endpoint(packet.source, message.identifier), packet.destination)
            self._realm.unreachable(quotation, error.errno or 0, now)
            return
        session.sent += len(message.payload)
        session.datagrams_sent += 1
        session.pending.pop(message.sequence, None)
        if len(session.pending) >= _PENDING:
            del session.pending[next(iter(session.pending))]
        session.pending[message.sequence] = quotation

    def _session(self, guest: IPAddress, identifier: int, now: int) -> _Session:
        session = self._sessions.use((guest, identifier), now)
        if session is not None:
            return session
        realm, source = self._realm, self._realm.source_for(guest.version)
        socket = realm.open(partial(realm.host.open_ping, guest.version, None if source.is_unspecified else source))
        session = _Session(guest, identifier, socket, now)
        socket.on_reply = lambda *reply: realm.post(partial(self._replied, session, *reply))
        socket.on_error = lambda *error: realm.post(partial(self._failed, session, *error))
        evicted = self._sessions.add((guest, identifier), session, now)
        if evicted is not None:
            realm.counters["ping-evicted"] += 1
            evicted.socket.close()
        return session

    def _replied(self, session: _Session, sequence: int, payload: bytes, source: IPAddress, now: int) -> None:
        quotation = session.pending.get(sequence)
        if quotation is None or quotation.head.destination != source:
            self._realm.counters["ping-unexpected"] += 1
            return
        del session.pending[sequence]
        session.received += len(payload)
        session.datagrams_received += 1
        self._realm.side(source).echo_reply(source, session.guest, session.identifier, sequence, payload, now)

    def _failed(self, session: _Session, kind: int, code: int, reporter: IPAddress, sequence: int, now: int) -> None:
        quotation = session.pending.pop(sequence, None)
        if quotation is None:
            self._realm.counters["ping-unexpected"] += 1
            return
        # An error from the host's own loopback or network is the gateway's, for a guest has no other router there.
        source = self._realm.to_guest(Endpoint(reporter, 0), session.guest.version).address
        self._realm.side(session.guest).relay_error(quotation, kind, code, now, source)
