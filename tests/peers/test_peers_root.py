"""Programs of another release of Debian's, from unpacked roots; mmdebstrap and apt are played by scripts here."""

from __future__ import annotations

import gzip
import os
import threading

import pytest

from netemu import HostError, LocalError
from netemu.peers.root import PEERS, Peer, locate, mirror
from netemu.peers.versions import version

PEER = Peer("passt", "trixie-backports")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "netemu" / "roots"


@pytest.fixture
def script(tmp_path, monkeypatch):
    """Puts a shell script of this name in front of every program."""
    programs = tmp_path / "programs"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")

    def write(name, text):
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)

    return write


@pytest.fixture
def apt(script):
    codename = "$(. /etc/os-release && echo $VERSION_CODENAME)"
    script("apt-get", f'echo "http://security.test/ $VERSION-security main"; echo "http://mirror.test/debian {codename} main"')


# An unpacked root of three files, and a note of what was asked for. The directory is the argument after the base suite.
UNPACK = """
for word in "$@"; do case $word in */root) root=$word;; esac; done
mkdir -p $root/usr/bin $root/usr/lib64 $root/usr/lib/triplet
touch $root/usr/bin/passt $root/usr/lib/triplet/ld-linux-test.so.2
ln -s ../lib/triplet/ld-linux-test.so.2 $root/usr/lib64/ld-linux-test.so.2
echo "$@" >> "$LOG"
"""


@pytest.fixture
def log(tmp_path, monkeypatch):
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    return tmp_path / "log"


def test_names_of_peers():
    assert {"passt", "passt@trixie-backports", "passt-repair@trixie-backports", "kernel@trixie", "ipxe"} <= {*map(str, PEERS)}
    assert [locate(str(peer)) for peer in PEERS] == list(PEERS)


def test_what_is_of_one_package_is_of_one_root():
    assert locate("passt-repair@sid").root == locate("passt@sid").root != locate("qemu@sid").root


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("dnsmasq", "dnsmasq is not in PATH (Debian: apt-get install dnsmasq-base)"),
        ("vde_switch", "vde_switch is not in PATH (Debian: apt-get install vde2)"),
        ("libslirp@sid", "libslirp@sid is not installed (netemu peers install libslirp@sid)"),
    ],
)
def test_what_is_missing_is_said_with_the_way_to_it(cache, monkeypatch, name, sentence):
    monkeypatch.setenv("PATH", "")
    assert locate(name).missing() == sentence


def test_a_library_is_a_file_and_no_program(cache):
    peer = locate("libslirp@sid")
    library = peer.root / "usr" / "lib" / "triplet" / "libslirp.so.0"
    library.parent.mkdir(parents=True)
    library.touch()
    assert (peer.missing(), peer.file) == (None, library)
    with pytest.raises(LocalError, match="libslirp@sid is no program that could be run"):
        peer.command()


def test_a_package_in_a_root_tells_its_version_in_its_changelog(cache):
    peer = locate("slirp4netns@sid")
    place = peer.root / "usr" / "share" / "doc" / "slirp4netns"
    place.mkdir(parents=True)
    with gzip.open(place / "changelog.Debian.gz", "wt") as changelog:
        changelog.write("slirp4netns (1.3.3-1) unstable; urgency=medium\n\n  * New.\n")
    assert version(peer) == "1.3.3-1"


@pytest.mark.parametrize("name", ["nothing", "passt@", "passt@../..", "nothing@trixie"])
def test_a_name_that_is_none_is_refused(name):
    with pytest.raises(
        LocalError, match=r"give one of passt, .*, ipxe, and a suite of Debian's behind it, as in passt@trixie-backports"
    ):
        locate(name)


def test_a_kernel_is_never_the_one_in_path():
    with pytest.raises(
        LocalError, match="peer 'kernel': no kernel is in PATH; name the suite it is to come from, as in kernel@trixie"
    ):
        locate("kernel")


def test_packages_that_belong_together_are_of_one_suite(cache, script, apt, log):
    script("mmdebstrap", UNPACK)
    Peer("qemu", "sid").install()
    assert "--include=qemu-system-x86/sid,qemu-system-common/sid,qemu-system-data/sid,seabios/sid sid /" in log.read_text()


def test_the_mirror_is_that_of_the_machine(apt):
    assert mirror() == "http://mirror.test/debian"


@pytest.mark.parametrize("text", ["echo http://mirror.test/ other main", "exit 1"])
def test_a_machine_without_debians_archive_is_told(script, text):
    script("apt-get", text)
    with pytest.raises(LocalError, match="this needs a Debian machine"):
        mirror()


def test_a_root_is_made_once_and_runs_with_its_own_loader(cache, script, apt, log):
    script("mmdebstrap", UNPACK)
    assert PEER.missing() == "passt@trixie-backports is not installed (netemu peers install passt@trixie-backports)"
    PEER.install()
    PEER.install()
    (asked,) = log.read_text().splitlines()
    assert asked.startswith("--variant=extract --include=passt/trixie-backports trixie /")
    assert asked.endswith("deb http://mirror.test/debian trixie main deb http://mirror.test/debian trixie-backports main")
    assert PEER.missing() is None
    root = PEER.root
    assert PEER.command() == (
        f"{root}/usr/lib64/ld-linux-test.so.2",
        "--library-path",
        f"{root}/usr/lib/triplet",
        f"{root}/usr/bin/passt",
    )
    assert sorted(path.name for path in cache.iterdir()) == sorted((".lock", root.name))


def test_two_at_once_make_one(cache, script, apt, log):
    script("mmdebstrap", UNPACK)
    threads = [threading.Thread(target=PEER.install) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(log.read_text().splitlines()) == 1


def test_a_failure_leaves_nothing_and_tells_why(cache, script, apt):
    script("mmdebstrap", 'echo "I: here" >&2; echo "E: no such suite" >&2; exit 25')
    with pytest.raises(HostError, match="unpack passt of trixie-backports: mmdebstrap said 'E: no such suite'"):
        PEER.install()
    assert [path.name for path in cache.iterdir()] == [".lock"]
    with pytest.raises(LocalError, match="not installed"):
        PEER.command()


def test_what_is_missing_is_one_sentence(cache, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert Peer("passt").missing() == "passt is not in PATH (Debian: apt-get install passt)"
    with pytest.raises(LocalError, match="mmdebstrap is not in PATH"):
        PEER.install()
    with pytest.raises(LocalError, match="apt-get install passt, or name a suite, as in passt@trixie-backports"):
        Peer("passt").install()
