"""What tells user-mode networks apart, found by the suite itself: `differences.toml` says which check sees it, and by which words.

libslirp lives in virtual time, passt in real time, in a process and a private namespace of its own for each check.
"""

import tomllib
from collections import defaultdict
from functools import partial
from pathlib import Path

import pytest
from conformance_run import conformance

from netemu.peers import libslirp, passt
from pytest_netemu.requirements import catalogue

PASST = "passt@trixie-backports"
DIFFERENCES = tomllib.loads(Path(__file__).with_name("differences.toml").read_text())["difference"]
DOCUMENT = (Path(__file__).parents[2] / "docs/verdicts.md").read_text()
WORST_FIRST = ("error", "fail", "nonstrict", "inconclusive", "skipped", "unsupported", "informational", "pass")
SENTENCED = {"fail": ("MUST", "descriptive"), "nonstrict": ("SHOULD",)}


def name(difference: dict) -> str:
    return f"{difference['requirement']}-{difference.get('row', 'found')}"


def verdicts(document: dict, peer: str) -> dict[str, dict[str, list[str]]]:
    """What was said of each requirement: reasons by outcome."""
    found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for entry in document["results"]:
        if entry["implementation"] == peer:
            found[entry["requirement"]][entry["outcome"]].append(entry["why"])
    return found


def contradiction(expected: dict, found: dict[str, list[str]]) -> str | None:
    """How the verdict is another than the expected one, or its reasons lack the words."""
    worst = next(outcome for outcome in WORST_FIRST if outcome in found)
    if worst != expected["outcome"]:
        return f"is {worst}, not {expected['outcome']}: {found[worst][:1]}"
    if not any(expected.get("evidence", "") in why for why in found[worst]):
        return f"is {worst}, but {expected['evidence']!r} is not in {found[worst]}"
    return None


def newer(version: str, than: str) -> bool:
    return [int(part) for part in version.split(".")] >= [int(part) for part in than.split(".")]


def contradictions(peer: str, found: dict[str, dict[str, list[str]]], version: str = "0") -> dict[str, str]:
    """Which differences were not seen as the table has them, and how."""
    wrong = {}
    for difference in DIFFERENCES:
        expected = difference[peer]
        if "before" in expected and newer(version, expected["before"]):
            continue
        said = contradiction(expected, found[difference["requirement"]])
        if said:
            wrong[name(difference)] = said
    return wrong


def test_libslirps_are_found(netemu_platform, tmp_path: Path):
    netemu_platform.require_part("backend", "libslirp", libslirp.probe)
    _, document = conformance(tmp_path, "--backend", "libslirp")
    assert contradictions("libslirp", verdicts(document, "libslirp"), libslirp.version()) == {}


def test_passts_are_found(netemu_platform, tmp_path: Path):
    """Only the requirements of the table, side by side: most of the time of such a check is silence."""
    netemu_platform.require_part("backend", PASST, partial(passt.probe, PASST))
    asked = [part for requirement in sorted({each["requirement"] for each in DIFFERENCES}) for part in ("--clause", requirement)]
    _, document = conformance(tmp_path, "--backend", PASST, "--workers", "3", *asked)
    assert contradictions("passt", verdicts(document, PASST)) == {}


@pytest.mark.parametrize("difference", DIFFERENCES, ids=name)
def test_a_verdict_is_one_that_its_requirement_allows(difference: dict):
    level = catalogue()[difference["requirement"]].level
    for peer in ("libslirp", "passt"):
        outcome = difference[peer]["outcome"]
        assert level in SENTENCED.get(outcome, (level,))
        assert outcome not in SENTENCED or difference[peer].get("evidence"), "a defect is told with its evidence"


def test_the_document_tells_every_difference():
    lines = [line for line in DOCUMENT.splitlines() if line.startswith("|")]
    for difference in DIFFERENCES:
        cells = [f" {difference[peer]['outcome']} " for peer in ("libslirp", "passt")]
        found = [line for line in lines if f"`{difference['requirement']}`" in line and difference["what"] in line]
        assert found, f"docs/verdicts.md has no line about {difference['what']!r} ({difference['requirement']})"
        assert all(cell in found[0] for cell in cells)


def test_all_that_two_peers_were_seen_to_do_has_a_place():
    """The census has fifty-nine rows: each is judged here, or the document says why it has no verdict."""
    judged = {difference["row"] for difference in DIFFERENCES if "row" in difference}
    without = {
        int(line.split("|")[1])
        for line in DOCUMENT.partition("## Without a verdict")[2].splitlines()
        if line[:3].strip("| ").isdigit()
    }
    assert judged | without == set(range(1, 60))
    assert not judged & without
