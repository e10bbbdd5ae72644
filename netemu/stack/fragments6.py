"""IPv6 fragments: taking packets apart at their source and putting them together (RFC 8200 4.5).

Theory of operation. The tables are those of IPv4 (`fragments`): one buffer and a sorted list of ranges for each packet, 64 packets
at a time, 60 seconds. The rules are other ones. Source, destination and identification alone tell packets apart. Any overlap
discards the packet and whatever else of it comes, exact duplicates excepted (RFC 5722 4, RFC 8200 4.5). An atomic fragment,
whole by itself, never meets the others (RFC 6946 4). A packet in more than 1,024 pieces is discarded too. Two rules answer with an
ICMPv6 error, which the caller sends: a length that is no multiple of 8, and a packet that would be longer than 65,535 octets; these
are `BadFragmentError`s.

The headers in front of the first fragment's fragment header are those of the whole packet; the headers behind it, which only the
whole packet holds for sure, are read again from its octets.

Only a packet's source fragments it, so `fragment6` puts the fragment header behind what is for every hop: the hop-by-hop options
and the routing header (RFC 8200 4.5). What is not done: limits for one source alone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from netemu.errors import LocalError
from netemu.stack.fragments import CONGESTION_EXPERIENCED, PartialTable
from netemu.wire.errors import WireError
from netemu.wire.ipv6 import HEADER_LENGTH, MAXIMUM_PAYLOAD, Extension, Fragment6, IPv6, NextHeader, read_extensions

__all__ = ["MAX_PIECES", "BadFragmentError", "Reassembler6", "fragment6", "without_fragment_header"]

MAX_PIECES: Final = 1024  # of one packet; at the smallest MTU the longest packet has 54
_FRAGMENT_HEADER: Final = 8
_PAYLOAD_LENGTH: Final = 4  # where that field is, for the pointer of a parameter problem
_OFFSET_FIELD: Final = 2  # in the fragment header
_ECN: Final = 3  # of the traffic class (RFC 3168 5)
_FOR_EVERY_HOP: Final = frozenset({NextHeader.HOP_BY_HOP, NextHeader.ROUTING})


class BadFragmentError(WireError):
    """A fragment to be answered with a parameter problem, code 0, whose pointer is `offset`."""


class Reassembler6(PartialTable[IPv6]):
    """Puts fragments together."""

    def receive(self, packet: IPv6, now: int) -> IPv6 | None:
        """Add a fragment; the packet when that made it whole. What is no fragment comes back, without an atomic header.

        Raises `BadFragmentError` where an error is due, and `WireError` when the headers of the whole packet are wrong.
        """
        header = packet.fragment
        if header is None:
            return packet
        if not packet.is_fragment:
            self.counters["fragments-atomic"] += 1
            return without_fragment_header(packet)
        start, end = header.offset, header.offset + len(packet.payload)
        if header.more and len(packet.payload) & 7:
            self.counters["fragments-bad-length"] += 1
            raise BadFragmentError(
                "ipv6.payload_length", _PAYLOAD_LENGTH, "a fragment that is not the last has whole units of 8 octets"
            )
        if end + packet.header_length - HEADER_LENGTH - _FRAGMENT_HEADER > MAXIMUM_PAYLOAD:
            self.counters["fragments-oversize"] += 1
            at = packet.header_length - _FRAGMENT_HEADER + _OFFSET_FIELD
            raise BadFragmentError("ipv6.fragment_offset", at, f"the packet would have {end} octets and more")
        if not packet.payload:
            self.counters["fragments-bad-length"] += 1
            return None
        key = (packet.source, packet.destination, NextHeader.FRAGMENT, header.identification)
        partial = self._partials.get(key) or self._begin(key, now)
        if (start, end) in partial.pieces and partial.data[start:end] == packet.payload:
            self.counters["fragments-duplicate"] += 1
            return None
        if partial.poisoned or partial.overlaps(start, end) or not partial.add(start, packet.payload, not header.more):
            self.counters["fragments-contradictory"] += 1
            partial.poison()
            return None
        partial.pieces.add((start, end))
        if len(partial.pieces) > MAX_PIECES:
            self.counters["fragments-too-many"] += 1
            partial.poison()
            return None
        if start == 0:
            partial.first = packet
        partial.marked |= packet.traffic_class & _ECN == CONGESTION_EXPERIENCED
        if partial.first is None or not partial.whole:
            return None
        del self._partials[key]
        self.counters["fragments-reassembled"] += 1
        whole = without_fragment_header(replace(partial.first, payload=bytes(partial.data)))
        return replace(whole, traffic_class=whole.traffic_class | _ECN) if partial.marked else whole


def without_fragment_header(packet: IPv6) -> IPv6:
    """`packet` as it was before it was a fragment; the extensions that its payload begins with are read.

    Raises `WireError` when they are wrong.
    """
    kept = tuple(extension for extension in packet.extensions if extension.next_header_type != NextHeader.FRAGMENT)
    behind, next_header, payload = read_extensions(packet.next_header, packet.payload)
    return replace(packet, extensions=kept + behind, next_header=next_header, payload=payload)


def fragment6(packet: IPv6, mtu: int, identification: int) -> list[IPv6]:
    """Cut `packet` to an MTU of `mtu` octets, 1,280 or more; a packet that fits comes back alone.

    `identification` has 32 bits. Raises `LocalError` where nothing fits behind the headers.
    """
    if packet.header_length + len(packet.payload) <= mtu:
        return [packet]
    kept = tuple(extension for extension in packet.extensions if extension.next_header_type in _FOR_EVERY_HOP)
    inner = IPv6(packet.source, packet.destination, packet.next_header, packet.payload, extensions=packet.extensions[len(kept) :])
    body = inner.pack()[HEADER_LENGTH:]
    front = HEADER_LENGTH + sum(2 + len(extension.data) for extension in kept) + _FRAGMENT_HEADER
    size = (mtu - front) & ~7
    if size <= 0:
        raise LocalError(f"an MTU of {mtu} octets: headers of {front} and eight octets of data are the least")
    next_header = inner.extensions[0].next_header_type if inner.extensions else packet.next_header
    pieces = []
    for begin in range(0, len(body), size):
        header = Fragment6(begin, begin + size < len(body), identification).extension()
        extensions: tuple[Extension, ...] = (*kept, header)
        pieces.append(replace(packet, extensions=extensions, next_header=next_header, payload=body[begin : begin + size]))
    return pieces
