"""A TCP socket of a stack: the application's side of one `TcpConnection`.

The application writes into a send ring and reads from a receive ring; the connection works on their other ends. The socket never
knows the time: what the application does marks it as touched, and `TcpLayer` serves it, with the time, in the stack's next run.

After `close` nobody reads. What was written is still delivered; what arrives, or was never read, is lost, and when there is
nothing of ours left to deliver the peer is told so by a reset (RFC 1122 4.2.2.13, RFC 2525 2.17).
"""

from __future__ import annotations

from collections.abc import Callable

from netemu.stack.tcp import SendBuffer, TcpConfig, TcpConnection
from netemu.stack.tcp.state import HANDSHAKE, State
from netemu.wire.address import Endpoint

__all__ = ["TcpSocket"]


class _Inbox:
    """The sink of a connection: a ring that the application reads in place, or nobody reads any more."""

    def __init__(self) -> None:
        self.ring = SendBuffer()
        self.received = 0
        self.urgent_to = 0
        self.abandoned = False
        self.lost = 0

    def room(self) -> int:
        return self.ring.room

    def offer(self, data: bytes | memoryview) -> int:
        if self.abandoned:
            self.lost += len(data)
            return len(data)
        taken = self.ring.write(data)
        self.received += taken
        return taken

    def offer_urgent(self, data: bytes | memoryview) -> int:
        taken = self.offer(data)
        if taken == len(data):
            self.urgent_to = self.received
        return taken

    def finish(self) -> None:
        self.ring.finish()

    def abandon(self) -> None:
        """Nobody will read; what waits is lost."""
        self.abandoned = True
        self.lost += self.ring.available()
        self.ring.discard(self.ring.available())


class TcpSocket:
    """A `netemu.net.sockets.StreamSocket` of a stack; made by `tcp_layer.TcpLayer`.

    `touch` asks the layer to serve this socket. `on_change` is called when the network changed something: connected, more
    to read, more room, the end, an error.
    """

    def __init__(
        self,
        touch: Callable[[TcpSocket], None],
        config: TcpConfig,
        local: Endpoint,
        remote: Endpoint,
        numbers: tuple[int, int],
    ) -> None:
        self.on_change: Callable[[], None] | None = None
        self.initial_sequence, timestamp_offset = numbers
        self._touch = touch
        self._outbox = SendBuffer()
        self._inbox = _Inbox()
        self.connection = TcpConnection(config, local, remote, self._outbox, self._inbox, self.initial_sequence, timestamp_offset)
        self._connected = False
        self._aborting = False
        self._finished = False
        self._read = False
        self._written = 0
        self._urgent_to = 0
        self._seen = (False, False, False, 0, 0)

    def __repr__(self) -> str:
        return f"<TcpSocket {self.connection!r}>"

    @property
    def local(self) -> Endpoint:
        return self.connection.local

    @property
    def remote(self) -> Endpoint:
        return self.connection.remote

    @property
    def connected(self) -> bool:
        return self._connected

    @property
    def error(self) -> int:
        return self.connection.error

    @property
    def eof(self) -> bool:
        return self._inbox.ring.eof

    def available(self) -> int:
        return self._inbox.ring.available()

    def read_into(self, offset: int, buffer: memoryview) -> int:
        return self._inbox.ring.read_into(offset, buffer)

    def discard(self, count: int) -> None:
        self._inbox.ring.discard(count)
        self._read = True
        self._touch(self)

    @property
    def urgent(self) -> int:
        read = self._inbox.received - self._inbox.ring.available()
        return max(self._inbox.urgent_to - read, 0)

    def room(self) -> int:
        return 0 if self._ended else self._outbox.room

    def offer(self, data: bytes | memoryview) -> int:
        """Take what there is room for; nothing once the connection has ended. `LocalError` after `finish`."""
        if self._ended:
            return 0
        taken = self._outbox.write(data)
        self._written += taken
        self._touch(self)
        return taken

    def offer_urgent(self, data: bytes | memoryview) -> int:
        taken = self.offer(data)
        if taken == len(data):
            self._urgent_to = self._written
        return taken

    def undelivered(self) -> int:
        return self._outbox.available()

    def finish(self) -> None:
        self._outbox.finish()
        self._finished = True
        self._touch(self)

    def abort(self) -> None:
        self._aborting = True
        self._touch(self)

    def close(self) -> None:
        if not self._inbox.abandoned:
            self._inbox.abandon()
            self.finish()

    # The layer's side.

    @property
    def _ended(self) -> bool:
        return self.connection.state is State.CLOSED

    @property
    def orphaned(self) -> bool:
        """Closed by the application: nobody waits for what the peer may still say."""
        return self._inbox.abandoned

    def serve(self, now: int) -> None:
        """Tell the connection what the application did since the last run."""
        connection = self.connection
        delivered = self._written - self._outbox.available()
        if self._urgent_to > delivered:
            connection.urge(self._urgent_to - delivered)
        if self._read:
            self._read = False
            connection.sink_ready(now)
        lost = self._inbox.lost and not self._outbox.available() and connection.state not in HANDSHAKE
        if self._aborting or lost:
            self._aborting = False
            self._inbox.lost = 0
            connection.abort(now)
        elif self._finished:
            self._finished = False
            connection.close(now)

    def notice(self) -> None:
        """Something came from the network: call `on_change` if there is more to read, more room, or another state."""
        state, inbox = self.connection.state, self._inbox
        if state is not State.CLOSED and state not in HANDSHAKE:
            self._connected = True
        acknowledged = self._written - self._outbox.available()
        seen = (self._connected, state is State.CLOSED, inbox.ring.eof, inbox.received, acknowledged)
        if seen != self._seen:
            self._seen = seen
            if self.on_change is not None:
                self.on_change()
