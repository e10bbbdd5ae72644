"""This machine's kernel as a guest: it is alone in its namespace, and what happens there stays there."""

import os
from pathlib import Path

import pytest

from netemu.errors import LocalError, NetemuTimeoutError
from netemu.guest.netns import NetnsGuest
from netemu.network import Network

ANSWERED = 30.0  # seconds; a limit for a crowded machine, never waited for


@pytest.fixture
def network(require_guest):
    require_guest("netns")
    with Network(clock="real") as network:
        yield network


def test_the_guest_has_its_cable_and_loopback_only(network):
    guest = network.guest("netns")
    links = guest.run("ip -o link", timeout=ANSWERED).output
    names = {line.split(":")[1].strip() for line in links.splitlines()}
    assert {"lo", "eth0"} <= names
    up = {line.split(":")[1].strip() for line in links.splitlines() if "UP" in line.split(">")[0]}
    assert up == {"lo", "eth0"}
    assert str(guest.mac) in links
    assert set(guest.run("ls /sys/class/net", timeout=ANSWERED).output.split()) <= names | {"bonding_masters"}
    assert guest.run("ip route", timeout=ANSWERED).output == ""


def test_nothing_of_the_lease_is_seen_outside(network):
    resolv_conf = Path("/etc/resolv.conf").read_text()
    routes = Path("/proc/net/route").read_text()
    guest = network.guest("netns", netdev=network.netdev("user"))
    guest.dhcp4(timeout=ANSWERED)
    assert Path("/etc/resolv.conf").read_text() == resolv_conf
    assert Path("/proc/net/route").read_text() == routes
    assert guest.run("cat /etc/resolv.conf", timeout=ANSWERED).output != resolv_conf


def test_two_guests_talk_over_a_hub(network):
    hub = network.hub()
    first, second = (network.guest("netns", netdev=hub) for _ in range(2))
    first.configure("192.0.2.1", 24)
    second.configure("192.0.2.2", 24)
    assert first.ping("192.0.2.2", count=2, timeout=ANSWERED).ok
    with second.tcp_listen(7) as listener, first.tcp_connect("192.0.2.2", 7, timeout=ANSWERED) as stream:
        served = listener.accept(ANSWERED)
        stream.send(b"x" * 100_000)
        assert served.recv_exactly(100_000, ANSWERED) == b"x" * 100_000


def test_a_neighbour_that_is_not_there_is_the_guests_own_error(network):
    guest = network.guest("netns", netdev=network.hub())
    guest.configure("192.0.2.1", 24)
    result = guest.ping("192.0.2.9", timeout=ANSWERED)
    assert [(error.type, error.code, error.source) for error in result.errors] == [(3, 1, None)]


def test_a_process_left_in_the_background_ends_with_the_guest(network):
    guest = network.guest("netns")
    pid = int(guest.run("sleep 1000 & echo $!", timeout=ANSWERED).output)
    assert os.readlink(f"/proc/{pid}/ns/net") != os.readlink("/proc/self/ns/net")
    guest.close()
    deadline = network.loop.now() + int(ANSWERED * 1e9)
    while Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes() and network.loop.now() < deadline:
        network.run_for(0.01)
    assert not Path(f"/proc/{pid}/cmdline").exists() or not Path(f"/proc/{pid}/cmdline").read_bytes()  # a zombie has none
    guest.close()


def test_a_command_that_hangs_is_killed(network):
    guest = network.guest("netns")
    with pytest.raises(NetemuTimeoutError, match=r"(?s)within 0.2 s.*begun"):
        guest.run("echo begun; exec sleep 1000", timeout=0.2)


def test_a_missing_busybox_names_the_package(monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    assert NetnsGuest.probe() == "busybox is not in PATH: install the Debian package busybox-static"
    with Network(clock="real") as network, pytest.raises(LocalError, match="busybox-static"):
        network.guest("netns")


def test_ipv6_from_a_router(network):
    guest = network.guest("netns", netdev=network.netdev("user"))
    given = guest.slaac(timeout=ANSWERED)
    assert [str(address) for address in given.addresses] == ["fec0::5054:ff:fe12:3456"]
    assert [router.is_link_local for router in given.routers] == [True]
    assert guest.ping("fec0::2", timeout=ANSWERED).ok


def test_without_a_router_there_is_no_address(network):
    guest = network.guest("netns", netdev=network.hub())
    with pytest.raises(NetemuTimeoutError, match="advertisement did not come"):
        guest.slaac(timeout=0.2)
    path = f"/proc/sys/net/ipv6/neigh/{guest.interface}/retrans_time_ms"
    assert guest.run(f"cat {path}", timeout=ANSWERED).output == "1000\n"
