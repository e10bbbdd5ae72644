"""Octets that arrived out of order, kept until those before them come (RFC 9293 3.10.7.4, seventh check).

They are copied once, into a ring indexed by sequence number: merging two pieces costs nothing and the memory is never
more than the power of two above the distance between RCV.NXT and the furthest octet, which the advertised window
bounds. The ring is made when the first hole opens and given back when the last one closes. Of octets that arrive
twice, the later copy stays.

The SACK option is built from here (RFC 2018 4): the block of the segment that arrived last comes first, then the
blocks most recently reported.
"""

from __future__ import annotations

from typing import Final

from netemu.stack.tcp.ranges import RangeSet

__all__ = ["Reassembly"]

_SMALLEST_RING: Final = 1 << 14
_BLOCKS_REMEMBERED: Final = 8
"""An option holds four blocks; a few more are remembered, as merging blocks uses them up."""

_NO_MEMORY: Final = memoryview(bytearray())  # every connection with nothing out of order has this


class Reassembly:
    """The received octets above RCV.NXT. Sequence numbers are whole numbers, see `sequence`."""

    __slots__ = ("_held", "_recent", "_ring")

    def __init__(self) -> None:
        self._held = RangeSet()
        self._recent: list[int] = []
        self._ring = _NO_MEMORY

    def __len__(self) -> int:
        """How many octets are held."""
        return self._held.total

    def insert(self, base: int, sequence: int, data: memoryview) -> None:
        """Hold `data`, which begins at `sequence`; nothing below `base` (RCV.NXT) is held or needed."""
        end = sequence + len(data)
        if end - base > len(self._ring):
            self._grow(end - base)
        self._write(sequence, data)
        self._held.add(sequence, end)
        block = self._held.containing(sequence)
        if block:
            start, end = block
            others = [number for number in self._recent if not start <= number < end]
            self._recent = [sequence, *others[: _BLOCKS_REMEMBERED - 1]]

    def front(self, sequence: int, limit: int | None = None) -> memoryview:
        """The octets held from `sequence` on (to `limit`), as far as they lie in one piece; empty when there are none."""
        block = self._held.containing(sequence)
        if block is None:
            return self._ring[:0]
        end = block[1] if limit is None else min(block[1], limit)
        at = sequence & (len(self._ring) - 1)
        return self._ring[at : min(at + max(end - sequence, 0), len(self._ring))]

    def ranges(self) -> list[tuple[int, int]]:
        """What is held, in order, as pairs of first number and number behind the last."""
        return [self._held[index] for index in range(len(self._held))]

    def octets(self, start: int, end: int) -> bytes:
        """A copy of the octets of one of `ranges`."""
        at, size = start & (len(self._ring) - 1), end - start
        head = bytes(self._ring[at : at + size])
        return head + bytes(self._ring[: size - len(head)])

    def discard_below(self, sequence: int) -> None:
        """Octets before `sequence` are no longer wanted."""
        self._held.discard_below(sequence)
        if not self._held:
            self.clear()

    def clear(self) -> None:
        self._held.clear()
        self._recent.clear()
        self._ring = _NO_MEMORY

    def blocks(self, base: int, limit: int) -> list[tuple[int, int]]:
        """Up to `limit` SACK blocks above `base`, the most recent first."""
        found: list[tuple[int, int]] = []
        for number in self._recent:
            block = self._held.containing(number)
            if block and block[0] > base and block not in found:
                found.append(block)
                if len(found) == limit:
                    break
        return found

    def _write(self, sequence: int, data: memoryview) -> None:
        at = sequence & (len(self._ring) - 1)
        head = min(len(data), len(self._ring) - at)
        self._ring[at : at + head] = data[:head]
        self._ring[: len(data) - head] = data[head:]

    def _grow(self, needed: int) -> None:
        old = self._ring
        self._ring = memoryview(bytearray(max(_SMALLEST_RING, 1 << (needed - 1).bit_length())))
        for index in range(len(self._held)):
            start, end = self._held[index]
            while start < end:
                at = start & (len(old) - 1)
                piece = old[at : min(at + end - start, len(old))]
                self._write(start, piece)
                start += len(piece)
