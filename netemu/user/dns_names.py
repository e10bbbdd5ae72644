"""Names of the test's own, which a user-mode network's DNS server answers by itself (RFC 1034 4.3.2, 3: authoritative data).

A name has addresses of either family, or is the alias of another one of them (CNAME); an answer follows aliases (RFC 1034 3.6.2).
An address that was given leads back to its names (PTR, RFC 1035 3.5 and RFC 3596 2.5). A name's other types have no answer (NODATA,
RFC 2308 2.2), names below it do not exist as little as others: those are the host's name server's business. Case does not matter
(RFC 4343).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from netemu.errors import LocalError
from netemu.wire.address import IPAddress
from netemu.wire.dns import CLASS_IN, DnsMessage, RecordType, ResourceRecord, a_record, name_record

__all__ = ["UDP_LIMIT", "DnsNames"]

UDP_LIMIT: Final = 512  # octets, RFC 1035 4.2.1
_RECORD_TTL: Final = 60  # seconds; a test may change its mind


class DnsNames:
    """The names, a pair for each address or alias. Raises `LocalError` for an alias of nothing, or of itself."""

    def __init__(self, pairs: Iterable[tuple[str, IPAddress | str]]) -> None:
        self._records: dict[str, list[ResourceRecord]] = {}
        self._aliases: dict[str, str] = {}
        for name, target in pairs:
            if isinstance(target, str):
                self._aliases[_folded(name)] = target
                self._add(name_record(name, RecordType.CNAME, target, _RECORD_TTL))
            else:
                self._add(a_record(name, target, _RECORD_TTL))
                self._add(name_record(target.reverse_pointer, RecordType.PTR, name.rstrip("."), _RECORD_TTL))
        for name in self._aliases:
            self._check(name)

    def answer(self, query: DnsMessage, limit: int = UDP_LIMIT) -> DnsMessage | None:
        """The answer of at most `limit` octets to a question about one of the names; None for another question."""
        if query.opcode != 0 or len(query.questions) != 1 or query.questions[0].class_ != CLASS_IN:
            return None
        question = query.questions[0]
        if _folded(question.name) not in self._records:
            return None
        reply = replace(query.reply(), authoritative=True, answers=tuple(self._answers(question.name, question.type)))
        return reply if len(reply.pack()) <= limit else replace(reply, answers=(), truncated=True)

    def _answers(self, name: str, kind: int) -> list[ResourceRecord]:
        """What there is of a type, or of any; behind the aliases that lead to it."""
        wanted = set(RecordType) if kind == RecordType.ANY else {kind, RecordType.CNAME}
        found = [replace(record, name=name) for record in self._records[_folded(name)] if record.type in wanted]
        target = self._aliases.get(_folded(name))
        if target is None or kind in (RecordType.CNAME, RecordType.ANY):
            return found
        return found + self._answers(target, kind)

    def _add(self, record: ResourceRecord) -> None:
        self._records.setdefault(_folded(record.name), []).append(record)

    def _check(self, alias: str) -> None:
        """An alias has nothing else (RFC 1034 3.6.2) and leads somewhere."""
        seen, name = {alias}, alias
        while (target := self._aliases.get(name)) is not None:
            name = _folded(target)
            if len(self._records[alias]) > 1 or name in seen or name not in self._records:
                raise LocalError(
                    f"dns-name={alias}={target}: an alias has one target, another one of the names given, and no address"
                )
            seen.add(name)


def _folded(name: str) -> str:
    return name.rstrip(".").lower()
