"""The deadlines of many objects, and the first of them.

A heap with lazy deletion. A deadline that moves later, as a retransmission timer does with every acknowledgment, leaves its old
entry in the heap; it is corrected when it comes to the top. So moving costs nothing. Entries of objects that want nothing any more
are cleared away when they are the most, so the heap holds few more entries than there are objects.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

__all__ = ["Deadlines"]

_LITTLE: Final = 64  # entries that are not worth clearing away

Key = TypeVar("Key", bound=Hashable)


class Deadlines(Generic[Key]):
    """Who wants to be called when, in nanoseconds. Equal moments come in the order in which they were set."""

    def __init__(self) -> None:
        self._wanted: dict[Key, int] = {}
        self._queued: dict[Key, int] = {}  # each key's earliest entry in the heap
        self._heap: list[tuple[int, int, Key]] = []
        self._sequence = 0

    def set(self, key: Key, when: int | None) -> None:
        """`key` wants to be called at `when`; None: not at all."""
        if when is None:
            self._wanted.pop(key, None)
            if self._queued.pop(key, None) is not None and len(self._heap) > 2 * len(self._queued) + _LITTLE:
                self._heap = [entry for entry in self._heap if self._queued.get(entry[2]) == entry[0]]
                heapq.heapify(self._heap)
            return
        self._wanted[key] = when
        queued = self._queued.get(key)
        if queued is None or when < queued:
            self._push(key, when)

    def next_look(self) -> int | None:
        """A moment at which to look whether anything is due: not later than `first`, and found without correcting anything."""
        return self._heap[0][0] if self._heap else None

    def first(self) -> int | None:
        """The earliest deadline."""
        heap = self._heap
        while heap:
            when, _, key = heap[0]
            wanted = self._wanted.get(key)
            if wanted == when:
                return when
            heapq.heappop(heap)
            if self._queued.get(key) == when:
                del self._queued[key]
                if wanted is not None:
                    self._push(key, wanted)
        return None

    def due(self, now: int) -> list[Key]:
        """Take out those with a deadline at or before `now`."""
        keys = []
        while (when := self.first()) is not None and when <= now:
            _, _, key = heapq.heappop(self._heap)
            del self._queued[key], self._wanted[key]
            keys.append(key)
        return keys

    def clear(self) -> None:
        """Nobody wants anything."""
        self._wanted.clear()
        self._queued.clear()
        self._heap.clear()

    def _push(self, key: Key, when: int) -> None:
        self._queued[key] = when
        self._sequence += 1
        heapq.heappush(self._heap, (when, self._sequence, key))
