"""The Internet Protocol, version 4 (RFC 791; DSCP RFC 2474, ECN RFC 3168, use of the fields RFC 1122 3.2.1).

`parse` verifies what a host must before it looks further (RFC 1122 3.2.1.1 and 3.2.1.2): version, header length, total
length and header checksum. Octets behind the total length are the link's padding and are dropped. The reserved flag bit
is ignored when read and sent as zero. Options are kept as their octets. Fragments are values like any other: putting them
together is the stack's work.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address
from typing import Final, Self

from netemu.errors import LocalError
from netemu.wire.checksum import internet_checksum
from netemu.wire.errors import WireError
from netemu.wire.fields import Buffer, check_limits, ipv4_address, pack_fields, unpack_fields

__all__ = ["MAXIMUM_LENGTH", "MINIMUM_HEADER_LENGTH", "IPv4", "Protocol"]

MINIMUM_HEADER_LENGTH: Final = 20
MAXIMUM_LENGTH: Final = 65535  # Total Length has 16 bits (RFC 791 3.1)

_HEADER: Final = struct.Struct("!BBHHHBBHII")
_CHECKSUM_OFFSET: Final = 10
_DONT_FRAGMENT: Final = 0x4000
_MORE_FRAGMENTS: Final = 0x2000
_OFFSET_MASK: Final = 0x1FFF  # in units of 8 octets
_MAXIMUM_OPTIONS: Final = 40  # IHL counts at most fifteen 32-bit words
_SHARED_LIMITS: Final = {"dscp": 0x3F, "ecn": 3, "fragment_offset": _OFFSET_MASK * 8}
_LIMITS: Final = {
    "identification": 0xFFFF,
    "ttl": 0xFF,
    "protocol": 0xFF,
    "source": 0xFFFFFFFF,
    "destination": 0xFFFFFFFF,
}


class Protocol(IntEnum):
    """The IANA's numbers for what a datagram carries."""

    ICMP = 1
    TCP = 6
    UDP = 17


@dataclass(frozen=True, slots=True)
class IPv4:
    """One datagram or fragment.

    `fragment_offset` is in octets, a multiple of 8 up to 65,528; `ttl` and `protocol` 0..255; `identification` 16 bits;
    `dscp` 0..63; `ecn` 0..3; `options` whole 32-bit words, at most 40 octets.
    """

    source: IPv4Address
    destination: IPv4Address
    protocol: int
    payload: bytes
    ttl: int = 64
    identification: int = 0
    dont_fragment: bool = False
    more_fragments: bool = False
    fragment_offset: int = 0
    dscp: int = 0
    ecn: int = 0
    options: bytes = b""

    @property
    def header_length(self) -> int:
        """Octets of header, options included."""
        return MINIMUM_HEADER_LENGTH + len(self.options)

    @property
    def is_fragment(self) -> bool:
        """Part of a datagram, not all of it."""
        return self.more_fragments or self.fragment_offset > 0

    @classmethod
    def parse(cls, data: Buffer) -> Self:
        """Read a datagram and drop the link's padding behind it; raises `WireError`."""
        version_ihl, tos, total_length, identification, fragment, ttl, protocol, _, source, destination = unpack_fields(
            _HEADER, data, "ipv4"
        )
        if version_ihl >> 4 != 4:
            raise WireError("ipv4.version", 0, f"{version_ihl >> 4} is not 4")
        header_length = (version_ihl & 0xF) * 4
        if header_length < MINIMUM_HEADER_LENGTH:
            raise WireError("ipv4.ihl", 0, f"a header of {header_length} octets is shorter than 20")
        if header_length > len(data):
            raise WireError("ipv4.ihl", 0, f"a header of {header_length} octets, {len(data)} are here")
        if total_length < header_length:
            raise WireError("ipv4.total_length", 2, f"{total_length} is less than the header's {header_length}")
        if total_length > len(data):
            raise WireError("ipv4.total_length", 2, f"{total_length} octets announced, {len(data)} are here")
        if internet_checksum(data[:header_length]):
            raise WireError("ipv4.header_checksum", _CHECKSUM_OFFSET, "the header does not sum to 0xffff")
        return cls(
            ipv4_address(source),
            ipv4_address(destination),
            protocol,
            bytes(data[header_length:total_length]),
            ttl,
            identification,
            bool(fragment & _DONT_FRAGMENT),
            bool(fragment & _MORE_FRAGMENTS),
            (fragment & _OFFSET_MASK) * 8,
            tos >> 2,
            tos & 3,
            bytes(data[MINIMUM_HEADER_LENGTH:header_length]),
        )

    def pack(self) -> bytes:
        """The datagram's octets, with the header checksum; raises `LocalError` for a field out of its range."""
        check_limits(self, _SHARED_LIMITS)
        if self.fragment_offset & 7:
            raise LocalError(f"IPv4.fragment_offset is {self.fragment_offset}: give a multiple of 8 octets")
        if len(self.options) & 3 or len(self.options) > _MAXIMUM_OPTIONS:
            raise LocalError(f"IPv4.options has {len(self.options)} octets: give a multiple of 4, at most 40")
        header_length = self.header_length
        total_length = header_length + len(self.payload)
        if total_length > MAXIMUM_LENGTH:
            raise LocalError(f"an IPv4 datagram of {total_length} octets: 65,535 is the most, so fragment it")
        fragment = (
            (_DONT_FRAGMENT if self.dont_fragment else 0)
            | (_MORE_FRAGMENTS if self.more_fragments else 0)
            | self.fragment_offset >> 3
        )
        header = (
            pack_fields(
                _HEADER,
                self,
                _LIMITS,
                0x40 | header_length >> 2,
                self.dscp << 2 | self.ecn,
                total_length,
                self.identification,
                fragment,
                self.ttl,
                self.protocol,
                0,
                int(self.source),
                int(self.destination),
            )
            + self.options
        )
        checksum = internet_checksum(header).to_bytes(2, "big")
        return b"".join((header[:_CHECKSUM_OFFSET], checksum, header[_CHECKSUM_OFFSET + 2 :], self.payload))
