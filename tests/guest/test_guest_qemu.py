"""QEMU guests: each a machine of its own, whose death and hanging are events, and who leave nothing behind."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from netemu.errors import HostError, LocalError, NetemuTimeoutError
from netemu.guest import qemu_template
from netemu.guest.qemu import QemuGuest
from netemu.guest.qemu_template import Template, find_accelerator
from netemu.network import Network
from netemu.peers.qemu import find_qemu

ANSWERED = 30.0  # seconds; a limit for a crowded machine, never waited for


@pytest.fixture
def network(require_guest):
    require_guest("qemu")
    with Network(clock="real") as network:
        yield network


def test_every_guest_is_a_machine_of_its_own(network):
    hub = network.hub()
    guests = [network.guest("qemu", netdev=hub) for _ in range(2)]
    said = "cat /etc/machine-id /sys/class/net/eth0/address; head -c 16 /dev/urandom | base64; date +%Y"
    first, second = (guest.run(said, timeout=ANSWERED).output.split() for guest in guests)
    assert [first[1], second[1]] == [str(guest.mac) for guest in guests]
    assert all(mine != others for mine, others in zip(first[:3], second[:3], strict=True))
    assert first[3] == second[3] > "2025"


def test_two_guests_talk_over_a_hub(network):
    hub = network.hub()
    first, second = (network.guest("qemu", netdev=hub) for _ in range(2))
    first.configure("192.0.2.1", 24)
    second.configure("192.0.2.2", 24)
    assert first.ping("192.0.2.2", count=2, timeout=ANSWERED).ok
    with second.tcp_listen(7) as listener, first.tcp_connect("192.0.2.2", 7, timeout=ANSWERED) as stream:
        served = listener.accept(ANSWERED)
        stream.send(b"x" * 10_000)
        assert served.recv_exactly(10_000, ANSWERED) == b"x" * 10_000


def test_a_killed_qemu_ends_a_command(network):
    guest = network.guest("qemu")
    guest.run("true", timeout=ANSWERED)
    with network.loop:
        network.loop.call_soon(lambda: os.kill(guest.pid, signal.SIGKILL))
    with pytest.raises(HostError, match="guest guest0 ended, running 'sleep 100'"):
        guest.run("sleep 100", timeout=ANSWERED)


def test_a_panic_is_told_in_the_error(network):
    guest = network.guest("qemu")
    with pytest.raises(HostError, match=r"(?s)guest guest0 ended.*its console ended with.*Kernel panic.*sysrq triggered crash"):
        guest.run("echo c >/proc/sysrq-trigger", timeout=ANSWERED)


def test_a_killed_qemu_ends_its_connections(network):
    network.host.add_address("198.51.100.7")
    guest = network.guest("qemu", netdev=network.netdev("user"))
    guest.dhcp4(timeout=ANSWERED)
    with network.host.tcp_listen("198.51.100.7", 80):
        stream = guest.tcp_connect("198.51.100.7", 80, timeout=ANSWERED)
        os.kill(guest.pid, signal.SIGKILL)
        with pytest.raises(HostError, match="EHOSTDOWN"):
            stream.recv(timeout=ANSWERED)
        with pytest.raises(HostError, match="EHOSTDOWN"):
            guest.udp()


def test_a_stopped_qemu_ends_the_call_in_time(network):
    guest = network.guest("qemu")
    guest.run("true", timeout=ANSWERED)
    os.kill(guest.pid, signal.SIGSTOP)
    with pytest.raises(NetemuTimeoutError, match=r"did not finish running 'true' within 0\.3 s"):
        guest.run("true", timeout=0.3)


def test_a_full_console_holds_nobody_up(network):
    guest = network.guest("qemu")
    guest.run("seq 30000 >/dev/console", timeout=ANSWERED)
    assert "29999\n" in guest.console
    assert len(guest.console) < 20_000


def test_a_nic_that_is_not_there_is_one_sentence(network):
    with pytest.raises(LocalError, match=r"nic='e1001': QEMU guests have one of virtio-net-pci, .*, usb-net$"):
        network.guest("qemu", nic="e1001")
    with pytest.raises(LocalError, match="nic='e1000': inproc guests have none; leave it out"):
        network.guest("inproc", nic="e1000")


def test_what_is_missing_is_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert QemuGuest.probe() in (
        "kernel@trixie is not installed (netemu peers install kernel@trixie)",
        "qemu-system-x86_64 is not in PATH (Debian: apt-get install qemu-system-x86)",
    )
    monkeypatch.setenv("PATH", "/nonexistent")
    assert QemuGuest.probe() == "qemu-system-x86_64 is not in PATH (Debian: apt-get install qemu-system-x86)"
    with Network(clock="real") as network, pytest.raises(LocalError, match="qemu-system-x86"):
        network.guest("qemu")


@pytest.mark.parametrize("nic", ["e1000", "rtl8139", "vmxnet3"])
def test_any_nic_leases_and_carries(network, nic):
    guest = network.guest("qemu", nic=nic, mac="52:54:00:aa:bb:cc", netdev=network.netdev("user"))
    assert str(guest.dhcp4(timeout=ANSWERED).address) == "10.0.2.15"
    assert guest.ping("10.0.2.2", count=2, size=1400, timeout=ANSWERED).ok
    assert guest.run("cat /sys/class/net/eth0/address", timeout=ANSWERED).output == "52:54:00:aa:bb:cc\n"
    (drivers,) = guest.run("ls /sys/class/net/eth0/device/driver/module/drivers", timeout=ANSWERED).output.splitlines()
    assert drivers == {"e1000": "pci:e1000", "rtl8139": "pci:8139cp", "vmxnet3": "pci:vmxnet3"}[nic]


def test_a_newer_qemu_has_newer_nics(network, netemu_platform):
    newer = "qemu@trixie-backports"
    netemu_platform.require_part("program", newer, lambda: QemuGuest.probe(newer))
    guest = network.guest("qemu", qemu=newer, nic="igb", netdev=network.netdev("user"))
    guest.dhcp4(timeout=ANSWERED)
    assert guest.ping("10.0.2.2", size=1400, timeout=ANSWERED).ok
    if not find_qemu().has("igb"):
        with pytest.raises(LocalError, match=r"nic='igb': QEMU [0-9.]+ has no such device; take another NIC, or a newer QEMU"):
            network.guest("qemu", nic="igb")


def test_datagrams_are_a_cable_too(network):
    guest = network.guest("qemu", cable="dgram", netdev=network.netdev("user"))
    guest.dhcp4(timeout=ANSWERED)
    assert guest.ping("10.0.2.2", size=4000, timeout=ANSWERED).ok
    with pytest.raises(LocalError, match="cable='string': QEMU's netdev is one of stream, dgram"):
        network.guest("qemu", cable="string")


@pytest.mark.parametrize("nic", ["usb-net", "pcnet"])
def test_a_nic_is_plugged_into_a_running_guest(network, nic):
    guest = network.guest("qemu", nic=nic, hotplug=True, netdev=network.netdev("user"))
    guest.dhcp4(timeout=ANSWERED)
    assert guest.ping("10.0.2.2", timeout=ANSWERED).ok
    assert guest.run("cat /sys/class/net/eth0/address", timeout=ANSWERED).output == f"{guest.mac}\n"


def test_a_kernel_that_cannot_boot_says_why(network):
    with pytest.raises(HostError, match=r"(?s)guest template ended, booting.*Kernel panic"):
        network.guest("qemu", parameters=["rdinit=/nowhere", "init=/nowhere"])


def test_a_kernel_that_hangs_ends_in_time(network, monkeypatch):
    monkeypatch.setitem(qemu_template._BOOT_TIMEOUT, "tcg", 0.5)
    with pytest.raises(NetemuTimeoutError, match=r"guest template did not finish booting within 0\.5 s"):
        network.guest("qemu", parameters=["never=seen"])


# These break templates that no other test uses, for workers share them.


@pytest.mark.parametrize(("part", "nic"), [("state", "i82559a"), ("ram", "i82559b")])
def test_a_broken_template_is_made_again(network, part, nic):
    template = network.guest("qemu", nic=nic)._template
    (template._directory / part).write_bytes(b"nonsense")
    guest = network.guest("qemu", nic=nic, netdev=network.netdev("user"))
    guest.dhcp4(timeout=ANSWERED)
    assert (template._directory / part).stat().st_size > 100_000


def test_a_template_of_a_broken_one_is_made_again(network):
    template = Template(network.guest("qemu", memory=250)._template.machine)
    (template._directory / "state").write_bytes(b"nonsense")
    assert network.guest("qemu", memory=250, nic="i82550").run("echo alive", timeout=ANSWERED).output == "alive\n"


def test_kvm_is_believed_when_it_has_booted_a_guest(network, monkeypatch, tmp_path):
    machine = replace(network.guest("qemu")._template.machine, memory=255)
    monkeypatch.setattr(qemu_template, "_KVM", str(tmp_path / "missing"))
    assert find_accelerator(machine) == "tcg"
    monkeypatch.setattr(qemu_template, "_KVM", os.devnull)  # which opens, and QEMU finds out whether there is more to it
    boots = {True: "kvm", False: "tcg"}
    assert find_accelerator(machine) in boots.values()
    monkeypatch.setattr(qemu_template, "Template", lambda _machine: None)
    assert find_accelerator(replace(machine, memory=254)) == "kvm"


@pytest.mark.parametrize(
    "octets",
    [r"\377\377\377\377\001\000\000\000\000", r"\000\000\000\005\143\000\000\000\002", r"\000\000\000\005\014\000\000\000\002"],
    ids=["oversize", "no such kind", "truncated"],
)
def test_an_agent_that_lies_is_refused(network, octets):
    guest = network.guest("qemu")
    assert guest.ping("127.0.0.1", timeout=ANSWERED).ok
    guest.run(f"printf '{octets}' >/dev/vport0p2 || printf '{octets}' >&3", timeout=ANSWERED)
    with pytest.raises(HostError, match="EHOSTDOWN"):
        guest.udp()
    assert guest.run("echo on", timeout=ANSWERED).output == "on\n"


def test_output_that_is_no_text_is_shown_as_far_as_it_is(network):
    assert network.guest("qemu").run(r"printf 'a\377b'", timeout=ANSWERED).output == "a\ufffdb"


def children(pid):
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def test_nothing_is_left_after_close(network):
    before = len(os.listdir("/proc/self/fd")), children(os.getpid())
    guest = network.guest("qemu")
    guest.ping("127.0.0.1", timeout=ANSWERED)
    guest.close()
    guest.close()
    assert (len(os.listdir("/proc/self/fd")), children(os.getpid())) == before
    with pytest.raises(HostError, match="was closed"):
        guest.run("true")


PROGRAM = """
import os, signal
from netemu.network import Network
guest = Network(clock="real").guest("qemu")
guest.run("true", timeout=30)
print(guest.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_guest_ends_with_the_process_that_made_it(network):
    network.guest("qemu")  # so that there is a template
    dying = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False)
    assert dying.returncode == -signal.SIGKILL, dying.stderr
    deadline = time.monotonic() + ANSWERED
    while Path(f"/proc/{int(dying.stdout)}/cmdline").exists() and Path(f"/proc/{int(dying.stdout)}/cmdline").read_bytes():
        assert time.monotonic() < deadline
        time.sleep(0.01)
