"""TCP segments that no stack would send: options of any octets, reserved bits, and the checksum right for all that."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from netemu.wire.checksum import internet_checksum, pseudo_header_sum
from netemu.wire.fields import IPAddress
from netemu.wire.ipv4 import Protocol
from netemu.wire.tcp import EMPTY_OPTIONS, MINIMUM_HEADER_LENGTH, Tcp

__all__ = ["odd_segment", "spoilt_checksum"]

_OFFSET: Final = 12
_CHECKSUM: Final = slice(16, 18)


def odd_segment(segment: Tcp, source: IPAddress, destination: IPAddress, *, options: bytes = b"", reserved: int = 0) -> bytes:
    """The segment's octets with these `options` (a multiple of four) in place of its own, and the four `reserved` bits."""
    plain = bytearray(replace(segment, options=EMPTY_OPTIONS).pack(source, destination))
    plain[MINIMUM_HEADER_LENGTH:MINIMUM_HEADER_LENGTH] = options
    plain[_OFFSET] = (MINIMUM_HEADER_LENGTH + len(options)) << 2 | reserved
    plain[_CHECKSUM] = bytes(2)
    plain[_CHECKSUM] = internet_checksum(plain, pseudo_header_sum(source, destination, Protocol.TCP, len(plain))).to_bytes(2)
    return bytes(plain)


def spoilt_checksum(segment: Tcp, source: IPAddress, destination: IPAddress) -> bytes:
    """The segment's octets with a checksum that is wrong."""
    octets = bytearray(segment.pack(source, destination))
    octets[_CHECKSUM.start] ^= 0x55
    return bytes(octets)
