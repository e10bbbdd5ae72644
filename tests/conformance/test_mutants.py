"""Teeth: each check of a suite fails an implementation that is broken in the way it is about."""

import json
import os
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
from mutants import MUTANTS

import pytest_netemu
from pytest_netemu.conformance import checks, package_of
from pytest_netemu.requirements import catalogue

HERE = Path(__file__).parent
KILLED = {"SHOULD": "nonstrict", "MUST": "fail", "descriptive": "fail"}
TOOTHLESS = {
    "user-network": {
        "rfc2131/4.3.2/06": "a MAY: a check of it concludes nothing",
        "rfc5382/7.1/01": "no host gives two connections to one server the same port",
    },
    "wire": {},
}
Outcomes = dict[tuple[str, str], set[str]]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcomes]:
    """What the checks said of each mutant, by wall."""
    return {wall: run(wall, tmp_path_factory.mktemp(wall)) for wall in TOOTHLESS}


def run(wall: str, out: Path) -> Outcomes:
    """What the checks of a wall said, by mutant and requirement. One run of pytest for all of them."""
    words = ["--pyargs", package_of(wall), "-p", "mutation", "-p", "no:cacheprovider", "-c", os.devnull]
    words += ["--rootdir", str(Path(pytest_netemu.__file__).parent.parent), "--netemu-out", str(out), "--netemu-capture=never"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--tb=no", *words],
        env={name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"} | {"PYTHONPATH": str(HERE)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout[-2000:] + done.stderr[-2000:]
    found: Outcomes = defaultdict(set)
    for result in json.loads((out / "netemu-conformance.json").read_text())["results"]:
        for part in re.split(r"[\[\]-]", result["nodeid"]):
            found[part, result["requirement"]].add(result["outcome"])
    return found


@pytest.mark.parametrize(
    ("wall", "mutant", "requirement"),
    [(wall, mutant.name, name) for wall in TOOTHLESS for mutant in MUTANTS[package_of(wall)] for name in mutant.killed_by],
    ids=str,
)
def test_a_mutant_is_killed(outcomes: dict[str, Outcomes], wall: str, mutant: str, requirement: str):
    assert KILLED[catalogue()[requirement].level] in outcomes[wall][mutant, requirement]


@pytest.mark.parametrize("wall", TOOTHLESS)
def test_names_tell_mutants_apart(wall: str):
    names = [mutant.name for mutant in MUTANTS[package_of(wall)]]
    assert len({*names}) == len(names)
    assert not any("-" in name for name in names)


@pytest.mark.parametrize("wall", TOOTHLESS)
def test_every_check_has_teeth(wall: str):
    judged = {check.requirement.id for check in checks(package_of(wall))}
    assert judged - {name for mutant in MUTANTS[package_of(wall)] for name in mutant.killed_by} == set(TOOTHLESS[wall])
