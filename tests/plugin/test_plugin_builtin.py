"""What netemu registers of its own says the same as the parts themselves, which are not loaded to register them."""

import pytest

from netemu.guest.protocol import CAPABILITIES
from netemu.netdev.protocol import BACKEND_CAPABILITIES
from netemu.peers import libslirp, passt
from pytest_netemu.builtin import register_backends, register_guests
from pytest_netemu.registry import Registry


@pytest.fixture
def guests():
    registry = Registry("guest")
    register_guests(registry)
    return registry


@pytest.fixture
def backends():
    registry = Registry("backend")
    register_backends(registry)
    return registry


def test_what_guests_can_do(guests, netemu):
    linux = CAPABILITIES.keys() - {"frames", "virtual-clock", "ipv6", "slaac", "dhcp6", "nic"}
    assert guests["inproc"].capabilities == netemu.guest().capabilities
    assert guests["uml"].capabilities == guests["qemu"].capabilities - {"nic"} == guests["netns"].capabilities - {"slaac"} == linux


def test_what_backends_can_do(backends, netemu):
    assert backends["netemu"].capabilities == netemu.netdev("user").capabilities
    assert backends["libslirp"].capabilities == libslirp.CAPABILITIES <= BACKEND_CAPABILITIES.keys()
    assert backends["passt"].capabilities == passt.CAPABILITIES <= BACKEND_CAPABILITIES.keys()


def test_arms(guests, backends):
    arms = {name: registry[name].arm for registry in (guests, backends) for name in registry.names}
    assert arms == {
        "inproc": "in-process",
        "netns": "kernel",
        "uml": "kernel",
        "uml-virtual": "kernel",
        "qemu": "kernel",
        "netemu": "in-process",
    } | dict.fromkeys(("libslirp", "passt", "passt@trixie-backports"), "oracle")
