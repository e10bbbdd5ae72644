"""MAC addresses (IEEE 802-2014, 8) and the endpoint of a transport protocol.

IP addresses are the standard library's `ipaddress.IPv4Address` and `IPv6Address`: hashable, ordered, and printed as people write
them. Where either will do the type is `IPAddress`, and where only the family matters it is a `Family`: 4 or 6, which is also an
address's `version`.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Literal, NamedTuple, Self, TypeAlias

from netemu.errors import LocalError

__all__ = ["BROADCAST_MAC", "ZERO_MAC", "Endpoint", "Family", "IPAddress", "MacAddress"]

IPAddress: TypeAlias = IPv4Address | IPv6Address
Family: TypeAlias = Literal[4, 6]


class MacAddress(bytes):
    """Six octets, in transmission order; made from those or from the usual text (`52:54:00:12:34:56`, `-` allowed)."""

    __slots__ = ()

    def __new__(cls, value: str | bytes | bytearray | memoryview) -> Self:
        if isinstance(value, str):
            try:
                octets = bytes.fromhex(value.replace(":", "").replace("-", ""))
            except ValueError:
                octets = b""
        else:
            octets = bytes(value)
        if len(octets) != 6:
            raise LocalError(f"MAC address {value!r}: six octets are needed, such as 52:54:00:12:34:56")
        return super().__new__(cls, octets)

    @property
    def is_multicast(self) -> bool:
        """The I/G bit: a group address, the broadcast address included."""
        return bool(self[0] & 1)

    def __str__(self) -> str:
        return self.hex(":")

    def __repr__(self) -> str:
        return f"MacAddress('{self}')"


BROADCAST_MAC = MacAddress(b"\xff" * 6)
ZERO_MAC = MacAddress(b"\0" * 6)


class Endpoint(NamedTuple):
    """An address and a port (0..65535), printed as in a URI: `10.0.2.2:80`, `[::1]:80` (RFC 3986 3.2.2)."""

    address: IPAddress
    port: int

    def __str__(self) -> str:
        return f"{self.address}:{self.port}" if self.address.version == 4 else f"[{self.address}]:{self.port}"
