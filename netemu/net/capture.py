"""Captures: what went over the links, kept, hashed, and written as pcapng.

A `FrameLog` is a tap. It keeps the newest frames within a budget of octets and counts what it had to let go (`overflowed`), so
that a judgement over a capture knows when an observation was lost. Its `digest` covers every frame ever seen, kept or not: a
run in virtual time is a pure function of its inputs, so two runs of one test must give the same digest.

pcapng (draft-ietf-opsawg-pcapng): one section; one interface a link, named after it, times in nanoseconds of the network's clock
(4.2, if_tsresol); one enhanced packet block a frame (4.3). An interface is the link as seen from the port that spoke on it first:
what that port sent is outbound (epb_flags), and the interface's description says so. A fate other than `delivered`, and what
the caller has to say of a frame (a verdict, a clause), are comments. The frame written is the one that entered the link,
before any fault changed it. Compression, name resolution and decryption blocks are not written, and nothing is read.
"""

from __future__ import annotations

import hashlib
import struct
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

from netemu.errors import LocalError
from netemu.net.link import FrameRecord

__all__ = ["FrameLog", "pcapng", "write_pcapng"]

_KEPT_OCTETS: Final = 64 * 1024 * 1024
_RECORD_OCTETS: Final = 256  # what a record costs beside its frame, roughly


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...


class FrameLog:
    """The frames of all links that it taps, in the order in which they entered.

    `capacity` is the budget in octets, 1 or more; the oldest frames make room for new ones and are counted in `overflowed`.
    """

    def __init__(self, capacity: int = _KEPT_OCTETS) -> None:
        if capacity < 1:
            raise LocalError(f"a frame log of {capacity} octets: 1 or more is allowed")
        self.overflowed = 0
        self._capacity = capacity
        self._octets = 0
        self._kept: deque[FrameRecord] = deque()
        self._forgotten = hashlib.sha256()

    def __call__(self, record: FrameRecord) -> None:
        """Keep `record`; this is the tap."""
        self._kept.append(record)
        self._octets += len(record.frame) + _RECORD_OCTETS
        while self._octets > self._capacity and len(self._kept) > 1:
            oldest = self._kept.popleft()
            self._octets -= len(oldest.frame) + _RECORD_OCTETS
            self.overflowed += 1
            _fold(self._forgotten, oldest)

    def __len__(self) -> int:
        return len(self._kept)

    def __iter__(self) -> Iterator[FrameRecord]:
        return iter(self.records)

    @property
    def records(self) -> tuple[FrameRecord, ...]:
        """What is kept, oldest first; a copy that does not change."""
        return tuple(self._kept)

    def digest(self) -> str:
        """SHA-256 (64 hexadecimal digits) over time, link, source, destination, fate and octets of every frame seen."""
        state = self._forgotten.copy()
        for record in self.records:
            _fold(state, record)
        return state.hexdigest()


def _fold(state: _Hash, record: FrameRecord) -> None:
    words = (str(record.time), record.link, record.source, record.destination, record.fate)
    for part in (*(word.encode() for word in words), record.frame):
        state.update(struct.pack("<I", len(part)))
        state.update(part)


_SECTION_HEADER: Final = 0x0A0D0D0A  # 4.1
_BYTE_ORDER_MAGIC: Final = 0x1A2B3C4D
_VERSION: Final = (1, 0)
_UNKNOWN_LENGTH: Final = -1
_SHB_USERAPPL: Final = 4

_INTERFACE_DESCRIPTION: Final = 1  # 4.2
_LINKTYPE_ETHERNET: Final = 1
_NO_SNAPLEN: Final = 0
_IF_NAME: Final = 2
_IF_DESCRIPTION: Final = 3
_IF_TSRESOL: Final = 9
_NANOSECONDS: Final = b"\x09"  # the exponent of 10^-9

_ENHANCED_PACKET: Final = 6  # 4.3
_EPB_FLAGS: Final = 2
_INBOUND: Final = 1  # epb_flags, bits 0-1
_OUTBOUND: Final = 2

_OPT_ENDOFOPT: Final = 0  # 3.5
_OPT_COMMENT: Final = 1
_LONGEST_OPTION: Final = 65_535

_Option = tuple[int, bytes]


def pcapng(records: Iterable[FrameRecord], comments: Mapping[int, Sequence[str]] | None = None, about: str = "") -> Iterator[bytes]:
    """The blocks of a capture file, in order.

    `comments` adds to frames by their position in `records`; `about` is the section's comment.
    """
    section = struct.pack("<IHHq", _BYTE_ORDER_MAGIC, *_VERSION, _UNKNOWN_LENGTH)
    yield _block(_SECTION_HEADER, section, [(_SHB_USERAPPL, b"netemu"), *_comments([about] if about else [])])
    interfaces: dict[str, tuple[int, str]] = {}  # link -> (number, the port it is seen from)
    for position, record in enumerate(records):
        if record.link not in interfaces:
            interfaces[record.link] = (len(interfaces), record.source)
            yield _interface(record)
        number, viewpoint = interfaces[record.link]
        flags = _OUTBOUND if record.source == viewpoint else _INBOUND
        remarks = [] if record.fate == "delivered" else [f"fate: {record.fate}"]
        remarks += (comments or {}).get(position, ())
        size = len(record.frame)
        yield _block(
            _ENHANCED_PACKET,
            struct.pack("<IIIII", number, record.time >> 32, record.time & 0xFFFFFFFF, size, size) + _padded(record.frame),
            [(_EPB_FLAGS, struct.pack("<I", flags)), *_comments(remarks)],
        )


def write_pcapng(
    path: Path | str, records: Iterable[FrameRecord], comments: Mapping[int, Sequence[str]] | None = None, about: str = ""
) -> None:
    """Write `records` to the file `path`, over what was there; the other arguments are those of `pcapng`."""
    with Path(path).open("wb") as file:
        file.writelines(pcapng(records, comments, about))


def _interface(first: FrameRecord) -> bytes:
    seen = f"seen from {first.source}: its frames are outbound, those of {first.destination} inbound"
    return _block(
        _INTERFACE_DESCRIPTION,
        struct.pack("<HHI", _LINKTYPE_ETHERNET, 0, _NO_SNAPLEN),
        [(_IF_NAME, first.link.encode()), (_IF_DESCRIPTION, seen.encode()), (_IF_TSRESOL, _NANOSECONDS)],
    )


def _comments(remarks: Iterable[str]) -> list[_Option]:
    return [(_OPT_COMMENT, remark.encode()[:_LONGEST_OPTION]) for remark in remarks]


def _block(kind: int, body: bytes, options: Iterable[_Option]) -> bytes:
    for code, value in options:
        body += struct.pack("<HH", code, len(value)) + _padded(value)
    body += struct.pack("<HH", _OPT_ENDOFOPT, 0)
    length = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + length + body + length


def _padded(octets: bytes) -> bytes:
    return octets + bytes(-len(octets) % 4)
