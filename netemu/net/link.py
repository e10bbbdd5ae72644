"""A link: a cable between two ports that can be watched, cut, slowed down and made faulty.

Each direction is a lane. A frame that enters a lane is shown to the taps together with its fate (what the fault schedule does to
it), then changed, copied or held as the schedule says, then serialised at the link's rate, then delayed by its propagation time,
then given to the port at the far end. Flow control passes through: while the far port is busy the lane takes nothing more.

Rate and delay are those of a full-duplex cable: bits leave one after the other at `rate` (the frame's octets only, no
preamble), and arrive `delay` later, in order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from netemu.errors import LocalError
from netemu.net.clock import SECOND
from netemu.net.faults import REORDER_HOLD, Fault, FaultSchedule, flip_bit
from netemu.net.loop import Loop
from netemu.net.port import Frame, Port, connect
from netemu.wire.vnet_hdr import VnetHeader

__all__ = ["FrameRecord", "Link", "Tap"]


@dataclass(frozen=True, slots=True)
class FrameRecord:
    """A frame as it entered a link.

    `number` counts frames of this direction from 0 (the number a fault schedule uses); `time` is in nanoseconds of the
    network's clock; `fate` is `delivered` or the faults applied, such as `drop` or `delay 5000000, flip 112`.
    """

    number: int
    time: int
    link: str
    source: str
    destination: str
    frame: bytes
    fate: str


Tap = Callable[[FrameRecord], None]


class Link:
    """Joins ports `a` and `b`. `delay` is nanoseconds one way; `rate` is bits a second, None for no limit.

    `taps` see every frame of both directions, in the order in which they enter.
    """

    def __init__(self, loop: Loop, name: str, a: Port, b: Port, *, delay: int = 0, rate: int | None = None) -> None:
        if delay < 0 or (rate is not None and rate <= 0):
            raise LocalError(f"link {name}: delay={delay} ns and rate={rate} bit/s; delay is zero or more, rate more than zero")
        self.name = name
        self.taps: list[Tap] = []
        self.a, self.b = a, b
        near = Port(loop, f"{name}.{a.name}")
        far = Port(loop, f"{name}.{b.name}")
        connect(a, near)
        connect(b, far)
        self.forward = Lane(self, loop, near, far, (a.name, b.name), delay, rate)
        self.backward = Lane(self, loop, far, near, (b.name, a.name), delay, rate)

    def set_faults(self, forward: Iterable[Fault] = (), backward: Iterable[Fault] = ()) -> None:
        """Schedules from here on, a to b and b to a; frames are counted from 0 again."""
        self.forward.set_faults(FaultSchedule(forward))
        self.backward.set_faults(FaultSchedule(backward))

    def set_link(self, up: bool) -> None:
        """Cut the cable, or mend it: both ports see the link go down or up."""
        for lane in (self.forward, self.backward):
            lane.entry.set_link(up)


class Lane:
    """One direction of a link."""

    def __init__(
        self, link: Link, loop: Loop, entry: Port, exit_: Port, names: tuple[str, str], delay: int, rate: int | None
    ) -> None:
        self.entry = entry
        self.schedule = FaultSchedule()
        self.entered = 0
        self._link, self._loop, self._exit, self._names = link, loop, exit_, names
        self._delay, self._rate = delay, rate
        self._line_free = 0
        self._held: list[tuple[int, Frame, VnetHeader | None]] = []  # (frames that must overtake first, ...)
        self._in_flight: deque[tuple[Frame, VnetHeader | None]] = deque()
        exit_.on_writable = entry.flush
        entry.attach(self._enter)

    def set_faults(self, schedule: FaultSchedule) -> None:
        self.schedule = schedule
        self.entered = 0

    def _enter(self, frame: Frame, header: VnetHeader | None) -> bool:
        if self._exit.busy:
            return False
        number, self.entered = self.entered, self.entered + 1
        faults = self.schedule.at(number)
        if self._link.taps:
            fate = ", ".join(f"{f.action} {f.value}" if f.value else f.action for f in faults) or "delivered"
            record = FrameRecord(number, self._loop.now(), self._link.name, *self._names, frame, fate)
            for tap in self._link.taps:
                tap(record)
        if faults:
            self._suffer(faults, frame, header)
        else:
            self._serialise(frame, header)
        if self._held:
            self._let_overtake(number)
        return True

    def _suffer(self, faults: list[Fault], frame: Frame, header: VnetHeader | None) -> None:
        copies, delay, overtaken_by = 1, 0, 0
        for fault in faults:
            match fault.action:
                case "drop":
                    copies = 0
                case "duplicate":
                    copies += max(1, fault.value)
                case "delay":
                    delay += fault.value
                case "flip":
                    frame = flip_bit(frame, fault.value)
                case "truncate":
                    frame = frame[: fault.value]
                case "reorder":
                    overtaken_by = max(1, fault.value)
        for _ in range(copies):
            if delay:
                self._loop.call_at(self._loop.now() + delay, lambda: self._serialise(frame, header))
            elif overtaken_by:
                self._hold(self.entered - 1 + overtaken_by, frame, header)
            else:
                self._serialise(frame, header)

    def _hold(self, until: int, frame: Frame, header: VnetHeader | None) -> None:
        held = (until, frame, header)
        self._held.append(held)

        def release() -> None:
            if held in self._held:
                self._held.remove(held)
                self._serialise(frame, header)

        self._loop.call_at(self._loop.now() + REORDER_HOLD, release)

    def _let_overtake(self, number: int) -> None:
        free = [held for held in self._held if held[0] <= number]
        for held in free:
            self._held.remove(held)
            self._serialise(held[1], held[2])

    def _serialise(self, frame: Frame, header: VnetHeader | None) -> None:
        if self._rate is None and not self._delay:
            self._exit.send(frame, header)
            return
        start = max(self._loop.now(), self._line_free)
        self._line_free = start + (len(frame) * 8 * SECOND // self._rate if self._rate else 0)
        self._in_flight.append((frame, header))
        self._loop.call_at(self._line_free + self._delay, self._arrive)

    def _arrive(self) -> None:
        self._exit.send(*self._in_flight.popleft())
