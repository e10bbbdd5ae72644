"""Domain name messages (RFC 1035 4; AAAA RFC 3596, SRV RFC 2782, OPT RFC 6891).

Names are decompressed when read, in the data of the types that may hold compressed ones too (RFC 3597 4), so that a record
can be moved from message to message. `pack` compresses the names of questions and records, not those inside data. The
header's reserved bits and octets behind the last record are ignored.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from enum import IntEnum
from ipaddress import ip_address
from typing import Final, Self

from netemu.wire.dns_name import append_name, name_labels, name_text, pack_labels, read_labels
from netemu.wire.errors import WireError
from netemu.wire.fields import Buffer, IPAddress, check_limits, pack_fields, unpack_fields

__all__ = ["CLASS_IN", "DnsMessage", "Question", "RecordType", "ResourceRecord", "ResponseCode", "a_record", "name_record"]

CLASS_IN: Final = 1  # RFC 1035 3.2.4

_HEADER: Final = struct.Struct("!HHHHHH")
_QUESTION: Final = struct.Struct("!HH")
_RECORD: Final = struct.Struct("!HHIH")

_RESPONSE: Final = 0x8000  # RFC 1035 4.1.1, from QR down to RA
_AUTHORITATIVE: Final = 0x0400
_TRUNCATED: Final = 0x0200
_RECURSION_DESIRED: Final = 0x0100
_RECURSION_AVAILABLE: Final = 0x0080
_OPCODE_SHIFT: Final = 11

_SHARED_LIMITS: Final = {"opcode": 0xF, "response_code": 0xF}
_HEADER_LIMITS: Final = {"identification": 0xFFFF}
_QUESTION_LIMITS: Final = {"type": 0xFFFF, "class_": 0xFFFF}
_RECORD_LIMITS: Final = {"type": 0xFFFF, "class_": 0xFFFF, "ttl": 0xFFFFFFFF}


class RecordType(IntEnum):
    """TYPE and QTYPE values (RFC 1035 3.2.2 and 3.2.3, and the documents named above)."""

    A = 1
    NS = 2
    CNAME = 5
    SOA = 6
    PTR = 12
    HINFO = 13
    MX = 15
    TXT = 16
    AAAA = 28
    SRV = 33
    OPT = 41
    HTTPS = 65  # RFC 9460
    AXFR = 252
    ANY = 255


class ResponseCode(IntEnum):
    """RCODE values (RFC 1035 4.1.1)."""

    NO_ERROR = 0
    FORMAT_ERROR = 1
    SERVER_FAILURE = 2
    NAME_ERROR = 3
    NOT_IMPLEMENTED = 4
    REFUSED = 5


# Where names lie in a type's data: octets in front, how many names, octets behind (RFC 1035 3.3, RFC 2782).
_NAMES_IN_DATA: Final = {
    RecordType.NS: (0, 1, 0),
    RecordType.CNAME: (0, 1, 0),
    RecordType.SOA: (0, 2, 20),
    RecordType.PTR: (0, 1, 0),
    RecordType.MX: (2, 1, 0),
    RecordType.SRV: (6, 1, 0),
}
_ADDRESS_LENGTHS: Final[dict[int, int]] = {RecordType.A: 4, RecordType.AAAA: 16}
_ADDRESS_TYPES: Final = {4: RecordType.A, 6: RecordType.AAAA}


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: `name` as text without the final dot (`dns_name`), QTYPE and QCLASS 16 bits each."""

    name: str
    type: int
    class_: int = CLASS_IN


@dataclass(frozen=True, slots=True)
class ResourceRecord:
    """One record; `ttl` in seconds, 32 bits; `data` is RDATA with the names in it not compressed."""

    name: str
    type: int
    ttl: int
    data: bytes
    class_: int = CLASS_IN

    @property
    def address(self) -> IPAddress | None:
        """The address in an A or AAAA record; None for another type."""
        return ip_address(self.data) if len(self.data) == _ADDRESS_LENGTHS.get(self.type) else None


@dataclass(frozen=True, slots=True)
class DnsMessage:
    """One message; `identification` has 16 bits, `opcode` and `response_code` 4."""

    identification: int
    questions: tuple[Question, ...] = ()
    answers: tuple[ResourceRecord, ...] = ()
    authorities: tuple[ResourceRecord, ...] = ()
    additionals: tuple[ResourceRecord, ...] = ()
    response: bool = False
    opcode: int = 0
    authoritative: bool = False
    truncated: bool = False
    recursion_desired: bool = False
    recursion_available: bool = False
    response_code: int = ResponseCode.NO_ERROR

    def reply(self, response_code: int = ResponseCode.NO_ERROR) -> Self:
        """The answer to this question as it begins: without records, from who offers recursion."""
        return replace(
            self,
            answers=(),
            authorities=(),
            additionals=(),
            response=True,
            authoritative=False,
            truncated=False,
            recursion_available=True,
            response_code=response_code,
        )

    @classmethod
    def parse(cls, data: Buffer) -> Self:
        """Read a message, without the length that TCP puts in front; raises `WireError`."""
        identification, flags, *counts = unpack_fields(_HEADER, data, "dns")
        at = _HEADER.size
        questions = []
        for _ in range(counts[0]):
            question, at = _read_question(data, at)
            questions.append(question)
        answers, at = _read_records(data, at, counts[1])
        authorities, at = _read_records(data, at, counts[2])
        additionals, at = _read_records(data, at, counts[3])
        return cls(
            identification,
            tuple(questions),
            answers,
            authorities,
            additionals,
            response=bool(flags & _RESPONSE),
            opcode=flags >> _OPCODE_SHIFT & 0xF,
            authoritative=bool(flags & _AUTHORITATIVE),
            truncated=bool(flags & _TRUNCATED),
            recursion_desired=bool(flags & _RECURSION_DESIRED),
            recursion_available=bool(flags & _RECURSION_AVAILABLE),
            response_code=flags & 0xF,
        )

    def pack(self) -> bytes:
        """The message's octets; raises `LocalError` for a bad name or a field out of its range."""
        check_limits(self, _SHARED_LIMITS)
        flags = (
            (_RESPONSE if self.response else 0)
            | self.opcode << _OPCODE_SHIFT
            | (_AUTHORITATIVE if self.authoritative else 0)
            | (_TRUNCATED if self.truncated else 0)
            | (_RECURSION_DESIRED if self.recursion_desired else 0)
            | (_RECURSION_AVAILABLE if self.recursion_available else 0)
            | self.response_code
        )
        sections = (self.answers, self.authorities, self.additionals)
        counts = (len(self.questions), *map(len, sections))
        message = bytearray(pack_fields(_HEADER, self, _HEADER_LIMITS, self.identification, flags, *counts))
        targets: dict[tuple[bytes, ...], int] = {}
        for question in self.questions:
            append_name(message, question.name, targets)
            message += pack_fields(_QUESTION, question, _QUESTION_LIMITS, question.type, question.class_)
        for records in sections:
            for record in records:
                append_name(message, record.name, targets)
                fields = (record.type, record.class_, record.ttl, len(record.data))
                message += pack_fields(_RECORD, record, _RECORD_LIMITS, *fields)
                message += record.data
        return bytes(message)


def a_record(name: str, address: IPAddress, ttl: int) -> ResourceRecord:
    """`name` has this address, for `ttl` seconds: an A record, or AAAA for an IPv6 address."""
    return ResourceRecord(name, _ADDRESS_TYPES[address.version], ttl, address.packed)


def name_record(name: str, kind: RecordType, target: str, ttl: int) -> ResourceRecord:
    """A record of `name` whose data is the name `target`, for `ttl` seconds: CNAME or PTR, say; raises `LocalError`."""
    return ResourceRecord(name, kind, ttl, pack_labels(name_labels(target)))


def _read_question(data: Buffer, at: int) -> tuple[Question, int]:
    labels, at = read_labels(data, at, "dns.qname")
    try:
        kind, class_ = _QUESTION.unpack_from(data, at)
    except struct.error:
        raise WireError("dns.qtype", at, "the question runs past the end") from None
    return Question(name_text(labels), kind, class_), at + _QUESTION.size


def _read_records(data: Buffer, at: int, count: int) -> tuple[tuple[ResourceRecord, ...], int]:
    records = []
    for _ in range(count):
        record, at = _read_record(data, at)
        records.append(record)
    return tuple(records), at


def _read_record(data: Buffer, at: int) -> tuple[ResourceRecord, int]:
    labels, at = read_labels(data, at, "dns.name")
    try:
        kind, class_, ttl, length = _RECORD.unpack_from(data, at)
    except struct.error:
        raise WireError("dns.type", at, "the record runs past the end") from None
    at += _RECORD.size
    end = at + length
    if end > len(data):
        raise WireError("dns.rdlength", at - 2, f"{length} octets announced, {len(data) - at} are here")
    if class_ == CLASS_IN and length != _ADDRESS_LENGTHS.get(kind, length):
        raise WireError("dns.rdlength", at - 2, f"{length} octets are no address of type {RecordType(kind).name}")
    return ResourceRecord(name_text(labels), kind, ttl, _read_data(data, at, end, kind), class_), end


def _read_data(data: Buffer, at: int, end: int, kind: int) -> bytes:
    """RDATA from `at` to `end`, the names in it decompressed."""
    if kind not in _NAMES_IN_DATA or at == end:
        return bytes(data[at:end])
    front, names, behind = _NAMES_IN_DATA[RecordType(kind)]
    begin = at
    parts = [bytes(data[at : at + front])]
    at += front
    for _ in range(names):
        labels, at = read_labels(data, at, "dns.rdata")
        parts.append(pack_labels(labels))
    if at + behind != end:
        raise WireError("dns.rdata", begin, f"the data of type {RecordType(kind).name} does not fill its length")
    parts.append(bytes(data[at:end]))
    return b"".join(parts)
