"""The text of a failed assertion: a summary line, the differences, a ladder of the frames around them, the command to replay it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence

from netemu.net.ladder import ladder
from netemu.net.link import FrameRecord
from netemu.wire.describe import dissect
from pytest_netemu.evidence import current

__all__ = ["failure", "last_of_layer", "seen_frames"]


def failure(
    summary: str,
    differences: Iterable[str] = (),
    *,
    records: Sequence[FrameRecord] | None = None,
    around: FrameRecord | Callable[[FrameRecord], bool] | None = None,
) -> AssertionError:
    """The error to raise. `records` are those of the running test's newest network unless given; `around` is the frame in question,
    or says of each, from the newest back, whether it is.
    """
    shown = seen_frames() if records is None else records
    if callable(around):
        around = next(filter(around, reversed(shown)), None)
    lines = [summary, *(f"  {line}" for line in differences)]
    if shown:
        lines += ["", ladder(shown, around)]
    if replay := _replay():
        lines += ["", f"replay: {replay}"]
    return AssertionError("\n".join(lines))


def last_of_layer(layer: str) -> Callable[[FrameRecord], bool]:
    """For `around`: the newest frame that has `layer` (`dhcpv4`, `icmpv4`)."""
    return lambda record: any(name.startswith(f"{layer}.") for name in dissect(record.frame))


def seen_frames() -> tuple[FrameRecord, ...]:
    """The frames of the running test's newest network; none outside of a test."""
    evidence = current()
    return evidence.networks[-1].frames.records if evidence and evidence.networks else ()


def _replay() -> str:
    evidence = current()
    if evidence is not None:
        return evidence.replay
    test = os.environ.get("PYTEST_CURRENT_TEST", "")  # "<node id> (call)"
    return f"pytest {test.rpartition(' ')[0]}" if test else ""
