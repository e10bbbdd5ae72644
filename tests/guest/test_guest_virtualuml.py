"""A real Linux kernel in the test's virtual clock: what it sees of time, and that every run is the same."""

import hashlib
import os
import signal
import tempfile
from random import Random

import pytest
from guest_processes import processes_of
from hypothesis import find, given, settings

from netemu.errors import HostError, LocalError, NetemuTimeoutError, PeerError
from netemu.guest.virtualuml import VirtualUmlGuest
from netemu.net.clock import MILLISECOND, SECOND
from netemu.net.faults import Fault
from netemu.network import Network
from netemu.peers import uml
from netemu.wire.address import MacAddress
from pytest_netemu.strategies import fault_schedules

HOUR = 3_600
DAY = 24 * HOUR
MAC = MacAddress("52:54:00:12:34:99")
DHCP_COOKIE = bytes.fromhex("63825363")  # RFC 2131 3


@pytest.fixture(autouse=True)
def kernel(require_guest):
    require_guest("uml-virtual")


@pytest.fixture
def network():
    with Network() as network:
        yield network


def pair(network, delay=0.0):
    """Two guests with static addresses on one cable."""
    first, second = network.guest("uml"), network.guest("uml")
    link = network.link(first.port, second.port, delay=delay)
    for last, guest in enumerate((first, second), 1):
        guest.configure(f"192.0.2.{last}", 24)
    return first, second, link


def test_it_boots_in_no_time_and_the_year_is_2000(network):
    guest = network.guest("uml")
    assert guest.run("date -u +%Y-%m-%dT%H:%M:%S").output == "2000-01-01T00:00:00\n"
    assert network.loop.now() < MILLISECOND
    assert guest.run("uname -r").output.strip() == VirtualUmlGuest.version() == uml.version()
    assert "virtual-clock" in guest.capabilities


def test_sleeping_costs_nothing_and_time_passes(network):
    guest = network.guest("uml")
    assert guest.run("sleep 100000; cut -d. -f1 /proc/uptime", timeout=200_000).output == "100000\n"
    assert network.loop.now() // SECOND == 100_000


def test_a_command_that_takes_longer_than_it_may_ends_in_virtual_time(network):
    guest = network.guest("uml")
    guest.run("true")
    before = network.loop.now()
    with pytest.raises(NetemuTimeoutError, match="did not finish running 'sleep 1000' within 10 s"):
        guest.run("sleep 1000")
    assert network.loop.now() - before == 10 * SECOND
    assert guest.run("echo after", timeout=2000).output == "after\n"


def lease_and_ping():
    with Network() as network:
        guest = network.guest("uml", netdev=network.netdev("user"))
        lease = guest.dhcp4()
        assert str(lease.address) == "10.0.2.15"
        assert " 0% packet loss" in guest.run("ping -c 3 10.0.2.2").output
        assert len(network.frames) > 10
        return network.frames.digest()


def test_the_frames_of_every_run_are_the_same():
    assert len({lease_and_ping() for _ in range(3)}) == 1


def test_another_seed_gives_other_frames():
    """The random numbers are the seed's, and nobody else's."""
    logs = []
    for seed in (1, 2, 1):
        with Network(seed=seed) as network:
            network.guest("uml", netdev=network.netdev("user")).dhcp4()
            logs.append(network.frames.digest())
    assert logs[0] == logs[2] != logs[1]


def test_a_lease_is_renewed_for_two_days(network):
    guest = network.guest("uml", netdev=network.netdev("user"))
    guest.dhcp4()
    network.run_for(2 * DAY)
    assert str(guest.address) == "10.0.2.15"
    asked = [record.time for record in network.frames if record.source == guest.port.name and DHCP_COOKIE in record.frame]
    assert [round(time / SECOND / HOUR, 1) for time in asked if time > HOUR * SECOND] == [12, 24, 36]


def test_a_lease_that_nobody_renews_ends(network):
    guest = network.guest("uml", netdev=network.netdev("user"))
    guest.dhcp4()
    network.links[0].set_link(up=False)
    network.run_for(DAY + 60)
    assert guest.address is None
    guest.configure("10.0.2.15", 24)
    network.run_for(DAY)
    assert str(guest.address) == "10.0.2.15"


def test_a_link_of_10_ms_takes_exactly_10_ms(network):
    first, _second, link = pair(network, delay=0.010)
    output = first.run("ping -c 3 192.0.2.2").output
    assert "min/avg/max = 20.0" in output
    assert "3 packets received" in output
    echoes = [record.time for record in network.frames if record.frame[12:14] == b"\x08\x00" and record.frame[23] == 1]
    assert [after - before for before, after in zip(echoes[::2], echoes[1::2], strict=True)] == [10 * MILLISECOND] * 3
    assert link.forward.entered > 3


def hub_of(count):
    """Guests on a hub; each pings its neighbour."""
    with Network() as network:
        hub = network.hub()
        guests = [network.guest("uml", netdev=hub) for _ in range(count)]
        for last, guest in enumerate(guests, 1):
            guest.configure(f"192.0.2.{last}", 24)
        for last, guest in enumerate(guests, 1):
            guest.run(f"ping -c 2 192.0.2.{last % count + 1} >/tmp/ping &")
        network.run_for(3)
        assert all("2 packets received" in guest.run("cat /tmp/ping").output for guest in guests)
        return network.frames.digest()


@pytest.mark.parametrize("count", [2, 8])
def test_guests_on_a_hub_are_the_same_in_every_run(count):
    assert len({hub_of(count) for _ in range(2)}) == 1


def transfer(octets, faults):
    """Octets over TCP between two kernels, through faults; the digest of frames and what arrived."""
    with Network() as network:
        first, second, link = pair(network, delay=0.001)
        link.set_faults(faults, faults)
        second.run("sleep 1000000 | nc -l -p 7 | sha256sum >/tmp/sum &")
        first.run(f"yes netemu | head -c {octets} | nc 192.0.2.2 7", timeout=600)
        second.run("while ! [ -s /tmp/sum ]; do sleep 0.1; done", timeout=60)
        return network.frames.digest(), second.run("cat /tmp/sum").output, network.loop.now()


def test_a_transfer_through_five_percent_of_loss_is_the_same_in_every_run():
    lost = [Fault(number, "drop") for number in range(7, 20_000, 20)]
    runs = [transfer(1_000_000, lost) for _ in range(2)]
    assert runs[0] == runs[1]
    assert runs[0][1].split()[0] == hashlib.sha256((b"netemu\n" * 200_000)[:1_000_000]).hexdigest()


@settings(max_examples=10, deadline=None, database=None)
@given(fault_schedules(max_frames=12))
def test_no_faults_in_the_first_frames_stop_tcp(faults):
    digest, summed, _ = transfer(5_000, faults)
    assert summed.split()[0] == hashlib.sha256((b"netemu\n" * 1_000)[:5_000]).hexdigest()
    assert digest


def test_hypothesis_shrinks_what_delays_a_lease():
    def delays(faults):
        with Network() as network:
            guest = network.guest("uml", netdev=network.netdev("user"))
            network.links[0].set_faults(forward=faults)
            guest.dhcp4(timeout=120)
            return network.loop.now() > SECOND // 2

    bounded = settings(max_examples=30, deadline=None, database=None)
    assert find(fault_schedules(max_frames=6), delays, settings=bounded, random=Random(0)) == [Fault(0, "drop")]


def test_a_kernel_that_spins_ends_the_call(network):
    guest = network.guest("uml")
    guest.run("true")
    guest.kernel.watchdog = 1.0
    with pytest.raises(PeerError, match=r"guest guest0: said nothing for 1 s of real time.*does it spin"):
        guest.run("while :; do i=$((i+1)); done")
    with pytest.raises(HostError, match="guest guest0 ended"):
        guest.run("true")


def test_a_spinning_guest_does_not_end_the_others(network):
    spinning, other = network.guest("uml"), network.guest("uml")
    spinning.run("true")
    spinning.kernel.watchdog = 0.5
    with pytest.raises(PeerError):
        spinning.run("while :; do :; done")
    assert other.run("echo alive").output == "alive\n"


def test_a_killed_kernel_ends_a_command(network):
    guest = network.guest("uml")
    guest.run("true")
    network.loop.call_at(network.loop.now() + 5 * SECOND, lambda: os.kill(guest.pid, signal.SIGKILL))
    with pytest.raises(HostError, match="guest guest0 ended, running 'sleep 100'"):
        guest.run("sleep 100", timeout=200)


def test_a_panic_is_told_in_the_error(network):
    entropy = network.entropy("broken")
    guest = VirtualUmlGuest(network.loop, "broken", MAC, getrandbits=entropy, parameters=["rdinit=/nowhere", "init=/nowhere"])
    with pytest.raises(HostError, match=r"(?s)guest broken ended, booting.*Kernel panic"):
        guest.run("true")
    guest.close()


def test_a_guest_that_switches_itself_off_is_an_event(network):
    guest = network.guest("uml")
    with pytest.raises(HostError, match="guest guest0 ended"):
        guest.run("poweroff -f")


def test_nothing_is_left_after_close(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with Network() as network:
        guest = network.guest("uml")
        guest.run("sleep 1000 &")
        session = guest.pid
        assert len(processes_of(session)) > 1
        guest.close()
        assert processes_of(session) == []
        guest.close()
        with pytest.raises(HostError, match="was closed"):
            guest.run("true")
        network.guest("uml")  # one that never boots
    assert list(tmp_path.iterdir()) == []


def test_a_missing_kernel_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with Network() as network, pytest.raises(LocalError, match=r"not built \(netemu peers build uml\)"):
        network.guest("uml")
