"""IPv4 fragments: taking datagrams apart and putting them together.

Theory of operation. The fragments of one datagram share source, destination, protocol and identification. Each is copied to its
place in one buffer, and the ranges that are there are kept as a short sorted list; when one range covers everything up to the end
that the last fragment told, the datagram is whole (the list is the complement of RFC 815's holes). A datagram that is
not whole 60 seconds after its first fragment is given up, and its first fragment, if it came, is handed back to be quoted
in an ICMP error.

Policy. Fragments that overlap with the same octets (duplicates, another router's other cuts) are fine. Octets that contradict what
came before, or a second and different end, discard the datagram and whatever else of it comes until the timeout, as RFC 5722 4
does for IPv6: no honest sender does this, and which copy wins is what evasion tools play with. Bounds: 64 datagrams at a time
(the oldest goes), 65,535 octets and 256 separate ranges each (more is treated as a contradiction).

Documents: RFC 791 3.2, RFC 815, RFC 1122 3.3.2 and 3.3.3, RFC 3168 5.3 (congestion marks of fragments). What is not done:
limits for one source alone. IPv6 has other rules on the same tables: `fragments6`.
"""

from __future__ import annotations

import errno
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Final, Generic, TypeAlias, TypeVar

from netemu.errors import HostError, LocalError
from netemu.net.clock import SECOND
from netemu.wire.fields import IPAddress
from netemu.wire.ipv4 import MAXIMUM_LENGTH, IPv4

__all__ = [
    "CONGESTION_EXPERIENCED",
    "MAX_DATAGRAMS",
    "MAX_RANGES",
    "REASSEMBLY_TIMEOUT",
    "Partial",
    "PartialTable",
    "Reassembler",
    "fragment",
]

REASSEMBLY_TIMEOUT: Final = 60 * SECOND  # fixed, 60 to 120 s (RFC 1122 3.3.2); 60 s (RFC 8200 4.5)
MAX_DATAGRAMS: Final = 64
MAX_RANGES: Final = 256  # a 64 KB datagram at an MTU of 576 has 119 fragments, so 60 gaps at most

CONGESTION_EXPERIENCED: Final = 3  # RFC 3168 5
_COPIED: Final = 0x80  # an option's copied flag (RFC 791 3.1)
_END_OF_OPTIONS: Final = 0
_NO_OPERATION: Final = 1

_Key: TypeAlias = tuple[IPAddress, IPAddress, int, int]

Packet = TypeVar("Packet")


@dataclass(slots=True)
class Partial(Generic[Packet]):
    """A datagram that is not whole yet. `ranges` are disjoint and sorted; `poisoned`: it contradicted itself."""

    deadline: int
    first: Packet | None = None
    end: int | None = None
    marked: bool = False
    poisoned: bool = False
    data: bytearray = field(default_factory=bytearray)
    ranges: list[tuple[int, int]] = field(default_factory=list)
    pieces: set[tuple[int, int]] = field(default_factory=set)  # as they came, where that matters

    def add(self, start: int, payload: bytes, last: bool) -> bool:
        """Put `payload` in its place; False if it contradicts what is there, or leaves too many gaps."""
        end = start + len(payload)
        reached = self.ranges[-1][1] if self.ranges else 0
        if last:
            if reached > end or self.end not in (None, end):
                return False
            self.end = end
        elif self.end is not None and end > self.end:
            return False
        for known_start, known_end in self.ranges:
            low, high = max(start, known_start), min(end, known_end)
            if low < high and self.data[low:high] != payload[low - start : high - start]:
                return False
        if len(self.data) < end:
            self.data.extend(bytes(end - len(self.data)))
        self.data[start:end] = payload
        self._cover(start, end)
        return len(self.ranges) <= MAX_RANGES

    def _cover(self, start: int, end: int) -> None:
        apart = []
        for known_start, known_end in self.ranges:
            if known_end < start or known_start > end:
                apart.append((known_start, known_end))
            else:
                start, end = min(start, known_start), max(end, known_end)
        self.ranges = sorted([*apart, (start, end)])

    def overlaps(self, start: int, end: int) -> bool:
        """Some octet from `start` to `end` is there already."""
        return any(start < known_end and known_start < end for known_start, known_end in self.ranges)

    def poison(self) -> None:
        """Nothing of this datagram counts any more; what still comes of it is dropped until the timeout."""
        self.poisoned, self.data, self.ranges, self.pieces = True, bytearray(), [], set()

    @property
    def whole(self) -> bool:
        return self.end is not None and self.ranges == [(0, self.end)]


class PartialTable(Generic[Packet]):
    """The datagrams of one family that are not whole. `counters`: `fragments-...` by what became of them."""

    def __init__(self) -> None:
        self.counters: Counter[str] = Counter()
        self._partials: dict[_Key, Partial[Packet]] = {}  # in the order of their deadlines

    def __len__(self) -> int:
        return len(self._partials)

    def _begin(self, key: _Key, now: int) -> Partial[Packet]:
        if len(self._partials) >= MAX_DATAGRAMS:
            self.counters["fragments-evicted"] += 1
            del self._partials[next(iter(self._partials))]
        partial = self._partials[key] = Partial(now + REASSEMBLY_TIMEOUT)
        return partial

    def deadline(self) -> int | None:
        for partial in self._partials.values():
            return partial.deadline
        return None

    def expire(self, now: int) -> list[Packet]:
        """Give up what is too old; the first fragments of these datagrams, where they came (RFC 792, RFC 4443 3.3)."""
        given_up = []
        for key, partial in list(self._partials.items()):
            if partial.deadline > now:
                break
            del self._partials[key]
            self.counters["fragments-timeout"] += 1
            if partial.first is not None and not partial.poisoned:
                given_up.append(partial.first)
        return given_up


class Reassembler(PartialTable[IPv4]):
    """Puts fragments together."""

    def receive(self, packet: IPv4, now: int) -> IPv4 | None:
        """Add a fragment; the datagram when that made it whole. What is not a fragment comes back as it is."""
        if not packet.is_fragment:
            return packet
        start, end = packet.fragment_offset, packet.fragment_offset + len(packet.payload)
        if not packet.payload or (packet.more_fragments and len(packet.payload) & 7):
            self.counters["fragments-bad-length"] += 1
            return None
        if packet.header_length + end > MAXIMUM_LENGTH:
            self.counters["fragments-oversize"] += 1
            return None
        key = (packet.source, packet.destination, packet.protocol, packet.identification)
        partial = self._partials.get(key) or self._begin(key, now)
        if partial.poisoned or not partial.add(start, packet.payload, not packet.more_fragments):
            self.counters["fragments-contradictory"] += 1
            partial.poison()
            return None
        if start == 0 and partial.first is None:
            partial.first = packet
        partial.marked |= packet.ecn == CONGESTION_EXPERIENCED
        if partial.first is None or not partial.whole:
            return None
        del self._partials[key]
        return self._finish(partial, partial.first)

    def _finish(self, partial: Partial[IPv4], first: IPv4) -> IPv4 | None:
        if first.header_length + len(partial.data) > MAXIMUM_LENGTH:  # its options are longer than the last fragment's
            self.counters["fragments-oversize"] += 1
            return None
        self.counters["fragments-reassembled"] += 1
        ecn = CONGESTION_EXPERIENCED if partial.marked else first.ecn
        return replace(first, payload=bytes(partial.data), more_fragments=False, ecn=ecn)


def fragment(packet: IPv4, mtu: int) -> list[IPv4]:
    """Cut `packet` to an MTU of `mtu` octets (68 or more suit every packet); a packet that fits comes back alone.

    A packet that must not be cut is a `HostError` EMSGSIZE. A fragment can be cut again.
    """
    if packet.header_length + len(packet.payload) <= mtu:
        return [packet]
    if packet.dont_fragment:
        raise HostError(errno.EMSGSIZE, f"{packet.header_length + len(packet.payload)} octets to {packet.destination}")
    size = (mtu - packet.header_length) & ~7
    if size <= 0:
        raise LocalError(f"an MTU of {mtu} octets: a header of {packet.header_length} and eight octets of data are the least")
    later_options = _copied_options(packet.options)
    pieces = []
    for begin in range(0, len(packet.payload), size):
        piece = packet.payload[begin : begin + size]
        pieces.append(
            replace(
                packet,
                payload=piece,
                options=later_options if begin else packet.options,
                fragment_offset=packet.fragment_offset + begin,
                more_fragments=packet.more_fragments or begin + size < len(packet.payload),
            )
        )
    return pieces


def _copied_options(options: bytes) -> bytes:
    """The options that every fragment carries (RFC 791 3.1: the copied flag), padded to whole words."""
    copied = bytearray()
    at = 0
    while at < len(options) and options[at] != _END_OF_OPTIONS:
        length = 1 if options[at] == _NO_OPERATION else max(2, options[at + 1] if at + 1 < len(options) else 0)
        if options[at] & _COPIED:
            copied += options[at : at + length]
        at += length
    return bytes(copied).ljust((len(copied) + 3) & ~3, b"\0")
