"""In-process guests on the IPv6 side of the user-mode network: the verbs of a test, in virtual time."""

from collections.abc import Iterator
from ipaddress import IPv6Address

import pytest

from netemu.guest.inproc import InprocGuest
from netemu.io.simhost import SimHost
from netemu.netdev.user import UserNetdev
from netemu.network import Network

SERVER = "2001:db8::7"


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as network:
        yield network


def site(network: Network, options: str = "user") -> tuple[InprocGuest, UserNetdev, SimHost]:
    host = network.host
    assert isinstance(host, SimHost)
    host.add_address(SERVER)
    user = network.netdev(options)
    assert isinstance(user, UserNetdev)
    guest = network.guest(netdev=user)
    assert isinstance(guest, InprocGuest)
    return guest, user, host


def test_slaac_and_a_connection(network: Network) -> None:
    guest, _, host = site(network)
    guest.slaac()
    for address in ("fec0::2", "fec0::3", SERVER):
        assert guest.ping(address, count=2, size=3000).ok
    with host.tcp_listen(SERVER, 80) as listener, guest.tcp_connect(SERVER, 80) as stream:
        served = listener.accept()
        stream.send(b"hello")
        assert served.recv_exactly(5) == b"hello"


def test_the_first_lease_is_where_forwards_go(network: Network) -> None:
    guest, user, host = site(network, "user,ipv6=on,hostfwd=tcp:[::1]:0-:80")
    guest.slaac()
    lease = guest.dhcp6()
    (record,) = user.leases6
    assert (record.address, record.state) == (IPv6Address("fec0::15"), "bound")
    assert record.address in [each.address for each in lease.addresses]
    forward = user.forwards[0].host
    with guest.tcp_listen(80) as listener, host.tcp_connect(*forward) as client:
        served = listener.accept()
        assert str(served.remote.address) == "fec0::2"
        client.send(b"hello")
        assert served.recv_exactly(5) == b"hello"


def test_parameters_alone(network: Network) -> None:
    guest, user, _ = site(network, "user,dhcpv6=stateless")
    guest.slaac()
    lease = guest.dhcp6(stateless=True)
    assert [str(server) for server in lease.dns] == ["fec0::3"]
    assert user.leases6 == ()
