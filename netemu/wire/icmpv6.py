"""The Internet Control Message Protocol for IPv6 (RFC 4443).

Every message is a type, a code, a checksum, one 32-bit word whose meaning the type decides (`rest`), and a payload. The
properties read that word, the constructors write it. The checksum covers the addresses too (RFC 4443 2.3), so `parse` and
`pack` take them. An error message quotes the packet it is about: as much as keeps the whole error within the minimum MTU,
1,280 octets (RFC 4443 2.4(c)). The messages of neighbour discovery are read further by `ndisc`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv6Address
from typing import Final, Self

from netemu.wire.checksum import internet_checksum, pseudo_header_sum
from netemu.wire.errors import WireError
from netemu.wire.fields import Buffer, pack_fields, unpack_fields
from netemu.wire.ipv6 import HEADER_LENGTH as IPV6_HEADER_LENGTH
from netemu.wire.ipv6 import MINIMUM_MTU, NextHeader

__all__ = [
    "HEADER_LENGTH",
    "Icmpv6",
    "Icmpv6ParameterProblemCode",
    "Icmpv6TimeExceededCode",
    "Icmpv6Type",
    "Icmpv6UnreachableCode",
]

HEADER_LENGTH: Final = 8

_HEADER: Final = struct.Struct("!BBHI")
_CHECKSUM_OFFSET: Final = 2
_QUOTE_LIMIT: Final = MINIMUM_MTU - IPV6_HEADER_LENGTH - HEADER_LENGTH
_FIRST_INFORMATIONAL: Final = 128  # the high bit of the type (RFC 4443 2.1)
_LIMITS: Final = {"type": 0xFF, "code": 0xFF, "rest": 0xFFFFFFFF}


class Icmpv6Type(IntEnum):
    """Message types (RFC 4443; 130 to 132 RFC 2710; 133 to 137 RFC 4861; 143 RFC 3810)."""

    DESTINATION_UNREACHABLE = 1
    PACKET_TOO_BIG = 2
    TIME_EXCEEDED = 3
    PARAMETER_PROBLEM = 4
    ECHO_REQUEST = 128
    ECHO_REPLY = 129
    MULTICAST_LISTENER_QUERY = 130
    MULTICAST_LISTENER_REPORT = 131
    MULTICAST_LISTENER_DONE = 132
    ROUTER_SOLICITATION = 133
    ROUTER_ADVERTISEMENT = 134
    NEIGHBOUR_SOLICITATION = 135
    NEIGHBOUR_ADVERTISEMENT = 136
    REDIRECT = 137
    MULTICAST_LISTENER_REPORT_V2 = 143


class Icmpv6UnreachableCode(IntEnum):
    """Codes of DESTINATION_UNREACHABLE (RFC 4443 3.1)."""

    NO_ROUTE = 0
    PROHIBITED = 1
    BEYOND_SCOPE = 2
    ADDRESS = 3
    PORT = 4
    SOURCE_POLICY = 5
    REJECT_ROUTE = 6


class Icmpv6TimeExceededCode(IntEnum):
    """Codes of TIME_EXCEEDED (RFC 4443 3.3)."""

    HOP_LIMIT = 0
    REASSEMBLY = 1


class Icmpv6ParameterProblemCode(IntEnum):
    """Codes of PARAMETER_PROBLEM (RFC 4443 3.4; 3 RFC 7112 5)."""

    HEADER_FIELD = 0
    NEXT_HEADER = 1
    OPTION = 2
    INCOMPLETE_CHAIN = 3


@dataclass(frozen=True, slots=True)
class Icmpv6:
    """One message; `type` and `code` 0..255, `rest` the second 32-bit word of the header."""

    type: int
    code: int
    rest: int
    payload: bytes

    @classmethod
    def echo_request(cls, identifier: int, sequence: int, payload: bytes) -> Self:
        """A question of ping; `identifier` and `sequence` have 16 bits, more are cut off (RFC 4443 4.1)."""
        return cls(Icmpv6Type.ECHO_REQUEST, 0, (identifier & 0xFFFF) << 16 | sequence & 0xFFFF, payload)

    @classmethod
    def echo_reply(cls, identifier: int, sequence: int, payload: bytes) -> Self:
        """Its answer, which returns all three (RFC 4443 4.2)."""
        return cls(Icmpv6Type.ECHO_REPLY, 0, (identifier & 0xFFFF) << 16 | sequence & 0xFFFF, payload)

    @classmethod
    def unreachable(cls, code: int, original: bytes) -> Self:
        """A packet could not be delivered (RFC 4443 3.1)."""
        return cls(Icmpv6Type.DESTINATION_UNREACHABLE, code, 0, original[:_QUOTE_LIMIT])

    @classmethod
    def packet_too_big(cls, mtu: int, original: bytes) -> Self:
        """A packet is larger than the next hop takes: `mtu` octets, 32 bits (RFC 4443 3.2)."""
        return cls(Icmpv6Type.PACKET_TOO_BIG, 0, mtu, original[:_QUOTE_LIMIT])

    @classmethod
    def time_exceeded(cls, code: int, original: bytes) -> Self:
        """A packet's hop limit, or the time to reassemble it, ran out (RFC 4443 3.3)."""
        return cls(Icmpv6Type.TIME_EXCEEDED, code, 0, original[:_QUOTE_LIMIT])

    @classmethod
    def parameter_problem(cls, code: int, pointer: int, original: bytes) -> Self:
        """The octet at `pointer` (32 bits) of the original packet is wrong (RFC 4443 3.4)."""
        return cls(Icmpv6Type.PARAMETER_PROBLEM, code, pointer, original[:_QUOTE_LIMIT])

    @property
    def identifier(self) -> int:
        """Of an echo message."""
        return self.rest >> 16

    @property
    def sequence(self) -> int:
        """Of an echo message."""
        return self.rest & 0xFFFF

    @property
    def mtu(self) -> int:
        """The next hop's, in PACKET_TOO_BIG."""
        return self.rest

    @property
    def pointer(self) -> int:
        """The octet that PARAMETER_PROBLEM complains of."""
        return self.rest

    @property
    def is_error(self) -> bool:
        """Tells of a packet's fate, so it must never be answered with another error (RFC 4443 2.1, 2.4(e))."""
        return self.type < _FIRST_INFORMATIONAL

    @classmethod
    def parse(cls, data: Buffer, source: IPv6Address, destination: IPv6Address) -> Self:
        """Read a message and verify its checksum; raises `WireError`."""
        kind, code, _, rest = unpack_fields(_HEADER, data, "icmpv6")
        if internet_checksum(data, pseudo_header_sum(source, destination, NextHeader.ICMPV6, len(data))):
            raise WireError("icmpv6.checksum", _CHECKSUM_OFFSET, "the message does not sum to 0xffff")
        return cls(kind, code, rest, bytes(data[HEADER_LENGTH:]))

    def pack(self, source: IPv6Address, destination: IPv6Address) -> bytes:
        """The message's octets, with the checksum for these addresses; raises `LocalError` for a field out of its range."""
        header = pack_fields(_HEADER, self, _LIMITS, self.type, self.code, 0, self.rest)
        pseudo = pseudo_header_sum(source, destination, NextHeader.ICMPV6, HEADER_LENGTH + len(self.payload))
        checksum = internet_checksum(header + self.payload, pseudo).to_bytes(2, "big")
        return b"".join((header[:_CHECKSUM_OFFSET], checksum, header[_CHECKSUM_OFFSET + 2 :], self.payload))
