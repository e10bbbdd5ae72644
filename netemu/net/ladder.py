"""Ladders: frames between named ports as a text diagram, for assertion texts, reports and terminals.

One column a port, in the order in which they first speak; one row a frame, with the milliseconds since the first frame shown, an
arrow from sender to receiver and the frame on one line. A dropped frame's arrow ends in `x`; any other fate is drawn with `~`
and named. The frame in question has `>>` before it.

        ms  guest0       user0
     0.000       |--------->|   0.0.0.0:68 > 255.255.255.255:67 ... DISCOVER
  >> 0.250       |<~~~~~~~~~|   10.0.2.2:67 > 255.255.255.255:68 ... OFFER [delay 5.000 ms]
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from netemu.net.clock import MILLISECOND, SECOND
from netemu.net.link import FrameRecord
from netemu.wire.describe import summarize

__all__ = ["fate_text", "ladder"]

_WIDTH: Final = 120
_SUMMARY_WIDTH: Final = 60  # columns that stay for the summary, whatever the number of ports
_MARGIN: Final = 15  # mark and time
_WIDEST, _NARROWEST = 15, 7  # columns of a port


def ladder(records: Sequence[FrameRecord], around: FrameRecord | None = None, before: int = 6, after: int = 4) -> str:
    """Draw up to `before` frames before `around`, itself, and `after` after it; without `around`, the last ones.

    `around` is one of `records`; one that is not among them is left out of account. No frames: one line that says so.
    """
    if not records:
        return "(no frames)"
    at = _position(records, around)
    last = len(records) if at is None else min(len(records), at + after + 1)
    first = max(0, last - before - after - 1) if at is None else max(0, at - before)
    shown = records[first:last]
    ports = _ports(records, shown)
    pitch = max(_NARROWEST, min(_WIDEST, (_WIDTH - _MARGIN - _SUMMARY_WIDTH) // len(ports)))
    start = shown[0].time
    lines = [f"frames {first + 1} to {last} of {len(records)}, milliseconds from {start / SECOND:.6f} s"]
    lines.append(f"{'ms':>{_MARGIN - 2}}  " + "".join(_fit(name, pitch - 1).ljust(pitch) for name in ports).rstrip())
    for number, record in enumerate(shown, first):
        mark = ">>" if number == at else ""
        time = f"{(record.time - start) / MILLISECOND:.3f}"
        row = f"{mark:<3}{time:>{_MARGIN - 5}}  {_rungs(record, ports, pitch)}  {summarize(record.frame)}"
        fate = "" if record.fate == "delivered" else f" [{fate_text(record.fate)}]"
        lines.append(_fit(row, _WIDTH - len(fate)) + fate)
    return "\n".join(lines)


def _ports(records: Sequence[FrameRecord], shown: Sequence[FrameRecord]) -> list[str]:
    """Those that speak or hear in what is shown, in the order in which they first did at all: it stays when the window moves."""
    present = {name for record in shown for name in (record.source, record.destination)}
    everybody = dict.fromkeys(name for record in records for name in (record.source, record.destination))
    return [name for name in everybody if name in present]


def fate_text(fate: str) -> str:
    """A fate as people read it: delays in milliseconds."""
    return re.sub(r"delay (\d+)", lambda match: f"delay {int(match[1]) / MILLISECOND:.3f} ms", fate)


def _position(records: Sequence[FrameRecord], around: FrameRecord | None) -> int | None:
    return next((index for index, record in enumerate(records) if record is around), None)


def _rungs(record: FrameRecord, ports: list[str], pitch: int) -> str:
    row = list(("|" + " " * (pitch - 1)) * len(ports))
    source, destination = (ports.index(name) * pitch for name in (record.source, record.destination))
    step, head = (1, ">") if source < destination else (-1, "<")
    end = destination - step
    if "drop" in record.fate:
        end, head = (source + destination) // 2, "x"
    line = "-" if record.fate == "delivered" else "~"
    for place in range(source + step, end, step):
        if place % pitch:
            row[place] = line
    row[end] = head
    return "".join(row)[: (len(ports) - 1) * pitch + 1]


def _fit(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
