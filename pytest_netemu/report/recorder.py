"""The recorder: pytest's hooks on one side, events on the other. Registered by the plugin when `--netemu-out` is given.

The process that ran a test judges it and hangs the result on the `TestReport` (`report.netemu`, plain JSON), which
pytest-xdist carries to the controller as it is; bulky evidence it writes itself, beside the report. Only the controller
writes events, and at the end the folded document and its views.

pytest must agree with the verdict, so a SHOULD that is not followed, and a MAY that is not seen, are reported to it as an
expected failure (`x`), and an inconclusive check as a skip. Its exit status then speaks of `fail` and `error` only.
"""

from __future__ import annotations

import json
import platform
import re
import sys
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, cast

import pytest

import netemu
from netemu.net.capture import write_pcapng
from netemu.net.ladder import ladder
from netemu.network import Network
from pytest_netemu.outcomes import Verdict, judge
from pytest_netemu.report.events import Event, EventWriter, Json, read_events
from pytest_netemu.report.fold import fold
from pytest_netemu.requirements import Requirement, catalogue
from pytest_netemu.suites import SUITE_VERSION

__all__ = ["ConformanceRecorder", "claims", "write_views"]

_SIDES: Final = {"backend": "netemu_backend", "guest": "netemu_guest", "nic": "netemu_nic"}
_UNSUPPORTED: Final = "unsupported: "  # how the plugin's skips for a missing capability begin
_UNWORTHY: Final = frozenset({"pass", "unsupported", "skipped"})  # outcomes that need no evidence


def claims(item: pytest.Item) -> list[Requirement]:
    """The catalogue's requirements that the test's `netemu_clause` marks name by `id`; others are not recorded."""
    known = catalogue()
    names = dict.fromkeys(str(mark.kwargs.get("id")) for mark in item.iter_markers("netemu_clause"))
    return [known[name] for name in names if name in known]


class ConformanceRecorder:
    """Records the checks of one run into the directory `out`."""

    def __init__(self, config: pytest.Config, out: Path) -> None:
        self.out = out
        self._controller = not hasattr(config, "workerinput")
        self._writer: EventWriter | None = None
        self._implementations: set[str] = set()

    # Where the test runs

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        requirements = claims(item)
        if requirements and (call.when == "call" or report.outcome != "passed"):
            verdicts = {requirement.id: _verdict(requirement, report, call) for requirement in requirements}
            observation = _Observation(item, self.out)
            results = [observation.result(requirement, verdicts[requirement.id], report) for requirement in requirements]
            report.netemu = {  # type: ignore[attr-defined] # xdist carries unknown attributes of plain data
                "results": results,
                "implementations": observation.implementations(requirements),
            }
            item.user_properties += _properties(results)
            _agree(report, verdicts.values())
        return report

    # Where the run is controlled

    def pytest_sessionstart(self) -> None:
        if self._controller:
            self._writer = EventWriter(self.out / "events.jsonl")
            self._writer.write("start", {"run": _run()})
            for requirement in catalogue().values():
                self._writer.write("requirement", _described(requirement))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        found: dict[str, list[Event]] | None = getattr(report, "netemu", None)
        if self._writer is None or found is None:
            return
        for implementation in found["implementations"]:
            if (name := str(implementation["id"])) not in self._implementations:
                self._implementations.add(name)
                self._writer.write("implementation", implementation)
        for result in found["results"]:
            self._writer.write("result", result)

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        if self._writer is None:
            return
        self._writer.write("finish", {"finished": _now(), "exit_status": int(exitstatus)})
        self._writer.close()
        write_views(self._writer.path)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._controller:
            terminalreporter.write_line(f"netemu conformance report: {self.out / 'index.html'}")


def write_views(events: Path) -> dict[str, Json]:
    """Fold the file `events` and write the document, the HTML page and the Markdown summary beside it; gives the document."""
    from pytest_netemu.report.html import html
    from pytest_netemu.report.markdown import markdown

    document = fold(read_events(events))
    (events.parent / "netemu-conformance.json").write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", "utf-8")
    (events.parent / "index.html").write_text(html(document), "utf-8")
    (events.parent / "summary.md").write_text(markdown(document), "utf-8")
    return document


def _verdict(requirement: Requirement, report: pytest.TestReport, call: pytest.CallInfo[None]) -> Verdict:
    error = None if call.excinfo is None else call.excinfo.value
    if call.when == "teardown":
        return Verdict("error", f"teardown: {error}")
    if hasattr(report, "wasxfail"):
        return Verdict("known-deviation", report.wasxfail.removeprefix("reason: "))
    if error is None and report.failed:
        return Verdict("fail", "declared as a known deviation, but it holds now: take the declaration away")
    if isinstance(error, pytest.skip.Exception):
        reason = str(error)
        lacks = reason.startswith(_UNSUPPORTED)
        return Verdict("unsupported" if lacks else "skipped", reason.removeprefix(_UNSUPPORTED))
    if call.when == "setup":
        return Verdict("error", f"setup: {error}")
    return judge(requirement.level, error)


def _agree(report: pytest.TestReport, verdicts: Iterable[Verdict]) -> None:
    """Let pytest's own outcome say what the verdicts say."""
    outcomes = {verdict.outcome: verdict.why for verdict in verdicts}
    if not report.failed or not outcomes.keys() <= {"nonstrict", "informational", "inconclusive"}:
        return
    report.outcome = "skipped"
    name, why = next(iter(outcomes.items()))
    if name == "inconclusive":
        report.longrepr = (str(report.fspath), report.location[1] or 0, f"inconclusive: {why}")
    else:
        report.wasxfail = f"{name}: {why.partition(chr(10))[0]}"


@dataclass(frozen=True, slots=True)
class _Observation:
    """What can be said of one test after it ran: who was under test, when, and what was seen."""

    item: pytest.Item
    out: Path

    @property
    def network(self) -> Network | None:
        found = self._fixtures().get("netemu")
        return found if isinstance(found, Network) else None

    def _fixtures(self) -> dict[str, object]:
        return getattr(self.item, "funcargs", {})

    def variant(self) -> dict[str, str]:
        """The cell of the matrix: the parameter's words, or the part's own kind where nothing was parametrised."""
        callspec = getattr(self.item, "callspec", None)
        params: dict[str, object] = {} if callspec is None else callspec.params
        found = {}
        for side, fixture in _SIDES.items():
            part = params.get(fixture, getattr(self._fixtures().get(fixture), "kind", None))
            if part is not None:
                found[side] = str(part)
        return found

    def implementations(self, requirements: Iterable[Requirement]) -> list[Event]:
        variant, found = self.variant(), []
        for side in sorted({requirement.side for requirement in requirements}):
            part = self._fixtures().get(_SIDES[side])
            capabilities = sorted(getattr(part, "capabilities", ()))
            found.append(cast("Event", {"id": variant.get(side, side), "kind": side, "capabilities": capabilities}))
        return found

    def result(self, requirement: Requirement, verdict: Verdict, report: pytest.TestReport) -> Event:
        network, variant = self.network, self.variant()
        return {
            "requirement": requirement.id,
            "implementation": variant.get(requirement.side, requirement.side),
            "variant": cast("Event", variant),
            "outcome": verdict.outcome,
            "why": verdict.why,
            "nodeid": self.item.nodeid,
            "seed": 0 if network is None else network.seed,
            "determinism": self._determinism(),
            "frames": None if network is None else network.frames.digest(),
            "virtual_ns": 0 if network is None else network.loop.now(),
            "wall_ns": round(report.duration * 1e9),
            "evidence": self._evidence(verdict),
            "repro": self._repro(requirement, variant),
        }

    def _determinism(self) -> str:
        parts = [self._fixtures().get(fixture) for fixture in _SIDES.values()]
        lists = [part.capabilities for part in parts if hasattr(part, "capabilities")]
        virtual = self.network is not None and self.network.clock == "virtual"
        return "exact" if virtual and all("virtual-clock" in capabilities for capabilities in lists) else "wall"

    def _evidence(self, verdict: Verdict) -> Event:
        """The ladder's text and the capture's path, where the outcome has to be explained and something was seen."""
        network = self.network
        if network is None or not network.frames.records or verdict.outcome in _UNWORTHY:
            return {}
        slug = re.sub(r"[^\w.-]+", "-", self.item.nodeid.rpartition("/")[2]).strip("-")
        path = Path("evidence") / f"{slug}.pcapng"
        (self.out / "evidence").mkdir(parents=True, exist_ok=True)
        write_pcapng(self.out / path, network.frames.records, about=f"{self.item.nodeid}: {verdict.outcome}")
        return {"ladder": ladder(network.frames.records, before=20), "pcapng": path.as_posix()}

    def _repro(self, requirement: Requirement, variant: dict[str, str]) -> str:
        if isinstance(self.item, pytest.Function) and self.item.module.__name__.startswith("pytest_netemu.suites."):
            sides = "".join(f" --{side} {name}" for side, name in variant.items())
            return f"netemu conformance{sides} --clause {requirement.id}"
        return f"pytest '{self.item.nodeid}'"


def _properties(results: Iterable[Event]) -> list[tuple[str, object]]:
    """For JUnit, whose properties are strings."""
    return [
        (f"netemu.{name}", str(result[key]))
        for result in results
        for name, key in (("clause", "requirement"), ("impl", "implementation"), ("outcome", "outcome"), ("seed", "seed"))
    ]


def _described(requirement: Requirement) -> Event:
    document = requirement.document
    return {
        "id": requirement.id,
        "document": document.id,
        "title": document.title,
        "edition": document.edition,
        "section": requirement.section,
        "level": requirement.level,
        "role": requirement.role,
        "quote": requirement.quote,
        "url": requirement.url,
        "status": requirement.status,
        "reason": requirement.reason,
    }


def _run() -> Event:
    started = _now()
    return {
        "id": re.sub(r"\D", "", started),
        "started": started,
        "suite": {"name": "pytest_netemu.suites", "version": SUITE_VERSION},
        "plugin": {"name": "pytest-netemu", "version": netemu.__version__},
        "python": platform.python_version(),
        "platform": f"{sys.platform} {platform.release()} {platform.machine()}",
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
