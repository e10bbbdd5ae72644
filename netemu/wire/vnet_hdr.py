"""The header virtio-net puts in front of a frame (VIRTIO 1.2, 5.1.6; `struct virtio_net_hdr`), little-endian.

It carries checksum and segmentation offload across a link. How long it is was agreed before the first frame:

10 octets: legacy without mergeable buffers; no `num_buffers`;
12 octets: VIRTIO 1.0 and later, or mergeable buffers;
20 octets: with the hash report; 24 octets: with the offsets of a UDP tunnel behind that.

What lies behind the twelfth octet is written as zero and not read: netemu offers neither hash reports nor tunnels.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final, Self

from netemu.errors import LocalError
from netemu.wire.fields import Buffer, pack_fields, truncated

__all__ = [
    "DATA_VALID",
    "GSO_ECN",
    "GSO_NONE",
    "GSO_TCPV4",
    "GSO_TCPV6",
    "GSO_UDP",
    "GSO_UDP_L4",
    "NEEDS_CSUM",
    "RSC_INFO",
    "VnetHeader",
]

NEEDS_CSUM: Final = 1  # flags (5.1.6): the checksum field holds the pseudo-header's sum only
DATA_VALID: Final = 2  # flags: the device has verified the checksum
RSC_INFO: Final = 4  # flags: csum_start and csum_offset count coalesced segments instead

GSO_NONE: Final = 0  # gso_type (5.1.6)
GSO_TCPV4: Final = 1
GSO_UDP: Final = 3  # fragmentation by IP
GSO_TCPV6: Final = 4
GSO_UDP_L4: Final = 5  # segmentation into datagrams
GSO_ECN: Final = 0x80  # or-ed to a TCP type: the first segment has CWR

_LEGACY_LENGTH: Final = 10
_LENGTHS: Final = (_LEGACY_LENGTH, 12, 20, 24)
_HEADER: Final = struct.Struct("<BBHHHHH")
_LEGACY: Final = struct.Struct("<BBHHHH")
_LIMITS: Final = {
    "flags": 0xFF,
    "gso_type": 0xFF,
    "hdr_len": 0xFFFF,
    "gso_size": 0xFFFF,
    "csum_start": 0xFFFF,
    "csum_offset": 0xFFFF,
    "num_buffers": 0xFFFF,
}


@dataclass(frozen=True, slots=True)
class VnetHeader:
    """The header's fields; lengths and offsets in octets, `csum_offset` counted from `csum_start`."""

    flags: int = 0
    gso_type: int = 0
    hdr_len: int = 0
    gso_size: int = 0
    csum_start: int = 0
    csum_offset: int = 0
    num_buffers: int = 0

    @classmethod
    def parse(cls, data: Buffer, length: int = 12) -> Self:
        """Read a header of `length` octets (10, 12, 20 or 24); raises `WireError` when `data` is shorter."""
        _require_length(length)
        if len(data) < length:
            raise truncated("vnet_hdr", data, length)
        return cls(*(_LEGACY if length == _LEGACY_LENGTH else _HEADER).unpack_from(data))

    def pack(self, length: int = 12) -> bytes:
        """The header in `length` octets (10, 12, 20 or 24); raises `LocalError`."""
        _require_length(length)
        header = pack_fields(
            _HEADER,
            self,
            _LIMITS,
            self.flags,
            self.gso_type,
            self.hdr_len,
            self.gso_size,
            self.csum_start,
            self.csum_offset,
            self.num_buffers,
        )
        return header[:length].ljust(length, b"\0")


def _require_length(length: int) -> None:
    if length not in _LENGTHS:
        raise LocalError(f"a virtio-net header of {length} octets: give 10, 12, 20 or 24")
