"""What an IPv6 node must say about extension headers that it cannot take (RFC 8200 4.2 and 4.4, RFC 5095).

Options in hop-by-hop and destination headers that are not known are skipped, or end the packet, as the two high bits of
their type want (4.2). Known are the paddings and the router alert (RFC 2711), which asks for nothing here. A routing header that is
not at its end asks for a way that nobody here goes: type 0 must not be followed (RFC 5095 3), the others are not known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from netemu.wire.icmpv6 import Icmpv6ParameterProblemCode as ParameterProblemCode
from netemu.wire.ipv6 import HEADER_LENGTH, Extension, IPv6, NextHeader

__all__ = ["Problem", "find_problem"]

_PAD1: Final = 0  # RFC 8200 4.2
_KNOWN: Final = frozenset({1, 5})  # PadN; Router Alert (RFC 2711 2.1)
_PREFIX: Final = 2  # Next Header and Hdr Ext Len, in front of an extension's data
_WITH_OPTIONS: Final = frozenset({NextHeader.HOP_BY_HOP, NextHeader.DESTINATION_OPTIONS})

# The two high bits of an option's type: skip it, or discard the packet and tell nobody, anybody, or anybody who sent to one.
_SKIP, _DISCARD, _TELL, _TELL_UNICAST = range(4)


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a packet ends: `code` and `pointer` of a parameter problem. `told`: its source gets to know."""

    code: ParameterProblemCode
    pointer: int
    told: bool


def find_problem(packet: IPv6) -> Problem | None:
    """The first thing in the extension headers of `packet` that ends it; None: nothing does."""
    at = HEADER_LENGTH
    for extension in packet.extensions:
        problem = None
        if extension.next_header_type in _WITH_OPTIONS:
            problem = _bad_option(extension.data, at + _PREFIX, multicast=packet.destination.is_multicast)
        elif extension.next_header_type == NextHeader.ROUTING and _segments_left(extension):
            problem = Problem(ParameterProblemCode.HEADER_FIELD, at + _PREFIX, told=True)
        if problem is not None:
            return problem
        at += _PREFIX + len(extension.data)
    return None


def _segments_left(extension: Extension) -> int:
    return extension.data[1]


def _bad_option(data: bytes, offset: int, *, multicast: bool) -> Problem | None:
    """The first option in `data`, which begins at octet `offset` of the packet, that is not to be skipped."""
    at = 0
    while at < len(data):
        kind = data[at]
        if kind == _PAD1:
            at += 1
            continue
        end = at + 2 + data[at + 1] if at + 1 < len(data) else len(data) + 1
        if end > len(data):
            return Problem(ParameterProblemCode.HEADER_FIELD, offset + at, told=True)
        action = kind >> 6
        if kind not in _KNOWN and action != _SKIP:
            told = action == _TELL or (action == _TELL_UNICAST and not multicast)
            return Problem(ParameterProblemCode.OPTION, offset + at, told)
        at = end
    return None
