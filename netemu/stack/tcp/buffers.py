"""Where TCP's octets come from and go to.

TCP owns no payload. It reads from a `Source`, at an offset and as often as it must retransmit, and says what may be
forgotten once that is acknowledged. It offers what arrived, in order, to a `Sink`; the sink's room is the receive
window, and what it does not accept is not acknowledged. In a guest they are the ring buffers here; in the user-mode
network they are the host's own socket.
"""

from __future__ import annotations

from typing import Protocol

from netemu.errors import LocalError

__all__ = ["ReceiveBuffer", "SendBuffer", "Sink", "Source"]


class Source(Protocol):
    """The octets to transmit, owned by the application or the host. Offset 0 is the first one not yet discarded."""

    def available(self) -> int:
        """How many octets can be read, from offset 0 on; never fewer than before, but for those discarded."""
        ...

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Copy octets from `offset` on without consuming them; returns how many were copied."""
        ...

    def discard(self, count: int) -> None:
        """The first `count` octets are acknowledged and will not be asked for again."""
        ...

    @property
    def eof(self) -> bool:
        """Nothing will ever follow the available octets: a FIN comes after them."""
        ...


class Sink(Protocol):
    """Takes the received octets, in order."""

    def room(self) -> int:
        """How many octets it would take now: the receive window. Best when it falls only by what was taken."""
        ...

    def offer(self, data: bytes | memoryview) -> int:
        """Take some or all of these octets, copying them; returns how many. The rest is offered again later."""
        ...

    def offer_urgent(self, data: bytes | memoryview) -> int:
        """As `offer`; the peer's urgent data ends with the last of these octets (RFC 9293 3.8.5)."""
        ...

    def finish(self) -> None:
        """The peer's FIN arrived: nothing follows."""
        ...


class _Ring:
    """A queue of octets in a fixed piece of memory."""

    __slots__ = ("_first", "_memory", "capacity", "length")

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise LocalError(f"a buffer of {capacity} octets: give 1 or more")
        self.capacity = capacity
        self.length = 0
        self._first = 0
        self._memory = memoryview(bytearray(capacity))

    def append(self, data: bytes | bytearray | memoryview) -> int:
        """Copy in what fits; returns how much."""
        count = min(len(data), self.capacity - self.length)
        if not count:
            return 0
        view = memoryview(data)
        at = (self._first + self.length) % self.capacity
        head = min(count, self.capacity - at)
        self._memory[at : at + head] = view[:head]
        self._memory[: count - head] = view[head:count]
        self.length += count
        return count

    def copy(self, offset: int, buffer: memoryview) -> int:
        """Copy out from `offset` on; returns how much."""
        count = min(len(buffer), self.length - offset)
        if count <= 0:
            return 0
        at = (self._first + offset) % self.capacity
        head = min(count, self.capacity - at)
        buffer[:head] = self._memory[at : at + head]
        buffer[head:count] = self._memory[: count - head]
        return count

    def drop(self, count: int) -> None:
        """Forget the first `count` octets, at most all of them."""
        self.length -= count
        self._first = (self._first + count) % self.capacity if self.length else 0


class SendBuffer:
    """A `Source` that an application writes to."""

    __slots__ = ("_finished", "_ring")

    def __init__(self, capacity: int = 1 << 18) -> None:
        self._ring = _Ring(capacity)
        self._finished = False

    @property
    def room(self) -> int:
        """How many octets `write` would take now."""
        return self._ring.capacity - self._ring.length

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Queue octets; returns how many fitted. Tell the connection (`source_ready`). Raises `LocalError` once finished."""
        if self._finished:
            raise LocalError("write after finish: the stream was ended, open another connection")
        return self._ring.append(data)

    def finish(self) -> None:
        """Nothing will follow what was written."""
        self._finished = True

    def available(self) -> int:
        return self._ring.length

    def read_into(self, offset: int, buffer: memoryview) -> int:
        return self._ring.copy(offset, buffer)

    def discard(self, count: int) -> None:
        self._ring.drop(count)

    @property
    def eof(self) -> bool:
        return self._finished


class ReceiveBuffer:
    """A `Sink` that an application reads from."""

    __slots__ = ("_finished", "_ring")

    def __init__(self, capacity: int = 1 << 18) -> None:
        self._ring = _Ring(capacity)
        self._finished = False

    def room(self) -> int:
        return self._ring.capacity - self._ring.length

    def offer(self, data: bytes | memoryview) -> int:
        return self._ring.append(data)

    def offer_urgent(self, data: bytes | memoryview) -> int:
        """As `offer`: the data is in line, and the connection tells where it is urgent (`TcpConnection.urgent`)."""
        return self._ring.append(data)

    def finish(self) -> None:
        self._finished = True

    def available(self) -> int:
        """How many octets `read` would return now."""
        return self._ring.length

    def read(self, count: int | None = None) -> bytes:
        """Take up to `count` octets, or all there are. Tell the connection (`sink_ready`)."""
        length = self._ring.length if count is None else min(count, self._ring.length)
        octets = bytearray(length)
        self._ring.copy(0, memoryview(octets))
        self._ring.drop(length)
        return bytes(octets)

    @property
    def eof(self) -> bool:
        """The peer finished and everything was read."""
        return self._finished and not self._ring.length
