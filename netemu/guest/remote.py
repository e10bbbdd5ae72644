"""The sockets of a guest, used from outside through its agent.

`RemoteSockets` has the openers of a host (`netemu.io.host.Host`), but what they open lives in the guest's kernel: every call is a
message to `netemu.guest.agent`, which runs there. A connection's calls never block. The openers of listeners, UDP and ping sockets
wait for the guest's answer, because the port it chose or its refusal is theirs to give; so they cannot be called inside the loop.

When the guest goes away every connection that is left fails with EHOSTDOWN.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Interface

from netemu.errors import HostError, NetemuTimeoutError
from netemu.guest.channel import CHUNK, UNSPECIFIED, WINDOW, Kind, Message, Pipe, endpoints, flat
from netemu.io.stream import BufferedStream
from netemu.net.clock import nanoseconds
from netemu.net.loop import Loop
from netemu.net.sockets import StreamSocket
from netemu.wire.address import Endpoint, Family, IPAddress

__all__ = ["RemoteDatagram", "RemoteListener", "RemotePing", "RemoteSockets", "RemoteStream"]

_FIRST_HANDLE = 2  # ours are even
_PATIENCE = 60.0  # seconds for an agent that has greeted: it opens at once, on a crowded machine late

_Say = Callable[[Message], None]


class RemoteStream(BufferedStream):
    """A TCP connection of the guest."""

    def __init__(self, loop: Loop, handle: int, say: _Say, local: Endpoint, remote: Endpoint) -> None:
        super().__init__(loop, local, remote)
        self._handle = handle
        self._say = say
        self._window = WINDOW
        self._untold = 0  # octets received and not yet reported as taken

    def room(self) -> int:
        return 0 if not self.connected or self._finished or self.error else self._window

    def accepted(self) -> None:
        """The connection stands already."""
        self._establish()

    def receive(self, message: Message) -> None:
        """What the agent says of this connection."""
        match message.kind:
            case Kind.CONNECTED if not self.connected:
                self._local = endpoints(*message.fields)[0]
                self._establish()
            case Kind.DATA if not self.closed:
                self._received += message.payload
                self._untold += len(message.payload)
                self._tell()
            case Kind.TAKEN:
                self._window += message.fields[0]
                self._tell()
            case Kind.FINISH:
                self.eof = True
                self._tell()
            case Kind.FAILED:
                self._fail(message.fields[0])

    def lost(self) -> None:
        """The guest is gone."""
        self._fail(errno.EHOSTDOWN)

    def _send(self, data: bytes | memoryview) -> int:
        count = min(len(data), self._window)
        self._window -= count
        for start in range(0, count, CHUNK):
            self._say(Message(Kind.DATA, self._handle, payload=bytes(data[start : min(start + CHUNK, count)])))
        return count

    def undelivered(self) -> int:
        return WINDOW - self._window

    def _send_fin(self) -> None:
        self._say(Message(Kind.FINISH, self._handle))

    def _made_room(self) -> None:
        taken, self._untold = self._untold - len(self._received), len(self._received)
        self._say(Message(Kind.TAKEN, self._handle, (taken,)))

    def _release(self, *, reset: bool) -> None:
        self._say(Message(Kind.ABORT if reset else Kind.CLOSE, self._handle))


class _Answered:
    """A socket that exists once the agent has said so: `local` is set, or `refusal`."""

    def __init__(self, handle: int, say: _Say) -> None:
        self.local = UNSPECIFIED
        self.refusal: HostError | None = None
        self.settled = False
        self.handle = handle
        self._say = say
        self._closed = False

    def receive(self, message: Message) -> None:
        """What the agent says of this socket."""
        match message.kind:
            case Kind.OPENED:
                self.local = endpoints(*message.fields)[0]
                self.settled = True
            case Kind.FAILED:
                self.refusal = HostError(message.fields[0], message.payload.decode(errors="replace"))
                self.settled = True
            case _ if not self._closed:
                self._event(message)

    def _event(self, message: Message) -> None:
        """What happens to an open socket; nothing is told after `close`."""

    def lost(self) -> None:
        """The guest is gone."""
        self.refusal = HostError(errno.EHOSTDOWN, "use a socket of the guest")
        self.settled = True

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._say(Message(Kind.CLOSE, self.handle))


class RemoteListener(_Answered):
    """A listening TCP socket of the guest; connections wait here until `on_accept` is set."""

    def __init__(self, handle: int, say: _Say, adopt: Callable[[int, Endpoint, Endpoint], RemoteStream]) -> None:
        super().__init__(handle, say)
        self._adopt = adopt
        self._waiting: list[RemoteStream] = []
        self._on_accept: Callable[[StreamSocket], None] | None = None

    @property
    def on_accept(self) -> Callable[[StreamSocket], None] | None:
        return self._on_accept

    @on_accept.setter
    def on_accept(self, callback: Callable[[StreamSocket], None] | None) -> None:
        self._on_accept = callback
        while self._waiting and self._on_accept is not None:
            self._on_accept(self._waiting.pop(0))

    def receive(self, message: Message) -> None:
        if message.kind != Kind.ACCEPTED:
            super().receive(message)
            return
        handle, *ends = message.fields
        stream = self._adopt(handle, *endpoints(*ends))
        if self._closed:
            stream.abort()
        elif self._on_accept is None:
            self._waiting.append(stream)
        else:
            self._on_accept(stream)

    def close(self) -> None:
        super().close()
        while self._waiting:
            self._waiting.pop().abort()


class RemoteDatagram(_Answered):
    """A UDP socket of the guest. A refusal that a local socket would raise comes through `on_error` here."""

    def __init__(self, handle: int, say: _Say) -> None:
        super().__init__(handle, say)
        self.on_datagram: Callable[[bytes, Endpoint], None] | None = None
        self.on_error: Callable[[int, Endpoint], None] | None = None

    def send_to(self, data: bytes, destination: Endpoint, ttl: int = 64) -> None:
        if self._closed:
            raise HostError(errno.EBADF, f"send UDP {self.local} to {destination}")
        _check_ttl(ttl, f"send UDP {self.local} to {destination}")
        self._say(Message(Kind.SEND_TO, self.handle, (*flat(destination), ttl), data))

    def _event(self, message: Message) -> None:
        match message.kind:
            case Kind.DATAGRAM if self.on_datagram is not None:
                self.on_datagram(message.payload, endpoints(*message.fields)[0])
            case Kind.UNDELIVERED if self.on_error is not None:
                error, *destination = message.fields
                self.on_error(error, endpoints(*destination)[0])


class RemotePing(_Answered):
    """A ping socket of the guest. What its kernel refuses to send comes back as an ICMP error from 0.0.0.0."""

    def __init__(self, handle: int, say: _Say) -> None:
        super().__init__(handle, say)
        self.on_reply: Callable[[int, bytes, IPAddress], None] | None = None
        self.on_error: Callable[[int, int, IPAddress, int], None] | None = None

    def send_echo(self, destination: IPAddress, sequence: int, payload: bytes, ttl: int = 64) -> None:
        _check_ttl(ttl, f"ping {destination}")
        self._say(Message(Kind.SEND_ECHO, self.handle, (int(destination), sequence, ttl), payload))

    def _event(self, message: Message) -> None:
        match message.kind:
            case Kind.ECHO_REPLY if self.on_reply is not None:
                source, sequence = message.fields
                self.on_reply(sequence, message.payload, IPv4Address(source))
            case Kind.ICMP_ERROR if self.on_error is not None:
                icmp_type, code, reporter, sequence = message.fields
                self.on_error(icmp_type, code, IPv4Address(reporter), sequence)


def _check_ttl(ttl: int, operation: str) -> None:
    if not 1 <= ttl <= 255:
        raise HostError(errno.EINVAL, operation)


class RemoteSockets:
    """The guest's sockets. `open_pipe` makes the channel to its agent: it is given who takes messages, and who hears of its end.

    An agent that is `ready` has greeted somebody else already.
    """

    def __init__(self, loop: Loop, open_pipe: Callable[[_Say, Callable[[str], None]], Pipe], *, ready: bool = False) -> None:
        self.loop = loop
        self.ready = ready
        self.ended: str | None = None
        self._next_handle = _FIRST_HANDLE
        self._parts: dict[int, RemoteStream | _Answered] = {}
        with loop:
            self._pipe = open_pipe(self._receive, self._end)

    def open_stream(self, remote: Endpoint, local: Endpoint | None = None) -> RemoteStream:
        handle = self._new_handle()
        stream = RemoteStream(self.loop, handle, self._say, local or UNSPECIFIED, remote)
        self._ask(stream, Message(Kind.OPEN_STREAM, handle, flat(remote, local or UNSPECIFIED)))
        return stream

    def open_listener(self, local: Endpoint) -> RemoteListener:
        listener = RemoteListener(self._new_handle(), self._say, self._adopt)
        self._open(listener, Kind.OPEN_LISTENER, *flat(local))
        return listener

    def open_datagram(self, local: Endpoint | None = None) -> RemoteDatagram:
        datagram = RemoteDatagram(self._new_handle(), self._say)
        self._open(datagram, Kind.OPEN_DATAGRAM, *flat(local or UNSPECIFIED))
        return datagram

    def open_ping(self, family: Family = 4) -> RemotePing:
        if family != 4:
            raise HostError(errno.EAFNOSUPPORT, "open a ping socket: the agent's channel carries IPv4 addresses only")
        ping = RemotePing(self._new_handle(), self._say)
        self._open(ping, Kind.OPEN_PING)
        return ping

    def configure(self, interface: IPv4Interface, router: IPv4Address | None) -> None:
        """Give the guest an address; only a program that is a guest is asked (`netemu.guest.program`)."""
        part = _Answered(self._new_handle(), self._say)
        self._open(part, Kind.CONFIGURE, int(interface.ip), interface.network.prefixlen, int(router or 0))
        del self._parts[part.handle]

    def wait_ready(self, timeout: float) -> bool:
        """Let the network live until the agent has greeted or the channel ended; whether it greeted."""
        self.loop.run_until(lambda: self.ready or self.ended is not None, self.loop.now() + nanoseconds(timeout))
        return self.ready

    def close(self) -> None:
        """Every socket fails with EHOSTDOWN, and nothing more is said to the agent."""
        with self.loop:
            self._pipe.close()
            self._end("it was closed")

    def _new_handle(self) -> int:
        handle, self._next_handle = self._next_handle, self._next_handle + 2
        return handle

    def _open(self, part: _Answered, kind: Kind, *fields: int) -> None:
        self._ask(part, Message(kind, part.handle, fields))
        if not self.loop.run_until(lambda: part.settled, self.loop.now() + nanoseconds(_PATIENCE)):
            raise NetemuTimeoutError(f"the guest's agent did not open a socket within {_PATIENCE:g} s")
        if part.refusal is not None:
            del self._parts[part.handle]
            raise part.refusal

    def _ask(self, part: RemoteStream | _Answered, message: Message) -> None:
        self._parts[message.handle] = part
        self._say(message)
        if self.ended is not None:
            part.lost()

    def _adopt(self, handle: int, local: Endpoint, remote: Endpoint) -> RemoteStream:
        self._parts[handle] = stream = RemoteStream(self.loop, handle, self._say, local, remote)
        stream.accepted()
        return stream

    def _say(self, message: Message) -> None:
        if message.kind in (Kind.CLOSE, Kind.ABORT):
            self._parts.pop(message.handle, None)
        self._pipe.send(message)

    def _receive(self, message: Message) -> None:
        if message.kind == Kind.READ:
            self._pipe.allow(message.fields[0])
        elif message.handle == 0:
            self.ready = True
        elif (part := self._parts.get(message.handle)) is not None:
            part.receive(message)
        elif message.kind == Kind.ACCEPTED:  # by a listener that we had closed meanwhile
            self._say(Message(Kind.ABORT, message.fields[0]))

    def _end(self, reason: str) -> None:
        self.ended = self.ended or reason
        for part in list(self._parts.values()):
            part.lost()
