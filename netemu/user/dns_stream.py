"""DNS over TCP in a user-mode network (RFC 7766): the guests' connections to its DNS address.

Names of the test's own are answered here. Other questions go on, one after another as they come, over a connection to the host's
first name server, of whichever family; their answers come back as they are, in the server's order (RFC 7766 6.2.1.1). When that
connection fails or ends, the questions that wait go to the next server; after the last one the guest gets SERVFAIL. In a
restricted network other questions are refused.

A connection has 16 questions waiting at most, of at most 4096 octets each; while it does, and while the guest does not read, no
more are taken from it. A message that cannot be read ends it.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import partial
from typing import Final

from netemu.errors import HostError
from netemu.io.pipe import PipeStream
from netemu.net.sockets import StreamSocket
from netemu.user.dns_names import DnsNames
from netemu.user.realm import Realm
from netemu.wire.address import Endpoint
from netemu.wire.dns import DnsMessage, ResponseCode
from netemu.wire.errors import WireError

__all__ = ["DnsStreams"]

_PREFIX: Final = 2  # octets in front of a message (RFC 1035 4.2.2)
_IDENTIFICATION: Final = slice(_PREFIX, _PREFIX + 2)
_LARGEST: Final = 4096  # octets of a question, as over UDP
_WAITING: Final = 16
_CHUNK: Final = 65_536


class DnsStreams:
    """Opens a stream for each connection of a guest's to the DNS address."""

    def __init__(self, realm: Realm, names: DnsNames) -> None:
        self._realm = realm
        self._names = names

    def open(self, resolver: Endpoint) -> StreamSocket:
        """The stream that a guest's connection to `resolver` is joined to; `HostError` where there is nothing to be asked."""
        if not self._realm.options.dns_name and not self._realm.host.nameservers():
            raise HostError(errno.EDESTADDRREQ, "ask a name server, of which the host has none")
        loop = self._realm.host.loop
        near, far = PipeStream(loop, resolver, resolver), PipeStream(loop, resolver, resolver)
        near.join(far)
        _Conversation(self._realm, self._names, far)
        return near


class _Conversation:
    """One guest's connection. `stream` is how it is heard; the loop keeps the rest alive through its `on_change`."""

    def __init__(self, realm: Realm, names: DnsNames, stream: StreamSocket) -> None:
        self._realm = realm
        self._names = names
        self._stream = stream
        self._servers = list(realm.host.nameservers())
        self._upstream: StreamSocket | None = None
        self._waiting: dict[int, bytes] = {}  # questions at the server, with their prefixes, by identification
        self._unsent: list[bytes] = []  # those of them that it was not sent yet
        self._left = 0  # octets of the server's message that are still to come
        self._ended = False
        stream.on_change = self._changed

    def _changed(self) -> None:
        stream = self._stream
        if stream.error:
            self._close()
        self._relay()
        try:
            while self._may_read() and (octets := _message(stream)) is not None:
                self._asked(octets)
        except WireError:
            self._realm.counters["malformed-dns"] += 1
            self._abort()
        self._send()
        if stream.eof and not self._waiting and self._may_read():
            self._close()

    def _may_read(self) -> bool:
        return self._has_room() and len(self._waiting) < _WAITING

    def _has_room(self) -> bool:
        """The guest can be told another message."""
        return not (self._ended or self._left) and self._stream.room() >= _LARGEST + _PREFIX

    def _asked(self, octets: bytes) -> None:
        """A question, with its prefix."""
        self._stream.discard(len(octets))
        query = DnsMessage.parse(octets[_PREFIX:])
        if query.response:
            self._realm.counters["dns-not-a-question"] += 1
            return
        answer = self._names.answer(query, _LARGEST)
        if answer is not None:
            self._tell(answer)
        elif self._realm.options.restrict:
            self._realm.counters["restricted"] += 1
            self._tell(query.reply(ResponseCode.REFUSED))
        else:
            self._waiting[query.identification] = octets
            self._unsent.append(octets)

    # The host's name server

    def _send(self) -> None:
        """Send on what was not sent yet, over a new connection if there is none; without any server it has failed."""
        while self._unsent and self._servers and self._upstream is None and not self._ended:
            self._connect()
        while self._unsent and not self._servers and self._has_room():
            self._fail(self._unsent.pop(0))
        upstream = self._upstream
        while upstream is not None and self._unsent and upstream.connected and upstream.room() >= len(self._unsent[0]):
            upstream.offer(self._unsent.pop(0))

    def _connect(self) -> None:
        server = self._servers[0]
        try:
            self._upstream = self._realm.open(partial(self._realm.host.open_stream, server, self._realm.local_for(server)))
        except HostError:
            self._servers.pop(0)
            return
        self._upstream.on_change = self._changed

    def _fail(self, octets: bytes) -> None:
        query = DnsMessage.parse(octets[_PREFIX:])
        self._waiting.pop(query.identification, None)
        self._realm.counters["dns-failed"] += 1
        self._tell(query.reply(ResponseCode.SERVER_FAILURE))

    def _relay(self) -> None:
        """Give the guest what the server says; what waits is the next server's when it says no more."""
        upstream = self._upstream
        if upstream is None:
            return
        while upstream.available() and self._stream.room():
            if not self._left:
                if upstream.available() < _IDENTIFICATION.stop:
                    break
                head = _peek(upstream, _IDENTIFICATION.stop)
                self._left = _PREFIX + int.from_bytes(head[:_PREFIX], "big")
                self._waiting.pop(int.from_bytes(head[_IDENTIFICATION], "big"), None)
            octets = _peek(upstream, min(upstream.available(), self._left, self._stream.room(), _CHUNK))
            self._stream.offer(octets)
            upstream.discard(len(octets))
            self._left -= len(octets)
        if not (upstream.error or (upstream.eof and upstream.available() < _IDENTIFICATION.stop)):
            return
        if self._left:
            self._abort()  # an answer without its end
            return
        upstream.on_change = None
        upstream.close()
        self._upstream = None
        if self._waiting:
            self._servers.pop(0)
            self._unsent = list(self._waiting.values())

    # The guest

    def _tell(self, answer: DnsMessage) -> None:
        packed = answer.pack()
        self._stream.offer(len(packed).to_bytes(_PREFIX, "big") + packed)

    def _close(self) -> None:
        self._end(self._stream.close)

    def _abort(self) -> None:
        self._end(self._stream.abort)

    def _end(self, end: Callable[[], None]) -> None:
        self._ended = True
        self._stream.on_change = None
        end()
        if self._upstream is not None:
            self._upstream.on_change = None
            self._upstream.close()
            self._upstream = None


def _message(stream: StreamSocket) -> bytes | None:
    """The next whole message with its prefix, which stays where it is; raises `WireError` for one that is too long."""
    if stream.available() < _PREFIX:
        return None
    length = _PREFIX + int.from_bytes(_peek(stream, _PREFIX), "big")
    if length > _LARGEST + _PREFIX:
        raise WireError("dns.length", 0, f"{length - _PREFIX} octets are more than {_LARGEST}")
    return _peek(stream, length) if stream.available() >= length else None


def _peek(stream: StreamSocket, count: int) -> bytes:
    buffer = bytearray(count)
    return bytes(buffer[: stream.read_into(0, memoryview(buffer))])
