"""Services a test runs on a host: echo and DNS, written once for every kind of host.

They use nothing but the `Host` interface, so they serve from memory (`SimHost`), from loopback (`OsHost`) and from a
private namespace (`NetnsHost`) alike.

The DNS server is authoritative for its zone and knows nothing else: A and AAAA records for the names in it; NXDOMAIN for other
names; no answers (NODATA) for other types of a known name (RFC 2308 2). It answers over UDP, in at most 512 octets (RFC 1035
4.2.1), and over TCP (RFC 7766), where an answer that was too long for UDP fits. A message that cannot be parsed gets FORMERR
if its header can be; EDNS is ignored, which its clients understand (RFC 6891 6.1.1).

The echo server sends back what it gets (RFC 862), as fast as its client takes it.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Literal

from netemu.errors import HostError, LocalError
from netemu.io.host import Host
from netemu.io.stream import Closeable
from netemu.net.loop import Loop
from netemu.net.sockets import Address, DatagramSocket, ListenerSocket, StreamSocket, endpoint
from netemu.wire.address import Endpoint
from netemu.wire.dns import CLASS_IN, DnsMessage, RecordType, ResponseCode, a_record
from netemu.wire.errors import WireError

__all__ = ["DnsServer", "EchoServer", "ServiceHost"]

_DNS_PORT = 53
_DNS_HEADER = 12  # octets, RFC 1035 4.1.1
_UDP_LIMIT = 512  # octets, RFC 1035 4.2.1
_RESPONSE_BIT = 0x80  # QR, in the third octet (RFC 1035 4.1.1)
_LENGTH_PREFIX = 2  # octets in front of a message over TCP (RFC 1035 4.2.2)
_STANDARD_QUERY = 0  # OPCODE (RFC 1035 4.1.1)
_RECORD_TTL = 300  # seconds
_CHUNK = 65_536


class ServiceHost(Host):
    """A host on which services can run; `close` ends them."""

    def __init__(self, loop: Loop, name: str) -> None:
        self.loop = loop
        self.name = name
        self._services: list[Closeable] = []

    def dns_server(self, zone: Mapping[str, str | list[str]], address: Address = "127.0.0.53", port: int = _DNS_PORT) -> DnsServer:
        """Serve `zone` (names to addresses, which may be changed while it serves), and make it a nameserver of this host."""
        with self.loop:
            server = DnsServer(self, endpoint(address, port), zone)
            self._services.append(server)
            return server

    def echo_server(self, address: Address, port: int = 0, protocol: Literal["tcp", "udp"] = "tcp") -> EchoServer:
        """Send back everything that comes to this endpoint."""
        with self.loop:
            server = EchoServer(self, endpoint(address, port), protocol)
            self._services.append(server)
            return server

    def served_nameservers(self) -> list[Endpoint]:
        """Where this host's own DNS servers answer."""
        return [service.local for service in self._services if isinstance(service, DnsServer)]

    def close(self) -> None:
        while self._services:
            self._services.pop().close()


class _Connections:
    """The connections of one listener. `serve` is called with each when it is made and whenever it changed."""

    def __init__(self, listener: ListenerSocket, serve: Callable[[StreamSocket], None]) -> None:
        self._listener = listener
        self._serve = serve
        self._open: dict[StreamSocket, None] = {}
        listener.on_accept = self._accept

    def _accept(self, stream: StreamSocket) -> None:
        self._open[stream] = None
        stream.on_change = lambda: self._changed(stream)
        self._changed(stream)

    def _changed(self, stream: StreamSocket) -> None:
        if not stream.error:
            self._serve(stream)
        if stream.error or (stream.eof and not stream.available()):
            self._open.pop(stream, None)
            stream.close()

    def close(self) -> None:
        """Stop listening; connections that are open are reset."""
        self._listener.close()
        while self._open:
            self._open.popitem()[0].abort()


class EchoServer:
    """Echo (RFC 862) over TCP or UDP. `counters` has `echoed-octets`, and an errno's name where a reply was refused."""

    def __init__(self, host: Host, local: Endpoint, protocol: Literal["tcp", "udp"]) -> None:
        self.counters: Counter[str] = Counter()
        self._parts: list[Closeable] = []
        if protocol == "tcp":
            listener = host.open_listener(local)
            self.local = listener.local
            self._parts.append(_Connections(listener, self._echo))
        elif protocol == "udp":
            datagram = host.open_datagram(local)
            self.local = datagram.local
            datagram.on_datagram = lambda data, source: self._return(datagram, data, source)
            self._parts.append(datagram)
        else:
            raise LocalError(f"protocol {protocol!r}: tcp or udp is allowed")

    def _echo(self, stream: StreamSocket) -> None:
        while count := min(stream.available(), stream.room(), _CHUNK):
            buffer = memoryview(bytearray(count))
            stream.read_into(0, buffer)
            taken = stream.offer(buffer)
            if not taken:
                break
            stream.discard(taken)
            self.counters["echoed-octets"] += taken

    def _return(self, datagram: DatagramSocket, data: bytes, source: Endpoint) -> None:
        if _send_or_count(datagram, data, source, self.counters):
            self.counters["echoed-octets"] += len(data)

    def close(self) -> None:
        """Stop serving; connections that are open are reset."""
        for part in self._parts:
            part.close()


class DnsServer:
    """A name server for one zone. `zone` may be changed while it serves; names are compared without regard to case.

    `questions` lists the questions answered, as (name, type); `counters` has `answered`, `malformed` and, where a reply was
    refused, an errno's name.
    """

    def __init__(self, host: Host, local: Endpoint, zone: Mapping[str, str | list[str]]) -> None:
        self.zone = zone
        self.questions: list[tuple[str, int]] = []
        self.counters: Counter[str] = Counter()
        self._datagram = host.open_datagram(local)
        self.local = self._datagram.local
        try:
            listener = host.open_listener(self.local)
        except HostError:
            self._datagram.close()
            raise
        self._datagram.on_datagram = self._asked
        self._connections = _Connections(listener, self._asked_by_stream)

    def close(self) -> None:
        """Stop serving."""
        self._datagram.close()
        self._connections.close()

    def answer(self, data: bytes) -> DnsMessage | None:
        """The answer to the message `data`; None where there must not be one."""
        if len(data) < _DNS_HEADER or data[2] & _RESPONSE_BIT:
            self.counters["malformed"] += 1
            return None
        try:
            query = DnsMessage.parse(data)
        except WireError:
            self.counters["malformed"] += 1
            return DnsMessage(int.from_bytes(data[:2], "big"), response=True, response_code=ResponseCode.FORMAT_ERROR)
        self.counters["answered"] += 1
        return self._resolve(query)

    def _resolve(self, query: DnsMessage) -> DnsMessage:
        reply = query.reply()
        if query.opcode != _STANDARD_QUERY:
            return replace(reply, response_code=ResponseCode.NOT_IMPLEMENTED)
        if len(query.questions) != 1:
            return replace(reply, response_code=ResponseCode.FORMAT_ERROR)
        question = query.questions[0]
        self.questions.append((question.name, question.type))
        if question.class_ != CLASS_IN:
            return replace(reply, response_code=ResponseCode.REFUSED)
        addresses = {_folded(name): value for name, value in self.zone.items()}.get(_folded(question.name))
        if addresses is None:
            return replace(reply, authoritative=True, response_code=ResponseCode.NAME_ERROR)
        texts = [addresses] if isinstance(addresses, str) else addresses
        records = [a_record(question.name, endpoint(text, 0).address, _RECORD_TTL) for text in texts]
        answers = tuple(record for record in records if question.type in (record.type, RecordType.ANY))
        return replace(reply, authoritative=True, answers=answers)

    def _asked(self, data: bytes, source: Endpoint) -> None:
        reply = self.answer(data)
        if reply is None:
            return
        packed = reply.pack()
        if len(packed) > _UDP_LIMIT:
            packed = replace(reply, answers=(), truncated=True).pack()
        _send_or_count(self._datagram, packed, source, self.counters)

    def _asked_by_stream(self, stream: StreamSocket) -> None:
        while (available := stream.available()) >= _LENGTH_PREFIX:
            buffer = bytearray(available)
            stream.read_into(0, memoryview(buffer))
            end = _LENGTH_PREFIX + int.from_bytes(buffer[:_LENGTH_PREFIX], "big")
            if available < end:
                if stream.eof:
                    stream.discard(available)  # the rest of this question never comes
                break
            reply = self.answer(bytes(buffer[_LENGTH_PREFIX:end]))
            packed = reply.pack() if reply else b""
            if stream.room() < _LENGTH_PREFIX + len(packed):
                break  # a client that asks and does not read waits
            stream.discard(end)
            if packed:
                stream.offer(len(packed).to_bytes(_LENGTH_PREFIX, "big") + packed)


def _send_or_count(datagram: DatagramSocket, data: bytes, destination: Endpoint, counters: Counter[str]) -> bool:
    """Send a reply; what the host refuses is counted by its errno, for a server has nobody to tell."""
    try:
        datagram.send_to(data, destination)
    except HostError as refusal:
        counters[errno.errorcode.get(refusal.errno or 0, "refused")] += 1
        return False
    return True


def _folded(name: str) -> str:
    return name.rstrip(".").lower()
