"""Programs of others as the clients of the user network's servers: BusyBox's tftp, udhcpc and nc, and smbclient."""

from pathlib import Path

import pytest

from netemu.io.oshost import OsHost
from netemu.network import Network
from netemu.peers import smbd

ANSWERED = 30.0  # seconds; a limit for a crowded machine, never waited for
KERNEL = bytes(range(256)) * 1000 + b"the end"


@pytest.fixture
def network(require_guest):
    require_guest("netns")
    with Network(clock="real") as network:
        yield network


def guest_of(network, options, host=None):
    guest = network.guest("netns", netdev=network.netdev(options, host=host))
    guest.dhcp4(timeout=ANSWERED)
    return guest


@pytest.mark.parametrize("blksize", [64, 512, 1400, 65464])
def test_busybox_reads_by_tftp(network, tmp_path: Path, blksize):
    served = tmp_path / "served"
    served.mkdir()
    (served / "kernel").write_bytes(KERNEL[: 300 * blksize])
    guest = guest_of(network, f"user,tftp={served}")
    got = guest.run(f"busybox tftp -b {blksize} -g -r kernel -l {tmp_path}/got 10.0.2.2", timeout=ANSWERED)
    assert got.status == 0, got.output
    assert (tmp_path / "got").read_bytes() == KERNEL[: 300 * blksize]


def test_busybox_writes_by_tftp_where_it_may(network, tmp_path: Path):
    served = tmp_path / "served"
    served.mkdir()
    (tmp_path / "log").write_bytes(KERNEL)
    guest = guest_of(network, f"user,tftp={served},tftp-write=on")
    put = guest.run(f"busybox tftp -p -l {tmp_path}/log -r log 10.0.2.2", timeout=ANSWERED)
    assert put.status == 0, put.output
    assert (served / "log").read_bytes() == KERNEL


@pytest.mark.parametrize(("name", "words"), [("none", "file not found"), ("../secret", "outside of what is served")])
def test_busybox_is_told_why_not(network, tmp_path: Path, name, words):
    (tmp_path / "served").mkdir()
    (tmp_path / "secret").write_bytes(b"secret")
    guest = guest_of(network, f"user,tftp={tmp_path}/served")
    got = guest.run(f"busybox tftp -g -r {name} -l {tmp_path}/got 10.0.2.2 2>&1", timeout=ANSWERED)
    assert got.status != 0
    assert words in got.output


def test_udhcpc_learns_what_it_asks_for(network, tmp_path: Path):
    """BusyBox's own reading of options 42, 66, 67, 119 and 121."""
    script = tmp_path / "script"
    script.write_text('#!/bin/busybox sh\n[ "$1" = bound ] && env\nexit 0\n')
    script.chmod(0o755)
    options = "bootfile=pxe.0,tftp-server-name=boot.example,ntp=192.0.2.123,route=198.51.100.0/24=10.0.2.9,dnssearch=a.example"
    options += ",static-lease=52:54:00:12:34:56=10.0.2.77"
    guest = network.guest("netns", netdev=network.netdev(f"user,{options}"))
    asked = " ".join(f"-O {code}" for code in (42, 66, 67, 119, 121))
    told = guest.run(f"busybox udhcpc -f -q -n -i eth0 -s {script} {asked}", timeout=ANSWERED).output.splitlines()
    for line in (
        "ip=10.0.2.77",
        "siaddr=10.0.2.2",
        "boot_file=pxe.0",
        "bootfile=pxe.0",
        "tftp=boot.example",
        "ntpsrv=192.0.2.123",
        "search=a.example",
        "staticroutes=198.51.100.0/24 10.0.2.9 0.0.0.0/0 10.0.2.2",
    ):
        assert line in told


@pytest.fixture
def os_host(network):
    """The machine itself, for programs that serve guests; nothing is sent from it."""
    host = OsHost(network.loop)
    yield host
    host.close()


def test_a_command_serves_each_connection(network, os_host):
    guest = guest_of(network, "user,restrict=on,guestfwd=tcp:10.0.2.100:7-cmd:tr a-z A-Z", os_host)
    for word in ("one", "two"):
        said = guest.run(f"echo {word} | busybox nc 10.0.2.100 7", timeout=ANSWERED)
        assert said.output == word.upper() + "\n"
    refused = guest.run("busybox nc 10.0.2.100 8 </dev/null 2>&1", timeout=ANSWERED)
    assert refused.status != 0


def test_smbclient_lists_and_reads_what_samba_shares(network, os_host, tmp_path: Path):
    missing = smbd.probe()
    if missing:
        pytest.skip(f"platform: {missing}")
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "kernel").write_bytes(KERNEL)
    guest = guest_of(network, f"user,smb={shared}", os_host)
    client = "smbclient -N -s /dev/null //10.0.2.4/qemu -c"
    listed = guest.run(f"{client} ls 2>&1", timeout=ANSWERED)
    assert (listed.status, "kernel" in listed.output) == (0, True), listed.output
    got = guest.run(f"{client} 'get kernel {tmp_path}/got' 2>&1", timeout=ANSWERED)
    assert got.status == 0, got.output
    assert (tmp_path / "got").read_bytes() == KERNEL
