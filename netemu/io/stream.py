"""What the streams of every host share: the bounded store of what came in, and how their user is told.

A `BufferedStream` holds octets that arrived until its user discards them. Its user hears of changes through `on_change`, called
by the loop and never from inside one of the stream's own methods; changes before that call are told together. After `abort` or
`close` the user hears nothing more.

Rules for sending (RFC 9293 3.10.2): nothing is offered after `finish`; that is an error of the caller. A stream with an `error`
takes nothing, so an error that races with an offer needs no care.
"""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Protocol

from netemu.errors import LocalError
from netemu.net.loop import Loop
from netemu.wire.address import Endpoint

__all__ = ["BufferedStream", "Closeable"]


class Closeable(Protocol):
    """Something that lives until it is closed; closing it again does nothing."""

    def close(self) -> None: ...


class BufferedStream(ABC):
    """The half of a `StreamSocket` that does not depend on where the octets come from.

    `error` after `abort` is ECONNABORTED, after `close` EBADF, so that a reader who comes too late learns why.
    """

    def __init__(self, loop: Loop, local: Endpoint | None, remote: Endpoint) -> None:
        self.on_change: Callable[[], None] | None = None
        self._local = local
        self.remote = remote
        self.connected = False
        self.error = 0
        self.eof = False
        self.urgent = 0
        self.closed = False
        self._loop = loop
        self._received = bytearray()
        self._finished = False
        self._telling = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.local} -> {self.remote}>"

    @property
    def local(self) -> Endpoint:
        """Where it begins."""
        assert self._local is not None, "what makes a stream without one finds it out itself"
        return self._local

    def available(self) -> int:
        return len(self._received)

    def read_into(self, offset: int, buffer: memoryview) -> int:
        count = max(0, min(len(buffer), len(self._received) - offset))
        buffer[:count] = memoryview(self._received)[offset : offset + count]
        return count

    def discard(self, count: int) -> None:
        if not 0 <= count <= self.available():
            raise LocalError(f"{self!r}: {count} octets cannot be discarded, {self.available()} are available")
        if count:
            self._consume(count)
            if self.urgent:
                self.urgent = max(self.urgent - count, 0)
            self._made_room()

    def _consume(self, count: int) -> None:
        del self._received[:count]

    def offer(self, data: bytes | memoryview) -> int:
        return self._send(data) if self._sends(data) else 0

    def offer_urgent(self, data: bytes | memoryview) -> int:
        return self._send_urgent(data) if self._sends(data) else 0

    def _sends(self, data: bytes | memoryview) -> bool:
        if self._finished and not self.error:
            raise LocalError(f"{self!r}: {len(data)} octets were offered after finish; offer everything first")
        return self.connected and not self.error

    def finish(self) -> None:
        if not (self._finished or self.error):
            self._finished = True
            if self.connected:
                self._send_fin()

    def abort(self) -> None:
        if not self.closed:
            self._release(reset=True)
            self._shut(errno.ECONNABORTED)

    def close(self) -> None:
        if not self.closed:
            self._release(reset=self.available() > 0)  # RFC 9293 3.10.4, RFC 1122 4.2.2.13: unread octets are lost, and that shows
            self._shut(errno.EBADF)

    def _shut(self, error: int) -> None:
        self.closed = self._finished = True
        self.error = error
        self._received.clear()

    @abstractmethod
    def room(self) -> int: ...

    @abstractmethod
    def undelivered(self) -> int: ...

    @abstractmethod
    def _send(self, data: bytes | memoryview) -> int:
        """Take what there is room for; called on a connected stream without an error only."""

    def _send_urgent(self, data: bytes | memoryview) -> int:
        """As `_send`, with the urgent mark behind the last octet; in line where there is no such mark."""
        return self._send(data)

    @abstractmethod
    def _send_fin(self) -> None:
        """Tell the peer that nothing more comes; called once, on a connected stream without an error."""

    @abstractmethod
    def _made_room(self) -> None:
        """Octets were discarded."""

    @abstractmethod
    def _release(self, *, reset: bool) -> None:
        """Let go of the connection, by RST or in good order; called once."""

    def _establish(self) -> None:
        """The handshake is done; what was finished while it lasted is finished now."""
        self.connected = True
        self._tell()
        if self._finished:
            self._send_fin()

    def _fail(self, error: int) -> None:
        """There is no connection (any more), because of `error`; the first error stays."""
        if not self.error:
            self.error = error
            self._tell()

    def _tell(self) -> None:
        if not self._telling:
            self._telling = True
            self._loop.call_soon(self._told)

    def _told(self) -> None:
        self._telling = False
        if self.on_change is not None and not self.closed:
            self.on_change()
