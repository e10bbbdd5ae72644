"""What the short ways through the user network take: frames of the usual shape, and where things are in them.

A frame is plain if it is for our MAC address and holds a whole IP datagram without options, extension headers or fragmentation,
with a right header checksum (IPv4) and a TTL to spend. Where everything is then depends on the family only, which is a `Layout`.

Its addresses and ports, which lie together, are the key of a conversation: one that was begun on the long way, where all that
concerns policy was decided, is found again by these octets of the frame.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from netemu.net.port import FrameView
from netemu.wire.address import Endpoint
from netemu.wire.checksum import internet_checksum
from netemu.wire.vnet_hdr import DATA_VALID, NEEDS_CSUM, VnetHeader

__all__ = ["IPV4", "IPV6", "PORTS_LENGTH", "Layout", "flow_key", "is_verified", "opposite", "plain"]


PORTS_LENGTH: Final = 4
"""Octets of a key behind the addresses."""


class Layout(NamedTuple):
    """Where things are in a plain frame, in octets from its beginning. The addresses and the ports behind them are the key."""

    ttl: int
    protocol: int
    addresses: int
    transport: int
    payload: int  # of a UDP datagram

    def key(self, frame: FrameView) -> bytes:
        """What `flow_key` makes of the same endpoints."""
        return bytes(frame[self.addresses : self.transport + PORTS_LENGTH])


IPV4: Final = Layout(22, 23, 26, 34, 42)  # RFC 791 3.1
IPV6: Final = Layout(21, 20, 22, 54, 62)  # RFC 8200 3

_IPV4_FRONT: Final = b"\x08\x00\x45"  # EtherType, version and header length
_IPV6_TYPE: Final = b"\x86\xdd"
_IPV4: Final = struct.Struct("!H2xHB")  # total length, fragment, TTL
_IPV6: Final = struct.Struct("!HBB")  # payload length, next header, hop limit
_FRAGMENT: Final = 0x3FFF  # more fragments, and the offset
_SHORTEST: Final = 8  # octets of a transport header
_VERIFIED: Final = NEEDS_CSUM | DATA_VALID


def flow_key(source: Endpoint, destination: Endpoint) -> bytes:
    """The octets of a frame from `source` to `destination` that are its key."""
    return source.address.packed + destination.address.packed + struct.pack("!HH", source.port, destination.port)


def opposite(key: bytes) -> bytes:
    """The key of the frames that go the other way."""
    half = (len(key) - PORTS_LENGTH) // 2
    return key[half:-PORTS_LENGTH] + key[:half] + key[-2:] + key[-PORTS_LENGTH:-2]


def plain(frame: FrameView, mac: bytes) -> tuple[Layout, int] | None:
    """The frame's layout and where its datagram ends; None if it is not plain, or not for `mac`."""
    if frame[:6] != mac or len(frame) < IPV4.transport + _SHORTEST:
        return None
    if frame[12:15] == _IPV4_FRONT:
        length, fragment, ttl = _IPV4.unpack_from(frame, 16)
        end = 14 + length
        if fragment & _FRAGMENT or ttl < 2 or not IPV4.transport + _SHORTEST <= end <= len(frame):
            return None
        return None if int.from_bytes(frame[14:34], "big") % 0xFFFF else (IPV4, end)
    if frame[12:14] != _IPV6_TYPE or frame[14] >> 4 != 6 or len(frame) < IPV6.transport + _SHORTEST:
        return None
    length, _, hop_limit = _IPV6.unpack_from(frame, 18)
    end = IPV6.transport + length
    return (IPV6, end) if hop_limit > 1 and length >= _SHORTEST and end <= len(frame) else None


def is_verified(frame: FrameView, layout: Layout, end: int, protocol: int, header: VnetHeader | None) -> bool:
    """Is the transport's checksum right, or vouched for by who sent the frame?"""
    if header is not None and header.flags & _VERIFIED:
        return True
    return not internet_checksum(frame[layout.addresses : end], protocol + end - layout.transport)
