"""The agent: the sockets of the machine it runs on, opened and used for somebody at the other end of a channel.

Inside a guest this module is a program (`run`) that serves the guest's own sockets (`OsHost`) on its standard input, a descriptor
that can be read and written. So the code that opens a host's sockets opens a guest's as well, and they behave, and fail, alike.
`netemu.guest.remote` is the other end; `netemu.guest.channel` says what the two say to each other.

`Agent` itself needs no descriptors: it serves any sockets that `Sockets` describes.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Protocol

from netemu.errors import HostError
from netemu.guest.channel import CHUNK, UNSPECIFIED, WINDOW, Kind, Message, MessagePipe, endpoints, flat
from netemu.guest.ping import refused
from netemu.io.host import PingSocket
from netemu.net.sockets import DatagramSocket, ListenerSocket, StreamSocket
from netemu.wire.address import Endpoint, Family

__all__ = ["Agent", "Sockets", "run"]

_FIRST_ACCEPTED = 1  # handles of accepted connections are odd

_Send = Callable[[Message], None]


class Sockets(Protocol):
    """The openers of `netemu.io.host.Host`."""

    def open_stream(self, remote: Endpoint, local: Endpoint | None = None) -> StreamSocket: ...
    def open_listener(self, local: Endpoint) -> ListenerSocket: ...
    def open_datagram(self, local: Endpoint | None = None) -> DatagramSocket: ...
    def open_ping(self, family: Family = 4) -> PingSocket: ...


class Agent:
    """Serves `sockets`: give it every message that arrives (`receive`); it answers with `send`."""

    def __init__(self, sockets: Sockets, send: _Send) -> None:
        self._sockets = sockets
        self._send = send
        self._parts: dict[int, _Part] = {}
        self._next_accepted = _FIRST_ACCEPTED
        send(Message(Kind.OPENED, 0, flat(UNSPECIFIED)))

    def receive(self, message: Message) -> None:
        """Do what `message` asks. What is asked of a socket that is closed by now is not done."""
        try:
            part = self._parts.get(message.handle) or self._open(message)
            if part is not None:
                part.receive(message)
        except HostError as error:
            self._send(Message(Kind.FAILED, message.handle, (error.errno or 0,), error.operation.encode()))
        if message.kind in (Kind.CLOSE, Kind.ABORT):
            self._parts.pop(message.handle, None)

    def _open(self, message: Message) -> _Part | None:
        handle, fields = message.handle, message.fields
        match message.kind:
            case Kind.OPEN_STREAM:
                remote, local = endpoints(*fields)
                stream = self._sockets.open_stream(remote, None if local == UNSPECIFIED else local)
                self._parts[handle] = _Connection(handle, self._send, stream)
            case Kind.OPEN_LISTENER:
                self._parts[handle] = _Listener(handle, self._send, self._sockets.open_listener(*endpoints(*fields)), self._accept)
            case Kind.OPEN_DATAGRAM:
                self._parts[handle] = _Datagram(handle, self._send, self._sockets.open_datagram(*endpoints(*fields)))
            case Kind.OPEN_PING:
                self._parts[handle] = _Ping(handle, self._send, self._sockets.open_ping())
        return None

    def _accept(self, listener: int, stream: StreamSocket) -> None:
        handle, self._next_accepted = self._next_accepted, self._next_accepted + 2
        self._send(Message(Kind.ACCEPTED, listener, (handle, *flat(stream.local, stream.remote))))
        self._parts[handle] = _Connection(handle, self._send, stream)


class _Part(ABC):
    """A socket and its handle."""

    def __init__(self, handle: int, send: _Send) -> None:
        self._handle = handle
        self._send = send

    def _say(self, kind: Kind, *fields: int, payload: bytes = b"") -> None:
        self._send(Message(kind, self._handle, fields, payload))

    @abstractmethod
    def receive(self, message: Message) -> None:
        """What is asked of this socket; a kind that means nothing to it is passed over."""


class _Connection(_Part):
    """Carries octets both ways, within the windows: what the test sent until the socket takes it, and the other way round."""

    def __init__(self, handle: int, send: _Send, stream: StreamSocket) -> None:
        super().__init__(handle, send)
        self._stream = stream
        self._window = WINDOW
        self._unsent = bytearray()
        self._ending: Callable[[], None] | None = None  # what to do once everything is sent
        self._said: set[Kind] = set()
        stream.on_change = self._changed
        self._changed()

    def receive(self, message: Message) -> None:
        match message.kind:
            case Kind.DATA:
                self._unsent += message.payload
            case Kind.TAKEN:
                self._window += message.fields[0]
            case Kind.FINISH:
                self._ending = self._stream.finish
            case Kind.CLOSE:
                self._ending = self._stream.close
            case Kind.ABORT:
                self._stream.abort()
                return
        self._changed()

    def _changed(self) -> None:
        stream = self._stream
        if stream.connected:
            self._say_once(Kind.CONNECTED, *flat(stream.local))
        self._push()
        self._pull()
        if stream.error:  # a reset is an end as well, and not a peaceful one
            self._say_once(Kind.FAILED, stream.error)
        elif stream.eof and not stream.available():
            self._say_once(Kind.FINISH)

    def _push(self) -> None:
        taken = 0
        while self._unsent:
            with memoryview(self._unsent) as octets:
                count = self._stream.offer(octets)
            if not count:
                break
            del self._unsent[:count]
            taken += count
        if taken:
            self._say(Kind.TAKEN, taken)
        if self._ending is not None and (not self._unsent or self._stream.error):
            ending, self._ending = self._ending, None
            ending()

    def _pull(self) -> None:
        while count := min(self._stream.available(), self._window, CHUNK):
            octets = bytearray(count)
            self._stream.read_into(0, memoryview(octets))
            self._window -= count
            self._say(Kind.DATA, payload=bytes(octets))
            self._stream.discard(count)

    def _say_once(self, kind: Kind, *fields: int) -> None:
        if kind not in self._said:
            self._said.add(kind)
            self._say(kind, *fields)


class _Listener(_Part):
    def __init__(self, handle: int, send: _Send, listener: ListenerSocket, accept: Callable[[int, StreamSocket], None]) -> None:
        super().__init__(handle, send)
        self._listener = listener
        self._say(Kind.OPENED, *flat(listener.local))
        listener.on_accept = lambda stream: accept(handle, stream)

    def receive(self, message: Message) -> None:
        if message.kind == Kind.CLOSE:
            self._listener.close()


class _Datagram(_Part):
    def __init__(self, handle: int, send: _Send, datagram: DatagramSocket) -> None:
        super().__init__(handle, send)
        self._datagram = datagram
        self._say(Kind.OPENED, *flat(datagram.local))
        datagram.on_datagram = lambda data, source: self._say(Kind.DATAGRAM, *flat(source), payload=data)
        datagram.on_error = lambda error, destination: self._say(Kind.UNDELIVERED, error, *flat(destination))

    def receive(self, message: Message) -> None:
        match message.kind:
            case Kind.SEND_TO:
                *destination, ttl = message.fields
                self._send_to(endpoints(*destination)[0], ttl, message.payload)
            case Kind.CLOSE:
                self._datagram.close()

    def _send_to(self, destination: Endpoint, ttl: int, data: bytes) -> None:
        try:
            self._datagram.send_to(data, destination, ttl)
        except HostError as error:
            self._say(Kind.UNDELIVERED, error.errno or 0, *flat(destination))


class _Ping(_Part):
    def __init__(self, handle: int, send: _Send, ping: PingSocket) -> None:
        super().__init__(handle, send)
        self._ping = ping
        self._say(Kind.OPENED, *flat(UNSPECIFIED))
        ping.on_reply = lambda sequence, data, source: self._say(Kind.ECHO_REPLY, int(source), sequence, payload=data)
        ping.on_error = lambda icmp_type, code, reporter, sequence: self._say(
            Kind.ICMP_ERROR, icmp_type, code, int(reporter), sequence
        )

    def receive(self, message: Message) -> None:
        match message.kind:
            case Kind.SEND_ECHO:
                address, sequence, ttl = message.fields
                self._send_echo(IPv4Address(address), sequence, ttl, message.payload)
            case Kind.CLOSE:
                self._ping.close()

    def _send_echo(self, destination: IPv4Address, sequence: int, ttl: int, data: bytes) -> None:
        try:
            self._ping.send_echo(destination, sequence, data, ttl)
        except HostError as refusal:
            error = refused(refusal)
            self._say(Kind.ICMP_ERROR, error.type, error.code, int(UNSPECIFIED.address), sequence)


def run() -> None:
    """Serve the sockets of this machine on standard input until its other end is closed."""
    from netemu.io.loop import RealLoop
    from netemu.io.oshost import OsHost

    ended = threading.Event()
    loop = RealLoop()
    with loop:
        pipe = MessagePipe(
            loop,
            0,
            lambda message: agent.receive(message),  # noqa: PLW0108 - the agent is made after the pipe
            lambda _reason: ended.set(),
            on_read=lambda octets: pipe.send(Message(Kind.READ, 0, (octets,))),
        )
        agent = Agent(OsHost(loop), pipe.send)
    ended.wait()
