"""Registers lwIP as the guest `lwip`, for `pytest` and `netemu conformance` in this directory."""

from functools import partial
from pathlib import Path

from netemu.guest.program import CAPABILITIES, ProgramGuest

PROGRAM = Path(__file__).with_name("lwip-guest")


def make(network, **options):
    return network.add_guest(partial(ProgramGuest, command=[str(PROGRAM), "{channel}", "{mac}"]), **options)


def why_not():
    return None if PROGRAM.exists() else f"{PROGRAM.name} is not built: make (Debian packages gcc, libc6-dev, make and liblwip-dev)"


def pytest_netemu_register_guests(registry):
    registry.register("lwip", make, capabilities=CAPABILITIES, probe=why_not, arm="oracle")
