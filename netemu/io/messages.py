"""recvmmsg(2): the datagrams that wait in a UDP socket, up to 64 with one system call.

The standard library receives one at a time, which costs a system call, a tuple and an address in text each. Here the kernel
fills memory that is used again and again: for each message a slot of payload, and a tag, which is its source address and its
control messages (TTL, and the size of the pieces where UDP_GRO joined several). Datagrams with equal tags and lengths that follow
each other are one train (`netemu.net.sockets.TrainSocket`), so in a busy flow nothing but copying is done for each.

`struct mmsghdr` is laid out as in the C library (bits/socket.h, recvmmsg(2), udp(7), cmsg(3)), by ctypes.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import sys
from collections.abc import Iterator
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from itertools import groupby
from typing import Final, NamedTuple

from netemu.net.sockets import TRAIN_LIMIT
from netemu.wire.address import Endpoint

__all__ = ["UDP_GRO", "Messages", "Tag"]

UDP_GRO: Final = 104  # linux/udp.h
_BATCH: Final = 64  # messages
_SLOT: Final = 65_600  # octets: any datagram, and no multiple of a page, so that slots do not compete for the same cache lines
_NAME: Final = 32  # octets: struct sockaddr_in6, rounded up
_CONTROL: Final = 48  # octets: two control messages with an integer each
_TAG: Final = _NAME + _CONTROL
_CMSG: Final = struct.Struct("=Qii")  # struct cmsghdr: length with this header, level, type
_INT: Final = struct.Struct("=i")
_ALIGNED: Final = 24  # octets from one such control message to the next (CMSG_SPACE)
_TTLS: Final = frozenset({(socket.IPPROTO_IP, socket.IP_TTL), (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT)})
_PIECES: Final = (socket.IPPROTO_UDP, UDP_GRO)


class _IoVec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _MsgHdr(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("vectors", ctypes.POINTER(_IoVec)),
        ("vector_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _MMsgHdr(ctypes.Structure):
    _fields_ = (("header", _MsgHdr), ("length", ctypes.c_uint32))


class Tag(NamedTuple):
    """What came with a message: who sent it, its TTL if that was asked for, and the octets of each piece if it was joined."""

    source: Endpoint
    ttl: int | None
    size: int


def _source(name: bytes) -> Endpoint:
    """What a struct sockaddr_in or sockaddr_in6 says. The scope of a link-local address is the name of its interface."""
    family, port = int.from_bytes(name[:2], sys.byteorder), int.from_bytes(name[2:4], "big")
    if family == socket.AF_INET:
        return Endpoint(IPv4Address(name[4:8]), port)
    address, scope = IPv6Address(name[8:24]), int.from_bytes(name[24:28], sys.byteorder)
    if scope:
        text, _ = socket.getnameinfo((str(address), port, 0, scope), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)
        address = IPv6Address(text)
    return Endpoint(address, port)


@lru_cache(1024)
def _read(tag: bytes) -> Tag:
    ttl, size = None, 0
    for at in range(_NAME, _TAG, _ALIGNED):
        _, level, kind = _CMSG.unpack_from(tag, at)
        (value,) = _INT.unpack_from(tag, at + _CMSG.size)
        if (level, kind) in _TTLS:
            ttl = value
        elif (level, kind) == _PIECES:
            size = value
    return Tag(_source(tag), ttl, size)


class Messages:
    """The memory that messages are received into; sockets that are read in one thread share it."""

    def __init__(self) -> None:
        self._receive = ctypes.CDLL(None, use_errno=True).recvmmsg
        payload, tags = bytearray(_BATCH * _SLOT), bytearray(_BATCH * _TAG)
        self._slots = [memoryview(payload)[at : at + _SLOT] for at in range(0, len(payload), _SLOT)]
        self._tags = memoryview(tags)
        self._no_tags = bytes(tags)
        payload_at = ctypes.addressof(ctypes.c_char.from_buffer(payload))
        tags_at = ctypes.addressof(ctypes.c_char.from_buffer(tags))
        self._vectors = (_IoVec * _BATCH)(*(_IoVec(payload_at + place * _SLOT, _SLOT) for place in range(_BATCH)))
        self._headers = (_MMsgHdr * _BATCH)()
        for place, message in enumerate(self._headers):
            header, tag_at = message.header, tags_at + place * _TAG
            header.name, header.name_length = tag_at, _NAME
            header.vectors, header.vector_count = ctypes.pointer(self._vectors[place]), 1
            header.control, header.control_length = tag_at + _NAME, _CONTROL
        self._raw = memoryview(self._headers).cast("B")
        self._fresh = bytes(self._raw)  # the kernel writes lengths over what it was given
        words = ctypes.sizeof(_MMsgHdr) // 4
        self._lengths = self._raw.cast("I")[_MMsgHdr.length.offset // 4 :: words]

    def receive(self, fd: int) -> list[tuple[bytes, int, Tag]]:
        """What waits in the socket, oldest first: payload, octets of each datagram (of the last perhaps fewer), and the tag.

        Empty if nothing waits, and where the kernel reports an error, which then is in the socket's error queue.
        """
        self._raw[:] = self._fresh
        self._tags[:] = self._no_tags
        count = self._receive(fd, self._headers, _BATCH, socket.MSG_DONTWAIT, None)
        return list(self._trains(count)) if count > 0 else []

    def _trains(self, count: int) -> Iterator[tuple[bytes, int, Tag]]:
        lengths, place = self._lengths[:count].tolist(), 0
        first = bytes(self._tags[:_TAG])
        if self._tags[: count * _TAG] == first * count:
            tags = [first] * count
        else:
            tags = [bytes(self._tags[at : at + _TAG]) for at in range(0, count * _TAG, _TAG)]
        for (length, octets), group in groupby(zip(lengths, tags, strict=True)):
            tag, run = _read(octets), len(list(group))
            together = TRAIN_LIMIT // length if length and not tag.size else 1
            for at in range(place, place + run, together):
                slots = self._slots[at : min(at + together, place + run)]
                yield b"".join([slot[:length] for slot in slots]), tag.size or length, tag
            place += run
