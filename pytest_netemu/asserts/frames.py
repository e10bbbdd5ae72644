"""Expectations over captured frames, with everything that is not said left open.

    expect(netemu_capture).in_order(
        Match("dhcpv4", sender="guest0", dhcpv4_yiaddr="0.0.0.0"),
        Match("dhcpv4", receiver="guest0", dhcpv4_yiaddr="10.0.2.15"),
    )
    expect(netemu_capture).never(Match("icmpv4", icmpv4_type={3, 11}))

A `Match` names layers that must be there and fields that must have a value. Fields have the names that `dissect` gives them
(`netemu.wire.describe`), with `_` for the first dot and `__` for further ones (`dhcpv4_options__requested_ip_address`), or are
given in a mapping under those very names. A value is compared as text, so addresses may be written as such; a collection or a
range means "one of these", a function is asked, `...` means "present" and `None` "absent".

An observation that was lost proves nothing: where the log overflowed, a failure that could come from that is `Inconclusive`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

from netemu.net.capture import FrameLog
from netemu.net.link import FrameRecord
from netemu.wire.describe import dissect
from pytest_netemu.asserts.failure import failure
from pytest_netemu.outcomes import Inconclusive

__all__ = ["Expectation", "Field", "Match", "expect"]

Field: TypeAlias = object  # a value, a collection of values, a predicate, `...` or None

_RECORD_FIELDS = {"sender": "source", "receiver": "destination", "link": "link", "fate": "fate"}
_ABSENT = object()


class Match:
    """What a frame must be. `sender`, `receiver` (port names), `link` and `fate` are those of its record."""

    def __init__(self, *layers: str, where: Mapping[str, Field] | None = None, **fields: Field) -> None:
        self._layers = layers
        self._fields = {_dotted(name): value for name, value in fields.items()} | dict(where or {})

    def __repr__(self) -> str:
        fields = [f"{name}={_text(value)}" for name, value in self._fields.items()]
        return f"Match({', '.join([*self._layers, *fields])})"

    def differences(self, record: FrameRecord) -> list[str]:
        """Why `record` is not such a frame, a line for each layer or field; empty if it is one."""
        seen = dissect(record.frame)
        layers = {name.partition(".")[0] for name in seen}
        wrong = [f"{layer}: expected, and not in the frame" for layer in self._layers if layer not in layers]
        for name, wanted in self._fields.items():
            got = getattr(record, _RECORD_FIELDS[name]) if name in _RECORD_FIELDS else seen.get(name, _ABSENT)
            if not _accepts(wanted, got):
                wrong.append(f"{name}: expected {_text(wanted)}, got {'no such field' if got is _ABSENT else repr(got)}")
        return wrong

    def __call__(self, record: FrameRecord) -> bool:
        return not self.differences(record)


class Expectation:
    """What is expected of frames. Each method gives the frames it found, or raises an `AssertionError` that shows the nearest."""

    def __init__(self, records: Iterable[FrameRecord], overflowed: int = 0) -> None:
        self.records = tuple(records)
        self._overflowed = overflowed

    def contains(self, *matches: Match) -> list[FrameRecord]:
        """Each of `matches` is met by a frame, in any order."""
        __tracebackhide__ = True
        return [self._first(match, 0)[1] for match in matches]

    def in_order(self, *matches: Match) -> list[FrameRecord]:
        """Frames meet `matches` one after the other; others may be between."""
        __tracebackhide__ = True
        found: list[FrameRecord] = []
        start = 0
        for match in matches:
            at, record = self._first(match, start)
            found.append(record)
            start = at + 1
        return found

    def never(self, *matches: Match) -> None:
        """No frame meets any of `matches`."""
        __tracebackhide__ = True
        for match in matches:
            culprit = next((record for record in self.records if match(record)), None)
            if culprit is not None:
                raise failure(f"a frame is {match!r}, and none may be", records=self.records, around=culprit)
        self._require_all_seen()

    def _first(self, match: Match, start: int) -> tuple[int, FrameRecord]:
        __tracebackhide__ = True
        later = self.records[start:]
        for at, record in enumerate(later, start):
            if match(record):
                return at, record
        self._require_all_seen()
        after = f" after frame {start}" if start else ""
        if not later:
            raise failure(f"no frame{after} is {match!r}: there are no more frames", records=self.records)
        nearest = min(later, key=lambda record: len(match.differences(record)))
        number = next(at for at, record in enumerate(later, start + 1) if record is nearest)
        raise failure(
            f"no frame{after} is {match!r}; of {len(later)}, frame {number} is nearest",
            match.differences(nearest),
            records=self.records,
            around=nearest,
        )

    def _require_all_seen(self) -> None:
        if self._overflowed:
            raise Inconclusive(f"{self._overflowed} frames are no longer in the log, so it cannot be said what was not there")


def expect(frames: FrameLog | Iterable[FrameRecord]) -> Expectation:
    """Expectations over `frames`: a log such as `netemu_capture`, or any of its records, as they are now."""
    return Expectation(frames, frames.overflowed if isinstance(frames, FrameLog) else 0)


def _dotted(name: str) -> str:
    if name in _RECORD_FIELDS:
        return name
    layer, _, field = name.partition("_")
    return f"{layer}.{field.replace('__', '.')}"


def _accepts(wanted: Field, got: object) -> bool:
    if wanted is None or got is _ABSENT:
        return wanted is None and got is _ABSENT
    if wanted is ...:
        return True
    if callable(wanted):
        return bool(wanted(got))
    if isinstance(wanted, set | frozenset | list | tuple | range):
        return any(str(each) == str(got) for each in wanted) if not isinstance(wanted, range) else got in wanted
    return str(int(wanted) if isinstance(wanted, int) else wanted) == str(got)


def _text(value: Field) -> str:
    if value is ...:
        return "anything"
    if value is None:
        return "no such field"
    if isinstance(value, Callable):  # type: ignore[arg-type]  # the abstract class is meant
        return getattr(value, "__name__", "a predicate")
    if isinstance(value, set | frozenset | list | tuple):
        return f"one of {', '.join(sorted(map(str, value)))}"
    return repr(str(value)) if not isinstance(value, int) else repr(int(value))
