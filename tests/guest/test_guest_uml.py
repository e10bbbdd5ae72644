"""User-mode Linux as a process: its death and its hanging are events, it leaves nothing behind, and it needs no root."""

import os
import signal
import subprocess
import sys
import tempfile

import pytest
from guest_processes import processes_of

from netemu.errors import HostError, LocalError, NetemuTimeoutError
from netemu.guest.uml import UmlGuest
from netemu.network import Network

ANSWERED = 30.0  # seconds; a limit for a crowded machine, never waited for


@pytest.fixture
def network(require_guest):
    require_guest("uml")
    with Network(clock="real") as network:
        yield network


def test_a_killed_kernel_ends_a_command(network):
    guest = network.guest("uml")
    guest.run("true", timeout=ANSWERED)
    with network.loop:
        network.loop.call_soon(lambda: os.kill(guest.pid, signal.SIGKILL))
    with pytest.raises(HostError, match="guest guest0 ended, running 'sleep 100'"):
        guest.run("sleep 100", timeout=ANSWERED)


def test_a_panic_is_told_in_the_error(network):
    guest = network.guest("uml")
    with pytest.raises(HostError, match=r"(?s)guest guest0 ended.*Kernel panic.*sysrq triggered crash"):
        guest.run("echo c >/proc/sysrq-trigger", timeout=ANSWERED)


def test_a_killed_kernel_ends_its_connections(network):
    network.host.add_address("198.51.100.7")
    guest = network.guest("uml", netdev=network.netdev("user"))
    guest.dhcp4(timeout=ANSWERED)
    with network.host.tcp_listen("198.51.100.7", 80):
        stream = guest.tcp_connect("198.51.100.7", 80, timeout=ANSWERED)
        os.kill(guest.pid, signal.SIGKILL)
        with pytest.raises(HostError, match="EHOSTDOWN"):
            stream.recv(timeout=ANSWERED)
        with pytest.raises(HostError, match="EHOSTDOWN"):
            guest.udp()


def test_a_kernel_that_is_stopped_ends_the_call_in_time(network):
    guest = network.guest("uml")
    guest.run("true", timeout=ANSWERED)
    os.kill(guest.pid, signal.SIGSTOP)
    with pytest.raises(NetemuTimeoutError, match=r"did not finish running 'true' within 0\.3 s"):
        guest.run("true", timeout=0.3)


def test_a_kernel_that_cannot_boot_says_why(network):
    guest = network.guest("uml")
    guest.close()
    broken = UmlGuest(network.loop, "broken", guest.mac, parameters=["rdinit=/nowhere", "init=/nowhere"])
    with pytest.raises(HostError, match=r"(?s)guest broken ended, booting.*panic"):
        broken.run("true")
    broken.close()


def test_nothing_is_left_after_close(network, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    guest = network.guest("uml")
    guest.run("sleep 1000 &", timeout=ANSWERED)
    assert guest.ping("127.0.0.1", timeout=ANSWERED).ok  # the agent runs as well
    session = guest.pid
    assert len(processes_of(session)) > 1
    guest.close()
    assert processes_of(session) == []
    assert list(tmp_path.iterdir()) == []
    guest.close()
    with pytest.raises(HostError, match="was closed"):
        guest.run("true")


def test_a_guest_can_be_closed_before_it_has_booted(network, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    guest = network.guest("uml")
    session = guest.pid
    assert list(tmp_path.iterdir()) != []
    guest.close()
    assert processes_of(session) == []
    assert list(tmp_path.iterdir()) == []


PROGRAM = """
import os, signal
from netemu.guest.uml import UmlGuest
from netemu.io.loop import RealLoop
from netemu.wire.address import MacAddress
loop = RealLoop()
guest = UmlGuest(loop, "orphan", MacAddress("52:54:00:12:34:56"))
guest.run("true", timeout=30)
print(guest.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_guest_ends_with_the_process_that_made_it(network, tmp_path):
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    program = [sys.executable, "-c", PROGRAM]
    dying = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert dying.returncode == -signal.SIGKILL, dying.stderr
    session = int(dying.stdout)
    deadline = network.loop.now() + int(ANSWERED * 1e9)
    while processes_of(session) and network.loop.now() < deadline:
        network.run_for(0.01)
    assert processes_of(session) == []
    assert list(tmp_path.iterdir()) == []


def test_two_guests_talk_over_a_hub(network):
    hub = network.hub()
    first, second = (network.guest("uml", netdev=hub) for _ in range(2))
    first.configure("192.0.2.1", 24)
    second.configure("192.0.2.2", 24)
    assert first.ping("192.0.2.2", count=2, timeout=ANSWERED).ok
    with second.tcp_listen(7) as listener, first.tcp_connect("192.0.2.2", 7, timeout=ANSWERED) as stream:
        served = listener.accept(ANSWERED)
        stream.send(b"x" * 10_000)
        assert served.recv_exactly(10_000, ANSWERED) == b"x" * 10_000


def test_long_commands_do_not_deafen_the_console(network):
    """A console of User-mode Linux 6.1 that is sent 4,000 octets at once hears nothing any more."""
    guest = network.guest("uml")
    assert guest.run("echo " + "y" * 10_000, timeout=ANSWERED).output == "y" * 10_000 + "\n"
    assert guest.run("echo on", timeout=ANSWERED).output == "on\n"


def test_a_missing_kernel_names_the_package(monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    assert UmlGuest.probe() == "linux.uml is not in PATH: install the Debian package user-mode-linux"
    with Network(clock="real") as network, pytest.raises(LocalError, match="user-mode-linux"):
        network.guest("uml")
