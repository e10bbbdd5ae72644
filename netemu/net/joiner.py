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
from collections.abc import Callable
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

    Read a message to `memory` and ask `opens` whether it may begin a train. If so, `grow` reads what belongs to it; then take
    `train`, and if another message came meanwhile, `move` that to the front of `memory`.
    """

    def __init__(self) -> None:
        self.memory = memoryview(bytearray(_LONGEST_HEAD + TRAIN_LIMIT + _VNET + MAX_FRAME))
        self.count = 0  # datagrams in the train
        self._fronts = {family: memoryview(bytearray(family.head)) for family in (_V4, _V6)}
        self._front = self._fronts[_V4]  # the headers of the message that was read last
        self._family = _V4
        self._limit = 0
        self._size = 0
        self._end = 0
        self._steps: tuple[int, ...] = ()

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
        self._family, self._front, self._steps = family, self._fronts[family], steps
        self.count, self._size, self._end = 1, size, length
        self._limit = min(limit, TRAIN_LIMIT // size)
        return True

    def grow(self, read: Callable[[tuple[memoryview, memoryview]], int]) -> int | None:
        """Read what belongs to the train. The length of the message that does not; None: the train is full.

        `read` reads a message to two places, one behind the other, and gives its length, or 0 where none waits.
        """
        memory, front, size, steps, end = self.memory, self._front, self._size, self._steps, self._end
        whole, last = end, int.from_bytes(memory[: len(front)], "big")
        for _ in range(self._limit - 1):
            length = read((front, memory[end:]))
            head = int.from_bytes(front, "big")
            if length != whole or head - last not in steps:
                break
            steps, last = (head - last,), head
            end += size
        else:
            length = None
        self.count += (end - self._end) // size
        self._end = end
        return length

    def train(self) -> tuple[memoryview, VnetHeader]:
        """The frame that the train makes, good until something is read."""
        family, memory, more = self._family, self.memory, (self.count - 1) * self._size
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
        """The message of `length` octets that did not belong to the train goes to the front of `memory`."""
        head = len(self._front)
        self.memory[head:length] = bytes(self.memory[self._end : self._end + max(length - head, 0)])
        self.memory[:head] = self._front
