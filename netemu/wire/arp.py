"""Address resolution for IPv4 over Ethernet (RFC 826; numbers in RFC 5494).

Only that one pair of address spaces is read; another hardware or protocol type, or another length, is a `WireError`.
What follows the 28 octets is the frame's padding and is ignored.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address
from typing import Final, Self

from netemu.wire.address import MacAddress
from netemu.wire.errors import WireError
from netemu.wire.fields import Buffer, ipv4_address, mac_address, pack_fields, unpack_fields

__all__ = ["Arp", "ArpOperation"]

_PACKET: Final = struct.Struct("!HHBBH6sI6sI")
_HARDWARE_ETHERNET: Final = 1  # ar$hrd (RFC 826, definitions)
_PROTOCOL_IPV4: Final = 0x0800  # ar$pro is an EtherType
_LIMITS: Final = {"operation": 0xFFFF, "sender_ip": 0xFFFFFFFF, "target_ip": 0xFFFFFFFF}


class ArpOperation(IntEnum):
    """`ar$op` (RFC 826)."""

    REQUEST = 1
    REPLY = 2


@dataclass(frozen=True, slots=True)
class Arp:
    """One packet; `operation` is any 16-bit number, an `ArpOperation` when it is a known one."""

    operation: int
    sender_mac: MacAddress
    sender_ip: IPv4Address
    target_mac: MacAddress
    target_ip: IPv4Address

    @classmethod
    def parse(cls, data: Buffer) -> Self:
        """Read a packet and ignore the padding behind it; raises `WireError`."""
        hrd, pro, hln, pln, op, sha, spa, tha, tpa = unpack_fields(_PACKET, data, "arp")
        if hrd != _HARDWARE_ETHERNET:
            raise WireError("arp.hrd", 0, f"hardware type {hrd} is not Ethernet (1)")
        if pro != _PROTOCOL_IPV4:
            raise WireError("arp.pro", 2, f"protocol type {pro:#06x} is not IPv4 (0x0800)")
        if hln != 6:
            raise WireError("arp.hln", 4, f"a hardware address of {hln} octets is not Ethernet's (6)")
        if pln != 4:
            raise WireError("arp.pln", 5, f"a protocol address of {pln} octets is not IPv4's (4)")
        return cls(op, mac_address(sha), ipv4_address(spa), mac_address(tha), ipv4_address(tpa))

    def pack(self) -> bytes:
        """The packet's 28 octets."""
        return pack_fields(
            _PACKET,
            self,
            _LIMITS,
            _HARDWARE_ETHERNET,
            _PROTOCOL_IPV4,
            6,
            4,
            self.operation,
            self.sender_mac,
            int(self.sender_ip),
            self.target_mac,
            int(self.target_ip),
        )
