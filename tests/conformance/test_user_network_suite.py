"""Our own user-mode network, judged by the shipped suite: everything holds, and a second run sees the same frames."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from conformance_run import conformance

from pytest_netemu.conformance import checks, package_of
from pytest_netemu.report import fold

SCHEMA = json.loads(Path(fold.__file__).with_name("netemu-conformance-1.schema.json").read_text())


def judged(out: Path, seed: str) -> dict:
    """The document of one run of the whole wall, in a process with its own hash seed."""
    status, document = conformance(out, environment={"PYTHONHASHSEED": seed})
    assert status == 0
    return document


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict:
    return judged(tmp_path_factory.mktemp("first"), "1")


def test_everything_holds(document: dict):
    wrong = [(entry["requirement"], entry["outcome"], entry["why"]) for entry in document["results"] if entry["outcome"] != "pass"]
    assert [entry[:2] for entry in wrong] == [("rfc2131/4.3.2/06", "informational")], wrong


def test_every_tested_requirement_was_judged(document: dict):
    tested = {check.requirement.id for check in checks(package_of("user-network"))}
    assert tested == {entry["requirement"] for entry in document["results"]}


def test_the_document_keeps_its_schema(document: dict):
    jsonschema.validate(document, SCHEMA)


def test_all_of_it_is_exact(document: dict):
    assert {entry["determinism"] for entry in document["results"]} == {"exact"}


def test_another_run_sees_the_same_frames(document: dict, tmp_path: Path):
    assert judged(tmp_path, "2")["run"]["frames"] == document["run"]["frames"]


def test_pytest_itself_sees_the_same_frames_in_other_processes_and_another_directory(document: dict, tmp_path: Path):
    """There pytest takes the suites' own directory for the root, so that the node ids are others."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--pyargs",
        "pytest_netemu.suites.user_network",
        "--netemu-out=out",
        "-n",
        "2",
        "-p",
        "no:cacheprovider",
    ]
    environment = {**os.environ, "PYTHONHASHSEED": "3"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout
    found = json.loads((tmp_path / "out" / "netemu-conformance.json").read_text())
    assert found["run"]["frames"] == document["run"]["frames"]
    assert [entry["repro"] for entry in found["results"]] == [entry["repro"] for entry in document["results"]]
