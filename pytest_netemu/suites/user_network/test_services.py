"""What a user-mode network may have beyond QEMU's: a fuller DHCP server; and guestfwd, which QEMU has."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest

from netemu.netdev.protocol import UserBackend
from netemu.network import Network
from netemu.wire.dhcpv4 import DhcpMessageType, DhcpOption, Dhcpv4, parse_classless_routes
from pytest_netemu.factories import BackendFactory
from pytest_netemu.suites import judges
from pytest_netemu.tester import Tester
from pytest_netemu.tester_tcp import TcpPeer

pytestmark = pytest.mark.netemu_requires("arp")

_TIME_SERVERS = ("192.0.2.123", "192.0.2.124")
_ROUTE = (IPv4Network("198.51.100.0/24"), IPv4Address("10.0.2.9"))
_SERVER = IPv4Address("10.0.2.100")


@judges("rfc4039/4/01")
@pytest.mark.netemu_requires("dhcp4.extended")
def test_rapid_commit_is_said_in_the_acknowledgement(netemu_tester: Tester) -> None:
    ack = netemu_tester.exchange_dhcp(DhcpMessageType.DISCOVER, DhcpMessageType.ACK, {DhcpOption.RAPID_COMMIT: b""})
    assert ack[Dhcpv4].options.get(DhcpOption.RAPID_COMMIT) == b""


@judges("rfc2132/8.3/01")
@pytest.mark.netemu_requires("dhcp4.extended")
def test_time_servers_are_told_in_their_order(
    netemu: Network, netemu_backend: UserBackend, netemu_backend_factory: BackendFactory
) -> None:
    del netemu_backend  # it says which kind
    ack = Tester(netemu, netemu_backend_factory(ntp=_TIME_SERVERS)).lease()
    assert [str(address) for address in ack.addresses(DhcpOption.NETWORK_TIME_PROTOCOL_SERVERS)] == list(_TIME_SERVERS)


@judges("rfc3442/server/01")
@pytest.mark.netemu_requires("dhcp4.extended")
def test_who_asks_for_routes_gets_no_router(
    netemu: Network, netemu_backend: UserBackend, netemu_backend_factory: BackendFactory
) -> None:
    del netemu_backend  # it says which kind
    tester = Tester(netemu, netemu_backend_factory(route="{}={}".format(*_ROUTE)))
    wanted = bytes((DhcpOption.SUBNET_MASK, DhcpOption.ROUTER, DhcpOption.CLASSLESS_STATIC_ROUTE))
    ack = tester.lease(options={DhcpOption.PARAMETER_REQUEST_LIST: wanted})
    routes = parse_classless_routes(ack.options[DhcpOption.CLASSLESS_STATIC_ROUTE])
    assert _ROUTE in routes
    assert (IPv4Network("0.0.0.0/0"), tester.gateway) in routes
    assert DhcpOption.ROUTER not in ack.options


@judges("qemu/guestfwd/01")
@pytest.mark.netemu_requires("guestfwd.tcp", "nat.tcp")
def test_a_guests_connection_to_the_server_goes_to_the_target(
    netemu: Network, netemu_backend: UserBackend, netemu_backend_factory: BackendFactory
) -> None:
    host = netemu_backend.host
    with host.tcp_listen("127.0.0.1") as listener:
        tester = Tester(netemu, netemu_backend_factory(guestfwd=f"tcp:{_SERVER}:80-tcp:127.0.0.1:{listener.port}"))
        peer = TcpPeer(tester, 80, _SERVER).connect()
        served = listener.accept()
        served.send(b"welcome")
        assert peer.receive(7) == b"welcome"
