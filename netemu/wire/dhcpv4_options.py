"""The options of DHCP: their numbers, their encoding in a field, and the values that are more than octets.

Numbers and lengths are of RFC 2132, except where another stands beside them. An option longer than 255 octets is split
when written, and parts with the same number are joined when read, in the order they come (RFC 3396).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import IntEnum
from ipaddress import IPv4Address, IPv4Network
from typing import Final

from netemu.errors import LocalError
from netemu.wire.dns_name import append_name, name_text, read_labels
from netemu.wire.errors import WireError
from netemu.wire.fields import Buffer, ipv4_address

__all__ = [
    "DhcpOption",
    "check_lengths",
    "pack_addresses",
    "pack_classless_routes",
    "pack_domain_search",
    "pack_options",
    "parse_classless_routes",
    "parse_domain_search",
    "read_options",
]

_PAD: Final = 0  # RFC 2132 3.1
_END: Final = 255  # RFC 2132 3.2


class DhcpOption(IntEnum):
    """Option numbers this project has a use for; any from 1 to 254 can be sent and is kept when read."""

    SUBNET_MASK = 1
    ROUTER = 3
    DOMAIN_NAME_SERVER = 6
    HOST_NAME = 12
    DOMAIN_NAME = 15
    INTERFACE_MTU = 26
    BROADCAST_ADDRESS = 28
    NETWORK_TIME_PROTOCOL_SERVERS = 42
    REQUESTED_IP_ADDRESS = 50
    IP_ADDRESS_LEASE_TIME = 51
    OPTION_OVERLOAD = 52
    DHCP_MESSAGE_TYPE = 53
    SERVER_IDENTIFIER = 54
    PARAMETER_REQUEST_LIST = 55
    MESSAGE = 56
    MAXIMUM_DHCP_MESSAGE_SIZE = 57
    RENEWAL_TIME_VALUE = 58
    REBINDING_TIME_VALUE = 59
    VENDOR_CLASS_IDENTIFIER = 60
    CLIENT_IDENTIFIER = 61
    TFTP_SERVER_NAME = 66
    BOOTFILE_NAME = 67
    RAPID_COMMIT = 80  # RFC 4039 4
    DOMAIN_SEARCH = 119  # RFC 3397 2
    CLASSLESS_STATIC_ROUTE = 121  # RFC 3442


# Only lengths that the document fixes: another cannot be understood, so the message is malformed.
_FIXED_LENGTHS: Final = {
    DhcpOption.SUBNET_MASK: 4,
    DhcpOption.INTERFACE_MTU: 2,
    DhcpOption.BROADCAST_ADDRESS: 4,
    DhcpOption.REQUESTED_IP_ADDRESS: 4,
    DhcpOption.IP_ADDRESS_LEASE_TIME: 4,
    DhcpOption.OPTION_OVERLOAD: 1,
    DhcpOption.DHCP_MESSAGE_TYPE: 1,
    DhcpOption.SERVER_IDENTIFIER: 4,
    DhcpOption.MAXIMUM_DHCP_MESSAGE_SIZE: 2,
    DhcpOption.RENEWAL_TIME_VALUE: 4,
    DhcpOption.REBINDING_TIME_VALUE: 4,
    DhcpOption.RAPID_COMMIT: 0,
}


def read_options(area: bytes, offset: int, found: dict[int, bytes]) -> None:
    """Add the options in `area`, which begins at octet `offset` of the message, to `found`; raises `WireError`.

    They end at the end option, or at the end of the area when a sender forgot it.
    """
    at = 0
    while at < len(area) and area[at] != _END:
        code = area[at]
        if code == _PAD:
            at += 1
            continue
        end = at + 2 + (area[at + 1] if at + 1 < len(area) else 0)
        if end > len(area):
            raise WireError("dhcpv4.options", offset + at, f"option {code} runs past the end of the field")
        found[code] = found.get(code, b"") + area[at + 2 : end]
        at = end


def check_lengths(options: Mapping[int, bytes], offset: int) -> None:
    """Raise `WireError` when an option has not the length its document fixes."""
    for code, length in _FIXED_LENGTHS.items():
        value = options.get(code)
        if value is not None and len(value) != length:
            raise WireError("dhcpv4.options", offset, f"option {code} has {len(value)} octets, not {length}")


def pack_options(options: Mapping[int, bytes]) -> bytes:
    """The options in their order, long ones split, and the end option; raises `LocalError` for a bad number."""
    parts = bytearray()
    for code, value in options.items():
        if not _PAD < code < _END:
            raise LocalError(f"DHCP option {code}: give a number from 1 to 254")
        for begin in range(0, len(value) or 1, 255):
            piece = value[begin : begin + 255]
            parts += bytes((code, len(piece)))
            parts += piece
    parts.append(_END)
    return bytes(parts)


def pack_addresses(*addresses: IPv4Address) -> bytes:
    """The value of an option that is a list of addresses, such as ROUTER and DOMAIN_NAME_SERVER."""
    return b"".join(address.packed for address in addresses)


def pack_domain_search(names: Iterable[str]) -> bytes:
    """The value of DOMAIN_SEARCH, compressed (RFC 3397 2); raises `LocalError` for a bad name."""
    value = bytearray()
    targets: dict[tuple[bytes, ...], int] = {}
    for name in names:
        append_name(value, name, targets)
    return bytes(value)


def parse_domain_search(value: Buffer) -> tuple[str, ...]:
    """The names in DOMAIN_SEARCH; raises `WireError`."""
    names = []
    at = 0
    while at < len(value):
        labels, at = read_labels(value, at, "dhcpv4.domain_search")
        names.append(name_text(labels))
    return tuple(names)


def pack_classless_routes(routes: Iterable[tuple[IPv4Network, IPv4Address]]) -> bytes:
    """The value of CLASSLESS_STATIC_ROUTE, from (destination, router) pairs."""
    return b"".join(
        bytes((network.prefixlen,)) + network.network_address.packed[: (network.prefixlen + 7) // 8] + router.packed
        for network, router in routes
    )


def parse_classless_routes(value: Buffer) -> tuple[tuple[IPv4Network, IPv4Address], ...]:
    """The (destination, router) pairs of CLASSLESS_STATIC_ROUTE; raises `WireError`.

    Bits of a destination behind its prefix are ignored (RFC 3442, "Local Subnet Routes" and the page before it).
    """
    routes = []
    at = 0
    while at < len(value):
        width = value[at]
        significant = (width + 7) // 8
        end = at + 1 + significant + 4
        if width > 32 or end > len(value):
            raise WireError("dhcpv4.classless_static_route", at, f"a route of width {width} does not fit")
        network = int.from_bytes(bytes(value[at + 1 : end - 4]).ljust(4, b"\0"), "big")
        router = int.from_bytes(value[end - 4 : end], "big")
        routes.append((IPv4Network((network, width), strict=False), ipv4_address(router)))
        at = end
    return tuple(routes)
