"""DNS of a user-mode network: questions to its DNS address go to the host's first name server, over UDP (RFC 1035 4.2.1). The
families of both ways are their own: a question that came over IPv6 goes on over IPv4 if that is how the host reaches its server.

A question is forwarded as it came, from a socket of its own: a port that nobody can guess, and nothing to tell apart when
answers come. An answer passes, as it came, if it is from the server asked, has the question's identification, and repeats the
question (names without regard to case, RFC 4343). What else comes is counted and ignored.

The guest gets an answer in every case: SERVFAIL (RFC 1035 4.1.1) at once when the host has no name server or cannot reach it,
and after four seconds of silence, before the usual resolver asks again after five. A question repeated while it waits is sent
once more.

Questions over TCP are connections like any other, to the same server (`netemu.user.tcp`).
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from netemu.errors import HostError
from netemu.net.clock import SECOND
from netemu.net.sockets import DatagramSocket
from netemu.user.flow import Flow
from netemu.user.idle import IdleTable
from netemu.user.realm import Realm
from netemu.user.side import UNSPECIFIED, Packet, Quotation
from netemu.wire.address import Endpoint
from netemu.wire.dns import DnsMessage, Question, ResponseCode
from netemu.wire.errors import WireError
from netemu.wire.udp import Udp

__all__ = ["ANSWER_TIMEOUT", "DNS_PORT", "DnsForwarder"]

DNS_PORT: Final = 53  # RFC 1035 4.2
ANSWER_TIMEOUT: Final = 4 * SECOND
_WAITING: Final = 128  # questions at a time


@dataclass(slots=True)
class _Asked:
    guest: Endpoint
    address: Endpoint  # the DNS address that the guest asked
    query: DnsMessage
    octets: bytes
    server: Endpoint
    socket: DatagramSocket


class DnsForwarder:
    """Asks the host's name server for the guests. Counters: `dns-` and what happened."""

    def __init__(self, realm: Realm) -> None:
        self._realm = realm
        self._waiting: IdleTable[tuple[Endpoint, int], _Asked] = IdleTable(_WAITING, ANSWER_TIMEOUT)

    def receive(self, packet: Packet, datagram: Udp, now: int) -> None:
        """A guest's datagram for port 53 of the DNS address; raises `WireError`."""
        realm = self._realm
        guest = Endpoint(packet.source, datagram.source_port)
        address = Endpoint(packet.destination, DNS_PORT)
        if realm.options.restrict:
            realm.counters["restricted"] += 1
            realm.unreachable(Quotation.of(packet), errno.EACCES, now)
            return
        query = DnsMessage.parse(datagram.payload)
        if query.response:
            realm.counters["dns-not-a-question"] += 1
            return
        try:
            self._ask(guest, address, query, datagram.payload, now)
        except HostError as error:
            realm.refused(error, guest, packet.destination)
            self._drop(guest, query)
            self._fail(guest, address, query, now)

    def flows(self) -> list[Flow]:
        return [Flow("dns", "active", asked.guest, asked.address, len(asked.octets), 0) for asked in self._waiting]

    def deadline(self) -> int | None:
        return self._waiting.deadline()

    def expire(self, now: int) -> None:
        for asked in self._waiting.expire(now):
            asked.socket.close()
            self._fail(asked.guest, asked.address, asked.query, now)

    def close(self) -> None:
        for asked in self._waiting.drain():
            asked.socket.close()

    def _ask(self, guest: Endpoint, address: Endpoint, query: DnsMessage, octets: bytes, now: int) -> None:
        asked = self._waiting.get((guest, query.identification))
        if asked is None or (asked.address, asked.octets) != (address, octets):
            self._drop(guest, query)
            asked = self._begin(guest, address, query, octets, now)
        asked.socket.send_to(octets, asked.server)

    def _begin(self, guest: Endpoint, address: Endpoint, query: DnsMessage, octets: bytes, now: int) -> _Asked:
        realm = self._realm
        servers = realm.host.nameservers()
        if not servers:
            raise HostError(errno.EDESTADDRREQ, "ask a name server, of which the host has none")
        socket = realm.host.open_datagram(Endpoint(UNSPECIFIED[servers[0].address.version], 0))
        asked = _Asked(guest, address, query, octets, servers[0], socket)
        asked.socket.on_datagram = lambda data, source: realm.post(partial(self._answered, asked, data, source))
        asked.socket.on_error = lambda error, _: realm.post(partial(self._refused, asked, error))
        evicted = self._waiting.add((guest, query.identification), asked, now)
        if evicted is not None:
            realm.counters["dns-evicted"] += 1
            evicted.socket.close()
        return asked

    def _drop(self, guest: Endpoint, query: DnsMessage) -> None:
        asked = self._waiting.remove((guest, query.identification))
        if asked is not None:
            asked.socket.close()

    def _fail(self, guest: Endpoint, address: Endpoint, query: DnsMessage, now: int) -> None:
        self._realm.counters["dns-failed"] += 1
        reply = DnsMessage(
            query.identification,
            query.questions,
            response=True,
            opcode=query.opcode,
            recursion_desired=query.recursion_desired,
            recursion_available=True,
            response_code=ResponseCode.SERVER_FAILURE,
        )
        self._realm.send_udp(address, guest, reply.pack(), now)

    def _answered(self, asked: _Asked, data: bytes, source: Endpoint, now: int) -> None:
        if not self._is_waiting(asked):
            return
        try:
            matches = source == asked.server and _answers(DnsMessage.parse(data), asked.query)
        except WireError:
            matches = False
        if not matches:
            self._realm.counters["dns-mismatched"] += 1
            return
        self._drop(asked.guest, asked.query)
        self._realm.send_udp(asked.address, asked.guest, data, now)

    def _refused(self, asked: _Asked, error: int, now: int) -> None:
        if self._is_waiting(asked):
            self._realm.refused(HostError(error, "ask a name server"), asked.guest, asked.server.address)
            self._drop(asked.guest, asked.query)
            self._fail(asked.guest, asked.address, asked.query, now)

    def _is_waiting(self, asked: _Asked) -> bool:
        return self._waiting.get((asked.guest, asked.query.identification)) is asked


def _answers(reply: DnsMessage, query: DnsMessage) -> bool:
    return (
        reply.response
        and reply.identification == query.identification
        and [_folded(question) for question in reply.questions] == [_folded(question) for question in query.questions]
    )


def _folded(question: Question) -> Question:
    return replace(question, name=question.name.lower())
