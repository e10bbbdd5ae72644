"""Our own user-mode network, judged by the shipped suite: everything holds, and a second run sees the same frames."""

import json
from pathlib import Path

import jsonschema
import pytest
from conformance_run import conformance

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
    tested = {entry["id"] for entry in document["requirements"] if entry["status"] == "tested"}
    assert tested == {entry["requirement"] for entry in document["results"]}


def test_the_document_keeps_its_schema(document: dict):
    jsonschema.validate(document, SCHEMA)


def test_all_of_it_is_exact(document: dict):
    assert {entry["determinism"] for entry in document["results"]} == {"exact"}


def test_another_run_sees_the_same_frames(document: dict, tmp_path: Path):
    assert judged(tmp_path, "2")["run"]["frames"] == document["run"]["frames"]
