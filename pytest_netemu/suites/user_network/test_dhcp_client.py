"""The guest's DHCP client, seen from the server of a user-mode network (RFC 2131 3.1, 4.1, 4.4)."""

from __future__ import annotations

from ipaddress import IPv4Address
from itertools import pairwise

import pytest

from netemu.errors import NetemuTimeoutError
from netemu.guest.protocol import Guest, Lease
from netemu.net.clock import SECOND
from netemu.net.faults import Fault
from netemu.net.link import Link
from netemu.netdev.protocol import UserBackend
from netemu.network import Network
from netemu.wire.dhcpv4 import DhcpMessageType, DhcpOption, Dhcpv4
from netemu.wire.ipv4 import IPv4
from pytest_netemu.packet import Packet
from pytest_netemu.station import LIMITED_BROADCAST
from pytest_netemu.suites import judges

pytestmark = pytest.mark.netemu_requires("dhcp4", "dhcp4.server")


def _messages(network: Network, kind: DhcpMessageType) -> list[Packet]:
    """The DHCP messages of one kind that crossed the network, oldest first."""
    packets = [Packet.read(record.frame, record.time) for record in network.frames.records]
    return [packet for packet in packets if Dhcpv4 in packet and packet[Dhcpv4].message_type == kind]


def _times(network: Network, kind: DhcpMessageType) -> list[float]:
    return [packet.time / SECOND for packet in _messages(network, kind)]


@judges("qemu/user-mode/08")
def test_a_client_configures_the_guest(netemu_guest: Guest, netemu_backend: UserBackend) -> None:
    lease = netemu_guest.dhcp4()
    assert netemu_guest.address == lease.address
    assert lease.network == netemu_backend.net
    assert lease.router == netemu_backend.gateway
    assert lease.dns == (netemu_backend.dns,)


@judges("qemu/user-mode/01")
def test_the_first_address_is_the_fifteenth(netemu_guest: Guest, netemu_backend: UserBackend) -> None:
    assert netemu_guest.dhcp4().address == netemu_backend.dhcpstart == IPv4Address("10.0.2.15")


@judges("rfc2131/3.1/01")
def test_a_client_says_which_server_it_chose(netemu: Network, netemu_guest: Guest) -> None:
    netemu_guest.dhcp4()
    offer, request = _messages(netemu, DhcpMessageType.OFFER)[-1], _messages(netemu, DhcpMessageType.REQUEST)[0]
    assert request[Dhcpv4].server_identifier == offer[Dhcpv4].server_identifier


@judges("rfc2131/3.1/02")
def test_a_client_asks_for_what_was_offered(netemu: Network, netemu_guest: Guest) -> None:
    netemu_guest.dhcp4()
    offer, request = _messages(netemu, DhcpMessageType.OFFER)[-1], _messages(netemu, DhcpMessageType.REQUEST)[0]
    assert request[Dhcpv4].requested_address == offer[Dhcpv4].yiaddr
    assert request[Dhcpv4].ciaddr == IPv4Address(0)


@judges("rfc2131/3.1/03")
def test_request_and_discover_go_the_same_way(netemu: Network, netemu_guest: Guest) -> None:
    netemu_guest.dhcp4()
    discover, request = _messages(netemu, DhcpMessageType.DISCOVER)[-1], _messages(netemu, DhcpMessageType.REQUEST)[0]
    assert request[Dhcpv4].secs == discover[Dhcpv4].secs
    assert request[IPv4].destination == discover[IPv4].destination == LIMITED_BROADCAST


@judges("rfc2131/4.1/05")
@pytest.mark.netemu_requires("virtual-clock")
def test_a_client_asks_again_and_ever_more_rarely(netemu: Network, netemu_guest: Guest, netemu_link: Link) -> None:
    _deafen(netemu_link)
    with pytest.raises(NetemuTimeoutError):
        netemu_guest.dhcp4(timeout=120)
    times = _times(netemu, DhcpMessageType.DISCOVER)
    gaps = [after - before for before, after in pairwise(times)]
    assert len(gaps) >= 3
    assert all(after > before for before, after in pairwise(gaps)), gaps
    assert any(gap != round(gap) for gap in gaps), "the delays are not randomised"


def _deafen(link: Link) -> None:
    """Drop all that goes to the guest."""
    link.set_faults(backward=[Fault(number, "drop") for number in range(100)])


def _lease(guest: Guest) -> tuple[Lease, int]:
    lease = guest.dhcp4()
    assert lease.lease_time is not None
    return lease, lease.lease_time


@judges("rfc2131/4.4.5/03")
@pytest.mark.netemu_requires("virtual-clock")
def test_a_client_renews_at_t1(netemu: Network, netemu_guest: Guest, netemu_backend: UserBackend) -> None:
    lease, lasts = _lease(netemu_guest)
    renewal = lease.renewal_time or lasts // 2
    netemu.run_for(renewal * 1.1)
    request = _messages(netemu, DhcpMessageType.REQUEST)[-1]
    assert request[IPv4].destination == (lease.server or netemu_backend.gateway)
    assert request[Dhcpv4].ciaddr == lease.address
    assert renewal * 0.9 <= request.time / SECOND <= renewal * 1.1


@judges("rfc2131/4.4.5/04")
@pytest.mark.netemu_requires("virtual-clock")
def test_a_renewing_client_names_no_server(netemu: Network, netemu_guest: Guest) -> None:
    lease, lasts = _lease(netemu_guest)
    netemu.run_for((lease.renewal_time or lasts // 2) * 1.1)
    request = _messages(netemu, DhcpMessageType.REQUEST)[-1][Dhcpv4]
    assert DhcpOption.SERVER_IDENTIFIER not in request.options
    assert DhcpOption.REQUESTED_IP_ADDRESS not in request.options


@judges("rfc2131/4.4.5/05")
@pytest.mark.netemu_requires("virtual-clock")
def test_a_lease_that_ended_is_not_used(netemu: Network, netemu_guest: Guest, netemu_link: Link) -> None:
    _, lasts = _lease(netemu_guest)
    _deafen(netemu_link)
    netemu.run_for(lasts + 1)
    assert netemu_guest.address is None
