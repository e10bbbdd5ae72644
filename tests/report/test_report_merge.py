"""Merging the runs of several machines into one."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from netemu.errors import LocalError
from pytest_netemu.report.events import EventWriter, read_events
from pytest_netemu.report.merge import merge
from pytest_netemu.report.recorder import write_views

RUN = {
    "id": "1",
    "started": "2026-11-22T12:00:00+00:00",
    "suite": {"name": "s", "version": "1", "git": None},
    "plugin": {"name": "p", "version": "1"},
    "python": "3.11",
    "platform": "linux",
    "seed": 0,
    "clock": "virtual",
    "accel": "none",
}
REQUIREMENT = {
    "id": "rfc0/1/01",
    "doc": "rfc0",
    "title": "Title",
    "edition": "1969-04",
    "errata": [],
    "section": "1",
    "level": "MUST",
    "role": "server",
    "quote": "It MUST do.",
    "url": "https://example.org",
    "status": "tested",
    "reason": None,
    "issue": None,
}


def shard(place: Path, backend: str, outcome: str = "pass", *, finish: int | None = 0, **start: Any) -> Path:
    """A run of one check on one backend, whose evidence is a file."""
    writer = EventWriter(place / "events.jsonl")
    writer.write("start", {"run": {**RUN, "probes": {"tun": f"opens for {backend}", "kvm": "no"}, **start}})
    writer.write("requirement", REQUIREMENT)
    known = {"version": None, "commit": None, "capabilities": []}
    writer.write("implementation", {"id": backend, "kind": "backend", **known})
    (place / "test").mkdir()
    (place / "test" / "frames.pcapng").write_text(backend)
    result = {
        "requirement": "rfc0/1/01",
        "implementation": backend,
        "arm": "in-process",
        "variant": {"backend": backend},
        "outcome": outcome,
        "why": "",
        "nodeid": f"t.py::test[{backend}]",
        "seed": 0,
        "clock": "virtual",
        "determinism": "exact",
        "frames": None,
        "virtual_ns": 0,
        "wall_ns": 1,
        "evidence": {"ladder": "a -> b", "pcapng": "test/frames.pcapng", "pcapng 2": "../elsewhere"},
        "repro": "netemu conformance",
    }
    writer.write("result", result)
    if finish is not None:
        writer.write("finish", {"finished": f"2026-11-22T12:0{finish}:00+00:00", "exit_status": finish})
    writer.close()
    return place


def test_the_report_is_of_all_of_them(tmp_path: Path):
    shards = [shard(tmp_path / "one", "ours"), shard(tmp_path / "two", "theirs", "fail", finish=1)]
    out = tmp_path / "all"
    document: Any = write_views(merge(shards, out))
    assert [entry["id"] for entry in document["implementations"]] == ["ours", "theirs"]
    assert len(document["requirements"]) == 1
    assert document["run"]["outcomes"] == {"pass": 1, "fail": 1}
    assert (document["run"]["finished"], document["run"]["exit_status"]) == ("2026-11-22T12:01:00+00:00", 1)
    assert document["run"]["probes"] == {"tun": "opens for ours; opens for theirs", "kvm": "no"}
    for number, result in enumerate(document["results"], 1):
        path = f"shard-{number}/test/frames.pcapng"
        assert result["evidence"] == {"ladder": "a -> b", "pcapng": path}
        assert (out / path).read_text() == result["implementation"]


def test_shards_that_disagree_are_seen(tmp_path: Path):
    shards = [shard(tmp_path / "one", "ours"), shard(tmp_path / "two", "ours", "fail")]
    document: Any = write_views(merge(shards, tmp_path / "all"))
    assert [result["outcome"] for result in document["results"]] == ["inconclusive"]


def test_a_run_with_an_unfinished_shard_has_not_finished(tmp_path: Path):
    shards = [shard(tmp_path / "one", "ours"), shard(tmp_path / "two", "theirs", finish=None)]
    kinds = [event["$type"] for event in read_events(merge(shards, tmp_path / "all"))]
    assert "finish" not in kinds


def test_the_version_that_one_shard_knows_is_kept(tmp_path: Path):
    shards = [shard(tmp_path / "one", "ours"), shard(tmp_path / "two", "ours")]
    events = shards[1] / "events.jsonl"
    events.write_text(events.read_text().replace('"version": null', '"version": "7"'))
    document: Any = write_views(merge(shards, tmp_path / "all"))
    assert [entry["version"] for entry in document["implementations"]] == ["7"]


def test_runs_of_different_suites_are_not_one(tmp_path: Path):
    other = shard(tmp_path / "two", "ours", suite={"name": "s", "version": "2", "git": None})
    with pytest.raises(LocalError, match="merge runs of one suite"):
        merge([shard(tmp_path / "one", "ours"), other], tmp_path / "all")
    assert not (tmp_path / "all").exists()


@pytest.mark.parametrize("text", [None, "", json.dumps({"$type": "result"})])
def test_what_is_not_of_a_run_is_one_sentence(tmp_path: Path, text: str | None):
    if text is not None:
        (tmp_path / "events.jsonl").write_text(text)
    with pytest.raises(LocalError, match=re.escape(str(tmp_path))):
        merge([tmp_path], tmp_path / "all")
