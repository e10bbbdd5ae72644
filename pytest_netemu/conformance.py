"""Running a shipped suite from a program: what `netemu conformance` does.

pytest runs in this process, on the packaged suite and on nothing else: no ini file of the user's, no cache, no options from the
environment. Its own terminal output is kept back; what is said comes from the report.
"""

from __future__ import annotations

import ast
import io
import os
import re
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import pytest

import pytest_netemu
from netemu.errors import LocalError
from pytest_netemu.outcomes import BAD
from pytest_netemu.report.events import Json
from pytest_netemu.report.recorder import write_views
from pytest_netemu.requirements import Requirement, catalogue
from pytest_netemu.suites import WALLS

__all__ = ["Check", "Progress", "Run", "checks", "checks_of", "package_of", "refuse_unknown", "run", "select", "usage_error"]

_ROOT: Final = Path(pytest_netemu.__file__).parent.parent  # so that a test's name is the same wherever one stands
_USAGE_ERROR: Final = "ERROR: "  # how pytest begins what it has to say to its caller


@dataclass(frozen=True, slots=True)
class Check:
    """One test of a suite and one requirement that it judges."""

    requirement: Requirement
    module: str
    test: str


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run: the folded document, where its files are, and pytest's exit status."""

    document: dict[str, Json]
    out: Path
    pytest_status: int

    @property
    def failed(self) -> bool:
        """A requirement was broken, or the harness was."""
        outcomes = {result["outcome"] for result in self.document["results"]}  # type: ignore[union-attr, call-overload, index] # the document's shape is the schema's
        broke = self.pytest_status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
        return broke or not outcomes.isdisjoint(BAD)


def package_of(wall: str) -> str:
    """The package of a wall's suite; a `LocalError` says which walls there are, or that this one has no suite yet."""
    if wall not in WALLS:
        raise LocalError(f"wall {wall!r} is not one of {', '.join(WALLS)}")
    package = WALLS[wall].package
    if package is None:
        ready = ", ".join(name for name, entry in WALLS.items() if entry.package)
        raise LocalError(f"the wall {wall!r} ({WALLS[wall].meets}) has no suite yet; there is one for {ready}")
    return package


def checks(package: str) -> Iterator[Check]:
    """The checks of a suite in the order of its files.

    They are read from the source, for a module that was imported before pytest collects it would not explain its assertions.
    """
    known = catalogue()
    for file in sorted(files(package).iterdir(), key=lambda file: file.name):
        if file.name.startswith("test_"):
            for test in ast.parse(file.read_text(encoding="utf-8")).body:
                if isinstance(test, ast.FunctionDef) and test.name.startswith("test_"):
                    module = f"{package}.{file.name.removesuffix('.py')}"
                    yield from (Check(known[name], module, test.name) for name in _judged(test))


def checks_of(nodeid: str) -> list[Check]:
    """The checks that the shipped test with this node id makes, whatever its parameters; none if it is not a shipped one."""
    file, _, test = nodeid.partition("::")
    name = test.partition("[")[0]
    module = file.rpartition("/")[2].removesuffix(".py")
    packages = [wall.package for wall in WALLS.values() if wall.package]
    found = [check for package in packages for check in checks(package)]
    return [check for check in found if check.test == name and check.module.endswith(f".{module}")]


def _judged(test: ast.FunctionDef) -> Iterator[str]:
    """The names given to `judges` in a test's decorators."""
    for decorator in test.decorator_list:
        match decorator:
            case ast.Call(func=ast.Name(id="judges"), args=[ast.Constant(value=str() as name)]):
                yield name


def select(package: str, clauses: Sequence[str]) -> list[Check]:
    """The checks of requirements within one of `clauses` (a document, a section or an id); all if none is given."""
    found = list(checks(package))
    chosen: list[Check] = []
    for clause in clauses:
        inside = [check for check in found if _within(check.requirement, clause)]
        if not inside:
            raise LocalError(f"clause {clause!r}: no check of this wall judges it; --list shows those there are")
        chosen += [check for check in inside if check not in chosen]
    return chosen or found


def _within(requirement: Requirement, clause: str) -> bool:
    return requirement.id == clause or requirement.id.startswith((f"{clause}/", f"{clause}."))


def run(
    package: str,
    out: Path,
    *,
    backends: Sequence[str] = (),
    guests: Sequence[str] = (),
    nics: Sequence[str] = (),
    clauses: Sequence[str] = (),
    workers: int = 0,
    plugins: Sequence[object] = (),
) -> Run:
    """Run the suite `package` and write the report into `out`. What was asked for wrongly is a `LocalError`.

    With `workers` the tests run in so many other processes (pytest-xdist), and an implementation that crashes takes only one down.
    """
    select(package, clauses)
    if workers < 0:
        raise LocalError(f"--workers {workers}: none (0) or more are needed")
    arguments = ["--netemu-out", str(out), *_flags(backends, guests, nics)]
    arguments += [part for clause in clauses for part in ("--netemu-clause", clause)]
    if workers:
        if find_spec("xdist") is None:
            raise LocalError("--workers needs pytest-xdist; install it, or leave --workers out")
        arguments += ["-n", str(workers)]
    status = _pytest(package, arguments, plugins)
    if status == pytest.ExitCode.NO_TESTS_COLLECTED:
        raise LocalError("no check was left to run; --list shows those there are")
    return Run(write_views(out / "events.jsonl"), out, status)


def refuse_unknown(package: str, *, backends: Sequence[str] = (), guests: Sequence[str] = (), nics: Sequence[str] = ()) -> None:
    """Raise the `LocalError` that `run` would raise for a part that nobody registered; nothing is run."""
    asked = _flags(backends, guests, nics)
    if asked:
        _pytest(package, ["--collect-only", *asked])


def _flags(backends: Sequence[str], guests: Sequence[str], nics: Sequence[str]) -> list[str]:
    asked = (("backend", backends), ("guest", guests), ("nic", nics))
    return [part for flag, values in asked for value in values for part in (f"--netemu-{flag}", value)]


def _pytest(package: str, arguments: Sequence[str], plugins: Sequence[object] = ()) -> int:
    """The exit status of pytest; what it calls a usage error is a `LocalError`."""
    usual = ["--pyargs", package, "-c", os.devnull, "--rootdir", str(_ROOT), "-p", "no:cacheprovider"]
    said = io.StringIO()
    with _without_addopts(), redirect_stdout(said), redirect_stderr(said):
        status = int(pytest.main([*usual, *arguments], plugins=list(plugins)))
    if status == pytest.ExitCode.USAGE_ERROR:
        raise LocalError(usage_error(said.getvalue()))
    return status


def usage_error(said: str) -> str:
    """Pytest's sentence in what it `said`, with our options' names in it instead of the plugin's."""
    lines = [line.removeprefix(_USAGE_ERROR) for line in said.splitlines() if line.startswith(_USAGE_ERROR)]
    return re.sub(r"--netemu-(\w+) \(or ini \w+\)", r"--\1", lines[-1] if lines else said.strip())


@contextmanager
def _without_addopts() -> Generator[None]:
    """The environment's extra options for pytest belong to other runs than this one."""
    kept = os.environ.pop("PYTEST_ADDOPTS", None)
    try:
        yield
    finally:
        if kept is not None:
            os.environ["PYTEST_ADDOPTS"] = kept


class Progress:
    """A pytest plugin that calls `advance(done, all)` after each test."""

    def __init__(self, advance: Callable[[int, int], None]) -> None:
        self._advance = advance
        self._done = self._all = 0

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._all = len(session.items)

    def pytest_runtest_logfinish(self) -> None:
        self._done += 1
        self._advance(self._done, self._all)
