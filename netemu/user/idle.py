"""A bounded table whose entries leave when they are idle: NAT mappings, ping sessions, the peers of a forwarded port.

All entries of a table have the same timeout and are kept in the order of their last use, so the first is both the next to time out
and the one that gives way when the table is full. Every operation but a look at all of them takes constant time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

__all__ = ["IdleTable"]

Key = TypeVar("Key")
Value = TypeVar("Value")


class IdleTable(Generic[Key, Value]):
    """At most `capacity` entries, each gone `timeout` nanoseconds after its last use."""

    def __init__(self, capacity: int, timeout: int) -> None:
        self._capacity = capacity
        self._timeout = timeout
        self._entries: dict[Key, tuple[Value, int]] = {}  # with the time of the last use, in its order

    def __iter__(self) -> Iterator[Value]:
        """The values, the longest idle first; the table may change meanwhile."""
        return iter([value for value, _ in self._entries.values()])

    def entries(self) -> list[tuple[Value, int, int]]:
        """The values, each with the time of its last use and the time when it is gone."""
        return [(value, used, used + self._timeout) for value, used in self._entries.values()]

    def get(self, key: Key) -> Value | None:
        """The value, if there is one; this is no use of it."""
        entry = self._entries.get(key)
        return None if entry is None else entry[0]

    def use(self, key: Key, now: int) -> Value | None:
        """The value, which is thereby in use; None if there is none."""
        entry = self._entries.pop(key, None)
        if entry is None:
            return None
        self._entries[key] = (entry[0], now)
        return entry[0]

    def add(self, key: Key, value: Value, now: int) -> Value | None:
        """Put in a new entry, last used at `now`; the one that had to leave for it, if any."""
        evicted = None
        if len(self._entries) >= self._capacity:
            evicted, _ = self._entries.pop(next(iter(self._entries)))
        self._entries[key] = (value, now)
        return evicted

    def remove(self, key: Key) -> Value | None:
        """Take an entry out, if it is there."""
        entry = self._entries.pop(key, None)
        return None if entry is None else entry[0]

    def pop(self) -> Value | None:
        """Take out the longest idle entry, if there is any."""
        return self._entries.pop(next(iter(self._entries)))[0] if self._entries else None

    def drain(self) -> list[Value]:
        """Take out everything."""
        values = list(self)
        self._entries.clear()
        return values

    def deadline(self) -> int | None:
        for _, used in self._entries.values():
            return used + self._timeout
        return None

    def expire(self, now: int) -> list[Value]:
        """Take out what has been idle for too long."""
        gone = []
        while (deadline := self.deadline()) is not None and deadline <= now:
            value, _ = self._entries.pop(next(iter(self._entries)))
            gone.append(value)
        return gone
