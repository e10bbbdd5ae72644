"""Time travel: how a User-mode Linux kernel asks somebody else for the time (Linux, include/uapi/linux/um_timetravel.h).

The kernel is a client of a calendar. It says when it wants to run next (REQUEST) and waits (WAIT) until it is told to (RUN). While
it runs, its clock moves only by what it sleeps, so computing takes no time; it may sleep by itself up to a moment it was given
(FREE_UNTIL), and says how far it has come (UPDATE) before it touches anything outside. Every message is acknowledged.

`KernelTime` is the calendar's side of one kernel, sans-IO: a page of a virtual loop. The loop's timers are the calendar, and
everything that a device does to a kernel is a callback of the loop, which runs while all kernels wait. What follows from that:

* FREE_UNTIL is the loop's horizon. Without it a kernel that has nothing to do would be asked a hundred times a second whether that
  is so; it is forgotten with each WAIT.
* What a running kernel sends becomes a callback at that very moment, and the horizon shrinks to it. So the kernel is told a smaller
  FREE_UNTIL before it hears that what it sent has arrived (`shrink`), or it would run past the answer, and time cannot go back.
* A kernel that waits may be interrupted: it then asks for the time (GET) and for a turn at once (REQUEST).

Not done: shared-memory scheduling (UM_TIMETRAVEL_SCHEDSHM), broadcasts.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from enum import IntEnum
from typing import Final, NamedTuple

from netemu.errors import PeerError
from netemu.net.loop import Timer, VirtualLoop

__all__ = ["EPOCH", "MESSAGE_SIZE", "KernelTime", "Op", "TimeMessage"]

EPOCH: Final = 946_684_800_000_000_000  # nanoseconds since 1970: the wall clock of every kernel, at the loop's zero, is 2000-01-01
_NEVER: Final = 2**63 - 1  # S64_MAX: a request that is none
MESSAGE_SIZE: Final = 16
_MESSAGE: Final = struct.Struct("=IIQ")  # op, seq, time; in the machine's order


class Op(IntEnum):
    """UM_TIMETRAVEL_*."""

    ACK = 0
    START = 1
    REQUEST = 2
    WAIT = 3
    GET = 4
    UPDATE = 5
    RUN = 6
    FREE_UNTIL = 7
    GET_TOD = 8


class TimeMessage(NamedTuple):
    """One message; `time` is nanoseconds, `seq` comes back in the acknowledgement."""

    op: int
    seq: int
    time: int

    def pack(self) -> bytes:
        return _MESSAGE.pack(*self)

    @classmethod
    def parse(cls, octets: bytes) -> TimeMessage:
        return cls(*_MESSAGE.unpack(octets))


class KernelTime:
    """The time of one kernel in `loop`, and its turns.

    `turn` is called in the loop whenever the kernel is to run: it says `begin`, passes messages both ways until `waiting` holds (or
    the kernel is gone), and says `end`.
    """

    def __init__(self, loop: VirtualLoop, turn: Callable[[], None]) -> None:
        self.waiting = False
        self._loop = loop
        self._turn = turn
        self._rank = loop.enlist()
        self._requested = _NEVER
        self._free_until = loop.now()
        self._timer: Timer | None = None
        self._sequence = 0
        self._unacknowledged = 0

    @property
    def acknowledged(self) -> bool:
        """The kernel has taken notice of all that it was told."""
        return not self._unacknowledged

    def begin(self) -> Iterator[TimeMessage]:
        """Its turn: what to tell the kernel, one after the other, each when the one before is acknowledged."""
        now = self._loop.now()
        self._free_until = self._loop.horizon()
        self._requested = _NEVER
        self.waiting = False
        if self._free_until > now:
            yield self._tell(Op.FREE_UNTIL, self._free_until)
        yield self._tell(Op.RUN, now)

    def shrink(self) -> TimeMessage | None:
        """What the kernel must know before it runs on, because something is to happen earlier than it thinks."""
        horizon = self._loop.horizon()
        if horizon >= self._free_until:
            return None
        self._free_until = horizon
        return self._tell(Op.FREE_UNTIL, horizon)

    def receive(self, message: TimeMessage) -> TimeMessage | None:
        """The acknowledgement of `message`; `PeerError` for one that makes no sense."""
        match message.op:
            case Op.ACK if self._unacknowledged:
                self._unacknowledged -= 1
                return None
            case Op.REQUEST:
                self._requested = message.time
            case Op.WAIT:
                self.waiting = True
            case Op.UPDATE:
                self._advance(message.time)
            case Op.START:
                pass
            case Op.GET:
                return TimeMessage(Op.ACK, message.seq, self._loop.now())
            case Op.GET_TOD:
                return TimeMessage(Op.ACK, message.seq, EPOCH + self._loop.now())
            case _:
                raise PeerError(f"time travel: operation {message.op} is none that a kernel asks for")
        return TimeMessage(Op.ACK, message.seq, 0)

    def end(self) -> None:
        """Its turn, or its interruption, is over: have the next one when it asked for it."""
        self.cancel()
        if self._requested < _NEVER:
            self._timer = self._loop.call_at(max(self._requested, self._loop.now()), self._turn, self._rank)

    def cancel(self) -> None:
        """No more turns."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def first_turn(self) -> None:
        """Have the turn in which the kernel boots."""
        self._timer = self._loop.call_at(self._loop.now(), self._turn, self._rank)

    def _tell(self, op: Op, time: int) -> TimeMessage:
        self._sequence += 1
        self._unacknowledged += 1
        return TimeMessage(op, self._sequence, time)

    def _advance(self, when: int) -> None:
        if when > self._free_until:
            raise PeerError(f"time travel: the kernel ran to {when} ns and was free until {self._free_until} ns")
        if when > self._loop.now():
            self._loop.clock.advance_to(when)
