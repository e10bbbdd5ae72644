"""A connection inside the process: two streams, each of which gets what the other is offered.

What one end offers lies in the other's buffer at once, and the other's user hears of it in a later turn of the loop. The buffers
are bounded, so back pressure is real. Closing follows Linux: a peer that still holds unread octets, or is sent more after it
closed, answers with a reset (RFC 9293 3.10.4, RFC 1122 4.2.2.13); octets that arrived before a reset can still be read.
"""

from __future__ import annotations

import errno
from typing import Self

from netemu.io.stream import BufferedStream
from netemu.net.loop import Loop
from netemu.wire.address import Endpoint

__all__ = ["PipeStream"]


class PipeStream(BufferedStream):
    """One end; `capacity` octets wait here at most. `join` makes a connection of two."""

    def __init__(self, loop: Loop, local: Endpoint, remote: Endpoint, capacity: int = 65_536) -> None:
        super().__init__(loop, local, remote)
        self._capacity = capacity
        self._peer: Self | None = None
        self._arrived = 0

    def join(self, peer: Self) -> None:
        """The handshake is done: these are the two ends of one connection."""
        self._peer, peer._peer = peer, self
        self._establish()
        peer._establish()

    def room(self) -> int:
        if self._peer is None or self._finished or self.error:
            return 0
        return self._peer._capacity - len(self._peer._received)

    def undelivered(self) -> int:
        """What the peer's user has not discarded yet: it lies with the peer, and nothing lies between."""
        return 0 if self._peer is None else self._peer.available()

    def _send(self, data: bytes | memoryview) -> int:
        peer = self._peer
        assert peer is not None
        count = min(len(data), self.room())
        if peer.closed:
            self._loop.call_soon(lambda: self._fail(errno.ECONNRESET))
        elif count:
            peer._received += data[:count]
            peer._arrived += count
            peer._tell()
        return count

    def _send_urgent(self, data: bytes | memoryview) -> int:
        peer, count = self._peer, self._send(data)
        if peer is not None and count == len(data):
            peer.urgent = len(peer._received)
        return count

    def _send_fin(self) -> None:
        if self._peer is not None:
            self._peer.eof = True
            self._peer._tell()

    def _made_room(self) -> None:
        if self._peer is not None:
            self._peer._tell()

    def _release(self, *, reset: bool) -> None:
        if self._peer is None or self.error:
            return
        if reset:
            self._peer._fail(errno.ECONNRESET)
        elif not self._finished:
            self._send_fin()
