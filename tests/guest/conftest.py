"""What the tests of real guests share: whether such a guest can run here, decided in one place."""

import pytest

from netemu.guest.netns import NetnsGuest
from netemu.guest.qemu import QemuGuest
from netemu.guest.uml import UmlGuest
from netemu.guest.virtualuml import VirtualUmlGuest

PROBES = {
    "netns": NetnsGuest.probe,
    "uml": UmlGuest.probe,
    "uml-virtual": VirtualUmlGuest.probe,
    "qemu": QemuGuest.probe,
}


@pytest.fixture(scope="session")
def require_guest(netemu_platform):
    """Call it with a kind of guest: skips (with CI=true: fails) where that kind cannot run, in the probe's words."""
    return lambda kind: netemu_platform.require_part("guest", kind, PROBES[kind])
