"""Checksum and segmentation offload in software: what a sender left to its receiver, done for one that does not take it.

A frame with a virtio-net header may ask two things (VIRTIO 1.2, 5.1.6.2). NEEDS_CSUM: the checksum field holds the sum of the
pseudo-header only; the rest, from `csum_start` on, is to be added. A `gso_type`: the payload is to be cut into segments of
`gso_size` octets, each with a copy of the headers, lengths, sequence numbers, identification and flags set right.

A receiver says what it takes as a set of the bits below; they are those of TUNSETOFFLOAD (linux/if_tun.h).
`lower` does the rest. Not done: UFO (GSO_UDP: fragmentation by IP), and cutting behind a VLAN tag or IPv6 extension headers:
nobody here asks for those.
"""

from __future__ import annotations

import struct
from typing import Final

from netemu.wire.checksum import internet_checksum, ones_complement_sum
from netemu.wire.errors import WireError
from netemu.wire.vnet_hdr import GSO_ECN, GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, NEEDS_CSUM, VnetHeader

__all__ = ["CSUM", "EVERYTHING", "TSO4", "TSO6", "TSO_ECN", "USO", "USO4", "USO6", "complete", "lower", "takes"]

CSUM: Final = 0x01
TSO4: Final = 0x02
TSO6: Final = 0x04
TSO_ECN: Final = 0x08
USO4: Final = 0x20
USO6: Final = 0x40
USO: Final = USO4 | USO6  # Linux takes both or none (tun_chr_ioctl)
EVERYTHING: Final = CSUM | TSO4 | TSO6 | TSO_ECN | USO

_ETHERNET: Final = 14  # octets
_IPV6_HEADER: Final = 40
_UDP_HEADER: Final = 8
_WANTED: Final = {GSO_TCPV4: TSO4, GSO_TCPV6: TSO6, GSO_UDP_L4: USO4 | USO6}
_NOT_LAST: Final = 0xFF & ~(0x01 | 0x08)  # FIN and PSH are the last segment's
_NOT_FIRST: Final = 0xFF & ~0x80  # CWR is the first segment's (RFC 3168 6.1.2)
_ODD_CHECKSUM: Final = 0xFFFF  # what UDP sends for a sum of 0 (RFC 768)


def takes(offloads: int, header: VnetHeader) -> bool:
    """May a frame with this header go to a receiver that takes `offloads`?"""
    gso = header.gso_type
    if gso & GSO_ECN and not offloads & TSO_ECN:
        return False
    if gso != GSO_NONE and not offloads & _WANTED.get(gso & ~GSO_ECN, 0):
        return False
    return bool(offloads & CSUM) or not header.flags & NEEDS_CSUM


def complete(frame: bytes | memoryview, header: VnetHeader) -> bytes:
    """The frame with its transport checksum in full; raises `WireError` where the header points outside of the frame."""
    if not header.flags & NEEDS_CSUM:
        return bytes(frame)
    start, field = header.csum_start, header.csum_start + header.csum_offset
    if field + 2 > len(frame):
        raise WireError("vnet_hdr.csum_start", 6, f"a checksum at octet {field} of a frame of {len(frame)}")
    checksum = internet_checksum(memoryview(frame)[start:]) or _ODD_CHECKSUM
    return b"".join((frame[:field], checksum.to_bytes(2, "big"), frame[field + 2 :]))


def lower(frame: bytes | memoryview, header: VnetHeader) -> list[bytes]:
    """The frames that say the same without any request; raises `WireError` for a request that makes no sense."""
    gso = header.gso_type & ~GSO_ECN
    if gso == GSO_NONE:
        return [complete(frame, header)]
    if gso not in _WANTED or not header.gso_size:
        raise WireError("vnet_hdr.gso_type", 1, f"segmentation {gso} in pieces of {header.gso_size} octets is not done")
    view = memoryview(frame)
    transport = header.csum_start
    least = transport + (_UDP_HEADER if gso == GSO_UDP_L4 else 20)
    if transport < _ETHERNET + 20 or len(view) < least:
        raise WireError("vnet_hdr.csum_start", 6, f"a transport header at octet {transport} of a frame of {len(view)}")
    tcp = gso != GSO_UDP_L4
    head = transport + ((view[transport + 12] >> 4) * 4 if tcp else _UDP_HEADER)
    if not least <= head <= len(view):
        raise WireError("tcp.data_offset", transport + 12, f"headers of {head} octets in a frame of {len(view)}")
    pieces = []
    for place, at in enumerate(range(head, len(view), header.gso_size)):
        payload = view[at : at + header.gso_size]
        first, last = place == 0, at + header.gso_size >= len(view)
        pieces.append(_piece(view[:head], transport, payload, at - head, place, tcp=tcp, first=first, last=last))
    return pieces or [complete(frame, header)]


def _piece(
    headers: memoryview, transport: int, payload: memoryview, offset: int, place: int, *, tcp: bool, first: bool, last: bool
) -> bytes:
    """One segment, all lengths and checksums right; `offset` is where its payload begins in the whole."""
    octets = bytearray(headers)
    length = len(headers) - transport + len(payload)
    if octets[_ETHERNET] >> 4 == 4:
        (identification,) = struct.unpack_from("!H", octets, _ETHERNET + 4)
        struct.pack_into("!H", octets, _ETHERNET + 2, transport - _ETHERNET + length)
        struct.pack_into("!H", octets, _ETHERNET + 4, (identification + place) & 0xFFFF)
        octets[_ETHERNET + 10 : _ETHERNET + 12] = b"\0\0"
        struct.pack_into("!H", octets, _ETHERNET + 10, internet_checksum(octets[_ETHERNET:transport]))
        addresses = octets[_ETHERNET + 12 : _ETHERNET + 20]
    else:
        struct.pack_into("!H", octets, _ETHERNET + 4, transport - _ETHERNET - _IPV6_HEADER + length)
        addresses = octets[_ETHERNET + 8 : _ETHERNET + 40]
    if tcp:
        (sequence,) = struct.unpack_from("!I", octets, transport + 4)
        struct.pack_into("!I", octets, transport + 4, (sequence + offset) & 0xFFFFFFFF)
        octets[transport + 13] &= (0xFF if last else _NOT_LAST) & (0xFF if first else _NOT_FIRST)
    else:
        struct.pack_into("!H", octets, transport + 4, length)
    field = transport + (16 if tcp else 6)
    octets[field : field + 2] = b"\0\0"
    pseudo = ones_complement_sum(addresses, (6 if tcp else 17) + length)
    total = ones_complement_sum(octets[transport:], pseudo)
    checksum = internet_checksum(payload, total) or (0 if tcp else _ODD_CHECKSUM)
    struct.pack_into("!H", octets, field, checksum)
    return b"".join((octets, payload))
