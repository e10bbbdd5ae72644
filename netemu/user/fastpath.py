"""The short way of a TCP segment through the user network: parsed once from the frame's memory, written into one buffer.

Nearly every frame of a busy network belongs to a conversation that is known already. For those the long way, a value for each
layer and a copy of the payload for each value, is needless. The short way does the same to the same TCP: a test holds the two
against each other. `netemu.user.trains` does it for UDP.

In: a `plain` frame (`netemu.user.plain`) of a known conversation, with no flags but ACK and PSH, and no options but timestamps in
their usual place. Its payload is a view of the frame and goes to the host's socket from there. Anything else is left to the
long way, in silence.

Out: a segment to a guest whose MAC address is fresh is written in front of its payload, which TCP has read from the host's socket
into the same buffer. Where the port's peer takes them, checksums are left to it, and a payload longer than one frame's to its
segmentation.

Follows VIRTIO 1.2 5.1.6 for the offloads; RFC 791 and RFC 9293 3.1 for the headers. Not done: IPv6 goes the long way.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Final, cast

from netemu.net.offload import CSUM, TSO4
from netemu.net.port import FrameView
from netemu.user.plain import Layout, is_verified
from netemu.wire.address import Endpoint
from netemu.wire.checksum import ones_complement_sum
from netemu.wire.ether import MINIMUM_LENGTH
from netemu.wire.ipv4 import Protocol
from netemu.wire.tcp import ACK, EMPTY_OPTIONS, PSH, Tcp, TcpOptions
from netemu.wire.vnet_hdr import GSO_NONE, GSO_TCPV4, NEEDS_CSUM, VnetHeader

if TYPE_CHECKING:
    from netemu.user.lan import Lan

__all__ = ["SEGMENT_LIMIT", "SegmentWriter", "segment_of"]

SEGMENT_LIMIT: Final = 65_535 - 20 - 60  # octets of payload in the longest datagram, whatever options TCP has

_TRANSPORT: Final = 34  # octets of Ethernet and IPv4 header
_TCP_PAYLOAD: Final = 54
_STAMPED_PAYLOAD: Final = 66
_HEADROOM: Final = 128  # octets in front of the payload: more than all headers
_DONT_FRAGMENT: Final = 0x4000
_TTL: Final = 64
_TCP: Final = struct.Struct("!HHIIBBHHH")
_STAMPS: Final = struct.Struct("!III")
_ALIGNED_STAMPS: Final = 0x0101080A  # two no-operations, timestamps, length 10 (RFC 7323, appendix A)
_STAMPED: Final = struct.Struct("!6s6sHBBHHHBBH8sHHIIBBHHHIII")
_PLAIN: Final = struct.Struct("!6s6sHBBHHHBBH8sHHIIBBHHH")


def segment_of(frame: FrameView, layout: Layout, end: int, header: VnetHeader | None) -> Tcp | None:
    """The TCP segment of a `plain` frame with IPv4, its payload a view; None if it is not one for the short way."""
    if end < _TCP_PAYLOAD or not is_verified(frame, layout, end, Protocol.TCP, header):
        return None
    source, destination, sequence, acknowledgment, offset, flags, window, _, _ = _TCP.unpack_from(frame, _TRANSPORT)
    if flags & ~PSH != ACK:
        return None
    if offset & 0xF0 == 0x50:
        options, at = EMPTY_OPTIONS, _TCP_PAYLOAD
    elif offset & 0xF0 == 0x80 and end >= _STAMPED_PAYLOAD:
        aligned, value, echo = _STAMPS.unpack_from(frame, _TCP_PAYLOAD)
        if aligned != _ALIGNED_STAMPS:
            return None
        options, at = TcpOptions(timestamps=(value, echo)), _STAMPED_PAYLOAD
    else:
        return None
    # A view serves as a payload wherever octets are only read.
    return Tcp(source, destination, sequence, acknowledgment, flags, window, cast("bytes", frame[at:end]), 0, options)


@lru_cache(1024)
def _request(headers: int, size: int) -> VnetHeader:
    gso = GSO_TCPV4 if size else GSO_NONE
    return VnetHeader(NEEDS_CSUM, gso, headers if size else 0, size, _TRANSPORT, 16)


class SegmentWriter:
    """Writes segments to guests. `payload` is where TCP reads what it sends; `offloads` what the port's peer takes."""

    def __init__(self, lan: Lan) -> None:
        self._lan = lan
        self._buffer = memoryview(bytearray(_HEADROOM + SEGMENT_LIMIT))
        self.payload = self._buffer[_HEADROOM:]
        self.offloads = 0

    @property
    def segment_limit(self) -> int | None:
        """The most payload of one segment: what TcpConfig wants to know."""
        return SEGMENT_LIMIT if self.offloads & TSO4 else None

    def write(
        self, source: Endpoint, guest: Endpoint, segment: Tcp, mss: int, now: int
    ) -> tuple[FrameView, VnetHeader | None] | None:
        """The frame, good until the next call; None if the guest's MAC address has to be asked for.

        No SYN: its options are many. A payload is the front of `payload`, or empty. `mss`: what one frame has room for, TCP options
        included.
        """
        mac = self._lan.reachable(cast("IPv4Address", guest.address), now)
        if mac is None:
            return None
        options, size = segment.options, len(segment.payload)
        stamps = options.timestamps
        if stamps is not None and not options.sack:
            extra, headers = b"", _STAMPED_PAYLOAD
        else:
            stamps = None
            extra = b"" if options is EMPTY_OPTIONS else options.pack()
            headers = _TCP_PAYLOAD + len(extra)
        begin, end = _HEADROOM - headers, _HEADROOM + size
        length = headers - 14 + size
        addresses = source.address.packed + guest.address.packed
        identification = self._lan.next_identification()
        words = int.from_bytes(addresses, "big")
        sum_ = (0x4500 + length + identification + _DONT_FRAGMENT + (_TTL << 8 | Protocol.TCP) + words) % 0xFFFF
        transport = length - 20
        partial = (words + Protocol.TCP + transport) % 0xFFFF
        fields = (
            mac,
            self._lan.mac,
            0x0800,
            0x45,
            0,
            length,
            identification,
            _DONT_FRAGMENT,
            _TTL,
            Protocol.TCP,
            0xFFFF - sum_ if sum_ else 0,
            addresses,
            segment.source_port,
            segment.destination_port,
            segment.sequence,
            segment.acknowledgment,
            headers - _TRANSPORT << 2,
            segment.flags,
            segment.window,
            partial,
            0,
        )
        if stamps is not None:
            _STAMPED.pack_into(self._buffer, begin, *fields, _ALIGNED_STAMPS, *stamps)
        else:
            _PLAIN.pack_into(self._buffer, begin, *fields)
            self._buffer[_HEADROOM - len(extra) : _HEADROOM] = extra
        if end - begin < MINIMUM_LENGTH:
            self._buffer[end : begin + MINIMUM_LENGTH] = bytes(begin + MINIMUM_LENGTH - end)
            if not self.offloads & CSUM:
                self._complete(begin, end)
                return self._buffer[begin : begin + MINIMUM_LENGTH], None
            return self._buffer[begin : begin + MINIMUM_LENGTH], _request(headers, 0)
        if self.offloads & CSUM:
            mss -= headers - _TCP_PAYLOAD
            return self._buffer[begin:end], _request(headers, mss if size > mss else 0)
        self._complete(begin, end)
        return self._buffer[begin:end], None

    def _complete(self, begin: int, end: int) -> None:
        """Add the segment to the sum of the pseudo-header."""
        start = begin + _TRANSPORT
        checksum = 0xFFFF - ones_complement_sum(self._buffer[start:end])
        struct.pack_into("!H", self._buffer, start + 16, checksum)
