"""The marks, as values: what a mark may be given is the signature of its class here, and is checked when tests are collected."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, TypeVar, get_args

import pytest

from netemu.errors import LocalError
from pytest_netemu.options import ClockKind

__all__ = ["MARKS", "Clause", "ClockMark", "KnownDeviation", "Level", "MatrixMark", "Requires", "check", "of", "register"]

Level = Literal["MUST", "SHOULD", "MAY", "descriptive"]


@dataclass(frozen=True, slots=True)
class ClockMark:
    """`netemu_clock`: the clock of this test's network."""

    kind: ClockKind

    def __post_init__(self) -> None:
        _one_of("clock", self.kind, get_args(ClockKind))


@dataclass(frozen=True, slots=True)
class Clause:
    """`netemu_clause`: the requirement that this test judges; `id` is the requirement's where a section has several."""

    document: str
    section: str
    level: Level = "MUST"
    id: str | None = None

    def __post_init__(self) -> None:
        _one_of("level", self.level, get_args(Level))
        for name in ("document", "section"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value:
                raise LocalError(f"{name} {value!r}: a text such as 'rfc2131' or '4.3.1' is needed")

    def __str__(self) -> str:
        return self.id or f"{self.document}/{self.section}"

    def within(self, selection: str) -> bool:
        """Whether this clause is `selection`, or is inside that document or section."""
        names = [f"{self.document}/{self.section}", *([self.id] if self.id else [])]
        return any(name == selection or name.startswith((f"{selection}/", f"{selection}.")) for name in names)


class Requires:
    """`netemu_requires`: what the guest and the backend of the cell must be able to do."""

    def __init__(self, *capabilities: str) -> None:
        from netemu.guest.protocol import CAPABILITIES
        from netemu.netdev.protocol import BACKEND_CAPABILITIES

        for each in capabilities:
            _one_of("capability", each, sorted({*CAPABILITIES, *BACKEND_CAPABILITIES}))
        self.capabilities = capabilities


class MatrixMark:
    """`netemu_matrix`: the guests, backends and NICs that this test is about, instead of those of the ini values.

    Each is a name or several; an axis that is not given is left to the options.
    """

    def __init__(
        self, *, guests: str | Sequence[str] = (), backends: str | Sequence[str] = (), nics: str | Sequence[str] = ()
    ) -> None:
        given = {"guests": guests, "backends": backends, "nics": nics}
        axes = {axis: (names,) if isinstance(names, str) else tuple(names) for axis, names in given.items()}
        self.axes: dict[str, tuple[str, ...]] = {axis: tuple(sorted({*names})) for axis, names in axes.items() if names}


class KnownDeviation(NamedTuple):
    """`netemu_known_deviation`: this guest or backend is known to fail here; when it passes after all, that is a failure."""

    implementation: str
    reason: str
    issue: str | None = None

    def __str__(self) -> str:
        return f"known deviation of {self.implementation}: {self.reason}" + (f" ({self.issue})" if self.issue else "")


Mark = TypeVar("Mark", ClockMark, Clause, Requires, MatrixMark, KnownDeviation)

MARKS: Final = {
    ClockMark: "netemu_clock",
    Clause: "netemu_clause",
    Requires: "netemu_requires",
    MatrixMark: "netemu_matrix",
    KnownDeviation: "netemu_known_deviation",
}

_LINES: Final = (
    'netemu_clock(kind): run this test\'s network on a "virtual" or a "real" clock.',
    'netemu_clause(document, section, level="MUST", id=None): judges that clause; level is MUST, SHOULD, MAY or descriptive.',
    "netemu_requires(*capabilities): the guest and backend must be able to do this; a cell that cannot is skipped as unsupported.",
    "netemu_matrix(guests=(), backends=(), nics=()): run on these, whatever the ini values say; the command line may narrow it.",
    "netemu_known_deviation(implementation, reason, issue=None): this guest or backend must fail here (a strict xfail).",
)


def register(config: pytest.Config) -> None:
    for line in _LINES:
        config.addinivalue_line("markers", line)


def of(item: pytest.Item, kind: type[Mark]) -> Iterator[Mark]:
    """The marks of one kind, the nearest first; one given wrongly is a `pytest.UsageError`."""
    name = MARKS[kind]
    for mark in item.iter_markers(name):
        try:
            yield kind(*mark.args, **mark.kwargs)
        except (TypeError, LocalError) as error:
            wanted = next(line for line in _LINES if line.startswith(f"{name}(")).split(": ")[0]
            raise pytest.UsageError(f"{item.nodeid}: @pytest.mark.{name}: {error}; it is {wanted}") from None


def check(item: pytest.Item) -> None:
    """Read every mark of `item` once, for its errors."""
    list(of(item, ClockMark))
    list(of(item, Clause))
    list(of(item, Requires))
    list(of(item, MatrixMark))
    list(of(item, KnownDeviation))


def _one_of(what: str, value: str, allowed: tuple[str, ...] | list[str]) -> None:
    if value not in allowed:
        raise LocalError(f"{what} {value!r} was given; give one of {', '.join(allowed)}")
