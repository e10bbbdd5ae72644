"""What a destination does about the extension headers of a packet (RFC 8200 4.2 to 4.5, RFC 5095).

`problem_with` looks through the options of hop-by-hop and destination headers and at routing headers, in their order, and gives the
first reason not to go on, or None. An option nobody knows says itself, in the two high bits of its type, what is to be done; this
host knows padding and the router alert, which only routers act on. A routing header matters while segments are left, and
this host visits none: every type is an unknown one, type 0 too (RFC 5095 3). A first fragment has all headers, that of the upper
layer included (RFC 8200 4.5).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from netemu.wire.errors import WireError
from netemu.wire.icmpv6 import Icmpv6ParameterProblemCode
from netemu.wire.ipv6 import HEADER_LENGTH, IPv6, NextHeader, read_extensions

__all__ = ["HeaderProblem", "problem_with"]

_PAD1: Final = 0  # RFC 8200 4.2
_KNOWN: Final = frozenset({1, 5})  # PadN; router alert (RFC 2711 2.1)
_ACTION: Final = 6  # the shift of the two bits (RFC 8200 4.2)
_SKIP: Final = 0
_DISCARD: Final = 1
_NEVER_FOR_MULTICAST: Final = 3
_WITH_OPTIONS: Final = frozenset({NextHeader.HOP_BY_HOP, NextHeader.DESTINATION_OPTIONS})
_FRONT: Final = 2  # octets of an extension header before its data
_UPPER_LAYER: Final[Mapping[int, int]] = {
    NextHeader.TCP: 20,
    NextHeader.UDP: 8,
    NextHeader.ICMPV6: 8,
}  # octets of their fixed headers


@dataclass(frozen=True, slots=True)
class HeaderProblem:
    """The packet is discarded. `code` and `pointer` are those of the parameter problem to send; `silent`: send none."""

    code: Icmpv6ParameterProblemCode
    pointer: int
    silent: bool = False


def problem_with(packet: IPv6) -> HeaderProblem | None:
    """Why `packet` must not be delivered; None: its extension headers are fine."""
    at = HEADER_LENGTH
    for extension in packet.extensions:
        found = None
        if extension.next_header_type in _WITH_OPTIONS:
            found = _problem_in_options(extension.data, at + _FRONT, multicast=packet.destination.is_multicast)
        elif extension.next_header_type == NextHeader.ROUTING and extension.data[1]:  # Segments Left (RFC 8200 4.4)
            found = HeaderProblem(Icmpv6ParameterProblemCode.HEADER_FIELD, at + _FRONT)
        if found is not None:
            return found
        at += _FRONT + len(extension.data)
    fragment = packet.fragment
    if fragment is not None and not fragment.offset and not _has_all_headers(packet):
        return HeaderProblem(Icmpv6ParameterProblemCode.INCOMPLETE_CHAIN, 0)
    return None


def _has_all_headers(packet: IPv6) -> bool:
    """The payload of a first fragment holds the rest of its headers."""
    try:
        _, upper_layer, payload = read_extensions(packet.next_header, packet.payload)
    except WireError:
        return False
    return len(payload) >= _UPPER_LAYER.get(upper_layer, 0)


def _problem_in_options(data: bytes, offset: int, *, multicast: bool) -> HeaderProblem | None:
    at = 0
    while at < len(data):
        kind = data[at]
        if kind == _PAD1:
            at += 1
            continue
        end = at + 2 + data[at + 1] if at + 1 < len(data) else len(data) + 1
        if end > len(data):
            return HeaderProblem(Icmpv6ParameterProblemCode.HEADER_FIELD, offset + at + 1)
        action = kind >> _ACTION
        if kind not in _KNOWN and action != _SKIP:
            silent = action == _DISCARD or (action == _NEVER_FOR_MULTICAST and multicast)
            return HeaderProblem(Icmpv6ParameterProblemCode.OPTION, offset + at, silent)
        at = end
    return None
