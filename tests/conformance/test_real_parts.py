"""The same suite where somebody else wrote one side: Linux as the guest, libslirp as the network."""

import platform
import subprocess
from pathlib import Path

import pytest
from conformance_run import conformance

from netemu.guest.netns import NetnsGuest
from netemu.guest.uml import UmlGuest
from netemu.peers import libslirp

RELEASES = {
    "netns": platform.release,
    "uml": lambda: subprocess.check_output(["linux.uml", "--version"], text=True).strip(),
}
GUESTS = {"netns": NetnsGuest.probe, "uml": UmlGuest.probe}

# What libslirp 4.7 (Debian 12) to 4.9 does against the document, each seen on the wire by hand as well.
KNOWN_OF_LIBSLIRP = {
    "rfc9293/3.7.1/02",  # segments larger than the guest's MSS
    "rfc9293/3.10.7.1/01",  # a RST is answered with a RST
    "rfc1122/3.2.1.3/01",  # ICMP errors come from 127.0.0.1
    "rfc2131/4.3.2/04",  # a REQUEST that names another server is acknowledged
    "rfc1350/2/03",  # TFTP: nothing is sent again
    "rfc1350/4/01",  # a transfer goes on from port 69
    "rfc1350/5/01",  # any acknowledgment is taken for that of the last block
    "rfc1123/4.2.3.1/01",  # so a duplicate one doubles what follows
    "rfc1350/security/01",  # a symbolic link leads out of the directory
    "rfc826/reception/05",  # ARP for another protocol is answered
}


@pytest.mark.parametrize("kind", sorted(GUESTS))
def test_linux_passes_on_our_network(kind: str, netemu_platform, tmp_path: Path):
    netemu_platform.require_part("guest", kind, GUESTS[kind])
    status, document = conformance(tmp_path, "--guest", kind)
    outcomes = {entry["outcome"] for entry in document["results"] if entry["variant"].get("guest") == kind}
    assert status == 0, [entry for entry in document["results"] if entry["outcome"] in ("fail", "error")]
    assert outcomes <= {"pass", "unsupported"}
    assert {entry["arm"] for entry in document["results"] if entry["variant"].get("guest") == kind} == {"kernel"}
    (version,) = [entry["version"] for entry in document["implementations"] if entry["id"] == kind]
    assert version == RELEASES[kind]()
    passed = {e["requirement"] for e in document["results"] if e["variant"].get("guest") == kind and e["outcome"] == "pass"}
    assert {"qemu/user-mode/01", "qemu/user-mode/04", "qemu/user-mode/05", "qemu/user-mode/07"} <= passed


def test_libslirp_is_judged_and_its_defects_are_found(netemu_platform, tmp_path: Path):
    netemu_platform.require_part("backend", "libslirp", libslirp.probe)
    status, document = conformance(tmp_path, "--backend", "libslirp")
    results = [entry for entry in document["results"] if entry["implementation"] == "libslirp"]
    outcomes = [entry["outcome"] for entry in results]
    assert set(outcomes) <= {"pass", "nonstrict", "informational", "fail", "unsupported"}, "no error, and nothing left out"
    assert outcomes.count("pass") >= 150
    failed = {entry["requirement"] for entry in results if entry["outcome"] == "fail"}
    assert failed >= KNOWN_OF_LIBSLIRP
    assert status == 1
    assert {entry["determinism"] for entry in results} == {"ordered"}
    assert {entry["arm"] for entry in results} == {"oracle"}
    assert libslirp.version() in [entry["version"] for entry in document["implementations"] if entry["id"] == "libslirp"]
