"""The messages of vhost-user as values, and their octets (QEMU, docs/interop/vhost-user.rst, "Message Specification").

A message is a header (request, flags, size of the payload) and a payload, little-endian on the machines this runs on; descriptors
come beside it. What a payload looks like depends on the request: `FRONT_END` and `BACK_END` say it, one line a request.

`Decoder` makes messages of a stream. It says how many octets it wants next (`wanted`), so that who reads no more than that knows
which message the descriptors that came along belong to.

Not done: the requests of postcopy, inflight tracking, IOTLB, crypto sessions and state transfer; they are in no table and refused.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Final, NamedTuple

from netemu.errors import PeerError

__all__ = [
    "BACK_END",
    "FRONT_END",
    "F_PROTOCOL_FEATURES",
    "MAX_PAYLOAD",
    "BackEndRequest",
    "Config",
    "Decoder",
    "Flag",
    "FrontEndRequest",
    "MemoryTable",
    "Message",
    "Payload",
    "ProtocolFeature",
    "Region",
    "VringAddress",
    "VringState",
    "encode",
]

F_PROTOCOL_FEATURES: Final = 1 << 30  # VHOST_USER_F_PROTOCOL_FEATURES, among the virtio feature bits
MAX_PAYLOAD: Final = 4_096  # octets; the longest payload in the tables is a configuration space of 256 octets
_MAX_REGIONS: Final = 8  # VHOST_MEMORY_BASELINE_NREGIONS
_VERSION: Final = 1
_VERSION_MASK: Final = 0x3

_HEADER: Final = struct.Struct("<III")
_U64: Final = struct.Struct("<Q")
_VRING_STATE: Final = struct.Struct("<II")
_VRING_ADDRESS: Final = struct.Struct("<IIQQQQ")
_REGIONS: Final = struct.Struct("<I4x")
_REGION: Final = struct.Struct("<QQQQ")
_CONFIG: Final = struct.Struct("<III")


class Flag(IntFlag):
    """The header's flags above the version."""

    REPLY = 1 << 2
    NEED_REPLY = 1 << 3


class ProtocolFeature(IntFlag):
    """VHOST_USER_PROTOCOL_F_*: what both sides understand beyond the first version."""

    REPLY_ACK = 1 << 3
    BACKEND_REQ = 1 << 5
    CONFIG = 1 << 9
    INBAND_NOTIFICATIONS = 1 << 14


class FrontEndRequest(IntEnum):
    """VHOST_USER_*: what a front-end asks."""

    GET_FEATURES = 1
    SET_FEATURES = 2
    SET_OWNER = 3
    SET_MEM_TABLE = 5
    SET_VRING_NUM = 8
    SET_VRING_ADDR = 9
    SET_VRING_BASE = 10
    GET_VRING_BASE = 11
    GET_PROTOCOL_FEATURES = 15
    SET_PROTOCOL_FEATURES = 16
    GET_QUEUE_NUM = 17
    SET_VRING_ENABLE = 18
    SET_BACKEND_REQ_FD = 21
    GET_CONFIG = 24
    VRING_KICK = 35


class BackEndRequest(IntEnum):
    """VHOST_USER_BACKEND_*: what a back-end asks on the channel that SET_BACKEND_REQ_FD gave it."""

    CONFIG_CHANGE_MSG = 2
    VRING_CALL = 4


@dataclass(frozen=True, slots=True)
class VringState:
    """A queue's number and a number about it."""

    index: int
    num: int


@dataclass(frozen=True, slots=True)
class VringAddress:
    """Where the arrays of a queue lie, in the front-end's own addresses."""

    index: int
    flags: int
    descriptor: int
    used: int
    available: int
    log: int


@dataclass(frozen=True, slots=True)
class Region:
    """`size` octets of memory: their address for the driver, for the front-end, and where they lie in the file."""

    guest_address: int
    size: int
    user_address: int
    mmap_offset: int


@dataclass(frozen=True, slots=True)
class MemoryTable:
    """The regions of the driver's memory, each with a descriptor beside the message."""

    regions: tuple[Region, ...]


@dataclass(frozen=True, slots=True)
class Config:
    """A piece of the configuration space; in a request to read it the payload says how long an answer is wanted."""

    offset: int
    flags: int
    payload: bytes


Payload = int | VringState | VringAddress | MemoryTable | Config | None


class _Header(NamedTuple):
    """`request` is a number of the tables or not; `flags` as they came."""

    request: int
    flags: int
    size: int


class Message(NamedTuple):
    """A request, or a reply to one."""

    request: int
    payload: Payload = None
    flags: Flag = Flag(0)


class _Form(IntEnum):
    """The shapes of payloads."""

    EMPTY = 0
    NUMBER = 1
    STATE = 2
    ADDRESS = 3
    MEMORY = 4
    CONFIG = 5


# What each request carries.
FRONT_END: Final[Mapping[int, _Form]] = {
    FrontEndRequest.GET_FEATURES: _Form.EMPTY,
    FrontEndRequest.SET_FEATURES: _Form.NUMBER,
    FrontEndRequest.SET_OWNER: _Form.EMPTY,
    FrontEndRequest.SET_MEM_TABLE: _Form.MEMORY,
    FrontEndRequest.SET_VRING_NUM: _Form.STATE,
    FrontEndRequest.SET_VRING_ADDR: _Form.ADDRESS,
    FrontEndRequest.SET_VRING_BASE: _Form.STATE,
    FrontEndRequest.GET_VRING_BASE: _Form.STATE,
    FrontEndRequest.GET_PROTOCOL_FEATURES: _Form.EMPTY,
    FrontEndRequest.SET_PROTOCOL_FEATURES: _Form.NUMBER,
    FrontEndRequest.GET_QUEUE_NUM: _Form.EMPTY,
    FrontEndRequest.SET_VRING_ENABLE: _Form.STATE,
    FrontEndRequest.SET_BACKEND_REQ_FD: _Form.EMPTY,
    FrontEndRequest.GET_CONFIG: _Form.CONFIG,
    FrontEndRequest.VRING_KICK: _Form.STATE,
}
"""The requests of a front-end."""

BACK_END: Final[Mapping[int, _Form]] = {
    BackEndRequest.CONFIG_CHANGE_MSG: _Form.EMPTY,
    BackEndRequest.VRING_CALL: _Form.STATE,
}
"""The requests of a back-end. A reply to any of them is a number: zero for done."""


def encode(message: Message) -> bytes:
    """The octets of `message`."""
    payload = message.payload
    match payload:
        case None:
            body = b""
        case int():
            body = _U64.pack(payload)
        case VringState():
            body = _VRING_STATE.pack(payload.index, payload.num)
        case VringAddress():
            body = _VRING_ADDRESS.pack(
                payload.index, payload.flags, payload.descriptor, payload.used, payload.available, payload.log
            )
        case MemoryTable():
            regions = (_REGION.pack(r.guest_address, r.size, r.user_address, r.mmap_offset) for r in payload.regions)
            body = _REGIONS.pack(len(payload.regions)) + b"".join(regions)
        case Config():
            body = _CONFIG.pack(payload.offset, len(payload.payload), payload.flags) + payload.payload
    return _HEADER.pack(message.request, _VERSION | message.flags, len(body)) + body


class Decoder:
    """Messages of one direction from a stream. `table` says what requests carry."""

    def __init__(self, table: Mapping[int, _Form]) -> None:
        self._table = table
        self._octets = bytearray()
        self._header: _Header | None = None

    @property
    def wanted(self) -> int:
        """Octets until something is complete: a header, or a message."""
        whole = _HEADER.size + (self._header.size if self._header else 0)
        return whole - len(self._octets)

    def feed(self, octets: bytes) -> Message | None:
        """Take at most `wanted` octets; the message they complete. What is no message is a `PeerError`, and the stream's end.

        A request that no table has comes without its payload. A reply to a request is a number.
        """
        self._octets += octets
        if self._header is None and not self.wanted:
            self._header = _header(bytes(self._octets))
        if self._header is None or self.wanted:
            return None
        header, body = self._header, bytes(self._octets[_HEADER.size :])
        self._octets.clear()
        self._header = None
        flags = Flag(header.flags & (Flag.REPLY | Flag.NEED_REPLY))
        form = _Form.NUMBER if flags & Flag.REPLY else self._table.get(header.request, _Form.EMPTY)
        known = header.request in self._table
        return Message(header.request, _payload(form, body) if known else None, flags)


def _header(octets: bytes) -> _Header:
    header = _Header(*_HEADER.unpack(octets))
    if header.flags & _VERSION_MASK != _VERSION:
        raise PeerError(f"vhost-user: flags {header.flags:#x} are not of version {_VERSION}")
    if header.size > MAX_PAYLOAD:
        raise PeerError(f"vhost-user: a payload of {header.size} octets; {MAX_PAYLOAD} are allowed")
    return header


def _payload(form: _Form, body: bytes) -> Payload:
    try:
        match form:
            case _Form.NUMBER:
                return int(_U64.unpack(body)[0])
            case _Form.STATE:
                return VringState(*_VRING_STATE.unpack(body))
            case _Form.ADDRESS:
                return VringAddress(*_VRING_ADDRESS.unpack(body))
            case _Form.MEMORY:
                return _memory_table(body)
            case _Form.CONFIG:
                return _config(body)
            case _Form.EMPTY:
                return None
    except struct.error as error:
        raise PeerError(f"vhost-user: a payload of {len(body)} octets: {error}") from None


def _memory_table(body: bytes) -> MemoryTable:
    (count,) = _REGIONS.unpack_from(body)
    if count > _MAX_REGIONS:
        raise PeerError(f"vhost-user: a table of {count} memory regions; {_MAX_REGIONS} are allowed")
    starts = range(_REGIONS.size, _REGIONS.size + count * _REGION.size, _REGION.size)
    return MemoryTable(tuple(Region(*_REGION.unpack_from(body, start)) for start in starts))


def _config(body: bytes) -> Config:
    offset, size, flags = _CONFIG.unpack_from(body)
    if size > len(body) - _CONFIG.size:
        raise PeerError(f"vhost-user: {size} octets of configuration in a payload of {len(body)}")
    return Config(offset, flags, body[_CONFIG.size : _CONFIG.size + size])
