"""DNS of a user-mode network: questions to its DNS address go to the host's name servers, over UDP (RFC 1035 4.2.1). The families
of both ways are their own: a question that came over IPv6 goes on over IPv4 if that is how the host reaches its server. Names
of the test's own are answered here (`netemu.user.dns_names`), in a restricted network too.

A question is forwarded as it came, from a socket of its own: a port that nobody can guess, and nothing to tell apart when
answers come. An answer passes, as it came, if it is from the server asked, has the question's identification, and repeats the
question (names without regard to case, RFC 4343). What else comes is counted and ignored.

The first server is asked first; the next one when it cannot be reached, when it was silent for four seconds, and when the guest
repeats its question. The guest gets an answer in every case: SERVFAIL (RFC 1035 4.1.1) when the host has no name server, and
when the last one has failed. With one server that is before the usual resolver asks again after five seconds.

Questions of more than 4096 octets are not read (RFC 6891 6.2.5 suggests that size for any message). An answer that says it is
truncated passes as it is; the guest asks again over TCP then (`netemu.user.dns_stream`).
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from netemu.errors import HostError
from netemu.net.clock import SECOND
from netemu.net.sockets import DatagramSocket
from netemu.user.dns_names import DnsNames
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
_LARGEST: Final = 4096  # octets of a question


@dataclass(slots=True)
class _Asked:
    guest: Endpoint
    address: Endpoint  # the DNS address that the guest asked
    query: DnsMessage
    octets: bytes
    server: Endpoint
    socket: DatagramSocket
    others: list[Endpoint]  # the name servers that were not asked yet
    opened: int


class DnsForwarder:
    """Asks the host's name server for the guests. Counters: `dns-` and what happened."""

    def __init__(self, realm: Realm, names: DnsNames) -> None:
        self._realm = realm
        self._names = names
        self._waiting: IdleTable[tuple[Endpoint, int], _Asked] = IdleTable(_WAITING, ANSWER_TIMEOUT)

    def receive(self, packet: Packet, datagram: Udp, now: int) -> None:
        """A guest's datagram for port 53 of the DNS address; raises `WireError`."""
        realm = self._realm
        guest = Endpoint(packet.source, datagram.source_port)
        address = Endpoint(packet.destination, DNS_PORT)
        if len(datagram.payload) > _LARGEST:
            realm.counters["dns-too-large"] += 1
            return
        query = DnsMessage.parse(datagram.payload)
        if query.response:
            realm.counters["dns-not-a-question"] += 1
            return
        answer = self._names.answer(query)
        if answer is not None:
            realm.send_udp(address, guest, answer.pack(), now)
            return
        if realm.options.restrict:
            realm.counters["restricted"] += 1
            realm.unreachable(Quotation.of(packet), errno.EACCES, now)
            return
        try:
            self._ask(guest, address, query, datagram.payload, now)
        except HostError as error:
            realm.refused(error, guest, packet.destination)
            self._drop(guest, query)
            self._fail(guest, address, query, now)

    def flows(self) -> list[Flow]:
        return [
            Flow(
                protocol="dns",
                state="active",
                guest=asked.guest,
                remote=asked.address,
                local=asked.socket.local,
                peer=asked.server,
                sent=len(asked.octets),
                received=0,
                datagrams_sent=1,
                opened=asked.opened,
                used=used,
                expires=expires,
            )
            for asked, used, expires in self._waiting.entries()
        ]

    def deadline(self) -> int | None:
        return self._waiting.deadline()

    def expire(self, now: int) -> None:
        for asked in self._waiting.expire(now):
            if self._ask_next(asked):
                self._waiting.add((asked.guest, asked.query.identification), asked, now)
            else:
                asked.socket.close()
                self._fail(asked.guest, asked.address, asked.query, now)

    def close(self) -> None:
        for asked in self._waiting.drain():
            asked.socket.close()

    def _ask(self, guest: Endpoint, address: Endpoint, query: DnsMessage, octets: bytes, now: int) -> None:
        asked = self._waiting.get((guest, query.identification))
        if asked is None or (asked.address, asked.octets) != (address, octets):
            self._drop(guest, query)
            self._begin(guest, address, query, octets, now)
        elif not self._ask_next(asked):
            asked.socket.send_to(octets, asked.server)

    def _ask_next(self, asked: _Asked) -> bool:
        """Ask the next name server that can be asked; False if there is none."""
        while asked.others:
            asked.socket.close()
            asked.server = asked.others.pop(0)
            self._realm.counters["dns-next-server"] += 1
            try:
                asked.socket = self._open(asked.server)
                self._listen(asked)
                asked.socket.send_to(asked.octets, asked.server)
            except HostError:
                continue
            return True
        return False

    def _open(self, server: Endpoint) -> DatagramSocket:
        realm = self._realm
        return realm.open(partial(realm.host.open_datagram, Endpoint(UNSPECIFIED[server.address.version], 0)))

    def _listen(self, asked: _Asked) -> None:
        realm, socket = self._realm, asked.socket
        socket.on_datagram = lambda data, source: realm.post(partial(self._answered, asked, data, source))
        socket.on_error = lambda error, _: realm.post(partial(self._refused, asked, socket, error))

    def _begin(self, guest: Endpoint, address: Endpoint, query: DnsMessage, octets: bytes, now: int) -> None:
        realm = self._realm
        servers = realm.host.nameservers()
        if not servers:
            raise HostError(errno.EDESTADDRREQ, "ask a name server, of which the host has none")
        socket = self._open(servers[0])
        asked = _Asked(guest, address, query, octets, servers[0], socket, servers[1:], now)
        self._listen(asked)
        evicted = self._waiting.add((guest, query.identification), asked, now)
        if evicted is not None:
            realm.counters["dns-evicted"] += 1
            evicted.socket.close()
        try:
            socket.send_to(octets, asked.server)
        except HostError:
            if not self._ask_next(asked):
                raise

    def _drop(self, guest: Endpoint, query: DnsMessage) -> None:
        asked = self._waiting.remove((guest, query.identification))
        if asked is not None:
            asked.socket.close()

    def _fail(self, guest: Endpoint, address: Endpoint, query: DnsMessage, now: int) -> None:
        self._realm.counters["dns-failed"] += 1
        self._realm.send_udp(address, guest, query.reply(ResponseCode.SERVER_FAILURE).pack(), now)

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

    def _refused(self, asked: _Asked, socket: DatagramSocket, error: int, now: int) -> None:
        if self._is_waiting(asked) and asked.socket is socket:
            self._realm.refused(HostError(error, "ask a name server"), asked.guest, asked.server.address)
            if not self._ask_next(asked):
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
