"""The matrix: which guest, NIC and backend a run of a test is about, and whether that cell can and may run here.

Tests that use `netemu_guest` or `netemu_backend`, or only the factory of either, are parametrised over the names the options give,
sorted, so that every xdist worker collects the same. A cell whose parts lack what `netemu_requires` asks for is skipped with a
reason that starts with `unsupported: `; one whose parts cannot run on this machine, with the probe's words
(`pytest_netemu.platform`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

from pytest_netemu import markers
from pytest_netemu.options import NO_NIC, SETTINGS, ClockKind, Settings, nics
from pytest_netemu.platform import PLATFORM
from pytest_netemu.registry import ARMS, Arm, BackendRegistry, GuestRegistry, Registration

if TYPE_CHECKING:
    from netemu.guest.protocol import Guest
    from netemu.netdev.protocol import UserBackend

__all__ = [
    "BACKENDS",
    "GUESTS",
    "Cell",
    "cell_of",
    "check_cell",
    "clock_of",
    "mark_deviations",
    "parametrize",
    "requirements",
    "select",
    "value_of",
]

GUESTS: Final = pytest.StashKey[GuestRegistry]()
BACKENDS: Final = pytest.StashKey[BackendRegistry]()

_AXES: Final = {"netemu_backend": "backends", "netemu_nic": "nics", "netemu_guest": "guests"}
_FACTORIES: Final = {"netemu_inproc": "inproc", "netemu_netns": "netns", "netemu_uml": "uml", "netemu_qemu": "qemu"}
_ONLY_NIC: Final = (NO_NIC,)


class Cell(NamedTuple):
    """The parts that one run of a test is about; `None` where it does not use one. `others` are guests it makes by itself."""

    guest: Registration[Guest] | None
    backend: Registration[UserBackend] | None
    nic: str | None
    others: tuple[Registration[Guest], ...]

    @property
    def guests(self) -> list[Registration[Guest]]:
        return [*([self.guest] if self.guest else []), *self.others]

    @property
    def names(self) -> dict[str, str]:
        """The cell as text by axis."""
        axes = {
            "guest": self.guest and self.guest.name,
            "backend": self.backend and self.backend.name,
            "nic": self.nic,
        }
        return {axis: name for axis, name in axes.items() if name}

    @property
    def arm(self) -> Arm:
        """What a result of this cell rests on: the part that is least our own decides."""
        return max((part.arm for _, part in self.parts()), key=ARMS.index, default="in-process")

    def parts(self) -> Iterator[tuple[str, Registration[Guest] | Registration[UserBackend]]]:
        yield from (("guest", guest) for guest in self.guests)
        if self.backend:
            yield "backend", self.backend


def parametrize(metafunc: pytest.Metafunc) -> None:
    """One run for each value of every axis the test uses; an axis that the test itself parametrises is left to it."""
    settings = metafunc.config.stash[SETTINGS]
    marked = _marked(metafunc.definition)
    own = {name.strip() for mark in metafunc.definition.iter_markers("parametrize") for name in _argument_names(mark)}
    for axis_fixture, axis in _AXES.items():
        values = marked.get(axis) or getattr(settings, axis)
        fixture = next((name for name in _both(axis_fixture) if name in metafunc.fixturenames), None)
        if fixture and fixture not in own and (axis, values) != ("nics", _ONLY_NIC):
            metafunc.parametrize(fixture, values, ids=values, indirect=True)


def _marked(item: pytest.Item) -> dict[str, tuple[str, ...]]:
    """The names by axis of the nearest `netemu_matrix` mark; one that is not registered is a `pytest.UsageError`."""
    for mark in markers.of(item, markers.MatrixMark):
        registered = {"guests": item.config.stash[GUESTS].names, "backends": item.config.stash[BACKENDS].names, "nics": nics()}
        for axis, names in mark.axes.items():
            for name in names:
                if name not in registered[axis]:
                    raise pytest.UsageError(
                        f"{item.nodeid}: @pytest.mark.netemu_matrix({axis}=...): {name!r} is not registered; give one or more of "
                        f"{', '.join(registered[axis])}"
                    )
        return mark.axes
    return {}


def _both(fixture: str) -> tuple[str, str]:
    """An axis' fixture, and the factory that a test may use instead of it."""
    return fixture, f"{fixture}_factory"


def value_of(item: pytest.Item, fixture: str) -> str | None:
    """The value of the axis of `fixture` that this run of the test is about; None if the test does not use the axis."""
    callspec = getattr(item, "callspec", None)
    params: Mapping[str, str] = callspec.params if callspec else {}
    return next((params[name] for name in _both(fixture) if name in params), None)


def _argument_names(mark: pytest.Mark) -> list[str]:
    names = mark.args[0] if mark.args else mark.kwargs.get("argnames", ())
    return names.split(",") if isinstance(names, str) else list(names)


def cell_of(item: pytest.Item) -> Cell:
    """The cell of a collected test."""
    used = getattr(item, "fixturenames", ())
    guests, backends = item.config.stash[GUESTS], item.config.stash[BACKENDS]
    guest, backend = value_of(item, "netemu_guest"), value_of(item, "netemu_backend")
    return Cell(
        guest=guests[guest] if guest else None,
        backend=backends[backend] if backend else None,
        nic=value_of(item, "netemu_nic"),
        others=tuple(guests[kind] for fixture, kind in _FACTORIES.items() if fixture in used),
    )


def requirements(item: pytest.Item) -> list[str]:
    """All capabilities that the test's marks ask for; one that no part of its cell could have is a `pytest.UsageError`."""
    wanted = [name for mark in markers.of(item, markers.Requires) for name in mark.capabilities]
    if not wanted:
        return []
    from netemu.guest.protocol import CAPABILITIES
    from netemu.netdev.protocol import BACKEND_CAPABILITIES

    used = set(getattr(item, "fixturenames", ()))
    askable = {
        *(CAPABILITIES if used & {*_both("netemu_guest"), *_FACTORIES} else ()),
        *(BACKEND_CAPABILITIES if used & {*_both("netemu_backend")} else ()),
    }
    for name in wanted:
        if name not in askable:
            kind = "guest" if name in CAPABILITIES else "backend"
            raise pytest.UsageError(
                f"{item.nodeid}: @pytest.mark.netemu_requires({name!r}) is about a {kind}, and this test has none in its cell; "
                f"let it use netemu_{kind}"
            )
    return wanted


def mark_deviations(item: pytest.Item) -> None:
    """Turn known deviations of this cell's parts into strict xfails."""
    names = {part.name for _, part in cell_of(item).parts()}
    for deviation in markers.of(item, markers.KnownDeviation):
        if deviation.implementation in names:
            item.add_marker(pytest.mark.xfail(reason=str(deviation), strict=True))


def clock_of(item: pytest.Item) -> ClockKind:
    """The clock of the test's networks: the mark's, else real if a part cannot live in virtual time, else the ini value's."""
    for mark in markers.of(item, markers.ClockMark):
        return mark.kind
    if any("virtual-clock" not in part.capabilities for _, part in cell_of(item).parts()):
        return "real"
    return item.config.stash[SETTINGS].clock


def select(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the tests of the clauses that `--netemu-clause` names, and of marked cells those that the command line named too."""
    settings = config.stash[SETTINGS]
    kept: list[pytest.Item] = []
    dropped: list[pytest.Item] = []
    for item in items:
        (kept if _in_clauses(item, settings.clauses) and _in_cells(item, settings) else dropped).append(item)
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = kept


def _in_clauses(item: pytest.Item, wanted: tuple[str, ...]) -> bool:
    return not wanted or any(clause.within(each) for clause in markers.of(item, markers.Clause) for each in wanted)


def _in_cells(item: pytest.Item, settings: Settings) -> bool:
    """A `netemu_matrix` mark names cells beyond the command line's: a shard runs its own."""
    narrowed = {fixture: getattr(settings, axis) for fixture, axis in _AXES.items() if axis in settings.narrowed}
    marked = any(True for _ in markers.of(item, markers.MatrixMark))
    return not marked or all(value_of(item, fixture) in (None, *names) for fixture, names in narrowed.items())


def check_cell(item: pytest.Item) -> None:
    """Before anything is set up: skip what is unsupported, then what this machine cannot run."""
    __tracebackhide__ = True
    cell = cell_of(item)
    parts = list(cell.parts())
    if not parts:
        return
    from netemu.guest.protocol import CAPABILITIES
    from netemu.netdev.protocol import BACKEND_CAPABILITIES

    vocabulary = {"guest": CAPABILITIES, "backend": BACKEND_CAPABILITIES}
    wanted = requirements(item) + (["virtual-clock"] if clock_of(item) == "virtual" else [])
    wanted += ["nic"] if cell.nic not in (None, NO_NIC) else []
    for kind, part in parts:
        for name in wanted:
            if name in vocabulary[kind] and name not in part.capabilities:
                pytest.skip(f"unsupported: {kind} {part.name} lacks {name}: it is not one that {vocabulary[kind][name]}")
    for kind, part in parts:
        item.config.stash[PLATFORM].require_part(kind, part.name, part.probe)
