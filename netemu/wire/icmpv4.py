"""The Internet Control Message Protocol (RFC 792, RFC 1122 3.2.2; later codes RFC 1812 5.2.7.1; next-hop MTU RFC 1191).

Every message is a type, a code, a checksum, one 32-bit word whose meaning the type decides (`rest`), and a payload. The
properties read that word, the constructors write it. An error message quotes the datagram it is about: as much as keeps
the whole error within 576 octets (RFC 1812 4.3.2.3).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Self

from netemu.wire.checksum import internet_checksum
from netemu.wire.errors import WireError
from netemu.wire.fields import Buffer, pack_fields, unpack_fields

__all__ = ["HEADER_LENGTH", "IcmpType", "Icmpv4", "RedirectCode", "TimeExceededCode", "UnreachableCode"]

HEADER_LENGTH: Final = 8

_HEADER: Final = struct.Struct("!BBHI")
_CHECKSUM_OFFSET: Final = 2
_QUOTE_LIMIT: Final = 576 - 20 - HEADER_LENGTH
_LIMITS: Final = {"type": 0xFF, "code": 0xFF, "rest": 0xFFFFFFFF}


class IcmpType(IntEnum):
    """Message types (RFC 792; 9 and 10 RFC 1256; 17 and 18 RFC 950)."""

    ECHO_REPLY = 0
    DESTINATION_UNREACHABLE = 3
    SOURCE_QUENCH = 4
    REDIRECT = 5
    ECHO_REQUEST = 8
    ROUTER_ADVERTISEMENT = 9
    ROUTER_SOLICITATION = 10
    TIME_EXCEEDED = 11
    PARAMETER_PROBLEM = 12
    TIMESTAMP = 13
    TIMESTAMP_REPLY = 14
    INFORMATION_REQUEST = 15
    INFORMATION_REPLY = 16
    ADDRESS_MASK_REQUEST = 17
    ADDRESS_MASK_REPLY = 18


class UnreachableCode(IntEnum):
    """Codes of DESTINATION_UNREACHABLE (0..5 RFC 792, 6..12 RFC 1122 3.2.2.1, 13..15 RFC 1812 5.2.7.1)."""

    NET = 0
    HOST = 1
    PROTOCOL = 2
    PORT = 3
    FRAGMENTATION_NEEDED = 4
    SOURCE_ROUTE_FAILED = 5
    NET_UNKNOWN = 6
    HOST_UNKNOWN = 7
    SOURCE_HOST_ISOLATED = 8
    NET_PROHIBITED = 9
    HOST_PROHIBITED = 10
    NET_TOS = 11
    HOST_TOS = 12
    COMMUNICATION_PROHIBITED = 13
    HOST_PRECEDENCE_VIOLATION = 14
    PRECEDENCE_CUTOFF = 15


class RedirectCode(IntEnum):
    """Codes of REDIRECT (RFC 792)."""

    NET = 0
    HOST = 1
    TOS_NET = 2
    TOS_HOST = 3


class TimeExceededCode(IntEnum):
    """Codes of TIME_EXCEEDED (RFC 792)."""

    TTL = 0
    REASSEMBLY = 1


_ERRORS: Final = frozenset(
    {
        IcmpType.DESTINATION_UNREACHABLE,
        IcmpType.SOURCE_QUENCH,
        IcmpType.REDIRECT,
        IcmpType.TIME_EXCEEDED,
        IcmpType.PARAMETER_PROBLEM,
    }
)  # RFC 1122 3.2.2


@dataclass(frozen=True, slots=True)
class Icmpv4:
    """One message; `type` and `code` 0..255, `rest` the second 32-bit word of the header."""

    type: int
    code: int
    rest: int
    payload: bytes

    @classmethod
    def echo_request(cls, identifier: int, sequence: int, payload: bytes) -> Self:
        """A question of ping; `identifier` and `sequence` have 16 bits, more are cut off."""
        return cls(IcmpType.ECHO_REQUEST, 0, (identifier & 0xFFFF) << 16 | sequence & 0xFFFF, payload)

    @classmethod
    def echo_reply(cls, identifier: int, sequence: int, payload: bytes) -> Self:
        """Its answer, which returns all three (RFC 1122 3.2.2.6)."""
        return cls(IcmpType.ECHO_REPLY, 0, (identifier & 0xFFFF) << 16 | sequence & 0xFFFF, payload)

    @classmethod
    def unreachable(cls, code: int, original: bytes, mtu: int = 0) -> Self:
        """A datagram could not be delivered; `mtu` is the next hop's, for FRAGMENTATION_NEEDED (RFC 1191 4)."""
        return cls(IcmpType.DESTINATION_UNREACHABLE, code, mtu, original[:_QUOTE_LIMIT])

    @classmethod
    def time_exceeded(cls, code: int, original: bytes) -> Self:
        """A datagram's time to live, or the time to reassemble it, ran out."""
        return cls(IcmpType.TIME_EXCEEDED, code, 0, original[:_QUOTE_LIMIT])

    @classmethod
    def parameter_problem(cls, pointer: int, original: bytes) -> Self:
        """The octet at `pointer` (0..255) of the original header is wrong."""
        return cls(IcmpType.PARAMETER_PROBLEM, 0, pointer << 24, original[:_QUOTE_LIMIT])

    @property
    def identifier(self) -> int:
        """Of an echo, timestamp, information or mask message."""
        return self.rest >> 16

    @property
    def sequence(self) -> int:
        """Of an echo, timestamp, information or mask message."""
        return self.rest & 0xFFFF

    @property
    def mtu(self) -> int:
        """The next hop's, in FRAGMENTATION_NEEDED; 0 from a router older than RFC 1191."""
        return self.rest & 0xFFFF

    @property
    def pointer(self) -> int:
        """The octet that PARAMETER_PROBLEM complains of."""
        return self.rest >> 24

    @property
    def is_error(self) -> bool:
        """Tells of a datagram's fate, so it must never be answered with another error (RFC 1122 3.2.2)."""
        return self.type in _ERRORS

    @classmethod
    def parse(cls, data: Buffer) -> Self:
        """Read a message and verify its checksum; raises `WireError`."""
        kind, code, _, rest = unpack_fields(_HEADER, data, "icmpv4")
        if internet_checksum(data):
            raise WireError("icmpv4.checksum", _CHECKSUM_OFFSET, "the message does not sum to 0xffff")
        return cls(kind, code, rest, bytes(data[HEADER_LENGTH:]))

    def pack(self) -> bytes:
        """The message's octets, with the checksum; raises `LocalError` for a field out of its range."""
        header = pack_fields(_HEADER, self, _LIMITS, self.type, self.code, 0, self.rest)
        checksum = internet_checksum(header + self.payload).to_bytes(2, "big")
        return b"".join((header[:_CHECKSUM_OFFSET], checksum, header[_CHECKSUM_OFFSET + 2 :], self.payload))
