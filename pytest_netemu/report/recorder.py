"""The recorder: verdicts on one side, the report's files on the other. Registered by the plugin when `--netemu-out` is given.

The process that ran a test judges it, and adds the verdicts to the evidence that the plugin hangs on the `TestReport`
(`pytest_netemu.evidence`, plain JSON that pytest-xdist carries to the controller). Only the controller writes: events while the run
goes on, and at the end the folded document and its views.

pytest must agree with the verdict, so a SHOULD that is not followed, and a MAY that is not seen, are reported to it as an expected
failure (`x`), and an inconclusive check as a skip. Its exit status then speaks of `fail` and `error` only.
"""

from __future__ import annotations

import json
import platform
import re
import sys
from collections.abc import Collection, Generator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest

import netemu
from netemu.errors import LocalError
from pytest_netemu import markers, matrix
from pytest_netemu.builtin import own_commit
from pytest_netemu.options import SETTINGS
from pytest_netemu.outcomes import Verdict, judge
from pytest_netemu.platform import PLATFORM
from pytest_netemu.registry import Registration, Registry
from pytest_netemu.report.events import Event, EventWriter, Json, read_events
from pytest_netemu.report.fold import fold
from pytest_netemu.requirements import Requirement, catalogue
from pytest_netemu.suites import SUITE_VERSION, side_of

__all__ = ["ConformanceRecorder", "claims", "write_views"]

_UNSUPPORTED: Final = "unsupported: "  # how the skips of `pytest_netemu.matrix` for a missing capability begin
_NO_EVIDENCE: Final[dict[str, Any]] = {"networks": [], "ladder": None, "determinism": "wall"}
_REGISTRIES: Final[dict[str, pytest.StashKey[Any]]] = {"guest": matrix.GUESTS, "backend": matrix.BACKENDS}


def claims(item: pytest.Item) -> list[Requirement]:
    """The catalogue's requirements that the test's `netemu_clause` marks name by `id`; others are not recorded."""
    known = catalogue()
    return [known[clause.id] for clause in markers.of(item, markers.Clause) if clause.id is not None and clause.id in known]


class ConformanceRecorder:
    """Records the checks of one run into the directory `out`."""

    def __init__(self, config: pytest.Config, out: Path) -> None:
        self._config = config
        self._out = out
        self._controller = not hasattr(config, "workerinput")
        self._writer: EventWriter | None = None
        self._implementations: set[str] = set()

    # Where the test runs

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        evidence: dict[str, Any] | None = getattr(report, "netemu", None)
        requirements = claims(item)
        if evidence is not None and requirements and (call.when == "call" or not report.passed):
            verdicts = {requirement.id: _verdict(requirement, report, call) for requirement in requirements}
            evidence["verdicts"] = {name: [verdict.outcome, verdict.why] for name, verdict in verdicts.items()}
            item.user_properties += _properties(evidence, verdicts)
            _agree(report, verdicts.values())
        return report

    # Where the run is controlled

    def pytest_sessionstart(self) -> None:
        if self._controller:
            try:
                self._writer = EventWriter(self._out / "events.jsonl")
            except OSError as error:
                reason = (
                    f"--netemu-out (or ini netemu_out): {error.filename}: {error.strerror}; give a directory that can be written to"
                )
                raise pytest.UsageError(reason) from None
            self._writer.write("start", {"run": _run(self._config)})
            for requirement in catalogue().values():
                self._writer.write("requirement", _described(requirement))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        evidence: dict[str, Any] = getattr(report, "netemu", None) or {}
        for name, (outcome, why) in evidence.get("verdicts", {}).items():
            verdict = Verdict(outcome, why)
            nodeid = _same_everywhere(report.nodeid, evidence["shipped"])
            self._write_result(catalogue()[name], verdict, evidence, nodeid, round(report.duration * 1e9))

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, crashitem: str) -> None:
        """pytest-xdist: a worker died in the test `crashitem`, which therefore has no evidence; only its name tells what it was."""
        from pytest_netemu.conformance import checks_of

        axis = re.search(r"\[([\w.]+)", crashitem)
        for check in checks_of(crashitem):
            died = Verdict("error", "the process died while this ran")
            cell = {side_of(check.requirement, check.module): axis[1]} if axis else {}
            arms = [found.arm for side, name in cell.items() if (found := self._registered(side, name))]
            settings = self._config.stash[SETTINGS]
            known = {"arm": arms[0] if arms else "in-process", "clock": settings.clock, "seed": settings.seed}
            evidence: dict[str, Any] = {**_NO_EVIDENCE, **known, "cell": cell, "shipped": check.module}
            self._write_result(check.requirement, died, evidence, _same_everywhere(crashitem, check.module), 0)

    def _write_result(
        self, requirement: Requirement, verdict: Verdict, evidence: dict[str, Any], nodeid: str, wall_ns: int
    ) -> None:
        if self._writer is not None:
            judged = side_of(requirement, evidence["shipped"])
            implementation = evidence["cell"].get(judged, judged)
            for side, name in {**evidence["cell"], judged: implementation}.items():
                self._introduce(side, name)
            self._writer.write("result", _result(requirement, implementation, verdict, evidence, nodeid, wall_ns))

    def _introduce(self, side: str, name: str) -> None:
        """Write the event of an implementation when the first result comes that it had a part in."""
        if self._writer is None or side not in _REGISTRIES or name in self._implementations:
            return
        self._implementations.add(name)
        found = self._registered(side, name)
        runs_here = found is not None and found.probe() is None
        version, commit = (found and runs_here and found.version()) or (None, None)
        capabilities: list[Json] = [*sorted(found.capabilities)] if found else []
        about: Event = {"id": name, "kind": side, "version": version, "commit": commit, "capabilities": capabilities}
        self._writer.write("implementation", about)

    def _registered(self, side: str, name: str) -> Registration[Any] | None:
        registry: Registry[Any] = self._config.stash[_REGISTRIES[side]]
        return registry[name] if name in registry.names else None

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        if self._writer is None:
            return
        self._writer.write("finish", {"finished": _now(), "exit_status": int(exitstatus)})
        self._writer.close()
        write_views(self._writer.path)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._controller:
            terminalreporter.write_line(f"netemu conformance report: {self._out / 'index.html'}")


def write_views(events: Path) -> dict[str, Json]:
    """Fold the file `events` and write the document, the HTML page and the Markdown summary beside it; gives the document.

    A file that is not of a run is a `LocalError`.
    """
    from pytest_netemu.report.html import html
    from pytest_netemu.report.markdown import markdown

    found = list(read_events(events))
    if not found or found[0].get("$type") != "start":
        raise LocalError(f"{events} is not of a run: its first line is no start event")
    document = fold(found)
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


def _agree(report: pytest.TestReport, verdicts: Collection[Verdict]) -> None:
    """Let pytest's own outcome say what the verdicts say."""
    reasons = {verdict.outcome: verdict.why for verdict in verdicts}
    if not report.failed or not reasons.keys() <= {"nonstrict", "informational", "inconclusive"}:
        return
    report.outcome = "skipped"
    name, why = next(iter(reasons.items()))
    if name == "inconclusive":
        report.longrepr = (report.location[0], report.location[1] or 0, f"inconclusive: {why}")
    else:
        report.wasxfail = f"{name}: {why.splitlines()[0]}"


def _result(
    requirement: Requirement, implementation: str, verdict: Verdict, evidence: dict[str, Any], nodeid: str, wall_ns: int
) -> Event:
    networks: list[dict[str, Any]] = evidence["networks"]
    found: dict[str, Json] = {"ladder": evidence["ladder"]} if evidence["ladder"] else {}
    captures = [network["capture"] for network in networks if network["capture"]]
    found |= {f"pcapng {number}" if number > 1 else "pcapng": path for number, path in enumerate(captures, 1)}
    return {
        "requirement": requirement.id,
        "implementation": implementation,
        "arm": evidence["arm"],
        "variant": evidence["cell"],
        "outcome": verdict.outcome,
        "why": verdict.why,
        "nodeid": nodeid,
        "seed": evidence["seed"],
        "clock": evidence["clock"],
        "determinism": evidence["determinism"],
        "frames": networks[-1]["digest"] if networks else None,
        "virtual_ns": networks[-1]["elapsed_ns"] if networks else 0,
        "wall_ns": wall_ns,
        "evidence": found,
        "repro": _repro(requirement, evidence),
    }


def _same_everywhere(nodeid: str, shipped: str | None) -> str:
    """The node id, for a shipped test as seen from above its packages, wherever pytest's root directory was."""
    return f"{shipped.replace('.', '/')}.py::{nodeid.partition('::')[2]}" if shipped else nodeid


def _repro(requirement: Requirement, evidence: dict[str, Any]) -> str:
    if not evidence["shipped"]:
        return str(evidence["replay"])
    sides = "".join(f" --{side} {name}" for side, name in evidence["cell"].items())
    return f"netemu conformance{sides} --clause {requirement.id}"


def _properties(evidence: dict[str, Any], verdicts: dict[str, Verdict]) -> list[tuple[str, object]]:
    """For JUnit, whose properties are strings."""
    found: list[tuple[str, object]] = []
    for name, verdict in verdicts.items():
        found += [("netemu.clause", name), ("netemu.outcome", verdict.outcome)]
    found += [(f"netemu.{side}", name) for side, name in evidence["cell"].items()]
    return [*found, ("netemu.seed", str(evidence["seed"]))]


def _described(requirement: Requirement) -> Event:
    document = requirement.document
    return {
        "id": requirement.id,
        "doc": document.id,
        "title": document.title,
        "edition": document.edition,
        "errata": [*requirement.errata],
        "section": requirement.section,
        "level": requirement.level,
        "role": requirement.role,
        "quote": requirement.quote,
        "url": requirement.url,
        "status": requirement.status,
        "reason": requirement.reason,
        "issue": requirement.issue,
    }


def _run(config: pytest.Config) -> Event:
    started = _now()
    settings = config.stash[SETTINGS]
    return {
        "id": re.sub(r"\D", "", started)[: len("yyyymmddHHMMSS")],
        "started": started,
        "suite": {"name": "pytest_netemu.suites", "version": SUITE_VERSION, "git": own_commit()},
        "plugin": {"name": "pytest-netemu", "version": netemu.__version__},
        "python": platform.python_version(),
        "platform": f"{sys.platform} {platform.release()} {platform.machine()}",
        "seed": settings.seed,
        "clock": settings.clock,
        "accel": "none",  # no guest here is a virtual machine
        "probes": {name: finding.words for name, finding in config.stash[PLATFORM].items()},
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
