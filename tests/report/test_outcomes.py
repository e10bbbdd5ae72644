"""Verdicts: what an exception says of a requirement depends on what kind of sentence that is."""

import errno

import pytest

from netemu.errors import HostError, LocalError, NetemuTimeoutError, PeerError
from pytest_netemu.outcomes import OUTCOMES, Inconclusive, judge

OBSERVATIONS = [
    AssertionError("no answer"),
    NetemuTimeoutError("no answer"),
    PeerError("it died: no answer"),
    HostError(errno.ECONNREFUSED, "no answer"),
    pytest.fail.Exception("no answer"),
]
FAULTS = [LocalError("given wrongly"), HostError(errno.EACCES, "bind"), KeyError("typo"), RuntimeError("broken")]


@pytest.mark.parametrize(
    ("level", "outcome"), [("MUST", "fail"), ("descriptive", "fail"), ("SHOULD", "nonstrict"), ("MAY", "informational")]
)
@pytest.mark.parametrize("error", OBSERVATIONS, ids=lambda error: type(error).__name__)
def test_an_observation_is_judged_by_the_level(level: str, outcome: str, error: BaseException):
    verdict = judge(level, error)
    assert verdict.outcome == outcome
    assert "no answer" in verdict.why


@pytest.mark.parametrize("level", ["MUST", "SHOULD", "MAY", "descriptive"])
@pytest.mark.parametrize("error", FAULTS, ids=repr)
def test_a_broken_harness_is_never_a_failure(level: str, error: BaseException):
    assert judge(level, error).outcome == "error"


@pytest.mark.parametrize("level", ["MUST", "SHOULD", "MAY"])
def test_a_lost_observation_concludes_nothing(level: str):
    assert judge(level, Inconclusive("frames were lost")).outcome == "inconclusive"


def test_what_holds_passes_and_a_may_is_reported():
    assert judge("MUST", None).outcome == judge("SHOULD", None).outcome == "pass"
    assert judge("MAY", None).outcome == "informational"
    assert judge("MAY", AssertionError("x")).why.startswith("not seen")


def test_an_error_without_words_has_a_reason_all_the_same():
    assert judge("MUST", AssertionError()).why == "AssertionError"


def test_letters_tell_the_outcomes_apart():
    assert len({outcome.letter for outcome in OUTCOMES.values()}) == len(OUTCOMES)
