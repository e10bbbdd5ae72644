"""Joining equal datagrams on their way in: generic receive offload for UDP, in software.

Datagrams that a guest sends one after the other differ in little but their payload, so long as it leaves the checksum to us
(NEEDS_CSUM): the same headers again, over IPv4 with the next identification and therefore a header checksum that is one less. One
comparison tells. So a reader has the next headers read to a place of their own and the next payload to where the last one ends,
and if the headers are those, the frames are one with a segmentation request (USO, VIRTIO 1.2 5.1.6.2), and nothing was copied.
`netemu.net.offload.lower` gives the same datagrams back.

Identifications that stay the same are as good where fragments are forbidden: they mean nothing then (RFC 6864 4.1), and are
counted up when the train is cut.

Not joined: datagrams behind options, extension headers or a VLAN tag, fragments, those whose checksum is in full or missing, and a
shorter last one, whose headers differ.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Final, NamedTuple

from netemu.net.offload import USO4, USO6
from netemu.net.port import MAX_FRAME
from netemu.net.sockets import TRAIN_LIMIT
from netemu.wire.vnet_hdr import GSO_NONE, GSO_UDP_L4, NEEDS_CSUM, VnetHeader

__all__ = ["Joiner"]

_DATAGRAMS: Final = 64  # what UDP_SEGMENT takes (udp(7))
_VNET: Final = 12  # octets of the virtio-net header, and of what is in front of the frame
_ETHERNET: Final = _VNET + 14
_UDP: Final = 17
_UDP_HEADER: Final = 8
_CHECKSUM_OFFSET: Final = 6
_IPV4: Final = struct.Struct("!HHHBBH")  # total length, identification, flags and fragment, TTL, protocol, checksum
_IPV6: Final = struct.Struct("!HB")  # payload length, next header
_LENGTHS: Final = struct.Struct("!HH")  # UDP's length and checksum
_DONT_FRAGMENT: Final = 0x4000


class _Family(NamedTuple):
    """What messages of a family that may be joined have in common. `head`: octets of all headers; `transport`: where UDP's is."""

    offload: int
    head: int
    transport: int
    front: bytes  # EtherType, version, and IPv4's header length


_V4: Final = _Family(USO4, 54, 46, b"\x08\x00\x45")
_V6: Final = _Family(USO6, 74, 66, b"\x86\xdd\x60")
_FAMILIES: Final = {
    VnetHeader(NEEDS_CSUM, csum_start=family.transport - _VNET, csum_offset=_CHECKSUM_OFFSET).pack(_VNET): family
    for family in (_V4, _V6)
}
# What the headers, read as a number, change by from one datagram to the next: IPv4's identification and checksum.
_COUNTED: Final = (1 << 8 * (_V4.head - 32)) - (1 << 8 * (_V4.head - 38))
_LONGEST_HEAD: Final = 74


@lru_cache(256)
def _request(transport: int, head: int, size: int) -> VnetHeader:
    gso, head = (GSO_UDP_L4, head) if size else (GSO_NONE, 0)
    return VnetHeader(NEEDS_CSUM, gso, head, size, transport, _CHECKSUM_OFFSET)


class Joiner:
    """The memory that messages, each a virtio-net header of 12 octets and a frame, are read to, and the train that grows there.

    Read a message to `places`. With a train open, ask `joins`: if the message belongs to it go on, else take `train` and
    `move` the message to the front. A message at the front is `memory`; ask `opens` whether it may begin a train.
    """

    def __init__(self) -> None:
        self.memory = memoryview(bytearray(_LONGEST_HEAD + TRAIN_LIMIT + _VNET + MAX_FRAME))
        self._next = memoryview(bytearray(_LONGEST_HEAD))
        self._family = _V4
        self._count = 0
        self._limit = 0
        self._size = 0
        self._end = 0
        self._last = 0
        self._step = 0
        self._steps: tuple[int, ...] = ()

    @property
    def open(self) -> bool:
        """There is a train."""
        return self._count > 0

    @property
    def places(self) -> tuple[memoryview, ...]:
        """Where the next message is to be read to, one place after the other."""
        return (self._next[: self._family.head], self.memory[self._end :]) if self._count else (self.memory,)

    def opens(self, length: int, offloads: int) -> bool:
        """May the message of `length` octets begin a train for a receiver that takes `offloads`? Then it does."""
        memory = self.memory
        family = _FAMILIES.get(bytes(memory[:_VNET]))
        if family is None or not offloads & family.offload or memory[_VNET + 12 : _ETHERNET + 1] != family.front:
            return False
        head, limit = family.head, _DATAGRAMS
        steps: tuple[int, ...] = (0,)
        if family is _V4:
            total, identification, flags, _, protocol, checksum = _IPV4.unpack_from(memory, _ETHERNET + 2)
            if flags & ~_DONT_FRAGMENT or int.from_bytes(memory[_ETHERNET : family.transport], "big") % 0xFFFF:
                return False
            limit = min(limit, 0xFFFF - identification, checksum)  # before either wraps
            steps = (_COUNTED, 0) if flags else (_COUNTED,)
            total -= family.transport - _ETHERNET
        else:
            total, protocol = _IPV6.unpack_from(memory, _ETHERNET + 4)
        octets, _ = _LENGTHS.unpack_from(memory, family.transport + 4)
        size = length - head
        if protocol != _UDP or not total == octets == size + _UDP_HEADER or size < 1:
            return False
        self._family, self._count, self._size, self._end = family, 1, size, length
        self._limit = min(limit, TRAIN_LIMIT // size)
        self._last = int.from_bytes(memory[:head], "big")
        self._step, self._steps = steps[0], steps
        return True

    def joins(self, length: int) -> bool:
        """Does the message of `length` octets that was read belong to the train? Then it is part of it."""
        head = int.from_bytes(self._next[: self._family.head], "big")
        step = head - self._last
        if step != self._step:
            if self._count > 1 or step not in self._steps:
                return False
            self._step = step
        if length != self._family.head + self._size or self._count >= self._limit:
            return False
        self._last = head
        self._count += 1
        self._end += self._size
        return True

    def train(self) -> tuple[memoryview, VnetHeader]:
        """The frame that the train makes, good until something is read; there is no train any more."""
        family, memory, more = self._family, self.memory, (self._count - 1) * self._size
        self._count = 0
        transport, head = family.transport - _VNET, family.head - _VNET
        if not more:
            return memory[_VNET : self._end], _request(transport, head, 0)
        if family is _V4:
            total, identification, flags, ttl, protocol, checksum = _IPV4.unpack_from(memory, _ETHERNET + 2)
            checksum = 0xFFFF - (0xFFFF - checksum + more) % 0xFFFF  # RFC 1624
            _IPV4.pack_into(memory, _ETHERNET + 2, total + more, identification, flags, ttl, protocol, checksum)
        else:
            total, protocol = _IPV6.unpack_from(memory, _ETHERNET + 4)
            _IPV6.pack_into(memory, _ETHERNET + 4, total + more, protocol)
        octets, partial = _LENGTHS.unpack_from(memory, family.transport + 4)
        _LENGTHS.pack_into(memory, family.transport + 4, octets + more, (partial + more) % 0xFFFF or 0xFFFF)
        return memory[_VNET : self._end], _request(transport, head, self._size)

    def move(self, length: int) -> None:
        """The message that was read last, and did not join, goes to the front."""
        head = self._family.head
        self.memory[head:length] = bytes(self.memory[self._end : self._end + length - head])
        self.memory[:head] = self._next[:head]
