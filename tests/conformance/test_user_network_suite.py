"""Our own user-mode network, judged by the shipped suite: everything holds, and a second run sees the same frames."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from pytest_netemu.report import fold

SCHEMA = json.loads(Path(fold.__file__).with_name("netemu-conformance-1.schema.json").read_text())


def judged(out: Path, seed: str) -> dict:
    """The document of one run of the whole wall, in a process with its own hash seed."""
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from netemu.cli import main; sys.exit(main())", "conformance", "--out", str(out)],
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((out / "netemu-conformance.json").read_text())


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict:
    return judged(tmp_path_factory.mktemp("first"), "1")


def test_everything_holds(document: dict):
    wrong = [(entry["requirement"], entry["outcome"], entry["why"]) for entry in document["results"] if entry["outcome"] != "pass"]
    assert [entry[:2] for entry in wrong] == [("rfc2131/4.3.2/06", "informational")], wrong


def test_every_tested_requirement_was_judged(document: dict):
    tested = {entry["id"] for entry in document["requirements"] if entry["status"] == "tested"}
    assert tested == {entry["requirement"] for entry in document["results"]}


def test_the_document_keeps_its_schema(document: dict):
    jsonschema.validate(document, SCHEMA)


def test_all_of_it_is_exact(document: dict):
    assert {entry["determinism"] for entry in document["results"]} == {"exact"}


def test_virtual_time_costs_little_of_ours(document: dict):
    """Hours of the network's time; the processor's share of each check is counted, so a busy machine does not matter much."""
    assert sum(entry["virtual_ns"] for entry in document["results"]) > 24 * 3600 * 10**9
    assert sum(entry["wall_ns"] for entry in document["results"]) < 30 * 10**9


def test_another_run_sees_the_same_frames(document: dict, tmp_path: Path):
    assert judged(tmp_path, "2")["run"]["frames"] == document["run"]["frames"]
