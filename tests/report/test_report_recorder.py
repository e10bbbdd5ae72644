"""The recorder inside pytest: every outcome, with and without xdist, and what pytest itself says of it."""

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from netemu import __version__
from netemu.platform import PROBES

CHECKS = """
import pytest
from netemu.errors import NetemuTimeoutError
from pytest_netemu.outcomes import Inconclusive
from pytest_netemu.suites import judges
from netemu.wire.icmpv4 import Icmpv4, IcmpType

@judges("rfc1122/3.2.2.6/01")
def test_pass(netemu_tester):
    netemu_tester.send_icmp(Icmpv4.echo_request(1, 1, b"ping"))
    netemu_tester.expect(Icmpv4, type=IcmpType.ECHO_REPLY)

@judges("rfc826/reception/01")
def test_fail(netemu_tester):
    netemu_tester.gateway_mac
    assert False, "wrong answer"

@judges("rfc826/reception/02")
def test_timeout(netemu_tester):
    raise NetemuTimeoutError("no answer")

@judges("rfc1122/2.3.2.2/01")
def test_nonstrict(netemu_tester):
    assert False, "not followed"

@judges("rfc2131/4.3.2/06")
def test_informational(netemu_tester):
    assert False, "not done"

@judges("rfc826/reception/03")
def test_inconclusive(netemu_tester):
    raise Inconclusive("lost")

@judges("rfc826/reception/04")
def test_error(netemu_tester):
    raise KeyError("typo")

@judges("rfc826/reception/05")
@pytest.mark.netemu_requires("run")
def test_unsupported(netemu_guest, netemu_backend):
    pass

@judges("rfc826/reception/06")
def test_skipped(netemu_tester):
    pytest.skip("platform: not here")

@judges("rfc826/reception/07")
@pytest.mark.netemu_known_deviation("netemu", reason="on purpose", issue="#1")
def test_known_deviation(netemu_tester):
    assert False

@judges("rfc826/reception/08")
@pytest.mark.netemu_known_deviation("netemu", reason="not any more")
def test_mended(netemu_tester):
    pass

@judges("rfc826/generation/01")
def test_setup(netemu_tester, broken):
    pass

@pytest.fixture
def broken():
    raise RuntimeError("fixture")

def test_nothing_to_do_with_clauses(netemu_tester):
    pass
"""

EXPECTED = {
    "test_pass": "pass",
    "test_fail": "fail",
    "test_timeout": "fail",
    "test_nonstrict": "nonstrict",
    "test_informational": "informational",
    "test_inconclusive": "inconclusive",
    "test_error": "error",
    "test_unsupported": "unsupported",
    "test_skipped": "skipped",
    "test_known_deviation": "known-deviation",
    "test_mended": "fail",
    "test_setup": "error",
}


def run(folder: Path, *options: str, out: str = "out", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run pytest on the checks above, in a process and a folder of its own."""
    (folder / "test_checks.py").write_text(CHECKS)
    kept = {name: value for name, value in os.environ.items() if name not in ("CI", "PYTEST_ADDOPTS")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", f"--netemu-out={out}", "-p", "no:cacheprovider", "--rootdir=.", *options],
        cwd=folder,
        env=kept | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def report(folder: Path, out: str = "out") -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / out / "netemu-conformance.json").read_text())
    return document


def outcomes(document: dict[str, Any]) -> dict[str, str]:
    return {entry["nodeid"].partition("::")[2].partition("[")[0]: entry["outcome"] for entry in document["results"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the checks ran once, without workers; the tests below only look at what is left."""
    folder = tmp_path_factory.mktemp("recorded")
    (folder / "said").write_text(run(folder, "--junit-xml=junit.xml", PYTHONHASHSEED="1").stdout)
    return folder


def test_every_outcome_is_recorded(folder: Path):
    assert outcomes(report(folder)) == EXPECTED


def test_pytest_agrees(folder: Path):
    """fail, timeout, error and mended fail, setup is an error; what does not bind fails nothing."""
    said = (folder / "said").read_text()
    assert "4 failed, 2 passed, 3 skipped, 3 xfailed, 1 error" in said
    assert "netemu conformance report: " in said


def test_a_failure_has_evidence(folder: Path):
    failed = next(entry for entry in report(folder)["results"] if "::test_fail[" in entry["nodeid"])
    assert "ARP who-has 10.0.2.2" in failed["evidence"]["ladder"]
    assert (folder / "out" / failed["evidence"]["pcapng"]).stat().st_size > 0
    assert failed["why"].startswith("wrong answer")
    assert failed["repro"].startswith("pytest ")


def test_the_files_are_there(folder: Path):
    out = folder / "out"
    assert {"events.jsonl", "index.html", "summary.md"} <= {path.name for path in out.iterdir()}
    kinds = [json.loads(line)["$type"] for line in (out / "events.jsonl").read_text().splitlines()]
    assert (kinds[0], kinds[-1]) == ("start", "finish")
    assert kinds.count("result") == len(EXPECTED)


def test_junit_has_string_properties(folder: Path):
    cases = {case.get("name"): case for case in ET.parse(folder / "junit.xml").iter("testcase")}
    found = {entry.get("name"): entry.get("value") for entry in cases["test_nonstrict[netemu]"].iter("property")}
    assert found == {
        "netemu.clause": "rfc1122/2.3.2.2/01",
        "netemu.outcome": "nonstrict",
        "netemu.backend": "netemu",
        "netemu.seed": "0",
    }


def test_workers_report_to_one_controller(folder: Path):
    """Another hash seed, other processes, the same verdicts and the same frames."""
    run(folder, "-n", "2", out="together", PYTHONHASHSEED="2")
    alone, together = report(folder), report(folder, "together")
    assert outcomes(together) == outcomes(alone) == EXPECTED
    assert together["run"]["frames"] == alone["run"]["frames"]
    assert together["implementations"] == alone["implementations"]


def test_parts_and_machine_are_named(folder: Path):
    document = report(folder)
    parts = {entry["id"]: (entry["kind"], entry["version"]) for entry in document["implementations"]}
    assert parts == {"netemu": ("backend", __version__), "inproc": ("guest", __version__)}
    run = document["run"]
    assert (run["seed"], run["clock"], run["accel"]) == (0, "virtual", "none")
    assert run["probes"].keys() == PROBES.keys()
    assert {entry["arm"] for entry in document["results"]} == {"in-process"}


def test_nothing_is_recorded_unless_asked_for(pytester: pytest.Pytester):
    pytester.makepyfile(CHECKS)
    ran = pytester.runpytest_inprocess("-k", "test_nonstrict or test_pass", "-p", "no:cacheprovider")
    ran.assert_outcomes(passed=1, failed=1)
    assert not list(pytester.path.rglob("events.jsonl"))


def test_a_crashed_worker_is_an_error_of_its_check(pytester: pytest.Pytester):
    """Only the name of a shipped check tells what it was about, so one with that name crashes."""
    pytester.mkpydir("suite")
    (pytester.path / "suite" / "test_fragments.py").write_text(
        "import os, pytest\n@pytest.mark.parametrize('which', ['libslirp'])\n"
        "def test_fragments_are_put_together(which):\n    os._exit(7)\n"
    )
    pytester.runpytest_subprocess("--netemu-out=out", "-n", "1", "-p", "no:cacheprovider")
    (only,) = report(pytester.path)["results"]
    assert (only["requirement"], only["outcome"]) == ("rfc1122/3.3.2/01", "error")
    assert (only["implementation"], only["arm"]) == ("libslirp", "oracle")
    assert only["repro"] == "netemu conformance --backend libslirp --clause rfc1122/3.3.2/01"
