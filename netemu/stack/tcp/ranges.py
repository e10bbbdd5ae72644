"""A set of whole numbers kept as disjoint, sorted, half-open ranges.

The receiver remembers with it which octets it holds out of order, the sender which octets were selectively
acknowledged. Finding is a binary search; the lists are flat, so inserting and summing run at the speed of C.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

__all__ = ["RangeSet"]


class RangeSet:
    """Ranges [start, end), never empty, never touching one another."""

    __slots__ = ("_ends", "_starts", "total")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        self.total = 0
        """How many numbers are in the set."""

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, index: int) -> tuple[int, int]:
        return self._starts[index], self._ends[index]

    def add(self, start: int, end: int) -> int:
        """Add [start, end), which is not empty; returns how many of its numbers are new."""
        starts, ends = self._starts, self._ends
        first = bisect_left(ends, start)
        last = bisect_right(starts, end)
        known = 0
        if first < last:
            known = sum(ends[first:last]) - sum(starts[first:last])
            start = min(start, starts[first])
            end = max(end, ends[last - 1])
        starts[first:last] = [start]
        ends[first:last] = [end]
        self.total += end - start - known
        return end - start - known

    def discard_below(self, edge: int) -> None:
        """Remove every number less than `edge`."""
        starts, ends = self._starts, self._ends
        gone = bisect_right(ends, edge)
        if gone:
            self.total -= sum(ends[:gone]) - sum(starts[:gone])
            del starts[:gone], ends[:gone]
        if starts and starts[0] < edge:
            self.total -= edge - starts[0]
            starts[0] = edge

    def clear(self) -> None:
        self._starts.clear()
        self._ends.clear()
        self.total = 0

    def count_below(self, edge: int) -> int:
        """How many numbers of the set are less than `edge`."""
        starts, ends = self._starts, self._ends
        if not starts or edge <= starts[0]:
            return 0
        whole = bisect_right(ends, edge)
        count = sum(ends[:whole]) - sum(starts[:whole])
        if whole < len(starts) and starts[whole] < edge:
            count += edge - starts[whole]
        return count

    def containing(self, number: int) -> tuple[int, int] | None:
        """The range that holds `number`."""
        index = bisect_right(self._starts, number) - 1
        if index >= 0 and number < self._ends[index]:
            return self._starts[index], self._ends[index]
        return None

    def gap(self, start: int, end: int) -> tuple[int, int] | None:
        """The first range of numbers in [start, end) that are not in the set."""
        index = bisect_right(self._starts, start) - 1
        if index >= 0:
            start = max(start, self._ends[index])
        if start >= end:
            return None
        if index + 1 < len(self._starts):
            end = min(end, self._starts[index + 1])
        return (start, end) if start < end else None
