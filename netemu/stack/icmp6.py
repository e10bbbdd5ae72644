"""ICMPv6 errors: when one may be sent, and what a received one says about what we sent (RFC 4443).

The parts are those of `icmp`: `error_about6` builds an error or says nothing where 2.4(e) forbids one; `report6` reads the packet
that a received error quotes, through its extension headers, and gives the same `IcmpReport`, so sockets see one kind of
error. `TokenBucket` limits both families.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv6Address
from typing import Final

from netemu.stack.icmp import IcmpReport
from netemu.wire.errors import WireError
from netemu.wire.fields import ipv6_address
from netemu.wire.icmpv6 import Icmpv6, Icmpv6ParameterProblemCode, Icmpv6Type
from netemu.wire.ipv6 import HEADER_LENGTH, IPv6, NextHeader

__all__ = ["error_about6", "local_report6", "report6"]

_TRANSPORT: Final = 8  # octets of the upper layer that must be quoted to find a socket
_SOURCE: Final = slice(8, 24)
_DESTINATION: Final = slice(24, 40)
_UNIT: Final = 8
_SKIPPED: Final = frozenset({NextHeader.HOP_BY_HOP, NextHeader.ROUTING, NextHeader.DESTINATION_OPTIONS, NextHeader.FRAGMENT})


def error_about6(
    packet: IPv6, source: IPv6Address, build: Callable[[bytes], Icmpv6], *, link_multicast: bool = False
) -> IPv6 | None:
    """The packet that tells the sender of `packet` what `build` makes of the quotation, or None where silence is due.

    RFC 4443 2.4(e): never about an ICMPv6 error or a redirect; never about a multicast, in the packet or
    (`link_multicast`) on the link, but for PACKET_TOO_BIG and an unknown option; never to a source that is no single node.
    A fragment other than the first may be complained of (RFC 8200 4.5); what it is a part of, it does not tell.
    """
    fragment = packet.fragment
    begins = fragment is None or not fragment.offset
    if packet.source.is_unspecified or packet.source.is_multicast:
        return None
    if begins and packet.next_header == NextHeader.ICMPV6 and _is_error(packet.payload):
        return None
    message = build(packet.pack())
    if (packet.destination.is_multicast or link_multicast) and not _answers_multicast(message):
        return None
    return IPv6(source, packet.source, NextHeader.ICMPV6, message.pack(source, packet.source))


def _is_error(payload: bytes) -> bool:
    return not payload or payload[0] == Icmpv6Type.REDIRECT or Icmpv6(payload[0], 0, 0, b"").is_error


def _answers_multicast(message: Icmpv6) -> bool:
    option = (Icmpv6Type.PARAMETER_PROBLEM, Icmpv6ParameterProblemCode.OPTION)
    return message.type == Icmpv6Type.PACKET_TOO_BIG or (message.type, message.code) == option


def report6(message: Icmpv6, reporter: IPv6Address) -> IcmpReport:
    """Read an ICMPv6 error from `reporter`; raises `WireError` when it quotes too little to mean anything."""
    quoted = message.payload
    if len(quoted) < HEADER_LENGTH or quoted[0] >> 4 != 6:
        raise WireError("icmpv6.quotation", 8, f"{len(quoted)} octets hold no IPv6 header")
    protocol, at = quoted[6], HEADER_LENGTH
    while protocol in _SKIPPED and at + _UNIT <= len(quoted):
        length = 0 if protocol == NextHeader.FRAGMENT else quoted[at + 1]
        protocol, at = quoted[at], at + _UNIT * (1 + length)
    if len(quoted) < at + _TRANSPORT:
        raise WireError("icmpv6.quotation", 8, "the headers and eight octets behind them are needed")
    return IcmpReport(
        message.type,
        message.code,
        reporter,
        ipv6_address(quoted[_SOURCE]),
        ipv6_address(quoted[_DESTINATION]),
        protocol,
        quoted[at:],
        HEADER_LENGTH + int.from_bytes(quoted[4:6], "big"),
        message.mtu if message.type == Icmpv6Type.PACKET_TOO_BIG else 0,
    )


def local_report6(code: int, packet: IPv6) -> IcmpReport:
    """Our own stack cannot send `packet`: a DESTINATION_UNREACHABLE with `code` that never was on the wire."""
    return IcmpReport(
        Icmpv6Type.DESTINATION_UNREACHABLE,
        code,
        None,
        packet.source,
        packet.destination,
        packet.next_header,
        packet.payload,
        packet.header_length + len(packet.payload),
    )
