"""The same suite where somebody else wrote one side: Linux as the guest, libslirp as the network."""

import platform
import subprocess
from functools import partial
from pathlib import Path

import pytest
from conformance_run import conformance

from netemu.guest.netns import NetnsGuest
from netemu.guest.uml import UmlGuest
from netemu.peers import libslirp, passt

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

# What passt of 2026-07 does against the document. It lives in real time, so only these clauses are asked for.
KNOWN_OF_PASST = {
    "rfc826/reception/04",  # ARP for any address is answered
    "rfc768/fields/03",  # what is behind the length of a UDP datagram goes to the host with it
    "rfc792/echo/04",  # no checksum is looked at: ICMP,
    "rfc1122/3.2.1.2/01",  # IPv4,
    "rfc1122/4.1.3.4/01",  # UDP,
    "rfc9293/3.1/01",  # TCP
    "rfc1122/4.1.3.4/02",  # and UDP's are not sent
    "rfc1122/3.2.1.1/01",  # nor is the version of IP looked at
    "rfc1122/3.2.2/02",  # an ICMP error quotes a header that was made up
    "rfc791/3.2/01",  # fragments are dropped
    "rfc1812/5.3.1/01",  # a datagram whose time is over goes on
    "rfc2131/4.3.1/03",  # an option asked for twice is there twice
    "rfc2131/4.3.2/04",  # a REQUEST that names another server is acknowledged
    "rfc5681/3/01",  # a whole window is sent at once
    "rfc9293/3.5.2/03",  # a SYN's reset has a sequence number, and does not acknowledge the data
    "rfc9293/3.5.3/01",  # a reset from outside the window is obeyed
    "rfc9293/3.10.7.4/02",  # data that came before is not acknowledged again
    "rfc9293/3.10.7.4/04",  # a FIN that comes again is reset
    "rfc9293/3.10.8/01",  # a SYN,ACK comes again as a SYN of another number
}

# What it does not have, and QEMU gives it no option for; guestfwd is not driven here.
BEYOND_LIBSLIRP = {"qemu/guestfwd/01", "rfc1534/2/01", "rfc2132/8.3/01", "rfc3442/server/01", "rfc4039/4/01"}
# Forwards of IPv6 are beyond QEMU. A router that is stopped as a process says no goodbye.
BEYOND_LIBSLIRP |= {"qemu/hostfwd/02", "rfc4861/6.2.5/01", "rfc8106/5.1/02"}


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
    assert {entry["requirement"] for entry in results if entry["outcome"] == "unsupported"} == BEYOND_LIBSLIRP
    assert outcomes.count("pass") >= 150
    failed = {entry["requirement"] for entry in results if entry["outcome"] == "fail"}
    assert failed >= KNOWN_OF_LIBSLIRP
    assert status == 1
    assert {entry["determinism"] for entry in results if entry["outcome"] != "unsupported"} == {"ordered"}
    assert {entry["arm"] for entry in results} == {"oracle"}
    assert libslirp.version() in [entry["version"] for entry in document["implementations"] if entry["id"] == "libslirp"]


def test_passt_is_judged_and_its_defects_are_found(netemu_platform, tmp_path: Path):
    name = "passt@trixie-backports"
    netemu_platform.require_part("backend", name, partial(passt.probe, name))
    asked = [part for clause in sorted(KNOWN_OF_PASST) for part in ("--clause", clause)]
    status, document = conformance(tmp_path, "--backend", name, *asked)
    failed = {entry["requirement"] for entry in document["results"] if entry["outcome"] == "fail"}
    assert (status, failed) == (1, KNOWN_OF_PASST)
