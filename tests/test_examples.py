"""The examples do what their READMEs say, in a copy."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

LWIP = Path(__file__).parents[1] / "examples" / "lwip"
README = Path(__file__).parents[1] / "README.md"
NEEDED = {"gcc": "gcc", "make": "make", "/usr/include/lwip/lwipopts.h": "liblwip-dev"}

# Requirement: what lwIP 2.1.3 does instead.
DEVIATIONS = {
    "rfc1122/3.2.1.3/03": "a source on loopback is accepted; the answer to it wants a thread that the example has not",
    "rfc1122/3.2.1.3/04": "127.0.0.1 is answered on the wire",
    "rfc1122/3.2.2.1/02": "its UDP does not hear of ICMP errors",
    "rfc1122/3.2.2.4/01": "as 3.2.2.1/02",
    "rfc1122/3.2.2.5/01": "as 3.2.2.1/02",
    "rfc1122/3.2.2/07": "a closed port is reported to who asked everybody at the link",
    "rfc1122/3.2.2/08": "as 3.2.1.3/03",
    "rfc1122/3.3.6/01": "a frame to everybody with the guest's address is answered",
    "rfc1122/4.1.3.3/01": "as 3.2.2.1/02",
    "rfc1122/4.1.3.6/01": "a source on loopback is accepted",
    "rfc768/fields/03": "the length of a UDP datagram is not read: what is behind it belongs to it, and spoils its checksum",
    "rfc768/fields/04": "as fields/03: a length below the least is not noticed",
    "rfc9293/3.4.1/01": "initial sequence numbers count the timer's ticks",
    "rfc9293/3.5/01": "a SYN in SYN-SENT is dropped: no simultaneous open",
    "rfc9293/3.5.2/02": "a reset has ACK set and takes its number from the ACK field all the same",
    "rfc9293/3.8.3/01": "a SYN is repeated six times, in 18 s",
    "rfc9293/3.9.2.2/01": "TCP is told nothing of ICMP errors",
    "rfc9293/3.9.2.2/04": "as 3.9.2.2/01",
    "rfc9293/3.10.7.4/08": "as 3.5/01",
    "rfc9293/3.10.7.4/09": "a segment that acknowledges what was never sent is taken",
    "rfc9293/3.10.7.4/10": "a segment without ACK is taken",
    "rfc5681/3.2/03": "what fills a gap is acknowledged with the usual delay",
}


def why_not() -> str | None:
    missing = [package for path, package in NEEDED.items() if not (shutil.which(path) or Path(path).exists())]
    return f"install the Debian packages {' '.join(missing)}" if missing else None


@pytest.fixture(scope="module")
def said(netemu_platform, tmp_path_factory: pytest.TempPathFactory) -> dict[str, subprocess.CompletedProcess[str]]:
    """What each command of the README said, run in a copy of the example."""
    netemu_platform.require_part("guest", "lwip", why_not)
    place = tmp_path_factory.mktemp("example") / "lwip"
    shutil.copytree(LWIP, place, ignore=shutil.ignore_patterns("lwip-guest", "__pycache__"))
    (place / "pytest.ini").write_text("[pytest]\n")
    (block,) = re.findall(r"^```sh\n(.*?)^```", (LWIP / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    commands = [line.partition("#")[0].strip() for line in block.splitlines()]
    return {command: run(place, command.split()) for command in commands}


def run(place: Path, words: list[str]) -> subprocess.CompletedProcess[str]:
    if words[0] == "pytest":
        words = [sys.executable, "-m", *words, "-p", "no:cacheprovider"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
    done = subprocess.run(words, cwd=place, env=environment, capture_output=True, text=True, timeout=300, check=False)
    done.args = place
    return done


def test_lwip_is_built_without_a_warning(said):
    assert (said["make"].returncode, said["make"].stderr) == (0, "")


def test_its_own_suite_passes(said):
    assert said["pytest"].returncode == 0, said["pytest"].stdout


def test_lwip_is_judged(said):
    judged = said["pytest --pyargs pytest_netemu.suites.wire --netemu-guest lwip --netemu-out report"]
    document = json.loads((judged.args / "report" / "netemu-conformance.json").read_text())
    results = [entry for entry in document["results"] if entry["implementation"] == "lwip"]
    differs = {entry["requirement"]: entry["why"] for entry in results if entry["outcome"] in ("fail", "nonstrict", "error")}
    assert differs.keys() == DEVIATIONS.keys(), differs
    judged = {entry["requirement"] for entry in results if entry["outcome"] != "unsupported"}
    assert f"{len(judged - differs.keys())} of the {len(judged)} requirements" in README.read_text()
    assert {entry["clock"] for entry in results} == {"virtual"}
