"""The IPv6 half of a user-mode network's options, under QEMU's names, with QEMU's defaults and checks (net/slirp.c).

Every default address lies in the prefix, fec0::/64 unless given: the gateway is `prefix::2`, the DNS server `prefix::3`, and the
addresses that DHCPv6 leases begin at `prefix::15`. Gateway and DNS server also answer at the link-local addresses with the same
interface identifier (fe80::2, fe80::3), as libslirp's do; routers advertise themselves by such an address (RFC 4861 4.2).

`ipv6-net=PREFIX[/LENGTH]` is short for `ipv6-prefix=PREFIX,ipv6-prefixlen=LENGTH`. A length is 0 to 126, and 0 means 64.

`dhcpv6` is not QEMU's: `stateful` (the default) leases addresses and tells parameters, `stateless` only tells them (RFC 8415 6.1),
`off` does neither; libslirp's server is stateless.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv6Address, IPv6Network
from typing import Final, Literal

from netemu.errors import LocalError

__all__ = ["DEFAULT_PREFIX", "UNSPECIFIED", "Dhcpv6Mode", "enabled_families", "join_prefix", "link_local", "pool", "read_address"]
__all__ += ["read_dhcpv6", "read_network"]

Dhcpv6Mode = Literal["stateful", "stateless", "off"]

DEFAULT_PREFIX: Final = IPv6Network("fec0::/64")
UNSPECIFIED: Final = IPv6Address(0)

_POOL_START: Final = 0x15  # as dhcpstart's .15, written the same in hexadecimal
_POOL_SIZE: Final = 16
_LINK_LOCAL: Final = 0xFE80 << 112  # RFC 4291 2.5.6
_INTERFACE_IDENTIFIER: Final = (1 << 64) - 1
_LONGEST_PREFIX: Final = 126
_SUBNET_PREFIX: Final = 64  # RFC 4291 2.5.1
_MODES: Final[tuple[Dhcpv6Mode, ...]] = ("stateful", "stateless", "off")


def link_local(address: IPv6Address) -> IPv6Address:
    """The link-local address with the interface identifier of `address`."""
    return IPv6Address(_LINK_LOCAL | int(address) & _INTERFACE_IDENTIFIER)


def pool(net: IPv6Network, own: Iterable[IPv6Address]) -> tuple[IPv6Address, ...]:
    """The addresses that DHCPv6 leases: at most 16 from `prefix::15` on, without the network's `own`."""
    first = int(net.network_address) + _POOL_START
    taken = frozenset(own)
    wanted = map(IPv6Address, range(first, first + _POOL_SIZE))
    return tuple(address for address in wanted if address in net and address not in taken)


def enabled_families(ipv4: bool | None, ipv6: bool | None) -> tuple[bool, bool]:
    """Which families are spoken: both, but to name one alone is to leave out the other. None: not named."""
    if ipv4 is None:
        return not ipv6, ipv6 is not False
    if ipv6 is None:
        return ipv4, not ipv4
    return ipv4, ipv6


def join_prefix(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """`pairs` with `ipv6-prefix` and `ipv6-prefixlen` as one `ipv6-net` at the end."""
    parts = {"ipv6-prefix": str(DEFAULT_PREFIX.network_address), "ipv6-prefixlen": str(_SUBNET_PREFIX)}
    joined, given = [], False
    for key, value in pairs:
        if key in parts:
            parts[key], given = value, True
        else:
            joined.append((key, value))
    if given:
        if any(key == "ipv6-net" for key, _ in joined):
            raise LocalError("ipv6-net= is short for ipv6-prefix= and ipv6-prefixlen=: give the one or the others")
        joined.append(("ipv6-net", "{ipv6-prefix}/{ipv6-prefixlen}".format_map(parts)))
    return joined


def read_network(key: str, value: str) -> IPv6Network:
    """A prefix with its length, 64 if there is none or 0."""
    prefix, slash, length = value.partition("/")
    if slash and not (length.isascii() and length.isdigit() and int(length) <= _LONGEST_PREFIX):
        raise LocalError(f"{key}={value}: a prefix length from 0 to {_LONGEST_PREFIX} is needed (0 means {_SUBNET_PREFIX})")
    address = read_address(key, prefix)
    return IPv6Network((address, int(length or 0) or _SUBNET_PREFIX), strict=False)


def read_address(key: str, value: str) -> IPv6Address:
    try:
        address = IPv6Address(value)
    except ValueError:
        address = None
    if address is None or address.scope_id is not None:
        raise LocalError(f"{key}={value}: an IPv6 address such as fec0::2 is needed")
    return address


def read_dhcpv6(key: str, value: str) -> Dhcpv6Mode:
    for mode in _MODES:
        if mode == value:
            return mode
    raise LocalError(f"{key}={value}: {', '.join(_MODES)} are allowed")
