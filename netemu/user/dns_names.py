"""Names of the test's own, which a user-mode network's DNS server answers by itself (RFC 1034 4.3.2, 3: authoritative data).

A name has IPv4 addresses. Its other types have no answer (NODATA, RFC 2308 2.2), names below it do not exist as little as others:
those are the host's name server's business. Case does not matter (RFC 4343).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Final

from netemu.wire.dns import CLASS_IN, DnsMessage, RecordType, a_record

__all__ = ["DnsNames"]

_UDP_LIMIT: Final = 512  # octets, RFC 1035 4.2.1
_RECORD_TTL: Final = 60  # seconds; a test may change its mind


class DnsNames:
    """The names and their addresses, a pair for each address."""

    def __init__(self, pairs: Iterable[tuple[str, IPv4Address]]) -> None:
        self._addresses: dict[str, list[IPv4Address]] = {}
        for name, address in pairs:
            self._addresses.setdefault(_folded(name), []).append(address)

    def answer(self, query: DnsMessage) -> DnsMessage | None:
        """The answer to a question about one of the names; None for another question."""
        if query.opcode != 0 or len(query.questions) != 1 or query.questions[0].class_ != CLASS_IN:
            return None
        question = query.questions[0]
        addresses = self._addresses.get(_folded(question.name))
        if addresses is None:
            return None
        wanted = addresses if question.type in (RecordType.A, RecordType.ANY) else []
        reply = DnsMessage(
            query.identification,
            query.questions,
            response=True,
            authoritative=True,
            recursion_desired=query.recursion_desired,
            recursion_available=True,
            answers=tuple(a_record(question.name, address, _RECORD_TTL) for address in wanted),
        )
        return reply if len(reply.pack()) <= _UDP_LIMIT else replace(reply, answers=(), truncated=True)


def _folded(name: str) -> str:
    return name.rstrip(".").lower()
