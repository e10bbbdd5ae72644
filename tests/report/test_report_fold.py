"""The document folded from events, against its schema, and its views."""

import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from pytest_netemu.outcomes import OUTCOMES
from pytest_netemu.report.events import EventWriter, read_events
from pytest_netemu.report.fold import fold
from pytest_netemu.report.html import html
from pytest_netemu.report.markdown import markdown

SCHEMA = json.loads(files("pytest_netemu.report").joinpath("netemu-conformance-1.schema.json").read_text())
DIGEST = "0" * 64
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
    "probes": {"kvm": "no such file"},
}


def requirement(name: str = "rfc0/1/01", level: str = "MUST") -> dict[str, Any]:
    document, section, _ = name.split("/")
    return {
        "$type": "requirement",
        "id": name,
        "doc": document,
        "title": "Title",
        "edition": "1969-04",
        "errata": [],
        "section": section,
        "level": level,
        "role": "server",
        "quote": "It MUST <do> & say.",
        "url": "https://example.org",
        "status": "tested",
        "reason": None,
        "issue": None,
    }


def result(outcome: str = "pass", *, name: str = "rfc0/1/01", test: str = "test_a", **changes: Any) -> dict[str, Any]:
    return {
        "$type": "result",
        "requirement": name,
        "implementation": "mine",
        "arm": "in-process",
        "variant": {"backend": "mine"},
        "outcome": outcome,
        "why": "" if outcome == "pass" else "because <it>",
        "nodeid": test,
        "seed": 0,
        "clock": "virtual",
        "determinism": "exact",
        "frames": DIGEST,
        "virtual_ns": 1_500_000_000,
        "wall_ns": 2_000_000,
        "evidence": {} if outcome == "pass" else {"ladder": "guest ---> host", "pcapng": "x/frames.pcapng"},
        "repro": "netemu conformance --clause rfc0/1/01",
        **changes,
    }


def events(*more: dict[str, Any]) -> list[dict[str, Any]]:
    mine = {"$type": "implementation", "id": "mine", "kind": "backend", "version": "1.2", "commit": None, "capabilities": ["arp"]}
    return [{"$type": "start", "run": RUN}, requirement(), requirement("rfc0/2/01", "SHOULD"), mine, *more]


def folded(*more: dict[str, Any]) -> dict[str, Any]:
    document = fold(events(*more))
    jsonschema.validate(document, SCHEMA)
    return document


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_the_document_keeps_the_schema(outcome: str):
    document = folded(result(outcome), {"$type": "finish", "finished": "2026-11-22T12:00:01+00:00", "exit_status": 0})
    assert document["run"]["outcomes"] == {outcome: 1}
    assert document["results"][0]["attempts"] == [outcome]


def test_the_schema_has_teeth():
    document = folded(result())
    document["results"][0]["outcome"] = "maybe"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, SCHEMA)


def test_attempts_that_disagree_conclude_nothing():
    (only,) = folded(result("fail"), result("pass"))["results"]
    assert only["outcome"] == "inconclusive"
    assert only["attempts"] == ["fail", "pass"]
    assert only["why"] == "fail: because <it>; pass"


def test_a_teardown_that_broke_spoils_a_pass():
    (only,) = folded(result("pass"), result("error"))["results"]
    assert only["outcome"] == "error"


def test_what_is_not_known_is_skipped():
    assert folded({"$type": "weather", "rain": True}, result())["results"]


def test_an_unfinished_run_gives_a_document():
    assert "finished" not in folded(result())["run"]


def test_the_hash_is_of_what_is_exact_and_of_nothing_else():
    base = folded(result())["run"]["frames"]
    assert folded(result(wall_ns=9, why="x"))["run"]["frames"] == base
    assert folded(result(test="test_b", determinism="wall"), result())["run"]["frames"] == base
    assert folded(result(frames="1" * 64))["run"]["frames"] != base
    both = [result(test="test_b"), result()]
    assert folded(*both)["run"]["frames"] == folded(*reversed(both))["run"]["frames"]


def test_events_survive_a_crash(tmp_path: Path):
    path = tmp_path / "out" / "events.jsonl"
    writer = EventWriter(path)
    for event in events(result()):
        writer.write(event.pop("$type"), event)
    with path.open("a") as file:  # what a process wrote that was killed; the writer is still open
        file.write('{"$type": "result", "requ')
    document = fold(read_events(path))
    jsonschema.validate(document, SCHEMA)
    assert [entry["outcome"] for entry in document["results"]] == ["pass"]
    writer.close()


def test_the_page_needs_nothing_from_elsewhere():
    page = html(folded(result("fail"), result("nonstrict", name="rfc0/2/01", test="test_b")))
    assert not re.search(r"<(link|img|iframe)\b|<script[^>]+src|@import|url\(", page)
    assert page.count('<details class="row"') == 2


def test_the_page_says_why_and_escapes_it():
    page = html(folded(result("fail")))
    for text in ("because &lt;it&gt;", "It MUST &lt;do&gt; &amp; say.", "guest ---&gt; host", "x/frames.pcapng"):
        assert text in page, text
    assert "netemu conformance --clause rfc0/1/01" in page
    assert "because <it>" not in page


@pytest.mark.parametrize("outcome", OUTCOMES.values(), ids=lambda outcome: outcome.name)
def test_a_cell_has_a_colour_and_a_letter(outcome: Any):
    page = html(folded(result(outcome.name)))
    assert f'<i class="p o-{outcome.name}" title="{outcome.name}">{outcome.letter}</i>' in page


def test_only_who_was_judged_has_a_column_and_only_where():
    other = {"$type": "implementation", "id": "other", "kind": "guest", "version": None, "commit": "f" * 40, "capabilities": []}
    part = {**other, "id": "part"}
    page = html(folded(other, part, result(), result(name="rfc0/2/01", implementation="other")))
    assert page.count('title="other"') == page.count('title="mine"') == 1
    assert 'title="part"' not in page
    assert "guest part</dt><dd>version not known, <code>ffffff" in page
    assert "<dt>kvm</dt><dd>no such file</dd>" in page
    assert 'title="other"' not in html(folded(other, result()))


def test_the_summary_leaves_out_who_was_not_judged():
    part = {"$type": "implementation", "id": "part", "kind": "guest", "version": None, "commit": None, "capabilities": []}
    assert "part" not in markdown(folded(part, result()))


def test_a_run_without_results_has_a_page_too():
    assert "No check has run." in html(fold(events()[:3]))


def test_the_summary_counts_by_level_and_names_what_failed():
    text = markdown(folded(result("fail"), result("nonstrict", name="rfc0/2/01", test="test_b")))
    assert "| level | nonstrict | fail |" in text
    assert "| MUST | 0 | 1 |" in text
    assert "## mine 1.2 (backend)" in text
    assert text.index("**fail** `rfc0/1/01` because <it>") < text.index("**nonstrict** `rfc0/2/01`")
