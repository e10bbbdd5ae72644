"""What every format of this room shares: the buffers it reads, cached addresses, and its two ways to refuse.

A format is a frozen value with `parse` (bytes to value, or one `WireError`) and `pack` (value to bytes, or one
`LocalError`). Fixed fields go through one `struct.Struct`; `struct` itself notices a value that does not fit its width, so
their limits are only looked at once something is already wrong. Fields that share octets are checked first.

Addresses repeat in every frame of a flow, so making them is cached; the caches are bounded, since the other side of the
wire chooses the addresses.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import Any, TypeAlias

from netemu.errors import LocalError
from netemu.wire.address import IPAddress, MacAddress
from netemu.wire.errors import WireError

__all__ = [
    "ANY_IPV4",
    "ANY_IPV6",
    "Buffer",
    "IPAddress",
    "check_limits",
    "ipv4_address",
    "ipv6_address",
    "mac_address",
    "pack_fields",
    "truncated",
    "unpack_fields",
]

Buffer: TypeAlias = bytes | bytearray | memoryview

ANY_IPV4 = IPv4Address(0)
ANY_IPV6 = IPv6Address(0)

_CACHED_ADDRESSES = 4096


@lru_cache(_CACHED_ADDRESSES)
def ipv4_address(number: int) -> IPv4Address:
    """The address whose 32 bits are `number`."""
    return IPv4Address(number)


@lru_cache(_CACHED_ADDRESSES)
def ipv6_address(value: int | bytes) -> IPv6Address:
    """The address whose 128 bits, or 16 octets, are `value`."""
    return IPv6Address(value)


@lru_cache(_CACHED_ADDRESSES)
def mac_address(octets: bytes) -> MacAddress:
    """The address made of these six octets."""
    return MacAddress(octets)


# Any is what struct gives, for its fields are known to the layout alone.
def unpack_fields(layout: struct.Struct, data: Buffer, header: str) -> tuple[Any, ...]:
    """The fields at the front of `data`; raises the `WireError` of `truncated` when there are too few octets."""
    try:
        return layout.unpack_from(data)
    except struct.error:
        raise truncated(header, data, layout.size) from None


def truncated(header: str, data: Buffer, needed: int) -> WireError:
    """The error for `data` that ends before the `needed` octets of `header`."""
    return WireError(header, len(data), f"the header has at least {needed} octets, {len(data)} are here")


def pack_fields(layout: struct.Struct, value: object, limits: Mapping[str, int], *fields: int | bytes) -> bytes:
    """`layout.pack(*fields)`; when one does not fit, the `LocalError` names it.

    `limits` gives the largest number for each integer (or address) attribute of `value`.
    """
    try:
        return layout.pack(*fields)
    except struct.error as error:
        check_limits(value, limits)
        raise LocalError(f"{type(value).__name__} cannot be packed: {error}") from error


def check_limits(value: object, limits: Mapping[str, int]) -> None:
    """Raise `LocalError` for the first attribute of `value` that is not a number from 0 to its limit."""
    for name, limit in limits.items():
        given = getattr(value, name)
        try:
            fits = 0 <= int(given) <= limit
        except (TypeError, ValueError):
            fits = False
        if not fits:
            raise LocalError(f"{type(value).__name__}.{name} is {given}: give an integer from 0 to {limit}")
