"""TCP segments (RFC 9293 3.1; ECE and CWR RFC 3168 6.1).

The checksum covers addresses that are not in the segment, so `parse` verifies it only when it is given them, and `pack`
needs them. Most segments carry no options or just timestamps; both ways are short. The four reserved bits are ignored
when read and sent as zero.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final, Self

from netemu.wire.checksum import internet_checksum, ones_complement_sum, pseudo_header_sum
from netemu.wire.errors import WireError
from netemu.wire.fields import Buffer, IPAddress, pack_fields, unpack_fields
from netemu.wire.ipv4 import Protocol
from netemu.wire.tcp_options import EMPTY_OPTIONS, TcpOptions

__all__ = [
    "ACK",
    "CWR",
    "ECE",
    "EMPTY_OPTIONS",
    "FIN",
    "MINIMUM_HEADER_LENGTH",
    "PSH",
    "RST",
    "SYN",
    "URG",
    "Tcp",
    "TcpOptions",
    "flags_text",
]

MINIMUM_HEADER_LENGTH: Final = 20

FIN: Final = 1
SYN: Final = 2
RST: Final = 4
PSH: Final = 8
ACK: Final = 16
URG: Final = 32
ECE: Final = 64
CWR: Final = 128

_FLAG_NAMES: Final = {
    SYN: "SYN",
    FIN: "FIN",
    RST: "RST",
    PSH: "PSH",
    ACK: "ACK",
    URG: "URG",
    ECE: "ECE",
    CWR: "CWR",
}

_HEADER: Final = struct.Struct("!HHIIBBHHH")
_CHECKSUM_OFFSET: Final = 16
_LIMITS: Final = {
    "source_port": 0xFFFF,
    "destination_port": 0xFFFF,
    "sequence": 0xFFFFFFFF,
    "acknowledgment": 0xFFFFFFFF,
    "flags": 0xFF,
    "window": 0xFFFF,
    "urgent_pointer": 0xFFFF,
}


def flags_text(flags: int) -> str:
    """The names of the flags that are set, such as `SYN,ACK`; `-` for none."""
    return ",".join(name for bit, name in _FLAG_NAMES.items() if flags & bit) or "-"


@dataclass(frozen=True, slots=True)
class Tcp:
    """One segment. Ports, `window` (not scaled) and `urgent_pointer` have 16 bits, the sequence numbers 32, `flags` 8."""

    source_port: int
    destination_port: int
    sequence: int
    acknowledgment: int
    flags: int
    window: int
    payload: bytes = b""
    urgent_pointer: int = 0
    options: TcpOptions = EMPTY_OPTIONS

    @property
    def segment_length(self) -> int:
        """SEG.LEN: the sequence numbers it occupies, SYN and FIN included (RFC 9293 3.4)."""
        return len(self.payload) + bool(self.flags & SYN) + bool(self.flags & FIN)

    @classmethod
    def parse(cls, data: Buffer, source: IPAddress | None = None, destination: IPAddress | None = None) -> Self:
        """Read a segment; with both addresses, verify its checksum too. Raises `WireError`."""
        source_port, destination_port, sequence, acknowledgment, offset, flags, window, _, urgent_pointer = unpack_fields(
            _HEADER, data, "tcp"
        )
        header_length = (offset >> 4) * 4
        if header_length < MINIMUM_HEADER_LENGTH:
            raise WireError("tcp.data_offset", 12, f"a header of {header_length} octets is shorter than 20")
        if header_length > len(data):
            raise WireError("tcp.data_offset", 12, f"a header of {header_length} octets, {len(data)} are here")
        if (
            source is not None
            and destination is not None
            and internet_checksum(data, pseudo_header_sum(source, destination, Protocol.TCP, len(data)))
        ):
            raise WireError("tcp.checksum", _CHECKSUM_OFFSET, "the segment does not sum to 0xffff")
        if header_length == MINIMUM_HEADER_LENGTH:
            options = EMPTY_OPTIONS
        else:
            options = TcpOptions.parse(data[MINIMUM_HEADER_LENGTH:header_length])
        return cls(
            source_port,
            destination_port,
            sequence,
            acknowledgment,
            flags,
            window,
            bytes(data[header_length:]),
            urgent_pointer,
            options,
        )

    def pack(self, source: IPAddress, destination: IPAddress) -> bytes:
        """The segment's octets, with the checksum for these addresses; raises `LocalError`."""
        header, pseudo = self._header(source, destination)
        return self._join(header, internet_checksum(self.payload, ones_complement_sum(header, pseudo)))

    def pack_partial(self, source: IPAddress, destination: IPAddress) -> bytes:
        """The segment's octets with only the pseudo-header's sum in the checksum field; raises `LocalError`.

        So a sender leaves the rest, and cutting a long payload, to the one behind it (VIRTIO 1.2, 5.1.6.2, NEEDS_CSUM).
        """
        return self._join(*self._header(source, destination))

    def _header(self, source: IPAddress, destination: IPAddress) -> tuple[bytes, int]:
        """The header, its checksum zero, and the sum of the pseudo-header."""
        options = self.options.pack()
        header_length = MINIMUM_HEADER_LENGTH + len(options)
        fixed = pack_fields(
            _HEADER,
            self,
            _LIMITS,
            self.source_port,
            self.destination_port,
            self.sequence,
            self.acknowledgment,
            header_length << 2,
            self.flags,
            self.window,
            0,
            self.urgent_pointer,
        )
        return fixed + options, pseudo_header_sum(source, destination, Protocol.TCP, header_length + len(self.payload))

    def _join(self, header: bytes, checksum: int) -> bytes:
        return b"".join((header[:_CHECKSUM_OFFSET], checksum.to_bytes(2, "big"), header[_CHECKSUM_OFFSET + 2 :], self.payload))
