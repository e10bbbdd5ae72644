"""A stub resolver's question: one name, asked over UDP until somebody answers (RFC 1035 4.2.1, 7; RFC 1123 6.1.3; RFC 3596).

Theory of operation. A `DnsQuery` asks each server in turn, five seconds apart, three rounds. An answer counts if it comes from the
server asked, with the identification and the question of this query (RFC 5452 9); ports are the caller's, who should use a fresh
one for each query. CNAMEs are followed within the answer. A truncated answer is reported; the caller asks the same `request`
again over TCP, and gives that answer to `receive_tcp`.

What is not done: caching, search lists, EDNS, iteration.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Final

from netemu.errors import LocalError
from netemu.net.clock import SECOND
from netemu.wire.address import Endpoint, Family, IPAddress
from netemu.wire.dns import DnsMessage, Question, RecordType, ResponseCode
from netemu.wire.dns_name import name_text, read_labels
from netemu.wire.errors import WireError

__all__ = ["DNS_PORT", "RETRY_INTERVAL", "ROUNDS", "DnsOutcome", "DnsQuery"]

DNS_PORT: Final = 53
RETRY_INTERVAL: Final = 5 * SECOND  # RFC 1035 4.2.1 wants 2 to 5 s
ROUNDS: Final = 3
_TYPES: Final[dict[Family, RecordType]] = {4: RecordType.A, 6: RecordType.AAAA}
_MAX_CHAIN: Final = 16  # CNAMEs followed


class DnsOutcome(Enum):
    """What became of a query. NO_DATA: the name has no such record, or does not exist; FAILED: see `response_code`."""

    ASKING = auto()
    ANSWERED = auto()
    NO_DATA = auto()
    TRUNCATED = auto()
    FAILED = auto()
    TIMED_OUT = auto()


class DnsQuery:
    """Asks `servers` for the addresses of `name` in one family: A or AAAA records.

    `LocalError` for a name that cannot be asked, or without servers.
    """

    def __init__(self, name: str, servers: Sequence[Endpoint], getrandbits: Callable[[int], int], family: Family = 4) -> None:
        if not servers:
            raise LocalError(f"resolve {name!r}: no DNS server is known; give server=, or lease an address first")
        self.outcome = DnsOutcome.ASKING
        self.addresses: list[IPAddress] = []
        self.response_code: int = ResponseCode.NO_ERROR
        self.server = servers[0]
        self._name = name.rstrip(".")
        self._question = Question(self._name, _TYPES[family])
        self._identification = getrandbits(16)
        self._servers = tuple(servers)
        self._tries = 0
        self._due: int | None = 0
        self.request = DnsMessage(self._identification, (self._question,), recursion_desired=True).pack()

    def transmit(self, now: int) -> list[tuple[bytes, Endpoint]]:
        """The request to send now, and to whom; empty when it is not time."""
        if self._due is None or self._due > now:
            return []
        if self._tries == ROUNDS * len(self._servers):
            self._finish(DnsOutcome.TIMED_OUT)
            return []
        self.server = self._servers[self._tries % len(self._servers)]
        self._tries += 1
        self._due = now + RETRY_INTERVAL
        return [(self.request, self.server)]

    def deadline(self) -> int | None:
        """When `transmit` wants to be called next; None once there is an outcome."""
        return self._due

    def receive(self, payload: bytes, source: Endpoint) -> None:
        """A datagram came; anything but the answer is ignored."""
        if self.outcome is not DnsOutcome.ASKING or source not in self._servers[: self._tries]:
            return
        message = self._read(payload)
        if message is None:
            return
        if message.truncated:
            self._finish(DnsOutcome.TRUNCATED)
        else:
            self._conclude(message)

    def receive_tcp(self, payload: bytes) -> None:
        """The answer over TCP to a question whose answer over UDP was truncated (without the length in front)."""
        message = self._read(payload)
        if message is None:
            self._finish(DnsOutcome.FAILED)
        else:
            self._conclude(message)

    def _read(self, payload: bytes) -> DnsMessage | None:
        try:
            message = DnsMessage.parse(payload)
        except WireError:
            return None
        if not message.response or message.identification != self._identification or len(message.questions) != 1:
            return None
        asked = message.questions[0]
        if asked.name.lower() != self._name.lower() or (asked.type, asked.class_) != (self._question.type, self._question.class_):
            return None
        return message

    def _conclude(self, message: DnsMessage) -> None:
        self.response_code = message.response_code
        if message.response_code == ResponseCode.NAME_ERROR:
            self._finish(DnsOutcome.NO_DATA)
        elif message.response_code != ResponseCode.NO_ERROR:
            self._finish(DnsOutcome.FAILED)
        else:
            self.addresses = self._follow(message)
            self._finish(DnsOutcome.ANSWERED if self.addresses else DnsOutcome.NO_DATA)

    def _follow(self, message: DnsMessage) -> list[IPAddress]:
        """The addresses of the name, or of the name that its CNAMEs lead to."""
        name = self._name.lower()
        for _ in range(_MAX_CHAIN):
            records = [record for record in message.answers if record.name.lower() == name]
            asked = [record.address for record in records if record.type == self._question.type]
            addresses = [address for address in asked if address is not None]
            if addresses:
                return addresses
            target = next((record.data for record in records if record.type == RecordType.CNAME), None)
            if target is None:
                return []
            name = name_text(read_labels(target, 0, "dns.cname")[0]).lower()
        return []

    def _finish(self, outcome: DnsOutcome) -> None:
        self.outcome = outcome
        self._due = None
