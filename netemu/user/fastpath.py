"""The short way of a segment or datagram through the user network: parsed once from the frame's memory, written into one buffer.

Nearly every frame of a busy network belongs to a conversation that is known already. For those the long way, a value for each
layer and a copy of the payload for each value, is needless. The short way does the same to the same TCP and UDP: a test holds the
two against each other.

In: a frame is taken here if it is for our MAC address, holds a whole IPv4 datagram with a 20-octet header, a right checksum and a
TTL to spend, and its addresses and ports (twelve octets of the frame, the key of a table) are those of a conversation that was
begun on the long way, where all that concerns policy was decided. A TCP segment must also have no flags but ACK and PSH, and no
options but timestamps in their usual place. Its payload is a view of the frame and goes to the host's socket from there. Anything
else is left to the long way, in silence.

Out: a segment to a guest whose MAC address is fresh is written in front of its payload, which TCP has read from the host's socket
into the same buffer. Where the port's peer takes them, checksums are left to it, and a payload longer than one frame's to its
segmentation.

Follows VIRTIO 1.2 5.1.6 for the offloads; RFC 791, RFC 9293 3.1 and RFC 768 for the headers. Not done: IPv6 goes the long way.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Final, cast

from netemu.net.offload import CSUM, TSO4
from netemu.net.port import FrameView
from netemu.wire.address import Endpoint
from netemu.wire.checksum import internet_checksum, ones_complement_sum
from netemu.wire.ether import MINIMUM_LENGTH
from netemu.wire.ipv4 import Protocol
from netemu.wire.tcp import ACK, EMPTY_OPTIONS, PSH, Tcp, TcpOptions
from netemu.wire.vnet_hdr import DATA_VALID, GSO_NONE, GSO_TCPV4, NEEDS_CSUM, VnetHeader

if TYPE_CHECKING:
    from netemu.user.lan import Lan

__all__ = ["KEY", "SEGMENT_LIMIT", "SegmentWriter", "datagram_of", "flow_key", "is_plain", "segment_of"]

KEY: Final = slice(26, 38)  # of a frame: source and destination address, source and destination port
SEGMENT_LIMIT: Final = 65_535 - 20 - 60  # octets of payload in the longest datagram, whatever options TCP has

_TRANSPORT: Final = 34  # octets of Ethernet and IPv4 header
_TCP_PAYLOAD: Final = 54
_STAMPED_PAYLOAD: Final = 66
_HEADROOM: Final = 128  # octets in front of the payload: more than all headers
_FRONT: Final = struct.Struct("!HBBHHHBBH")  # EtherType; IPv4 up to its checksum
_IPV4_FRONT: Final = b"\x08\x00\x45"  # EtherType, version and header length
_FRAGMENT: Final = 0x3FFF  # more fragments, and the offset
_DONT_FRAGMENT: Final = 0x4000
_TTL: Final = 64
_TCP: Final = struct.Struct("!HHIIBBHHH")
_STAMPS: Final = struct.Struct("!III")
_ALIGNED_STAMPS: Final = 0x0101080A  # two no-operations, timestamps, length 10 (RFC 7323, appendix A)
_STAMPED: Final = struct.Struct("!6s6sHBBHHHBBH8sHHIIBBHHHIII")
_PLAIN: Final = struct.Struct("!6s6sHBBHHHBBH8sHHIIBBHHH")
_DATAGRAM: Final = struct.Struct("!6s6sHBBHHHBBH8sHHHH")
_UDP: Final = struct.Struct("!HH")  # length, checksum
_UDP_HEADER: Final = 8
_VERIFIED: Final = NEEDS_CSUM | DATA_VALID


def flow_key(source: Endpoint, destination: Endpoint) -> bytes:
    """The octets of a frame from `source` to `destination` that are its key."""
    return source.address.packed + destination.address.packed + struct.pack("!HH", source.port, destination.port)


def is_plain(frame: FrameView, mac: bytes) -> int:
    """The IP datagram's length, if the frame is for `mac` and its IPv4 header is as the short way wants it; else 0."""
    if frame[12:15] != _IPV4_FRONT or frame[:6] != mac or len(frame) < _TRANSPORT + 8:
        return 0
    _, _, _, length, _, fragment, ttl, _, _ = _FRONT.unpack_from(frame, 12)
    if fragment & _FRAGMENT or ttl < 2 or length + 14 > len(frame):
        return 0
    if int.from_bytes(frame[14:_TRANSPORT], "big") % 0xFFFF:
        return 0
    return cast("int", length)


def is_verified(frame: FrameView, end: int, protocol: int, header: VnetHeader | None) -> bool:
    """Is the transport's checksum right, or vouched for by who sent the frame?"""
    if header is not None and header.flags & _VERIFIED:
        return True
    return not internet_checksum(frame[26:end], protocol + end - _TRANSPORT)


def segment_of(frame: FrameView, length: int, header: VnetHeader | None) -> Tcp | None:
    """The TCP segment of a frame that `is_plain`, its payload a view; None if it is not one for the short way."""
    end = 14 + length
    if end < _TCP_PAYLOAD or not is_verified(frame, end, Protocol.TCP, header):
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


def datagram_of(frame: FrameView, length: int, header: VnetHeader | None) -> bytes | None:
    """The payload of the UDP datagram of a frame that `is_plain`; None if it is not one for the short way."""
    end = 14 + length
    octets, checksum = _UDP.unpack_from(frame, _TRANSPORT + 4)
    if octets + 20 != length or not (checksum and is_verified(frame, end, Protocol.UDP, header)):
        return None
    return bytes(frame[_TRANSPORT + _UDP_HEADER : end])


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

    def datagram(self, source: Endpoint, guest: Endpoint, data: bytes, mtu: int, now: int) -> bytes | None:
        """The frame of a UDP datagram; None if it does not fit into one, or the guest's MAC address has to be asked for."""
        transport = _UDP_HEADER + len(data)
        mac = self._lan.reachable(cast("IPv4Address", guest.address), now)
        if mac is None or 20 + transport > mtu:
            return None
        length, identification = 20 + transport, self._lan.next_identification()
        addresses = source.address.packed + guest.address.packed
        words = int.from_bytes(addresses, "big")
        sum_ = (0x4500 + length + identification + (_TTL << 8 | Protocol.UDP) + words) % 0xFFFF
        ports = source.port + guest.port + transport
        checksum = internet_checksum(data, words + Protocol.UDP + transport + ports) or 0xFFFF  # 0 says that there is none
        frame = _DATAGRAM.pack(
            mac,
            self._lan.mac,
            0x0800,
            0x45,
            0,
            length,
            identification,
            0,
            _TTL,
            Protocol.UDP,
            0xFFFF - sum_ if sum_ else 0,
            addresses,
            source.port,
            guest.port,
            transport,
            checksum,
        )
        return (frame + data).ljust(MINIMUM_LENGTH, b"\0")

    def put(self, frame: bytes) -> None:
        """Queue a frame behind those that wait."""
        self._lan.put_octets(frame)

    def _complete(self, begin: int, end: int) -> None:
        """Add the segment to the sum of the pseudo-header."""
        start = begin + _TRANSPORT
        checksum = 0xFFFF - ones_complement_sum(self._buffer[start:end])
        struct.pack_into("!H", self._buffer, start + 16, checksum)
