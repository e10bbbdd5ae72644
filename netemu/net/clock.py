"""Clocks: integer nanoseconds since the network began.

A virtual clock moves only when its loop moves it; a real one is `netemu.io.loop.RealClock`. Engines never hold a clock: they
are given `now`.
"""

from __future__ import annotations

from typing import Protocol

from netemu.errors import LocalError

__all__ = ["MICROSECOND", "MILLISECOND", "SECOND", "Clock", "VirtualClock", "nanoseconds"]

MICROSECOND = 1_000
MILLISECOND = 1_000_000
SECOND = 1_000_000_000


def nanoseconds(seconds: float) -> int:
    """Seconds, as people give them to a helper, in the integer nanoseconds used inside."""
    if not seconds >= 0:
        raise LocalError(f"a time of {seconds!r} s was given; it is a number of seconds, zero or more")
    return round(seconds * SECOND)


class Clock(Protocol):
    """What tells the time."""

    def now(self) -> int:
        """Nanoseconds since the clock was made; never goes backwards."""
        ...


class VirtualClock:
    """Time that stands still until somebody moves it."""

    __slots__ = ("_now",)

    def __init__(self, now: int = 0) -> None:
        self._now = now

    def now(self) -> int:
        return self._now

    def advance_to(self, when: int) -> None:
        """Move to `when`; an earlier moment is a programming error."""
        if when < self._now:
            raise LocalError(f"the clock stands at {self._now} ns and cannot go back to {when} ns")
        self._now = when
