"""Verdicts: the closed list of outcomes, and how an observation of a requirement becomes one of them.

An `AssertionError` (or `pytest.fail`) is an observation: the implementation did not do what the sentence says. So is a
blocking helper's timeout (it kept silent), a `PeerError` (it died) and an errno by which a network refuses a connection.
Every other exception is the harness's fault and is `error`, which is never taken for a failure. What an observation means
depends on the sentence: breaking a MUST (or a descriptive sentence) is `fail`, not following a SHOULD is `nonstrict`, and a
MAY is only reported.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import Final

import pytest

from netemu.errors import HostError, NetemuTimeoutError, PeerError

__all__ = ["BAD", "OUTCOMES", "Inconclusive", "Outcome", "Verdict", "judge", "observed"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One of the closed list: the letter that stands for it in a grid, and what it means."""

    name: str
    letter: str
    meaning: str


OUTCOMES: Final = {
    outcome.name: outcome
    for outcome in (
        Outcome("pass", "P", "does what the requirement says"),
        Outcome("nonstrict", "N", "does not follow a SHOULD"),
        Outcome("informational", "I", "a MAY: seen or not, both are right"),
        Outcome("fail", "F", "does not do what the requirement says"),
        Outcome("unsupported", "U", "does not have the capability that the check needs"),
        Outcome("skipped", "S", "this machine cannot run the check"),
        Outcome("known-deviation", "K", "fails as declared"),
        Outcome("inconclusive", "?", "the observation was lost, or differed between attempts"),
        Outcome("error", "E", "the harness broke; nothing is known"),
    )
}

BAD: Final = frozenset({"fail", "error"})
"""The outcomes by which a run as a whole has failed."""

_REFUSALS: Final = frozenset(
    {errno.ECONNREFUSED, errno.ECONNRESET, errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EPIPE}
)
_LONGEST_REASON: Final = 2_000  # characters of a verdict's reason


class Inconclusive(Exception):  # noqa: N818 - it is a verdict, not an error
    """Raised by a check (or a helper) whose observation was lost, so that nothing may be concluded."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """An outcome of `OUTCOMES` and why."""

    outcome: str
    why: str = ""


def observed(error: BaseException) -> bool:
    """`error` speaks about the implementation under test, not about the harness."""
    if isinstance(error, HostError):
        return error.errno in _REFUSALS
    return isinstance(error, (AssertionError, NetemuTimeoutError, PeerError, pytest.fail.Exception))


def judge(level: str, error: BaseException | None) -> Verdict:
    """The verdict over a requirement of `level` whose check ended with `error` (None: it went through)."""
    if error is None:
        return Verdict("informational", "seen") if level == "MAY" else Verdict("pass")
    why = str(error)[:_LONGEST_REASON] or type(error).__name__
    if isinstance(error, Inconclusive):
        return Verdict("inconclusive", why)
    if not observed(error):
        return Verdict("error", f"{type(error).__name__}: {why}")
    if level == "MAY":
        return Verdict("informational", f"not seen: {why}")
    return Verdict("nonstrict" if level == "SHOULD" else "fail", why)
