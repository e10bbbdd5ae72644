"""ICMP errors: when one may be sent, how many, and what a received one says about what we sent.

`error_about` builds the error a host or router sends about a datagram, or None where RFC 1122 3.2.2 forbids one. `TokenBucket`
limits how many go out. `IcmpReport.parse` reads the datagram that a received error quotes, which is cut off, so it is no whole
`IPv4`; sockets are found by what it holds. `icmp6` does the same for IPv6, and its reports are the same value.

Documents: RFC 792, RFC 1122 3.2.2 and 4.2.3.9, RFC 1812 4.3.2.7 and 4.3.2.8, RFC 1191 (the plateau table of section 7.1).
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final, Self

from netemu.net.clock import SECOND
from netemu.wire.errors import WireError
from netemu.wire.fields import IPAddress, ipv4_address
from netemu.wire.icmpv4 import IcmpType, Icmpv4, UnreachableCode
from netemu.wire.icmpv6 import Icmpv6Type, Icmpv6UnreachableCode
from netemu.wire.ipv4 import IPv4, Protocol

__all__ = ["MINIMUM_MTU", "IcmpReport", "TokenBucket", "error_about", "is_martian", "next_plateau"]

MINIMUM_MTU: Final = 68  # every module can forward so much (RFC 791 3.2)

# What a socket is told; the choices are those of Linux.
_UNREACHABLE_ERRNO: Final[dict[int, int]] = {
    UnreachableCode.NET: errno.ENETUNREACH,
    UnreachableCode.HOST: errno.EHOSTUNREACH,
    UnreachableCode.PROTOCOL: errno.ENOPROTOOPT,
    UnreachableCode.PORT: errno.ECONNREFUSED,
    UnreachableCode.FRAGMENTATION_NEEDED: errno.EMSGSIZE,
    UnreachableCode.SOURCE_ROUTE_FAILED: errno.EOPNOTSUPP,
    UnreachableCode.NET_UNKNOWN: errno.ENETUNREACH,
    UnreachableCode.HOST_UNKNOWN: errno.EHOSTDOWN,
    UnreachableCode.SOURCE_HOST_ISOLATED: errno.ENONET,
    UnreachableCode.NET_PROHIBITED: errno.ENETUNREACH,
    UnreachableCode.HOST_PROHIBITED: errno.EHOSTUNREACH,
    UnreachableCode.NET_TOS: errno.ENETUNREACH,
    UnreachableCode.HOST_TOS: errno.EHOSTUNREACH,
    UnreachableCode.COMMUNICATION_PROHIBITED: errno.EHOSTUNREACH,
    UnreachableCode.HOST_PRECEDENCE_VIOLATION: errno.EHOSTUNREACH,
    UnreachableCode.PRECEDENCE_CUTOFF: errno.EHOSTUNREACH,
}
_OTHER_ERRNO: Final[dict[int, int]] = {
    IcmpType.TIME_EXCEEDED: errno.EHOSTUNREACH,
    IcmpType.PARAMETER_PROBLEM: errno.EPROTO,
}
_UNREACHABLE_ERRNO6: Final[dict[int, int]] = {
    Icmpv6UnreachableCode.NO_ROUTE: errno.ENETUNREACH,
    Icmpv6UnreachableCode.PROHIBITED: errno.EACCES,
    Icmpv6UnreachableCode.BEYOND_SCOPE: errno.EHOSTUNREACH,
    Icmpv6UnreachableCode.ADDRESS: errno.EHOSTUNREACH,
    Icmpv6UnreachableCode.PORT: errno.ECONNREFUSED,
    Icmpv6UnreachableCode.SOURCE_POLICY: errno.EACCES,
    Icmpv6UnreachableCode.REJECT_ROUTE: errno.EACCES,
}
_OTHER_ERRNO6: Final[dict[int, int]] = {
    Icmpv6Type.PACKET_TOO_BIG: errno.EMSGSIZE,
    Icmpv6Type.TIME_EXCEEDED: errno.EHOSTUNREACH,
    Icmpv6Type.PARAMETER_PROBLEM: errno.EPROTO,
}
_ERRNO: Final = {
    4: (IcmpType.DESTINATION_UNREACHABLE, _UNREACHABLE_ERRNO, _OTHER_ERRNO),
    6: (Icmpv6Type.DESTINATION_UNREACHABLE, _UNREACHABLE_ERRNO6, _OTHER_ERRNO6),
}
_PLATEAUS: Final = (32000, 17914, 8166, 4352, 2002, 1492, 1006, 508, 296, MINIMUM_MTU)  # RFC 1191 7.1

_QUOTED: Final = struct.Struct("!BxH5xBxxII")  # version and IHL, total length, protocol, source, destination
_QUOTED_TRANSPORT: Final = 8  # octets behind the header that every error quotes (RFC 792)


def is_martian(number: int) -> bool:
    """An address, as 32 bits, that names no single host: 0/8, loopback, multicast, class E, broadcast (RFC 1122 3.2.1.3)."""
    network = number >> 24
    return network in (0, 127) or network >= 224


def next_plateau(size: int) -> int:
    """The MTU to try when a datagram of `size` octets was too long and the router did not say more (RFC 1191 5)."""
    return next((plateau for plateau in _PLATEAUS if plateau < size), MINIMUM_MTU)


def error_about(
    packet: IPv4, source: IPv4Address, build: Callable[[bytes], Icmpv4], *, broadcast: bool = False, identification: int = 0
) -> IPv4 | None:
    """The datagram that tells the sender of `packet` what `build` makes of the quotation, or None where silence is due.

    RFC 1122 3.2.2: never about an ICMP error, a broadcast or multicast (`broadcast`: on the link, or directed, which
    only the interface knows), a fragment other than the first, or a source that is no single host.
    """
    if (
        broadcast
        or packet.fragment_offset
        or is_martian(int(packet.source))
        or is_martian(int(packet.destination))
        or (packet.protocol == Protocol.ICMP and _is_error(packet.payload))
    ):
        return None
    message = build(packet.pack())
    return IPv4(source, packet.source, Protocol.ICMP, message.pack(), identification=identification)


def _is_error(payload: bytes) -> bool:
    return not payload or Icmpv4(payload[0], 0, 0, b"").is_error


class TokenBucket:
    """At most `rate` a second in the long run and `burst` at once (RFC 1812 4.3.2.8); time is nanoseconds."""

    def __init__(self, rate: int = 1000, burst: int = 50) -> None:
        self._interval = SECOND // rate
        self._capacity = burst * self._interval
        self._level = self._capacity
        self._filled = 0

    def take(self, now: int) -> bool:
        """Spend one; False when there is none."""
        self._level = min(self._capacity, self._level + now - self._filled)
        self._filled = now
        if self._level < self._interval:
            return False
        self._level -= self._interval
        return True


@dataclass(frozen=True, slots=True)
class IcmpReport:
    """An error about something we sent, by ICMP of either family. `reporter` None: our own stack could not send it.

    `source`, `destination`, `protocol` and `total_length` are the quoted datagram's, `transport` its octets behind the
    header (8 at least, unless there were fewer); `mtu` is the next hop's, for FRAGMENTATION_NEEDED and PACKET_TOO_BIG, 0 if
    not told.
    """

    type: int
    code: int
    reporter: IPAddress | None
    source: IPAddress
    destination: IPAddress
    protocol: int
    transport: bytes
    total_length: int
    mtu: int = 0

    @classmethod
    def parse(cls, message: Icmpv4, reporter: IPv4Address) -> Self:
        """Read an ICMP error from `reporter`; raises `WireError` when it quotes too little to mean anything."""
        quoted = message.payload
        try:
            version_ihl, total_length, protocol, source, destination = _QUOTED.unpack_from(quoted)
        except struct.error:
            raise WireError("icmpv4.quotation", 8, f"{len(quoted)} octets hold no IPv4 header") from None
        header_length = (version_ihl & 0xF) * 4
        transport = quoted[header_length:]
        if version_ihl >> 4 != 4 or header_length < _QUOTED.size or len(transport) < _QUOTED_TRANSPORT:
            raise WireError("icmpv4.quotation", 8, "an IPv4 header and eight octets behind it are needed")
        return cls(
            message.type,
            message.code,
            reporter,
            ipv4_address(source),
            ipv4_address(destination),
            protocol,
            transport,
            total_length,
            message.mtu,
        )

    @classmethod
    def local(cls, code: int, packet: IPv4, mtu: int = 0) -> Self:
        """Our own stack cannot send `packet`: a DESTINATION_UNREACHABLE with `code` that never was on the wire."""
        return cls(
            IcmpType.DESTINATION_UNREACHABLE,
            code,
            None,
            packet.source,
            packet.destination,
            packet.protocol,
            packet.payload,
            packet.header_length + len(packet.payload),
            mtu,
        )

    @property
    def path_mtu(self) -> int:
        """What the path takes, after EMSGSIZE: the router's word, or from one that says nothing the next plateau (RFC 1191 5)."""
        return self.mtu or next_plateau(self.total_length)

    @property
    def errno(self) -> int:
        """What a socket's error becomes; EPROTO for a type or code that nobody defined."""
        unreachable, by_code, by_type = _ERRNO[self.source.version]
        if self.type == unreachable:
            return by_code.get(self.code, errno.EPROTO)
        return by_type.get(self.type, errno.EPROTO)

    @property
    def ports(self) -> tuple[int, int]:
        """The source and destination port, for UDP and TCP."""
        return int.from_bytes(self.transport[:2], "big"), int.from_bytes(self.transport[2:4], "big")
