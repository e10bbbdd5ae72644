"""The split virtqueue, device side (VIRTIO 1.2, 2.7): three arrays in the driver's memory.

The driver writes buffers into the descriptor table, chains them, and puts the head of each chain into the available ring. `pop`
takes the next chain; `push` gives it back through the used ring, with the number of octets written.

Everything in the arrays is the driver's word, and it may lie, or change what it said. So each field is read once, and checked
before it is used. A chain that makes no sense is counted in `refused` by reason and given back unused; the queue goes on:

`memory`     an address outside the driver's memory
`length`     a chain of more than `MAX_CHAIN` octets
`loop`       more descriptors than the queue has (2.7.5.2)
`next`       a next descriptor that the table does not have
`order`      a part for the device to read behind one to write (2.7.4.2)
`indirect`   an indirect table, which was not offered (2.7.5.3)

After two of them the queue cannot go on, and gives nothing until it is made anew: `available`, an index that runs further ahead
than the queue is long, and `head`, a head that the table does not have and so cannot be given back.

An index is stored with one 16-bit store: the rings are cast to arrays of machine words, so this is for little-endian machines, as
all that virtio 1.x drivers of the same machine are. Python orders the stores as written, and x86 shows them so.

Not done: VIRTIO_F_EVENT_IDX and VIRTIO_F_INDIRECT_DESC, which no device here offers.
"""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import dataclass
from typing import Final

from netemu.errors import LocalError
from netemu.virtio.memory import GuestMemory, OutsideMemoryError

__all__ = ["MAX_CHAIN", "MAX_SIZE", "Chain", "SplitQueue"]

MAX_SIZE: Final = 32_768  # entries (2.7)
MAX_CHAIN: Final = 1 << 20  # octets of one chain; sixteen times the longest frame, and a bound on what a lie costs

_DESCRIPTOR: Final = struct.Struct("<QIHH")  # addr, len, flags, next (2.7.5)
_NEXT: Final = 1  # flags (2.7.5): VIRTQ_DESC_F_NEXT
_WRITE: Final = 2  # VIRTQ_DESC_F_WRITE
_INDIRECT: Final = 4  # VIRTQ_DESC_F_INDIRECT
_NO_INTERRUPT: Final = 1  # flags of the available ring (2.7.6): VIRTQ_AVAIL_F_NO_INTERRUPT
_FLAGS, _INDEX, _RING = 0, 1, 2  # 16-bit words of both rings
_USED_FLAGS_AND_INDEX: Final = 4  # octets in front of the used ring's elements
_USED_ELEMENT: Final = struct.Struct("<II")  # id, len (2.7.8)
_INDEX_MASK: Final = 0xFFFF


@dataclass(frozen=True, slots=True)
class Chain:
    """A buffer of the driver's: what the device may read, and what it may write. `head` is its name in the rings."""

    head: int
    readable: tuple[memoryview, ...]
    writable: tuple[memoryview, ...]

    def read(self) -> bytes:
        """All that there is to read."""
        return b"".join(self.readable)

    def write(self, octets: bytes) -> int:
        """Write as much of `octets` as there is room for; how many."""
        start = 0
        for part in self.writable:
            piece = octets[start : start + len(part)]
            part[: len(piece)] = piece
            start += len(piece)
        return start

    @property
    def room(self) -> int:
        """Octets that can be written."""
        return sum(map(len, self.writable))


class _RefusedError(Exception):
    """A chain that makes no sense; its argument is the reason it is counted under."""


class SplitQueue:
    """A queue of `size` entries (a power of two up to `MAX_SIZE`) whose arrays lie at these addresses of `rings`.

    `buffers` is the memory that descriptors speak of; for vhost-user the same as `rings` under other addresses. `index` is where in
    the available ring the device begins. Arrays outside memory, or not aligned (2.7.1), are a `LocalError`.
    """

    def __init__(
        self,
        buffers: GuestMemory,
        rings: GuestMemory,
        size: int,
        *,
        descriptors: int,
        available: int,
        used: int,
        index: int = 0,
    ) -> None:
        if not 1 <= size <= MAX_SIZE or size & (size - 1):
            raise LocalError(f"a queue of {size} entries: a power of two up to {MAX_SIZE} is needed")
        if descriptors % 16 or available % 2 or used % 4:
            raise LocalError(f"rings at {descriptors:#x}, {available:#x} and {used:#x}: they are aligned to 16, 2 and 4 octets")
        try:
            self._descriptors = rings.range(descriptors, _DESCRIPTOR.size * size)
            self._available = rings.range(available, 2 * (_RING + size)).cast("H")
            self._used = rings.range(used, _USED_FLAGS_AND_INDEX + _USED_ELEMENT.size * size)
        except OutsideMemoryError as error:
            raise LocalError(f"a ring outside the driver's memory: {error}") from None
        self._used_index = self._used[:_USED_FLAGS_AND_INDEX].cast("H")
        self._buffers = buffers
        self.size = size
        self.index = index & _INDEX_MASK
        self.broken = False
        self.refused: Counter[str] = Counter()

    @property
    def wants_interrupt(self) -> bool:
        """The driver wants to hear of used buffers."""
        return not self._available[_FLAGS] & _NO_INTERRUPT

    def pop(self) -> Chain | None:
        """The next chain that the driver made available; None while there is none."""
        for _ in range(self.size):  # a driver may go on making chains that make no sense while we look
            waiting = self._available[_INDEX] - self.index & _INDEX_MASK
            if self.broken or not waiting:
                break
            if waiting > self.size:
                self._break("available")
                break
            head = self._available[_RING + self.index % self.size]
            if head >= self.size:
                self._break("head")
                break
            self.index = self.index + 1 & _INDEX_MASK
            try:
                return self._chain(head)
            except _RefusedError as error:
                self.refused[str(error)] += 1
            except OutsideMemoryError:
                self.refused["memory"] += 1
            self._give_back(head, 0)
        return None

    def push(self, chain: Chain, written: int = 0) -> None:
        """Give `chain` back, with `written` octets written from its beginning."""
        self._give_back(chain.head, written)

    def _chain(self, head: int) -> Chain:
        readable: list[memoryview] = []
        writable: list[memoryview] = []
        total, number = 0, head
        for _ in range(self.size):
            address, length, flags, following = _DESCRIPTOR.unpack_from(self._descriptors, number * _DESCRIPTOR.size)
            if flags & _INDIRECT:
                raise _RefusedError("indirect")
            if writable and not flags & _WRITE:
                raise _RefusedError("order")
            total += length
            if total > MAX_CHAIN:
                raise _RefusedError("length")
            (writable if flags & _WRITE else readable).append(self._buffers.range(address, length))
            if not flags & _NEXT:
                return Chain(head, tuple(readable), tuple(writable))
            if following >= self.size:
                raise _RefusedError("next")
            number = following
        raise _RefusedError("loop")

    def _give_back(self, head: int, written: int) -> None:
        index = self._used_index[_INDEX]
        _USED_ELEMENT.pack_into(self._used, _USED_FLAGS_AND_INDEX + index % self.size * _USED_ELEMENT.size, head, written)
        self._used_index[_INDEX] = index + 1 & _INDEX_MASK  # after the element: the driver may look at once (2.7.8.2)

    def _break(self, reason: str) -> None:
        self.broken = True
        self.refused[reason] += 1
