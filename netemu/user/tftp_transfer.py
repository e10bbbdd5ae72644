"""One TFTP transfer, without clock or socket: what to send when a packet came, and what when none did.

Blocks go in windows (RFC 7440), of one block unless agreed otherwise, which is RFC 1350's lock step. Inside they are numbered
without bound; on the wire the number rolls over to 0 behind 65,535.

The sender answers an acknowledgment only if it moves the window on. A duplicate gets no answer (RFC 1123 4.2.3.1: else each
delayed packet would double everything after it, the Sorcerer's Apprentice Syndrome); what was lost is sent again when the server's
timer says so. The receiver acknowledges each whole window, the last block, and the last good block when another came than
the one expected: always in lock step, once for each gap in a larger window.
"""

from __future__ import annotations

from collections import deque
from typing import Final, Protocol

from netemu.wire import tftp

__all__ = ["Receiver", "Sender", "Sink", "Source"]

_NUMBERS: Final = 0xFFFF  # a block's number has 16 bits (RFC 1350 5)


class Source(Protocol):
    """Where a sender's octets come from."""

    def read(self, count: int) -> bytes:
        """The next `count` octets, fewer at the end only; raises `HostError`."""
        ...


class Sink(Protocol):
    """Where a receiver's octets go."""

    def write(self, data: bytes) -> None:
        """Raises `HostError`."""
        ...

    def commit(self) -> None:
        """All of it was written; raises `HostError`."""
        ...


class Sender:
    """Sends `source`; `opening`, if there is one, is sent first and acknowledged as block 0."""

    def __init__(self, source: Source, block_size: int, window: int, opening: tftp.OptionAcknowledgment | None) -> None:
        self.done = False
        self._source = source
        self._block_size = block_size
        self._window = window
        self._base = 1  # the first block that is not acknowledged
        self._unacknowledged: deque[tftp.OptionAcknowledgment | tftp.Data] = deque()
        self._exhausted = False
        if opening is None:
            self._fill()
        else:
            self._base = 0
            self._unacknowledged.append(opening)

    def receive(self, packet: tftp.Acknowledgment) -> list[tftp.Packet]:
        """What to send for an acknowledgment; raises `HostError` where the file cannot be read."""
        count = (packet.block - self._base + 1) & _NUMBERS
        if not 0 < count <= len(self._unacknowledged):
            return []
        for _ in range(count):
            self._unacknowledged.popleft()
        self._base += count
        self._fill()
        self.done = not self._unacknowledged
        return self.again()

    def again(self) -> list[tftp.Packet]:
        """What the other side has not acknowledged."""
        return list(self._unacknowledged)

    def _fill(self) -> None:
        while len(self._unacknowledged) < self._window and not self._exhausted:
            data = self._source.read(self._block_size)
            self._exhausted = len(data) < self._block_size
            self._unacknowledged.append(tftp.Data((self._base + len(self._unacknowledged)) & _NUMBERS, data))


class Receiver:
    """Receives into `sink`; `opening`, if there is one, is sent first in place of the acknowledgment of block 0."""

    def __init__(self, sink: Sink, block_size: int, window: int, opening: tftp.OptionAcknowledgment | None) -> None:
        self.done = False
        self._sink = sink
        self._block_size = block_size
        self._window = window
        self._expected = 1
        self._not_acknowledged = 0  # blocks
        self._complained = 0  # the block whose absence was told
        self._last: tftp.Packet = opening or tftp.Acknowledgment(0)

    def receive(self, packet: tftp.Data) -> list[tftp.Packet]:
        """What to send for a block; raises `HostError` where it cannot be written."""
        if packet.block != self._expected & _NUMBERS or self.done:
            return self._complain()
        self._sink.write(packet.data)
        self.done = len(packet.data) < self._block_size
        self._expected += 1
        self._not_acknowledged += 1
        if self.done:
            self._sink.commit()
        if self.done or self._not_acknowledged == self._window:
            return self._acknowledge()
        return []

    def again(self) -> list[tftp.Packet]:
        """Tell again what arrived."""
        return self._acknowledge() if self._expected > 1 else [self._last]

    def _complain(self) -> list[tftp.Packet]:
        if self._window > 1 and self._complained == self._expected:
            return []
        self._complained = self._expected
        return self.again()

    def _acknowledge(self) -> list[tftp.Packet]:
        self._not_acknowledged = 0
        self._last = tftp.Acknowledgment((self._expected - 1) & _NUMBERS)
        return [self._last]
