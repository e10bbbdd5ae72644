"""Ethernet II frames (IEEE 802.3-2018 3.2.6, RFC 894), without preamble and frame check sequence, as QEMU carries them.

A value below 0x600 in the type field is an 802.3 length; LLC frames have no user on this path and are refused.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Self

from netemu.errors import LocalError
from netemu.wire.address import MacAddress
from netemu.wire.errors import WireError
from netemu.wire.fields import Buffer, mac_address, pack_fields, unpack_fields

__all__ = ["HEADER_LENGTH", "MINIMUM_LENGTH", "EtherType", "Ethernet", "pad"]

HEADER_LENGTH: Final = 14
MINIMUM_LENGTH: Final = 60  # minFrameSize of 64 octets (IEEE 802.3-2018 4.4.2) less the frame check sequence

_FIRST_ETHERTYPE: Final = 0x600  # IEEE 802.3-2018 3.2.6
_HEADER: Final = struct.Struct("!6s6sH")
_LIMITS: Final = {"ethertype": 0xFFFF}


class EtherType(IntEnum):
    """The IEEE's numbers for what a frame carries."""

    IPV4 = 0x0800
    ARP = 0x0806
    VLAN = 0x8100
    IPV6 = 0x86DD


@dataclass(frozen=True, slots=True)
class Ethernet:
    """One frame. `ethertype` is 0x600..0xffff; `payload` holds any padding too."""

    destination: MacAddress
    source: MacAddress
    ethertype: int
    payload: bytes

    @classmethod
    def parse(cls, data: Buffer) -> Self:
        """Read a frame of any length from 14 octets up; raises `WireError`."""
        destination, source, ethertype = unpack_fields(_HEADER, data, "ethernet")
        if ethertype < _FIRST_ETHERTYPE:
            raise WireError("ethernet.ethertype", 12, f"{ethertype:#06x} is an 802.3 length, not a type")
        return cls(mac_address(destination), mac_address(source), ethertype, bytes(data[HEADER_LENGTH:]))

    def pack(self) -> bytes:
        """The frame's octets, without padding to the minimum length (`pad` does that)."""
        if self.ethertype < _FIRST_ETHERTYPE:
            raise LocalError(f"Ethernet.ethertype is {self.ethertype}: give an integer from 0x600 to 0xffff")
        return pack_fields(_HEADER, self, _LIMITS, self.destination, self.source, self.ethertype) + self.payload


def pad(frame: Buffer) -> bytes:
    """`frame`, with zeros up to the shortest length that Ethernet sends."""
    return bytes(frame).ljust(MINIMUM_LENGTH, b"\0")
