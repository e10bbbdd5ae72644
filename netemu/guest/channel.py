"""What a test and the agent inside a guest say to each other: messages on a channel of octets, such as a guest's console.

A program that is a guest (`netemu.guest.program`) speaks the same, with a few kinds more.

A message is a header (length of the rest, kind, handle), then the fields of its kind, then its payload. All numbers are in network
order. A handle names a socket of the guest: the test chooses even ones when it opens a socket, the agent odd ones for the
connections that a listener accepts. Handle 0 is nobody's; `OPENED` with it is the agent's greeting.

Each direction of a connection has a window of `WINDOW` octets: whoever sends `DATA` has that many octets less until the other side
says `TAKEN`. So a reader who is slow stops one connection, and never the channel.

The channel itself is paced towards the guest, since a console of User-mode Linux 6.1 hears nothing any more once some 3,968 octets
wait in it: the agent says `READ` for all that it reads, and no more than `PACE` octets are on their way.
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Callable, Iterator
from enum import IntEnum
from ipaddress import IPv4Address
from typing import NamedTuple, Protocol

from netemu.errors import PeerError
from netemu.io.watcher import READABLE, WRITABLE, FdWatcher
from netemu.net.loop import Loop
from netemu.wire.address import Endpoint

__all__ = [
    "CHUNK",
    "PACE",
    "UNSPECIFIED",
    "WINDOW",
    "Decoder",
    "Kind",
    "Message",
    "MessagePipe",
    "Pipe",
    "encode",
    "endpoints",
    "flat",
]

WINDOW = 65_536  # octets in flight in one direction of one connection
CHUNK = 8_192  # octets of one DATA message: others have their turn after that
PACE = 3_000  # octets on their way to a guest
UNSPECIFIED = Endpoint(IPv4Address(0), 0)

_HEADER = struct.Struct("!IBI")  # length of what follows this field, kind, handle
_LENGTH = 4
_LONGEST = 1 << 20  # octets; a longer message is nonsense
_READ = 65_536


class Kind(IntEnum):
    """What a message says. The fields of each kind stand in `_FIELDS`."""

    OPEN_STREAM = 1  # to the agent: remote, local
    OPEN_LISTENER = 2  # local
    OPEN_DATAGRAM = 3  # local
    OPEN_PING = 4
    SEND_TO = 5  # destination, TTL; the datagram
    SEND_ECHO = 6  # destination, sequence number, TTL; the data to be echoed
    ABORT = 7
    CLOSE = 8
    DATA = 9  # either way: octets of a connection
    TAKEN = 10  # octets of DATA that were taken
    FINISH = 11  # no more DATA
    OPENED = 12  # from the agent: local
    FAILED = 13  # errno; what was tried
    CONNECTED = 14  # local
    ACCEPTED = 15  # the connection's handle, local, remote
    DATAGRAM = 16  # source; the datagram
    UNDELIVERED = 17  # errno, destination
    ECHO_REPLY = 18  # source, sequence number; the data
    ICMP_ERROR = 19  # type, code, reporter, sequence number
    READ = 20  # octets, of whatever kind, that the agent has read
    CONFIGURE = 21  # to a program that is a guest: address, prefix length, router (or 0)
    FRAME = 22  # either way: an Ethernet frame
    TIME = 23  # to the program: nanoseconds of the network's clock
    TURN = 24  # its turn
    WAIT = 25  # from the program: the end of its turn, and the time at which it wants the next one


_FIELDS = {
    Kind.OPEN_STREAM: struct.Struct("!IHIH"),
    Kind.OPEN_LISTENER: struct.Struct("!IH"),
    Kind.OPEN_DATAGRAM: struct.Struct("!IH"),
    Kind.OPEN_PING: struct.Struct(""),
    Kind.SEND_TO: struct.Struct("!IHB"),
    Kind.SEND_ECHO: struct.Struct("!IHB"),
    Kind.ABORT: struct.Struct(""),
    Kind.CLOSE: struct.Struct(""),
    Kind.DATA: struct.Struct(""),
    Kind.TAKEN: struct.Struct("!I"),
    Kind.FINISH: struct.Struct(""),
    Kind.OPENED: struct.Struct("!IH"),
    Kind.FAILED: struct.Struct("!I"),
    Kind.CONNECTED: struct.Struct("!IH"),
    Kind.ACCEPTED: struct.Struct("!IIHIH"),
    Kind.DATAGRAM: struct.Struct("!IH"),
    Kind.UNDELIVERED: struct.Struct("!IIH"),
    Kind.ECHO_REPLY: struct.Struct("!IH"),
    Kind.ICMP_ERROR: struct.Struct("!BBIH"),
    Kind.READ: struct.Struct("!I"),
    Kind.CONFIGURE: struct.Struct("!IBI"),
    Kind.FRAME: struct.Struct(""),
    Kind.TIME: struct.Struct("!Q"),
    Kind.TURN: struct.Struct(""),
    Kind.WAIT: struct.Struct("!Q"),
}


class Message(NamedTuple):
    """One message; `fields` are those of its kind, addresses as integers."""

    kind: Kind
    handle: int
    fields: tuple[int, ...] = ()
    payload: bytes = b""


def flat(*parts: Endpoint) -> tuple[int, ...]:
    """Endpoints as fields."""
    return tuple(number for part in parts for number in (int(part.address), part.port))


def endpoints(*fields: int) -> list[Endpoint]:
    """Fields as endpoints."""
    return [Endpoint(IPv4Address(address), port) for address, port in zip(fields[::2], fields[1::2], strict=True)]


def encode(message: Message) -> bytes:
    kind, handle, fields, payload = message
    body = _FIELDS[kind].pack(*fields)
    return _HEADER.pack(_HEADER.size - _LENGTH + len(body) + len(payload), kind, handle) + body + payload


class Decoder:
    """Messages from octets, however these are cut."""

    def __init__(self) -> None:
        self._octets = bytearray()

    def feed(self, octets: bytes) -> Iterator[Message]:
        """The messages that `octets` complete. What is no message is a `PeerError`; nothing can be read after it."""
        self._octets += octets
        while len(self._octets) >= _HEADER.size:
            length, kind, handle = _HEADER.unpack_from(self._octets)
            if not _HEADER.size - _LENGTH <= length <= _LONGEST:
                raise PeerError(f"a message of {length} octets; {_LONGEST} are allowed")
            if len(self._octets) < _LENGTH + length:
                return
            body = bytes(self._octets[_HEADER.size : _LENGTH + length])
            del self._octets[: _LENGTH + length]
            yield _message(kind, handle, body)


def _message(kind: int, handle: int, body: bytes) -> Message:
    try:
        layout = _FIELDS[Kind(kind)]
        return Message(Kind(kind), handle, layout.unpack_from(body), body[layout.size :])
    except (ValueError, struct.error) as error:
        raise PeerError(f"message of kind {kind} with {len(body)} octets: {error}") from None


class Pipe(Protocol):
    """What carries messages to the other side."""

    def send(self, message: Message) -> None:
        """Send, or keep until there is room. After the end nothing is sent."""
        ...

    def allow(self, octets: int) -> None:
        """So many octets more may be on their way."""
        ...

    def close(self) -> None:
        """Stop; `on_end` is not called for it."""
        ...


class MessagePipe:
    """Messages over descriptor `fd`, without blocking. `on_end` is called once, with the reason, when nothing can come any more.

    `on_read` hears how many octets each read gave, after the messages in them. At most `pace` octets are written before `allow`
    grants more. The descriptor is its maker's to close, after the pipe.
    """

    def __init__(
        self,
        loop: Loop,
        fd: int,
        on_message: Callable[[Message], None],
        on_end: Callable[[str], None],
        *,
        on_read: Callable[[int], None] = lambda _octets: None,
        pace: int = sys.maxsize,
    ) -> None:
        self._fd = fd
        self._on_read = on_read
        self._allowed = pace
        self._on_message = on_message
        self._on_end = on_end
        self._decoder = Decoder()
        self._unsent = bytearray()
        self._open = True
        self._watcher = FdWatcher(loop)
        os.set_blocking(fd, False)
        self._watcher.watch(fd, READABLE, self._happened)

    def send(self, message: Message) -> None:
        """Send, or keep until there is room. After the end nothing is sent."""
        if self._open:
            self._unsent += encode(message)
            self._write()

    def allow(self, octets: int) -> None:
        """So many octets more may be written."""
        self._allowed += octets
        if self._open:
            self._write()

    def close(self) -> None:
        """Stop; `on_end` is not called for it."""
        if self._open:
            self._open = False
            self._watcher.close()

    def _happened(self, events: int) -> None:
        if events & WRITABLE:
            self._write()
        if self._open and events & ~WRITABLE:
            self._read()

    def _read(self) -> None:
        try:
            octets = os.read(self._fd, _READ)
        except BlockingIOError:
            return
        except OSError as error:
            self._end(f"reading failed: {error.strerror}")
            return
        if not octets:
            self._end("the other side closed it")
            return
        try:
            for message in self._decoder.feed(octets):
                self._on_message(message)
        except PeerError as error:
            self._end(str(error))
            return
        self._on_read(len(octets))

    def _write(self) -> None:
        try:
            while self._unsent and self._allowed:
                count = os.write(self._fd, self._unsent[: self._allowed])
                del self._unsent[:count]
                self._allowed -= count
        except BlockingIOError:
            pass
        except OSError as error:
            self._end(f"writing failed: {error.strerror}")
        if self._open:
            self._watcher.modify(self._fd, READABLE | (WRITABLE if self._unsent and self._allowed else 0))

    def _end(self, reason: str) -> None:
        if self._open:
            self.close()
            self._on_end(reason)
