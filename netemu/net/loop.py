"""The loop: what happens next, and when.

A loop runs callbacks at moments of its clock. Callbacks due at the same moment run in the order in which they were asked for, so a
run in virtual time is a pure function of its inputs. `VirtualLoop` runs in the caller's thread and jumps from one deadline to
the next; `netemu.io.loop.RealLoop` has the same face over epoll and a thread of its own.

A part may live in virtual time by itself and only say when it wants its turn: a real kernel does (`netemu.guest.timetravel`). It
enlists for a rank and asks for its turns with that, so that they come behind all else that is due at the same moment. In its turn
it may move the clock as far as `horizon`, up to which nothing else happens.

Before a virtual loop lets time pass it asks its pollers: parts that live outside the clock (real sockets on loopback, a C library
with its own descriptors) and may have something to do at this very moment.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from typing import Protocol, Self

from netemu.errors import LocalError, NetemuError
from netemu.net.clock import VirtualClock

__all__ = ["Callback", "Loop", "LoopStuckError", "Timer", "TimerHeap", "VirtualLoop"]

Callback = Callable[[], None]

_ROUNDS_WITHOUT_TIME = 1_000_000  # callbacks at one virtual instant before we call it a live-lock


class LoopStuckError(NetemuError):
    """A million callbacks ran and virtual time did not move: two parts keep waking each other."""


class Timer:
    """One callback at one moment; `cancel` makes it never happen."""

    __slots__ = ("_callback", "when")

    def __init__(self, when: int, callback: Callback) -> None:
        self.when = when
        self._callback: Callback | None = callback

    def cancel(self) -> None:
        self._callback = None

    @property
    def cancelled(self) -> bool:
        return self._callback is None

    def fire(self) -> None:
        """Run the callback unless it was cancelled; at most once."""
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()


class Loop(Protocol):
    """What every part of a network may ask of its loop. Times are nanoseconds of the loop's clock."""

    def now(self) -> int: ...

    def call_soon(self, callback: Callback) -> None:
        """Run `callback` at this moment, after what is already waiting; never from inside the caller."""
        ...

    def call_at(self, when: int, callback: Callback) -> Timer:
        """Run `callback` at `when`, or soon if that has passed."""
        ...

    def run_until(self, condition: Callable[[], bool], deadline: int) -> bool:
        """Let the network live until `condition` holds or the clock reaches `deadline`; the condition's last value."""
        ...

    def add_poller(self, poller: Callable[[], bool]) -> None:
        """Ask `poller` for work before time passes; it says whether it did any."""
        ...

    def remove_poller(self, poller: Callable[[], bool]) -> None: ...

    def close(self) -> None:
        """Stop for good; what a callback raised and nobody has heard of yet is raised here."""
        ...

    def __enter__(self) -> Self:
        """Hold the loop still: no callback runs while the caller touches its parts (`run_until` lets go while it waits)."""
        ...

    def __exit__(self, *exc_info: object) -> None: ...


class TimerHeap:
    """Timers by moment, then by rank, then by the order in which they were asked for."""

    __slots__ = ("_heap", "_sequence")

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, int, Timer]] = []
        self._sequence = 0

    def add(self, when: int, callback: Callback, rank: int = 0) -> Timer:
        timer = Timer(when, callback)
        self._sequence += 1
        heapq.heappush(self._heap, (when, rank, self._sequence, timer))
        return timer

    def next_deadline(self) -> int | None:
        """The moment of the first timer that still stands."""
        heap = self._heap
        while heap and heap[0][-1].cancelled:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def pop_due(self, now: int) -> Timer | None:
        """The first timer with a moment at or before `now`."""
        deadline = self.next_deadline()
        if deadline is None or deadline > now:
            return None
        return heapq.heappop(self._heap)[-1]


class VirtualLoop:
    """The loop of a virtual clock: nothing waits, everything happens in the caller's thread."""

    def __init__(self, clock: VirtualClock | None = None) -> None:
        self.clock = clock or VirtualClock()
        self._timers = TimerHeap()
        self._ready: deque[Callback] = deque()
        self._pollers: list[Callable[[], bool]] = []
        self._running = False
        self._deadline = self.clock.now()
        self._enlisted = 0

    def now(self) -> int:
        return self.clock.now()

    def call_soon(self, callback: Callback) -> None:
        self._ready.append(callback)

    def call_at(self, when: int, callback: Callback, rank: int = 0) -> Timer:
        """Run `callback` at `when`, behind those of lower rank."""
        return self._timers.add(when, callback, rank)

    def enlist(self) -> int:
        """The rank of one more part that lives in this loop's time by itself; they count from 1."""
        self._enlisted += 1
        return self._enlisted

    def horizon(self) -> int:
        """Until when nothing else happens: the part whose turn it is may advance the clock as far as that."""
        if self._ready or self._pollers:  # a poller may bring something at any moment
            return self.now()
        following = self._timers.next_deadline()
        until = self._deadline if following is None else min(self._deadline, following)
        return max(until, self.now())

    def add_poller(self, poller: Callable[[], bool]) -> None:
        self._pollers.append(poller)

    def remove_poller(self, poller: Callable[[], bool]) -> None:
        self._pollers.remove(poller)

    def run_until(self, condition: Callable[[], bool], deadline: int) -> bool:
        if self._running:
            raise LocalError("a blocking helper was called from inside the loop; use the non-blocking call in a callback")
        self._running = True
        self._deadline = deadline
        try:
            return self._run_until(condition, deadline)
        finally:
            self._running = False

    def _run_until(self, condition: Callable[[], bool], deadline: int) -> bool:
        ready, timers, clock = self._ready, self._timers, self.clock
        rounds = 0
        while not condition():
            if ready:
                ready.popleft()()
            elif (timer := timers.pop_due(clock.now())) is not None:
                timer.fire()
            elif not self._poll():
                following = timers.next_deadline()
                if following is None or following > deadline:
                    clock.advance_to(max(deadline, clock.now()))
                    return condition()
                clock.advance_to(following)
                rounds = 0
            rounds += 1
            if rounds > _ROUNDS_WITHOUT_TIME:
                raise LoopStuckError(f"{rounds} callbacks ran at {clock.now()} ns without time passing")
        return True

    def close(self) -> None:
        self._ready.clear()

    def _poll(self) -> bool:
        worked = [poller() for poller in self._pollers]  # every poller has its turn, whatever the first one says
        return any(worked)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        """A virtual loop stands still whenever it is not asked to run."""

    def run_for(self, duration: int) -> None:
        """Let `duration` nanoseconds pass."""
        self.run_until(lambda: False, self.now() + duration)
