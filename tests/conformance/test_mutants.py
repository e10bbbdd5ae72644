"""Teeth: each check of the user-network suite fails an implementation that is broken in the way it is about."""

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
    "rfc2131/4.3.2/06": "a MAY: a check of it concludes nothing",
    "rfc5382/7.1/01": "no host gives two connections to one server the same port",
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], set[str]]:
    """What the checks said of each mutant, by mutant and requirement. One run of pytest for all of them."""
    out = tmp_path_factory.mktemp("mutants")
    words = ["--pyargs", package_of("user-network"), "-p", "mutation", "-p", "no:cacheprovider", "-c", os.devnull]
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
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    for result in json.loads((out / "netemu-conformance.json").read_text())["results"]:
        for part in re.split(r"[\[\]-]", result["nodeid"]):
            found[part, result["requirement"]].add(result["outcome"])
    return found


@pytest.mark.parametrize(
    ("mutant", "requirement"), [(mutant.name, name) for mutant in MUTANTS for name in mutant.killed_by], ids=str
)
def test_a_mutant_is_killed(outcomes: dict[tuple[str, str], set[str]], mutant: str, requirement: str):
    assert KILLED[catalogue()[requirement].level] in outcomes[mutant, requirement]


def test_names_tell_mutants_apart():
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    assert not any("-" in mutant.name for mutant in MUTANTS)


def test_every_check_has_teeth():
    judged = {check.requirement.id for check in checks(package_of("user-network"))}
    assert judged - {name for mutant in MUTANTS for name in mutant.killed_by} == set(TOOTHLESS)
