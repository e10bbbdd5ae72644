"""What a test pays: a network and a guest, and the same with a lease asserted. The wanted figure is under 3 ms."""

from netemu import Network
from pytest_netemu.asserts import assert_dhcp_lease


def network_guest_and_lease() -> None:
    with Network() as network:
        guest = network.guest(netdev=network.netdev("user"))
        assert_dhcp_lease(guest.dhcp4(), address="10.0.2.15", router="10.0.2.2", dns="10.0.2.3")


def network_and_guest() -> None:
    with Network() as network:
        network.guest(netdev=network.netdev("user"))


def test_network_and_guest(benchmark):
    benchmark(network_and_guest)


def test_network_guest_and_lease(benchmark):
    benchmark(network_guest_and_lease)
