"""Trains of UDP datagrams in frames: how the short way reads and writes them.

A train is datagrams of one flow that follow each other and are equally long, the last perhaps shorter: payload octets, and how
many of them make one datagram. It goes through the network as one frame with a segmentation request (USO, VIRTIO 1.2 5.1.6.2,
GSO_UDP_L4), and through the host's socket in one call (`netemu.net.sockets.TrainSocket`), so its datagrams share what one costs. A
single datagram is a train of one.

In: the frame's payload, a view, which goes to the host's socket from there. What an error about it would quote is kept as it came,
and put together only if there is one.

Out: the headers are written once, with a checksum that is left to a port's peer that takes it; for a peer that takes no USO,
datagram by datagram.

Follows RFC 768, RFC 791, RFC 8200.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Final, NamedTuple

from netemu.net.offload import CSUM, USO4, USO6, lower
from netemu.net.port import FrameView
from netemu.net.sockets import train_length
from netemu.user.lan import Lan
from netemu.user.lan6 import Lan6
from netemu.user.plain import IPV4, IPV6, Layout, is_verified
from netemu.user.realm import Realm
from netemu.user.side import Datagram6, Quotation
from netemu.wire.address import Endpoint
from netemu.wire.checksum import internet_checksum
from netemu.wire.ether import MINIMUM_LENGTH, EtherType
from netemu.wire.ipv4 import IPv4, Protocol
from netemu.wire.ipv6 import IPv6
from netemu.wire.vnet_hdr import GSO_NONE, GSO_UDP_L4, NEEDS_CSUM, VnetHeader

__all__ = ["LONGEST_TRAIN", "KeptDatagram", "TrainWriter", "kept", "train_of"]

LONGEST_TRAIN: Final = 128  # datagrams; Linux sends no more (UDP_MAX_SEGMENTS, linux/udp.h), and it bounds what one frame can cost

_LENGTHS: Final = struct.Struct("!HH")  # length, checksum
_UDP_HEADER: Final = 8
_CHECKSUM_OFFSET: Final = 6
_HOP_LIMIT: Final = 64
_ETHERNET: Final = 14
_IPV4: Final = struct.Struct("!6s6sHBBHHHBBH8sHHHH")
_IPV6: Final = struct.Struct("!6s6sHIHBB32sHHHH")
_QUOTABLE: Final = 2048  # octets of payload of a datagram that is kept whole until the next one, in case of an error about it
_HEADERS: Final = 256  # virtio-net headers that are kept: one for each length


def train_of(frame: FrameView, layout: Layout, end: int, header: VnetHeader | None) -> tuple[FrameView, int] | None:
    """The payload of a `plain` frame with UDP, and the octets of each datagram; None if it is not one for the short way."""
    octets, checksum = _LENGTHS.unpack_from(frame, layout.payload - _LENGTHS.size)
    if layout.transport + octets != end or not checksum or not is_verified(frame, layout, end, Protocol.UDP, header):
        return None
    size = octets - _UDP_HEADER
    if header is not None:
        asked = bool(header.flags & NEEDS_CSUM)
        if asked and (header.csum_start, header.csum_offset) != (layout.transport, _CHECKSUM_OFFSET):
            return None
        if header.gso_type != GSO_NONE:
            if header.gso_type != GSO_UDP_L4 or not header.gso_size or not asked:
                return None
            size = min(size, header.gso_size)
    if size > _QUOTABLE or octets > size * LONGEST_TRAIN + _UDP_HEADER:
        return None
    return frame[layout.payload : end], size


class KeptDatagram(NamedTuple):
    """A datagram as it came, for an error about it."""

    frame: bytes
    header: VnetHeader | None

    def quotation(self) -> Quotation:
        octets = (self.frame if self.header is None else lower(self.frame, self.header)[0])[_ETHERNET:]
        return Quotation.of(IPv4.parse(octets) if octets[0] >> 4 == 4 else Datagram6.of(IPv6.parse(octets)))


def kept(frame: FrameView, layout: Layout, size: int, header: VnetHeader | None) -> KeptDatagram:
    """The first datagram of a train."""
    return KeptDatagram(bytes(frame[: layout.payload + size]), header)


@lru_cache(_HEADERS)
def _request(layout: Layout, size: int) -> VnetHeader:
    gso, headers = (GSO_UDP_L4, layout.payload) if size else (GSO_NONE, 0)
    return VnetHeader(NEEDS_CSUM, gso, headers, size, layout.transport, _CHECKSUM_OFFSET)


class TrainWriter:
    """Writes trains to guests. `offloads`: what the port's peer takes."""

    def __init__(self, realm: Realm, lan: Lan, lan6: Lan6) -> None:
        self.offloads = 0
        self._realm = realm
        self._lan = lan
        self._lan6 = lan6
        self._room = realm.options.mtu - IPV4.payload + _ETHERNET
        self._room6 = realm.options.mtu6 - IPV6.payload + _ETHERNET

    def put(self, source: Endpoint, guest: Endpoint, octets: bytes, size: int, now: int) -> None:
        """Queue a train from `source`, as the guest knows it. One that does not fit, or whose guest has to be looked for, goes the
        long way.
        """
        if not self._write(source, guest, octets, size, now):
            for at in range(0, len(octets) or 1, size or 1):
                self._realm.send_udp(source, guest, octets[at : at + size], now)

    def _write(self, source: Endpoint, guest: Endpoint, octets: bytes, size: int, now: int) -> bool:
        address = guest.address
        if address.version == 4:
            mac, room, uso = self._lan.reachable(address.packed, now), self._room, USO4
        else:
            mac, room, uso = self._lan6.reachable(address), self._room6, USO6
        if mac is None or size > room:
            return False
        write = self._ipv4 if address.version == 4 else self._ipv6
        if len(octets) > size and self.offloads & uso and self.offloads & CSUM:
            write(mac, source, guest, octets, size)
        else:
            for at in range(0, len(octets) or 1, size or 1):
                write(mac, source, guest, octets[at : at + size], 0)
        return True

    def _ipv4(self, mac: bytes, source: Endpoint, guest: Endpoint, octets: bytes, size: int) -> None:
        transport = _UDP_HEADER + len(octets)
        length = IPV4.transport - _ETHERNET + transport
        identification = self._lan.next_identification(train_length(len(octets), size) if size else 1)
        addresses = source.address.packed + guest.address.packed
        words = int.from_bytes(addresses, "big")
        sum_ = (0x4500 + length + identification + (_HOP_LIMIT << 8 | Protocol.UDP) + words) % 0xFFFF
        head = _IPV4.pack(
            mac,
            self._lan.mac,
            EtherType.IPV4,
            0x45,
            0,
            length,
            identification,
            0,
            _HOP_LIMIT,
            Protocol.UDP,
            0xFFFF - sum_ if sum_ else 0,
            addresses,
            source.port,
            guest.port,
            transport,
            self._checksum(words, source.port + guest.port, octets),
        )
        self._put(head + octets, IPV4, size)

    def _ipv6(self, mac: bytes, source: Endpoint, guest: Endpoint, octets: bytes, size: int) -> None:
        transport = _UDP_HEADER + len(octets)
        addresses = source.address.packed + guest.address.packed
        head = _IPV6.pack(
            mac,
            self._lan.mac,
            EtherType.IPV6,
            6 << 28,
            transport,
            Protocol.UDP,
            _HOP_LIMIT,
            addresses,
            source.port,
            guest.port,
            transport,
            self._checksum(int.from_bytes(addresses, "big"), source.port + guest.port, octets),
        )
        self._put(head + octets, IPV6, size)

    def _checksum(self, words: int, ports: int, octets: bytes) -> int:
        """All of it, or the pseudo-header's part where the rest is left to the port's peer."""
        transport = _UDP_HEADER + len(octets)
        pseudo = words + Protocol.UDP + transport
        if self.offloads & CSUM:
            return pseudo % 0xFFFF
        return internet_checksum(octets, pseudo + ports + transport) or 0xFFFF  # 0 says that there is none

    def _put(self, frame: bytes, layout: Layout, size: int) -> None:
        self._lan.put_octets(frame.ljust(MINIMUM_LENGTH, b"\0"), _request(layout, size) if self.offloads & CSUM else None)
