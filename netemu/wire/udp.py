"""The User Datagram Protocol (RFC 768; over IPv6, RFC 8200 8.1).

The checksum covers addresses that are not in the datagram, so `parse` verifies it only when it is given them, and `pack`
needs them. Over IPv4 a zero means that the sender made none; over IPv6 it is an error. Octets behind `length` are not the
datagram's and are dropped.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final, Self

from netemu.errors import LocalError
from netemu.wire.checksum import internet_checksum, pseudo_header_sum
from netemu.wire.errors import WireError
from netemu.wire.fields import Buffer, IPAddress, pack_fields, unpack_fields
from netemu.wire.ipv4 import Protocol

__all__ = ["HEADER_LENGTH", "Udp"]

HEADER_LENGTH: Final = 8

_HEADER: Final = struct.Struct("!HHHH")
_CHECKSUM_OFFSET: Final = 6
_MAXIMUM_LENGTH: Final = 0xFFFF
_LIMITS: Final = {"source_port": 0xFFFF, "destination_port": 0xFFFF}


@dataclass(frozen=True, slots=True)
class Udp:
    """One datagram; ports are 0..65535."""

    source_port: int
    destination_port: int
    payload: bytes

    @classmethod
    def parse(cls, data: Buffer, source: IPAddress | None = None, destination: IPAddress | None = None) -> Self:
        """Read a datagram; with both addresses, verify its checksum too. Raises `WireError`."""
        source_port, destination_port, length, checksum = unpack_fields(_HEADER, data, "udp")
        if length < HEADER_LENGTH:
            raise WireError("udp.length", 4, f"{length} is less than the header's 8")
        if length > len(data):
            raise WireError("udp.length", 4, f"{length} octets announced, {len(data)} are here")
        if source is not None and destination is not None:
            if checksum:
                if internet_checksum(data[:length], pseudo_header_sum(source, destination, Protocol.UDP, length)):
                    raise WireError("udp.checksum", _CHECKSUM_OFFSET, "the datagram does not sum to 0xffff")
            elif source.version == 6:
                raise WireError("udp.checksum", _CHECKSUM_OFFSET, "over IPv6 it may not be left out")
        return cls(source_port, destination_port, bytes(data[HEADER_LENGTH:length]))

    def pack(self, source: IPAddress, destination: IPAddress) -> bytes:
        """The datagram's octets, with the checksum for these addresses; raises `LocalError`."""
        length = HEADER_LENGTH + len(self.payload)
        if length > _MAXIMUM_LENGTH:
            raise LocalError(f"a UDP datagram of {length} octets: 65,535 is the most")
        header = pack_fields(_HEADER, self, _LIMITS, self.source_port, self.destination_port, length, 0)
        pseudo = pseudo_header_sum(source, destination, Protocol.UDP, length)
        # A computed zero is sent as its other form, for zero means that there is none (RFC 768).
        checksum = internet_checksum(header + self.payload, pseudo) or 0xFFFF
        return b"".join((header[:_CHECKSUM_OFFSET], checksum.to_bytes(2, "big"), self.payload))
