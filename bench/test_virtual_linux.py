"""What a real kernel in virtual time costs, in wall-clock seconds; and that ten runs are the same while the machine is busy."""

import subprocess
import sys

import pytest

from netemu import Network
from netemu.guest.virtualuml import VirtualUmlGuest
from netemu.net.faults import Fault

DAY = 86_400
BUSY = [sys.executable, "-c", "while True: pass"]


@pytest.fixture(autouse=True)
def kernel(netemu_platform):
    netemu_platform.require_part("guest", "uml-virtual", VirtualUmlGuest.probe)


def boot_lease_and_ping() -> str:
    with Network() as network:
        guest = network.guest("uml", netdev=network.netdev("user"))
        guest.dhcp4()
        assert "3 packets received" in guest.run("ping -c 3 10.0.2.2").output
        return network.frames.digest()


def two_days() -> None:
    with Network() as network:
        guest = network.guest("uml", netdev=network.netdev("user"))
        guest.dhcp4()
        network.run_for(2 * DAY)
        assert str(guest.address) == "10.0.2.15"


def transfer(faults: list[Fault]) -> str:
    """10 MB over TCP between two kernels."""
    with Network() as network:
        first, second = network.guest("uml"), network.guest("uml")
        network.link(first.port, second.port, delay=0.001).set_faults(faults, faults)
        first.configure("192.0.2.1", 24)
        second.configure("192.0.2.2", 24)
        second.run("sleep 1000000 | nc -l -p 7 | wc -c >/tmp/count &")
        first.run("yes netemu | head -c 10000000 | nc 192.0.2.2 7", timeout=600)
        assert second.run("cat /tmp/count").output == "10000000\n"
        return network.frames.digest()


def neighbours(count: int) -> str:
    """Guests on a hub, each of which pings the next."""
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


def test_boot_lease_and_three_pings(benchmark):
    benchmark.pedantic(boot_lease_and_ping, rounds=10, warmup_rounds=1)


def test_two_days_of_a_lease(benchmark):
    benchmark.pedantic(two_days, rounds=5)


def test_ten_megabytes(benchmark):
    benchmark.pedantic(transfer, ([],), rounds=3)


def test_ten_megabytes_through_five_percent_of_loss(benchmark):
    benchmark.pedantic(transfer, ([Fault(number, "drop") for number in range(7, 20_000, 20)],), rounds=3)


@pytest.mark.parametrize("count", [2, 8])
def test_guests_on_a_hub(benchmark, count):
    benchmark.pedantic(neighbours, (count,), rounds=3)


@pytest.mark.parametrize("count", [1, 2, 8])
def test_ten_runs_under_load_are_the_same(count):
    busy = [subprocess.Popen(BUSY) for _ in range(2)]
    try:
        assert len({boot_lease_and_ping() if count == 1 else neighbours(count) for _ in range(10)}) == 1
    finally:
        for program in busy:
            program.kill()
            program.wait()
