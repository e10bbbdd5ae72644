"""The Trivial File Transfer Protocol's packets (RFC 1350; options RFC 2347, of which RFC 2348, 2349 and 7440 define some).

`parse` gives one of five values by the opcode; each packs itself. Names of modes and options have no case (RFC 1350 1,
RFC 2347): they are lower case here, as read and as written. Texts are UTF-8; octets that are not come back as they were
(Python's surrogate escapes). What an option's text means, and every rule of a transfer, is the reader's. The names of the
values are short, so they are used with their module: `tftp.Data`.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, TypeAlias

from netemu.errors import LocalError
from netemu.wire.errors import WireError
from netemu.wire.fields import Buffer, pack_fields, truncated

__all__ = [
    "BLOCK_SIZE",
    "SERVER_PORT",
    "Acknowledgment",
    "Data",
    "Error",
    "ErrorCode",
    "Opcode",
    "OptionAcknowledgment",
    "Packet",
    "Request",
    "parse",
]

SERVER_PORT: Final = 69  # RFC 1350 4
BLOCK_SIZE: Final = 512  # octets of data in a block, unless blksize says otherwise (RFC 1350 2)

_HEADER: Final = struct.Struct("!HH")
_OPCODE_LENGTH: Final = 2
_BLOCK_LIMITS: Final = {"block": 0xFFFF}
_CODE_LIMITS: Final = {"code": 0xFFFF}


class Opcode(IntEnum):
    """What a packet is (RFC 1350 5; OACK RFC 2347)."""

    RRQ = 1
    WRQ = 2
    DATA = 3
    ACK = 4
    ERROR = 5
    OACK = 6


class ErrorCode(IntEnum):
    """The codes of ERROR (RFC 1350, appendix; 8 RFC 2347)."""

    NOT_DEFINED = 0
    FILE_NOT_FOUND = 1
    ACCESS_VIOLATION = 2
    DISK_FULL = 3
    ILLEGAL_OPERATION = 4
    UNKNOWN_TRANSFER_ID = 5
    FILE_EXISTS = 6
    NO_SUCH_USER = 7
    OPTION_REFUSED = 8


@dataclass(frozen=True, slots=True)
class Request:
    """RRQ or WRQ, as `opcode` says: a file to read or to write, and the options asked for."""

    opcode: Opcode
    filename: str
    mode: str = "octet"
    options: Mapping[str, str] = field(default_factory=dict)

    def pack(self) -> bytes:
        """The packet's octets; raises `LocalError` for another opcode or a text that cannot be sent."""
        if self.opcode not in (Opcode.RRQ, Opcode.WRQ):
            raise LocalError(f"Request.opcode is {self.opcode}: give Opcode.RRQ or Opcode.WRQ")
        texts = _encode(self.filename) + _encode(self.mode).lower()
        return self.opcode.to_bytes(_OPCODE_LENGTH, "big") + texts + _pack_options(self.options)


@dataclass(frozen=True, slots=True)
class Data:
    """DATA: one block of the file; `block` 0..65535. One shorter than the block size is the last."""

    block: int
    data: bytes

    def pack(self) -> bytes:
        """The packet's octets; raises `LocalError` for a field out of its range."""
        return pack_fields(_HEADER, self, _BLOCK_LIMITS, Opcode.DATA, self.block) + self.data


@dataclass(frozen=True, slots=True)
class Acknowledgment:
    """ACK: the block that arrived, 0..65535; 0 takes a WRQ or an OACK."""

    block: int

    def pack(self) -> bytes:
        """The packet's octets; raises `LocalError` for a field out of its range."""
        return pack_fields(_HEADER, self, _BLOCK_LIMITS, Opcode.ACK, self.block)


@dataclass(frozen=True, slots=True)
class Error:
    """ERROR: `code` is an `ErrorCode` or another number of 16 bits, `message` is for people."""

    code: int
    message: str = ""

    def pack(self) -> bytes:
        """The packet's octets; raises `LocalError` for a field out of its range or a text that cannot be sent."""
        return pack_fields(_HEADER, self, _CODE_LIMITS, Opcode.ERROR, self.code) + _encode(self.message)


@dataclass(frozen=True, slots=True)
class OptionAcknowledgment:
    """OACK: the options that the server grants (RFC 2347)."""

    options: Mapping[str, str]

    def pack(self) -> bytes:
        """The packet's octets; raises `LocalError` for a text that cannot be sent."""
        return Opcode.OACK.to_bytes(_OPCODE_LENGTH, "big") + _pack_options(self.options)


Packet: TypeAlias = Request | Data | Acknowledgment | Error | OptionAcknowledgment


def parse(data: Buffer) -> Packet:
    """Read a packet; raises `WireError`."""
    octets = bytes(data)
    if len(octets) < _OPCODE_LENGTH:
        raise truncated("tftp", octets, _OPCODE_LENGTH)
    opcode = int.from_bytes(octets[:_OPCODE_LENGTH], "big")
    if opcode in (Opcode.RRQ, Opcode.WRQ):
        filename, at = _text(octets, _OPCODE_LENGTH, "tftp.filename")
        mode, at = _text(octets, at, "tftp.mode")
        return Request(Opcode(opcode), _decode(filename), _decode(mode.lower()), _read_options(octets, at))
    if opcode == Opcode.OACK:
        return OptionAcknowledgment(_read_options(octets, _OPCODE_LENGTH))
    if opcode not in (Opcode.DATA, Opcode.ACK, Opcode.ERROR):
        raise WireError("tftp.opcode", 0, f"{opcode} is not an opcode")
    if len(octets) < _HEADER.size:
        raise truncated("tftp", octets, _HEADER.size)
    number = int.from_bytes(octets[_OPCODE_LENGTH : _HEADER.size], "big")
    if opcode == Opcode.DATA:
        return Data(number, octets[_HEADER.size :])
    if opcode == Opcode.ACK:
        return Acknowledgment(number)
    message, _ = _text(octets, _HEADER.size, "tftp.message")
    return Error(number, _decode(message))


def _text(octets: bytes, at: int, name: str) -> tuple[bytes, int]:
    """The octets from `at` up to a zero, and where what follows it begins."""
    end = octets.find(b"\0", at)
    if end < 0:
        raise WireError(name, at, "no zero octet ends the text")
    return octets[at:end], end + 1


def _read_options(octets: bytes, at: int) -> dict[str, str]:
    options: dict[str, str] = {}
    while at < len(octets):
        start = at
        name, at = _text(octets, at, "tftp.option")
        value, at = _text(octets, at, "tftp.option_value")
        text = _decode(name.lower())
        if not text or text in options:
            raise WireError("tftp.option", start, "an option has a name and comes once")
        options[text] = _decode(value)
    return options


def _pack_options(options: Mapping[str, str]) -> bytes:
    if "" in options:
        raise LocalError("a TFTP option without a name: give one, such as blksize")
    return b"".join(_encode(name).lower() + _encode(value) for name, value in options.items())


def _decode(octets: bytes) -> str:
    return octets.decode("utf-8", "surrogateescape")


def _encode(text: str) -> bytes:
    """The text's octets and the zero behind them."""
    try:
        octets = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise LocalError(f"TFTP text {text!r} cannot be sent: {error.reason}") from error
    if b"\0" in octets:
        raise LocalError(f"TFTP text {text!r} has a zero in it: leave it out, for zero ends a text")
    return octets + b"\0"
