"""What a DHCP lease must say."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address
from types import EllipsisType
from typing import TypeAlias

from netemu.guest.protocol import Lease
from pytest_netemu.asserts.failure import failure, last_of_layer

__all__ = ["assert_dhcp_lease"]

_Address: TypeAlias = str | IPv4Address  # DHCP leases IPv4 addresses
_OneAddress: TypeAlias = _Address | EllipsisType | None
_Addresses: TypeAlias = _Address | Iterable[_Address] | EllipsisType
_Number: TypeAlias = int | EllipsisType | None
_Text: TypeAlias = str | EllipsisType | None


def assert_dhcp_lease(
    lease: Lease,
    *,
    address: _Address | EllipsisType = ...,
    prefix_length: int | EllipsisType = ...,
    server: _OneAddress = ...,
    router: _OneAddress = ...,
    routers: _Addresses = ...,
    dns: _Addresses = ...,
    lease_time: _Number = ...,
    renewal_time: _Number = ...,
    rebinding_time: _Number = ...,
    domain: _Text = ...,
    hostname: _Text = ...,
    mtu: _Number = ...,
) -> None:
    """The lease says this. What is left out is not compared; `None` (or an empty list) means that the server gave none.

    Addresses may be text. `dns` and `routers` take one address or several, in the order given; times are seconds.
    """
    __tracebackhide__ = True
    expected: dict[str, object] = {
        "address": _address(address),
        "prefix_length": prefix_length,
        "server": _address(server),
        "router": _address(router),
        "routers": _addresses(routers),
        "dns": _addresses(dns),
        "lease_time": lease_time,
        "renewal_time": renewal_time,
        "rebinding_time": rebinding_time,
        "domain": domain,
        "hostname": hostname,
        "mtu": mtu,
    }
    wrong = [
        f"{name}: expected {_text(wanted)}, got {_text(getattr(lease, name))}"
        for name, wanted in expected.items()
        if wanted is not ... and wanted != getattr(lease, name)
    ]
    if wrong:
        what = "field is" if len(wrong) == 1 else "fields are"
        raise failure(f"{len(wrong)} {what} not as expected in the lease of {lease.address}", wrong, around=last_of_layer("dhcpv4"))


def _address(value: _OneAddress) -> IPv4Address | EllipsisType | None:
    return IPv4Address(value) if isinstance(value, str) else value


def _addresses(value: _Addresses) -> tuple[IPv4Address, ...] | EllipsisType:
    if value is ...:
        return value
    several = [value] if isinstance(value, str | IPv4Address) else value
    return tuple(IPv4Address(each) for each in several)


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)
