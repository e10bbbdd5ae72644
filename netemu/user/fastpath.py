"""The short way of a TCP segment through the user network: parsed once from the frame's memory, written into one buffer.

Nearly every frame of a busy network belongs to a conversation that is known already. For those the long way, a value for each
layer and a copy of the payload for each value, is needless. The short way does the same to the same TCP: a test holds the two
against each other. `netemu.user.trains` does it for UDP.

In: a `plain` frame (`netemu.user.plain`) of a known conversation, with ACK, no other flags than PSH and FIN, and no options but
timestamps in their usual place. Its payload is a view of the frame and goes to the host's socket from there. Anything else is
left to the long way, in silence. So is a SYN, unless the long way let one pass before between the same two addresses: then nothing
but the ports and what the host says is left to be decided.

Out: the headers of a segment to a guest whose MAC address is fresh are written in front of its payload, which TCP has read from
the host's socket into the same buffer. Where the port's peer takes them, checksums are left to it, and a payload longer than one
frame's to its segmentation.

Follows VIRTIO 1.2 5.1.6 for the offloads; RFC 791, RFC 8200 and RFC 9293 3.1 for the headers. Not done: an IPv6 flow label.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from ipaddress import IPv6Address
from typing import TYPE_CHECKING, Final

from netemu.net.offload import CSUM, TSO4, TSO6, complete
from netemu.net.port import FrameView
from netemu.stack.tcp import PlainSegment
from netemu.user.plain import IPV4, IPV6, Layout, is_verified
from netemu.user.side import Datagram6, Packet
from netemu.wire.address import Family
from netemu.wire.checksum import ones_complement_sum
from netemu.wire.ether import MINIMUM_LENGTH, EtherType
from netemu.wire.ipv4 import IPv4, Protocol
from netemu.wire.ipv6 import IPv6
from netemu.wire.tcp import ACK, FIN, MINIMUM_HEADER_LENGTH, PSH, SYN
from netemu.wire.vnet_hdr import GSO_NONE, GSO_TCPV4, GSO_TCPV6, NEEDS_CSUM, VnetHeader

if TYPE_CHECKING:
    from netemu.user.lan import Lan
    from netemu.user.lan6 import Lan6

__all__ = ["ALIGNED_STAMPS", "SEGMENT_LIMIT", "STAMPS", "SegmentWriter", "is_syn", "packet_of", "segment_of"]

SEGMENT_LIMIT: Final = 65_535 - 20 - 60  # octets of payload in the longest datagram, whatever options TCP has
STAMPS: Final = struct.Struct("!III")
"""How the timestamps option stands in a segment that has no other: three numbers, the first of them `ALIGNED_STAMPS`."""
ALIGNED_STAMPS: Final = 0x0101080A
"""Two no-operations, timestamps, length 10 (RFC 7323, appendix A)."""

_ETHERNET: Final = 14
_HEADROOM: Final = 128  # octets in front of the payload: no fewer than all headers
_DONT_FRAGMENT: Final = 0x4000
_TTL: Final = 64
_CHECKSUM_OFFSET: Final = 16
_FLAGS: Final = 13  # where they are in the header
_TCP: Final = struct.Struct("!4xIIBBH4x")
_IPV4: Final = struct.Struct("!6s6sHBBHHHBBH12sIIBBHHH")
_IPV6: Final = struct.Struct("!6s6sHIHBB36sIIBBHHH")
_KEY4: Final = 12  # octets of the `flow_key` of IPv4
_GSO: Final = {IPV4: GSO_TCPV4, IPV6: GSO_TCPV6}
_TSO: Final[dict[Family, int]] = {4: TSO4, 6: TSO6}


def segment_of(frame: FrameView, layout: Layout, end: int, header: VnetHeader | None) -> PlainSegment | None:
    """The fields of the TCP segment of a `plain` frame, its payload a view; None if it is not one for the short way."""
    at = layout.transport + MINIMUM_HEADER_LENGTH
    if end < at or not is_verified(frame, layout, end, Protocol.TCP, header):
        return None
    sequence, acknowledgment, offset, flags, window = _TCP.unpack_from(frame, layout.transport)
    if flags & ~(PSH | FIN) != ACK:
        return None
    if offset & 0xF0 == 0x80 and end >= at + STAMPS.size:
        aligned, value, echo = STAMPS.unpack_from(frame, at)
        if aligned != ALIGNED_STAMPS:
            return None
        return sequence, acknowledgment, flags, window, (value, echo), frame[at + STAMPS.size : end]
    if offset & 0xF0 == 0x50:
        return sequence, acknowledgment, flags, window, None, frame[at:end]
    return None


def is_syn(frame: FrameView, layout: Layout, end: int, header: VnetHeader | None) -> bool:
    """Has a `plain` frame a TCP segment with no other flag than SYN?"""
    at = layout.transport
    return end >= at + MINIMUM_HEADER_LENGTH and frame[at + _FLAGS] == SYN and is_verified(frame, layout, end, Protocol.TCP, header)


def packet_of(frame: FrameView, layout: Layout, header: VnetHeader | None) -> Packet:
    """The datagram of a `plain` frame, as the long way has it; raises `WireError` where `header` points outside of the frame."""
    octets = (bytes(frame) if header is None else complete(frame, header))[_ETHERNET:]
    return IPv4.parse(octets) if layout is IPV4 else Datagram6.of(IPv6.parse(octets))


@lru_cache(1024)
def _request(layout: Layout, headers: int, size: int) -> VnetHeader:
    gso = _GSO[layout] if size else GSO_NONE
    return VnetHeader(NEEDS_CSUM, gso, headers if size else 0, size, layout.transport, _CHECKSUM_OFFSET)


class SegmentWriter:
    """Writes segments to guests. `payload` is where TCP reads what it sends; `offloads` what the port's peer takes."""

    def __init__(self, lan: Lan, lan6: Lan6) -> None:
        self._lan = lan
        self._lan6 = lan6
        self._buffer = memoryview(bytearray(_HEADROOM + SEGMENT_LIMIT))
        self.payload = self._buffer[_HEADROOM:]
        self.offloads = 0

    def segment_limit(self, family: Family) -> int | None:
        """The most payload of one segment: what TcpConfig wants to know."""
        return SEGMENT_LIMIT if self.offloads & _TSO[family] else None

    def write(
        self,
        ends: bytes,
        sequence: int,
        acknowledgment: int,
        flags: int,
        window: int,
        options: bytes,
        size: int,
        mss: int,
        now: int,
    ) -> tuple[FrameView, VnetHeader | None] | None:
        """The frame of a segment, good until the next call; None if the guest's MAC address has to be asked for.

        `ends` is the `flow_key` of the frame. Its payload is the first `size` octets of `payload`. `mss`: what one frame has room
        for, TCP options included.
        """
        version4 = len(ends) == _KEY4
        mac = self._lan.reachable(ends[4:8], now) if version4 else self._lan6.reachable(IPv6Address(ends[16:32]))
        if mac is None:
            return None
        tcp = MINIMUM_HEADER_LENGTH + len(options)
        transport = tcp + size
        words = int.from_bytes(ends[:-4], "big")
        front: tuple[int, ...]
        if version4:
            layout, pack = IPV4, _IPV4.pack_into
            length, number = IPV4.transport - _ETHERNET + transport, self._lan.next_identification()
            sum_ = (0x4500 + length + number + _DONT_FRAGMENT + (_TTL << 8 | Protocol.TCP) + words) % 0xFFFF
            checksum = 0xFFFF - sum_ if sum_ else 0
            front = (EtherType.IPV4, 0x45, 0, length, number, _DONT_FRAGMENT, _TTL, Protocol.TCP, checksum)
        else:
            layout, pack = IPV6, _IPV6.pack_into
            front = (EtherType.IPV6, 6 << 28, transport, Protocol.TCP, _TTL)
        headers = layout.transport + tcp
        begin, end = _HEADROOM - headers, _HEADROOM + size
        partial = (words + Protocol.TCP + transport) % 0xFFFF
        fields = (ends, sequence, acknowledgment, tcp << 2, flags, window, partial, 0)
        pack(self._buffer, begin, mac, self._lan.mac, *front, *fields)
        if options:
            self._buffer[_HEADROOM - len(options) : _HEADROOM] = options
        last = end
        if end - begin < MINIMUM_LENGTH:
            last = begin + MINIMUM_LENGTH
            self._buffer[end:last] = bytes(last - end)
        if self.offloads & CSUM:
            mss -= len(options)
            return self._buffer[begin:last], _request(layout, headers, mss if size > mss else 0)
        self._complete(begin + layout.transport, end)
        return self._buffer[begin:last], None

    def _complete(self, begin: int, end: int) -> None:
        """Add the segment to the sum of the pseudo-header."""
        checksum = 0xFFFF - ones_complement_sum(self._buffer[begin:end])
        struct.pack_into("!H", self._buffer, begin + _CHECKSUM_OFFSET, checksum)
