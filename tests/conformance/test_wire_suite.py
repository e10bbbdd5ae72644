"""The wire wall: our own stack does all that is asked, and what Linux does differently is known and explained."""

from pathlib import Path

import pytest
from conformance_run import conformance, settled

from netemu.guest.netns import NetnsGuest
from netemu.guest.uml import UmlGuest
from pytest_netemu.conformance import checks, package_of

GUESTS = {"netns": NetnsGuest.probe, "uml": UmlGuest.probe}

CLAUSES: dict[str, tuple[str, ...]] = {"netns": (), "uml": ("rfc826", "rfc791", "rfc792", "rfc1122/3.2.2")}

# Requirement: what Linux does instead, and why.
LINUX = {
    "rfc1122/3.2.2/03": "errors have the precedence of internetwork control, as RFC 1812 4.3.2.5 asks of routers",
    "rfc1122/3.3.6/01": "an echo request in a frame to everybody is answered",
    "rfc9293/3.9.2.3/02": "a SYN from the network's broadcast address is answered where reverse paths are not checked (rp_filter)",
    "rfc9293/3.10.7.4/08": "a reset in SYN-RECEIVED is ECONNRESET, whoever opened the connection",
    "rfc1035/7.3/01": "nslookup reads nothing of an answer's header but its number",
    "rfc1035/7.3/03": "nslookup does not read the question of an answer",
    "rfc1035/7.3/04": "nslookup ends with an answer that it cannot read, and does not wait for another",
    "rfc2131/2/02": "udhcpc does not look at op",
    "rfc2131/3.1/10": "udhcpc asks by ARP with -a only, which takes it seconds",
    "rfc2131/3.1/11": "as 3.1/10",
    "rfc2131/3.1/12": "as 3.1/10",
    "rfc2131/4.1/19": "udhcpc reads on in the zeros of its buffer",
    "rfc2131/4.4.1/02": "udhcpc leaves it to its script, and Linux announces an address with arp_notify only",
    "rfc2131/4.4.4/01": "as 3.1/10",
}


def test_our_own_stack_holds(tmp_path: Path):
    status, document = conformance(tmp_path, "--wall", "wire")
    wrong = [
        (entry["requirement"], entry["why"]) for entry in document["results"] if entry["outcome"] not in ("pass", "informational")
    ]
    assert (status, wrong) == (0, [])
    assert {entry["requirement"] for entry in document["results"]} == {each.requirement.id for each in checks(package_of("wire"))}
    assert {entry["determinism"] for entry in document["results"]} == {"exact"}
    assert {entry["implementation"] for entry in document["results"]} == {"inproc"}


def test_another_run_sees_the_same_frames(tmp_path: Path):
    frames = {
        conformance(tmp_path / seed, "--wall", "wire", environment={"PYTHONHASHSEED": seed})[1]["run"]["frames"]
        for seed in ("1", "2")
    }
    assert len(frames) == 1


@pytest.mark.parametrize("kind", sorted(GUESTS))
def test_linux_differs_where_we_know(kind: str, netemu_platform, tmp_path: Path):
    """All of the wall on this machine's kernel; a part of it on the older one, which has to boot for each check."""
    netemu_platform.require_part("guest", kind, GUESTS[kind])
    clauses = CLAUSES[kind]
    results = settled(tmp_path, "--wall", "wire", "--guest", kind, *(word for name in clauses for word in ("--clause", name)))
    usual = ("pass", "informational", "unsupported")
    differs = {entry["requirement"]: entry["why"] for entry in results if entry["outcome"] not in usual}
    known = {name for name in LINUX if not clauses or name.startswith(clauses)}
    assert differs.keys() == known, differs
    assert {entry["implementation"] for entry in results} == {kind}
