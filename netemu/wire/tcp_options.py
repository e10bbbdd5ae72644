"""The options of a TCP header (RFC 9293 3.1 and 3.2, RFC 7323 for window scale and timestamps, RFC 2018 for SACK).

An option of a kind this module does not know is skipped by its length and kept (RFC 9293 MUST-6). A length that is
illegal, for its kind or for the header, is a `WireError` (MUST-7). When a known kind comes twice, the last one counts.

`pack` writes them in the order most stacks do and puts no-operations in front so that 32-bit values are aligned:
MSS; SACK-permitted with timestamps; window scale; SACK; the unknown ones; then zeros to the next 32-bit word.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final, Self

from netemu.errors import LocalError
from netemu.wire.errors import WireError
from netemu.wire.fields import Buffer, pack_fields

__all__ = ["EMPTY_OPTIONS", "MAXIMUM_OPTIONS_LENGTH", "TcpOptions"]

MAXIMUM_OPTIONS_LENGTH: Final = 40  # Data Offset counts at most fifteen 32-bit words, five of them fixed

_FIRST_OPTION: Final = 20  # where options begin in the TCP header, for the offsets of errors

_END: Final = 0  # RFC 9293 3.2
_NO_OPERATION: Final = 1
_MSS: Final = 2
_WINDOW_SCALE: Final = 3  # RFC 7323 2.2
_SACK_PERMITTED: Final = 4  # RFC 2018 2
_SACK: Final = 5  # RFC 2018 3
_TIMESTAMPS: Final = 8  # RFC 7323 3.2
_RESERVED_KINDS: Final = frozenset({_END, _NO_OPERATION, _MSS, _WINDOW_SCALE, _SACK_PERMITTED, _SACK, _TIMESTAMPS})

_LENGTHS: Final = {_MSS: 4, _WINDOW_SCALE: 3, _SACK_PERMITTED: 2, _TIMESTAMPS: 10}

_MSS_OPTION: Final = struct.Struct("!BBH")
_WINDOW_SCALE_OPTION: Final = struct.Struct("!BBBB")
_TIMESTAMPS_OPTION: Final = struct.Struct("!BBBBII")
_TIMESTAMPS_VALUES: Final = struct.Struct("!II")
_SACK_BLOCK: Final = struct.Struct("!II")
_SYN_OPTIONS: Final = struct.Struct("!HHIIII")
"""MSS, SACK permitted, timestamps and window scale, with one no-operation before the last: the SYNs of Linux."""
_SYN_FRAMING: Final = (0x0204, 0x0402080A, 0x010303)
_ALIGNED_TIMESTAMPS: Final = bytes((_NO_OPERATION, _NO_OPERATION, _TIMESTAMPS, 10))
"""How nearly every data segment's options begin (RFC 7323, appendix A)."""


@dataclass(frozen=True, slots=True)
class TcpOptions:
    """The options of one segment; None, False or empty where there is none.

    `mss` in octets, 16 bits. `window_scale` is the shift count as sent, 0..255: who uses it takes at most 14 (RFC 7323
    2.3). `sack` are (left, right) edges, `timestamps` (value, echo reply), all 32 bits. `unknown` are (kind, data).
    """

    mss: int | None = None
    window_scale: int | None = None
    sack_permitted: bool = False
    sack: tuple[tuple[int, int], ...] = ()
    timestamps: tuple[int, int] | None = None
    unknown: tuple[tuple[int, bytes], ...] = ()

    @classmethod
    def parse(cls, data: Buffer) -> Self:
        """Read the octets between the fixed header and the payload; raises `WireError` (`tcp.options`)."""
        if len(data) == 12 and data[:4] == _ALIGNED_TIMESTAMPS:
            return cls(timestamps=_TIMESTAMPS_VALUES.unpack_from(data, 4))
        if len(data) == _SYN_OPTIONS.size:
            first, mss, second, value, echo, last = _SYN_OPTIONS.unpack(data)
            if (first, second, last >> 8) == _SYN_FRAMING:
                return cls(mss, last & 0xFF, sack_permitted=True, timestamps=(value, echo))
        found: dict[int, bytes] = {}
        unknown: list[tuple[int, bytes]] = []
        at = 0
        while at < len(data):
            kind = data[at]
            if kind == _END:
                break
            if kind == _NO_OPERATION:
                at += 1
                continue
            value = _option_value(data, at, kind)
            if kind in _RESERVED_KINDS:
                found[kind] = value
            else:
                unknown.append((kind, value))
            at += 2 + len(value)
        size, scale, stamps = found.get(_MSS), found.get(_WINDOW_SCALE), found.get(_TIMESTAMPS)
        return cls(
            mss=None if size is None else int.from_bytes(size, "big"),
            window_scale=None if scale is None else scale[0],
            sack_permitted=_SACK_PERMITTED in found,
            sack=tuple(_SACK_BLOCK.iter_unpack(found.get(_SACK, b""))),
            timestamps=None if stamps is None else _TIMESTAMPS_VALUES.unpack(stamps),
            unknown=tuple(unknown),
        )

    def pack(self) -> bytes:
        """The options' octets, a multiple of 4 and at most 40; raises `LocalError`."""
        if self is EMPTY_OPTIONS:
            return b""
        parts: list[bytes] = []
        if self.mss is not None:
            parts.append(pack_fields(_MSS_OPTION, self, {"mss": 0xFFFF}, _MSS, 4, self.mss))
        if self.timestamps is not None:
            lead = (_SACK_PERMITTED, 2) if self.sack_permitted else (_NO_OPERATION, _NO_OPERATION)
            parts.append(pack_fields(_TIMESTAMPS_OPTION, self, {}, *lead, _TIMESTAMPS, 10, *self.timestamps))
        elif self.sack_permitted:
            parts.append(bytes((_NO_OPERATION, _NO_OPERATION, _SACK_PERMITTED, 2)))
        if self.window_scale is not None:
            parts.append(
                pack_fields(_WINDOW_SCALE_OPTION, self, {"window_scale": 0xFF}, _NO_OPERATION, _WINDOW_SCALE, 3, self.window_scale)
            )
        if self.sack:
            # Four blocks are all that 40 octets hold; more are caught below, by the length of everything together.
            parts.append(bytes((_NO_OPERATION, _NO_OPERATION, _SACK, min(2 + 8 * len(self.sack), 0xFF))))
            parts.extend(pack_fields(_SACK_BLOCK, self, {}, *block) for block in self.sack)
        for kind, value in self.unknown:
            if kind in _RESERVED_KINDS or not 0 <= kind <= 0xFF or len(value) > MAXIMUM_OPTIONS_LENGTH - 2:
                raise LocalError(f"TcpOptions.unknown has kind {kind}: give a kind without a field here, up to 255")
            parts.append(bytes((kind, 2 + len(value))) + value)
        options = b"".join(parts)
        if len(options) > MAXIMUM_OPTIONS_LENGTH:
            raise LocalError(f"TcpOptions takes {len(options)} octets: 40 is the most, so leave some out")
        return options + bytes(-len(options) % 4)


EMPTY_OPTIONS: Final = TcpOptions()
"""The options of a segment without any: one object for all of them."""


def _option_value(data: Buffer, at: int, kind: int) -> bytes:
    """The octets behind the length of the option at `at`, its length checked against its kind and the header."""
    offset = _FIRST_OPTION + at
    length = data[at + 1] if at + 1 < len(data) else 0
    if length < 2:
        raise WireError("tcp.options", offset, f"option {kind} has length {length}, less than 2")
    if at + length > len(data):
        raise WireError("tcp.options", offset, f"option {kind} of {length} octets runs past the header")
    if length != _LENGTHS.get(kind, length):
        raise WireError("tcp.options", offset, f"option {kind} has length {length}, not {_LENGTHS[kind]}")
    if kind == _SACK and (length < 10 or length % 8 != 2):
        raise WireError("tcp.options", offset, f"a SACK of {length} octets holds no whole number of blocks")
    return bytes(data[at + 2 : at + length])
