"""Evidence: the networks of a test, and what they saw, in a form that outlives the test and the process.

Each test has one `Evidence`; while it runs, `current()` is it, which is how an assertion finds the frames around what it complains
about. When a phase ends, `attach` adds to pytest's report: sections to read (on failure) and `report.netemu`, a mapping of
plain JSON values, because that is what crosses from an xdist worker to the controller. Captures are files, one directory a
test, named after its node id, so that no two workers write the same one; the mapping holds their paths relative to `--netemu-out`.

`report.netemu` has: `shipped` (the module's name if the test is of a shipped suite, else None), `cell` (axis to name), `arm` (of
`pytest_netemu.registry.ARMS`), `clauses` (list of document, section, level, id), `deviation` (text or None), `clock`, `seed`,
`determinism` (`exact`: virtual time and hosts in memory; `ordered`: virtual time, real sockets; `wall`: real time), `networks`
(list of: `frames`, `overflowed`, `digest`, `elapsed_ns`, `capture`), `ladder` (text, on failure), `replay` (a command).
"""

from __future__ import annotations

import os
import re
import shlex
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from copy import deepcopy
from hashlib import sha256
from typing import TYPE_CHECKING, Final, TypeAlias
from weakref import WeakSet

import pytest

from pytest_netemu import markers
from pytest_netemu.leaks import Picture, leaks_since, take_picture
from pytest_netemu.matrix import Cell, cell_of, clock_of
from pytest_netemu.options import SETTINGS, ClockKind, Settings

if TYPE_CHECKING:
    from netemu.net.capture import FrameLog
    from netemu.network import Network

__all__ = ["EVIDENCE", "Evidence", "Json", "attach", "current", "gathering", "slug"]

Json: TypeAlias = bool | int | str | list["Json"] | dict[str, "Json"] | None

_NETWORKS_KEPT: Final = 4  # a hypothesis test makes hundreds: the last ones are those of the failing example
_SLUG_LENGTH: Final = 80
_SUITES: Final = "pytest_netemu.suites."

_current: ContextVar[Evidence | None] = ContextVar("netemu evidence", default=None)


class Evidence:
    """What one test leaves behind. `networks` are the newest it made."""

    def __init__(self, item: pytest.Item) -> None:
        self.nodeid = item.nodeid
        self.shipped = _shipped_module(item)
        self._path = os.path.relpath(item.path, item.config.invocation_params.dir)
        self.settings: Settings = item.config.stash[SETTINGS]
        self.cell: Cell = cell_of(item)
        self.clock: ClockKind = clock_of(item)
        self.clauses = list(markers.of(item, markers.Clause))
        names = {part.name for _, part in self.cell.parts()}
        self.deviation = next((d for d in markers.of(item, markers.KnownDeviation) if d.implementation in names), None)
        self.networks: deque[Network] = deque(maxlen=_NETWORKS_KEPT)
        self.regression: str | None = None  # the newest hypothesis example as a test (`pytest_netemu.strategies.note_regression`)
        self.found: dict[str, Json] | None = None  # the mapping as the test's body left it: teardown takes the parts away
        self._open: WeakSet[Network] = WeakSet()
        self._before: Picture | None = None

    @property
    def replay(self) -> str:
        """The command that runs this test again, from where pytest was started."""
        test = self.nodeid.partition("::")[2]
        words = ["pytest", *(["--pyargs", f"{self.shipped}::{test}"] if self.shipped else [f"{self._path}::{test}"])]
        flags = {"guest": "--netemu-guest", "backend": "--netemu-backend", "nic": "--netemu-nic"}
        words += [f"{flags[axis]}={name}" for axis, name in self.cell.names.items()]
        words += [f"--netemu-seed={self.settings.seed}"] if self.settings.seed else []
        return shlex.join(words)

    def before_first_network(self) -> None:
        """Remember what this process held before the test's first network."""
        if self._before is None:
            self._before = take_picture()

    def adopt(self, network: Network) -> None:
        """Watch over a network: it is evidence from now on, and closed at the end at the latest."""
        self.networks.append(network)
        self._open.add(network)

    def close(self) -> None:
        """Close what is still open; a leak fails the test's teardown, naming what leaked."""
        for network in list(self._open):
            network.close()
        if self._before is None:
            return
        leaked = leaks_since(self._before)
        if leaked:
            pytest.fail("\n  ".join(["this test's networks are closed, and these are still here:", *leaked]), pytrace=False)

    def determinism(self) -> str:
        """How far a second run would repeat this one."""
        if any(network.clock == "real" for network in self.networks):
            return "wall"
        return "exact" if all(map(_in_memory, self.networks)) else "ordered"

    def as_json(self) -> dict[str, Json]:
        """The mapping described above, without ladder and captures."""
        return {
            "shipped": self.shipped,
            "cell": {**self.cell.names},
            "arm": self.cell.arm,
            "clauses": [
                {"document": clause.document, "section": clause.section, "level": clause.level, "id": clause.id}
                for clause in self.clauses
            ],
            "deviation": str(self.deviation) if self.deviation else None,
            "clock": self.clock,
            "seed": self.settings.seed,
            "determinism": self.determinism(),
            "networks": [_network_json(network) for network in self.networks],
            "ladder": None,
            "replay": self.replay,
        }

    def write_captures(self) -> list[str]:
        """Write one pcapng a network; their paths relative to the output directory."""
        from netemu.net.capture import write_pcapng

        folder = self.settings.out / slug(self.nodeid)
        folder.mkdir(parents=True, exist_ok=True)
        paths = []
        for number, network in enumerate(self.networks, 1):
            path = folder / ("frames.pcapng" if number == 1 else f"frames-{number}.pcapng")
            about = f"{self.nodeid}\nclock {network.clock}, seed {network.seed}; {_loss(network.frames)}"
            write_pcapng(path, network.frames, about=about)
            paths.append(path.relative_to(self.settings.out).as_posix())
        return paths


EVIDENCE: Final = pytest.StashKey[Evidence]()


def current() -> Evidence | None:
    """The evidence of the test that runs; None outside of one."""
    return _current.get()


@contextmanager
def gathering(item: pytest.Item) -> Iterator[None]:
    """Make the evidence of `item` the current one."""
    evidence = item.stash[EVIDENCE] = Evidence(item)
    token = _current.set(evidence)
    try:
        yield
    finally:
        _current.reset(token)
        del item.stash[EVIDENCE]


def attach(item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> None:
    """Add the evidence to the report of a phase. Tests that used nothing of netemu's are left alone."""
    evidence = item.stash.get(EVIDENCE, None)
    if evidence is None or not (evidence.networks or evidence.clauses or evidence.cell.names):
        return
    went_wrong = call.excinfo is not None and not call.excinfo.errisinstance(pytest.skip.Exception)
    if report.when != "teardown" or evidence.found is None:
        evidence.found = evidence.as_json()
    found = evidence.found
    mode = evidence.settings.capture
    if evidence.networks and (went_wrong if mode == "on-fail" else mode == "always" and report.when == "call"):
        for network, path in zip(_networks(found), evidence.write_captures(), strict=True):
            network["capture"] = path
    if went_wrong:
        report.sections += _sections(evidence, found)
    report.__dict__["netemu"] = deepcopy(found)  # pytest has no typed way to add an attribute, and serialises those that are there


def _networks(found: dict[str, Json]) -> Iterator[dict[str, Json]]:
    networks = found["networks"]
    assert isinstance(networks, list)
    for network in networks:
        assert isinstance(network, dict)
        yield network


def _network_json(network: Network) -> dict[str, Json]:
    frames = network.frames
    return {
        "frames": len(frames),
        "overflowed": frames.overflowed,
        "digest": frames.digest(),
        "elapsed_ns": network.loop.now(),
        "capture": None,
    }


def _sections(evidence: Evidence, found: dict[str, Json]) -> Iterator[tuple[str, str]]:
    from netemu.net.ladder import ladder

    if evidence.networks:
        network = evidence.networks[-1]
        found["ladder"] = ladder(network.frames.records, before=24, after=0)
        yield "netemu frames", f"{found['ladder']}\n{_loss(network.frames)}"
        if counters := "\n".join(_counters(network)):
            yield "netemu counters", counters
        for guest in network.guests:
            if console := getattr(guest, "console", ""):
                yield f"netemu console of {guest.name}", console
    if evidence.regression:
        yield "netemu regression test", evidence.regression
    lines = [evidence.replay]
    lines += [f"capture: {evidence.settings.out / str(each['capture'])}" for each in _networks(found) if each["capture"]]
    yield "netemu replay", "\n".join(lines)


def _loss(frames: FrameLog) -> str:
    lost = f", {frames.overflowed} earlier ones are lost" if frames.overflowed else ""
    return f"{len(frames)} frames kept{lost}; SHA-256 {frames.digest()}"


def _counters(network: Network) -> Iterator[str]:
    """What was dropped at ports, and what engines counted, a line each; nothing where nothing was."""
    for link in network.links:
        for port in (link.a, link.forward.entry, link.backward.entry, link.b):
            dropped = {reason: count for reason, count in port.counters.items() if reason.startswith("dropped") and count}
            yield from _counter_line(f"port {port.name}", dropped)
    for part in (*network.guests, *network.backends):
        yield from _counter_line(str(getattr(part, "name", None) or getattr(part, "id", part)), getattr(part, "counters", {}))


def _counter_line(name: str, counters: dict[str, int]) -> Iterator[str]:
    if counters:
        yield f"{name}: " + ", ".join(f"{reason} {count}" for reason, count in sorted(counters.items()))


def _in_memory(network: Network) -> bool:
    from netemu.io.simhost import SimHost

    hosts = [network.host, *(getattr(backend, "host", network.host) for backend in network.backends)]
    return all(isinstance(host, SimHost) for host in hosts) and all(guest.kind != "program" for guest in network.guests)


def _shipped_module(item: pytest.Item) -> str | None:
    """The module of a test of the shipped suites: its node id depends on where pytest takes its root directory to be."""
    module: str = getattr(getattr(item, "module", None), "__name__", "")
    return module if module.startswith(_SUITES) else None


def slug(nodeid: str) -> str:
    """A node id as the name of a directory: readable, and another one for another node id."""
    words = re.sub(r"[^A-Za-z0-9.]+", "-", nodeid).strip("-.")[-_SLUG_LENGTH:].strip("-.")
    return f"{words}-{sha256(nodeid.encode()).hexdigest()[:8]}"
