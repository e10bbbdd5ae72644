"""Pings through a user-mode network, and who may send them: ping_group_range (the seed's chapter, RFC 5508, Linux's ip-sysctl)."""

from __future__ import annotations

from ipaddress import IPv4Network

import pytest

from netemu.guest.protocol import Guest
from netemu.io.oshost import NetnsHost
from netemu.io.simhost import SimHost
from netemu.netdev.protocol import UserBackend
from netemu.wire.icmpv4 import IcmpType, UnreachableCode
from pytest_netemu.asserts import PingGroupRange
from pytest_netemu.suites import judges

pytestmark = pytest.mark.netemu_requires("dhcp4", "ping", "icmp.echo")

_OUTSIDE = "198.51.100.7"  # TEST-NET-2
_LAST_GROUP = 2**31 - 1
_PATIENCE = 60  # seconds: a real kernel on a busy machine answers late, and a refusal ends the wait
_SILENCE = 5  # seconds: what does not come


@pytest.fixture
def pings(netemu_backend: UserBackend) -> PingGroupRange:
    """Who may ping from the backend's host, which has a machine beyond the gateway."""
    host = netemu_backend.host
    if not isinstance(host, SimHost | NetnsHost):
        pytest.skip("platform: this backend's host is no test's to configure")
    host.add_address(_OUTSIDE)
    return PingGroupRange(host)


@judges("qemu/user-mode/04")
def test_the_gateway_answers(netemu_backend: UserBackend, netemu_guest: Guest) -> None:
    netemu_guest.dhcp4()
    assert netemu_guest.ping(netemu_backend.gateway, count=3, timeout=_PATIENCE).ok


@judges("qemu/user-mode/03")
def test_the_network_can_be_seen_to_work(netemu_guest: Guest) -> None:
    assert netemu_guest.dhcp4().address in IPv4Network("10.0.2.0/24")
    assert netemu_guest.ping("10.0.2.2", timeout=_PATIENCE).ok


@judges("qemu/user-mode/05")
@pytest.mark.netemu_requires("icmp.forward")
def test_pings_reach_the_internet(netemu_guest: Guest, pings: PingGroupRange) -> None:
    pings.grant()
    netemu_guest.dhcp4()
    assert netemu_guest.ping(_OUTSIDE, count=3, timeout=_PATIENCE).ok


@judges("rfc5508/3.1/01")
@pytest.mark.netemu_requires("icmp.forward")
def test_queries_and_their_answers_are_carried(netemu_guest: Guest, pings: PingGroupRange) -> None:
    pings.grant()
    netemu_guest.dhcp4()
    for size in (0, 56, 1400):
        assert netemu_guest.ping(_OUTSIDE, size=size, timeout=_PATIENCE).ok


@judges("qemu/user-mode/06")
@pytest.mark.netemu_requires("icmp.forward")
def test_without_the_hosts_leave_no_ping_goes_out(netemu_guest: Guest, pings: PingGroupRange) -> None:
    pings.deny()
    netemu_guest.dhcp4()
    assert not netemu_guest.ping(_OUTSIDE, timeout=_SILENCE).received, f"{_OUTSIDE} answered"
    assert netemu_guest.ping("10.0.2.2", timeout=_PATIENCE).ok, (
        "the gateway itself does not answer where nobody may open a ping socket"
    )


@judges("linux-icmp/ping_group_range/01")
@pytest.mark.netemu_requires("icmp.forward")
@pytest.mark.parametrize(
    ("below", "above", "may"),
    [(-1, 1, True), (0, 0, True), (1, 100, False)],
    ids=["around", "exactly", "beyond"],
)
def test_only_groups_in_the_range_may(netemu_guest: Guest, pings: PingGroupRange, below: int, above: int, may: bool) -> None:
    """The range is given by its distance from the groups of the process."""
    pings.set(max(0, min(pings.members) + below), min(_LAST_GROUP, max(pings.members) + above))
    netemu_guest.dhcp4()
    assert netemu_guest.ping(_OUTSIDE, timeout=_PATIENCE if may else _SILENCE).ok is may


@judges("linux-icmp/ping_group_range/02")
@pytest.mark.netemu_requires("icmp.forward")
def test_the_default_is_nobody(netemu_guest: Guest, pings: PingGroupRange) -> None:
    pings.set(1, 0)
    netemu_guest.dhcp4()
    assert not netemu_guest.ping(_OUTSIDE, timeout=_SILENCE).received


@judges("linux-icmp/ping_group_range/03")
@pytest.mark.netemu_requires("icmp.forward")
def test_a_single_group_may(netemu_guest: Guest, pings: PingGroupRange) -> None:
    group = max(pings.members)
    pings.set(group, group)
    netemu_guest.dhcp4()
    assert netemu_guest.ping(_OUTSIDE, timeout=_PATIENCE).ok
    pings.set(group + 1, group + 1)
    assert not netemu_guest.ping(_OUTSIDE, timeout=_SILENCE).received


@judges("rfc5508/6/01")
@pytest.mark.netemu_requires("icmp.forward")
def test_a_guest_is_told_that_it_may_not(netemu_guest: Guest, pings: PingGroupRange) -> None:
    pings.deny()
    netemu_guest.dhcp4()
    errors = netemu_guest.ping(_OUTSIDE, timeout=_PATIENCE).errors
    told = [(error.type, error.code) for error in errors]
    prohibited = (IcmpType.DESTINATION_UNREACHABLE, UnreachableCode.COMMUNICATION_PROHIBITED)
    assert told == [prohibited], f"errors (type, code) that came: {[(int(kind), int(code)) for kind, code in told]}"
