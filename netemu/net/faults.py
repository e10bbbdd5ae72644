"""Fault schedules: what goes wrong with which frame, as data.

A schedule is a list of `Fault`s for one direction of a link. Frames are counted from 0 as they enter. There is no random generator
here: hypothesis (or a seeded generator in a test) draws the list, shrinks it and replays it, and its `repr` is valid Python, so
that a failure prints as a regression test.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from netemu.errors import LocalError
from netemu.net.clock import MILLISECOND

__all__ = ["REORDER_HOLD", "Action", "Fault", "FaultSchedule", "flip_bit"]

Action = Literal["drop", "duplicate", "delay", "flip", "truncate", "reorder"]

REORDER_HOLD = 100 * MILLISECOND  # a frame held back for others that never come goes on after this


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that happens to one frame.

    `value` is: for `delay` nanoseconds; for `flip` the number of a bit (it wraps at the frame's end; bit 0 is the most
    significant of the first octet); for `truncate` the octets that stay; for `reorder` how many later frames overtake
    (1 or more); for `duplicate` the extra copies (1 or more); unused for `drop`.
    """

    frame: int
    action: Action
    value: int = 0

    def __post_init__(self) -> None:
        if self.action not in get_args(Action):
            raise LocalError(f"fault action {self.action!r}: one of {', '.join(get_args(Action))} is needed")
        if self.frame < 0 or self.value < 0:
            raise LocalError(f"{self!r}: frame and value are zero or more")

    def __repr__(self) -> str:
        value = f", {self.value}" if self.value else ""
        return f"Fault({self.frame}, {self.action!r}{value})"


class FaultSchedule:
    """The faults of one direction, by frame number; several faults of one frame apply in the order given."""

    __slots__ = ("_by_frame", "faults")

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self.faults = tuple(faults)
        self._by_frame: dict[int, list[Fault]] = {}
        for fault in self.faults:
            self._by_frame.setdefault(fault.frame, []).append(fault)

    def __bool__(self) -> bool:
        return bool(self.faults)

    def __repr__(self) -> str:
        return f"FaultSchedule([{', '.join(map(repr, self.faults))}])"

    def at(self, number: int) -> list[Fault]:
        """The faults of frame `number`, in order."""
        return self._by_frame.get(number, [])


def flip_bit(frame: bytes, bit: int) -> bytes:
    """`frame` with one bit inverted; `bit` counts from the first octet's most significant and wraps at the end."""
    if not frame:
        return frame
    octet, place = divmod(bit % (len(frame) * 8), 8)
    changed = bytearray(frame)
    changed[octet] ^= 0x80 >> place
    return bytes(changed)
