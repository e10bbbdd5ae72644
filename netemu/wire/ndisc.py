"""Neighbour discovery for IPv6 (RFC 4861 4; router preference RFC 4191 2.2): what its five messages say, beyond ICMPv6.

`parse_ndisc` reads an `Icmpv6`, and each value's `icmpv6()` gives one back: checksum and addresses stay with that. Reading
verifies what the message alone can break: code, length, options and target (RFC 4861 6.1, 7.1, 8.1). What depends on the
packet around it, such as the hop limit of 255, `check_packet` verifies. Whether the sender is a router, and what to do
with an option, is the reader's; an option that its message has no use for is ignored (RFC 4861 9).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Final, Self, TypeAlias

from netemu.wire.errors import WireError
from netemu.wire.fields import ANY_IPV6, check_limits, ipv6_address, pack_fields
from netemu.wire.icmpv6 import HEADER_LENGTH, Icmpv6, Icmpv6Type
from netemu.wire.ipv6 import IPv6, solicited_node
from netemu.wire.ndisc_options import (
    NdOption,
    RouterPreference,
    SourceLinkLayerAddress,
    pack_options,
    read_options,
)

__all__ = [
    "HOP_LIMIT",
    "NdMessage",
    "NeighbourAdvertisement",
    "NeighbourSolicitation",
    "Redirect",
    "RouterAdvertisement",
    "RouterSolicitation",
    "check_packet",
    "parse_ndisc",
]

HOP_LIMIT: Final = 255  # what no router has forwarded (RFC 4861 3.1)

_TIMERS: Final = struct.Struct("!II")
_ADDRESS_LENGTH: Final = 16
_OPTIONS_OFFSET: Final = HEADER_LENGTH + _ADDRESS_LENGTH
_MANAGED: Final = 0x80  # M (RFC 4861 4.2)
_OTHER: Final = 0x40  # O
_PREFERENCE_SHIFT: Final = 3  # Prf (RFC 4191 2.2)
_ROUTER: Final = 0x8000_0000  # R (RFC 4861 4.4)
_SOLICITED: Final = 0x4000_0000  # S
_OVERRIDE: Final = 0x2000_0000  # O
_SHARED_LIMITS: Final = {"hop_limit": 0xFF, "router_lifetime": 0xFFFF}
_TIMER_LIMITS: Final = {"reachable_time": 0xFFFFFFFF, "retrans_timer": 0xFFFFFFFF}


@dataclass(frozen=True, slots=True)
class RouterSolicitation:
    """Who is a router here? (RFC 4861 4.1)"""

    options: tuple[NdOption, ...] = ()

    @classmethod
    def parse(cls, message: Icmpv6) -> Self:
        """Read a message of this type; raises `WireError`."""
        return cls(read_options(message.payload, HEADER_LENGTH))

    def icmpv6(self) -> Icmpv6:
        """The message; raises `LocalError` for an option out of its range."""
        return Icmpv6(Icmpv6Type.ROUTER_SOLICITATION, 0, 0, pack_options(self.options))


@dataclass(frozen=True, slots=True)
class RouterAdvertisement:
    """A router's parameters for the link (RFC 4861 4.2).

    `hop_limit` 0..255 and the times are 0 when the router says nothing of them; `router_lifetime` in seconds, 16 bits, 0
    from what is no default router; `reachable_time` and `retrans_timer` in milliseconds, 32 bits.
    """

    hop_limit: int = 64
    managed: bool = False
    other: bool = False
    router_lifetime: int = 1800
    reachable_time: int = 0
    retrans_timer: int = 0
    options: tuple[NdOption, ...] = ()
    preference: RouterPreference = RouterPreference.MEDIUM

    @classmethod
    def parse(cls, message: Icmpv6) -> Self:
        """Read a message of this type; raises `WireError`."""
        payload = message.payload
        _check_length(message, _TIMERS.size)
        reachable_time, retrans_timer = _TIMERS.unpack_from(payload)
        flags = message.rest >> 16 & 0xFF
        return cls(
            message.rest >> 24,
            bool(flags & _MANAGED),
            bool(flags & _OTHER),
            message.rest & 0xFFFF,
            reachable_time,
            retrans_timer,
            read_options(payload[_TIMERS.size :], HEADER_LENGTH + _TIMERS.size),
            RouterPreference.of_bits(flags >> _PREFERENCE_SHIFT),
        )

    def icmpv6(self) -> Icmpv6:
        """The message; raises `LocalError` for a field out of its range."""
        check_limits(self, _SHARED_LIMITS)
        flags = (
            (_MANAGED if self.managed else 0)
            | (_OTHER if self.other else 0)
            | RouterPreference(self.preference) << _PREFERENCE_SHIFT
        )
        rest = self.hop_limit << 24 | flags << 16 | self.router_lifetime
        timers = pack_fields(_TIMERS, self, _TIMER_LIMITS, self.reachable_time, self.retrans_timer)
        return Icmpv6(Icmpv6Type.ROUTER_ADVERTISEMENT, 0, rest, timers + pack_options(self.options))


@dataclass(frozen=True, slots=True)
class NeighbourSolicitation:
    """Who has `target`? (RFC 4861 4.3); to find a duplicate, from the unspecified address (RFC 4862 5.4.2)."""

    target: IPv6Address
    options: tuple[NdOption, ...] = ()

    @classmethod
    def parse(cls, message: Icmpv6) -> Self:
        """Read a message of this type; raises `WireError`."""
        return cls(_target(message), read_options(message.payload[_ADDRESS_LENGTH:], _OPTIONS_OFFSET))

    def icmpv6(self) -> Icmpv6:
        """The message; raises `LocalError` for an option out of its range."""
        return Icmpv6(Icmpv6Type.NEIGHBOUR_SOLICITATION, 0, 0, self.target.packed + pack_options(self.options))


@dataclass(frozen=True, slots=True)
class NeighbourAdvertisement:
    """I have `target` (RFC 4861 4.4)."""

    target: IPv6Address
    router: bool = False
    solicited: bool = False
    override: bool = False
    options: tuple[NdOption, ...] = ()

    @classmethod
    def parse(cls, message: Icmpv6) -> Self:
        """Read a message of this type; raises `WireError`."""
        flags = message.rest
        return cls(
            _target(message),
            bool(flags & _ROUTER),
            bool(flags & _SOLICITED),
            bool(flags & _OVERRIDE),
            read_options(message.payload[_ADDRESS_LENGTH:], _OPTIONS_OFFSET),
        )

    def icmpv6(self) -> Icmpv6:
        """The message; raises `LocalError` for an option out of its range."""
        rest = (_ROUTER if self.router else 0) | (_SOLICITED if self.solicited else 0) | (_OVERRIDE if self.override else 0)
        return Icmpv6(Icmpv6Type.NEIGHBOUR_ADVERTISEMENT, 0, rest, self.target.packed + pack_options(self.options))


@dataclass(frozen=True, slots=True)
class Redirect:
    """`target` is the better first hop to `destination`; the same address when that is a neighbour (RFC 4861 4.5)."""

    target: IPv6Address
    destination: IPv6Address
    options: tuple[NdOption, ...] = ()

    @classmethod
    def parse(cls, message: Icmpv6) -> Self:
        """Read a message of this type; raises `WireError`."""
        payload = message.payload
        _check_length(message, 2 * _ADDRESS_LENGTH)
        destination = ipv6_address(payload[_ADDRESS_LENGTH : 2 * _ADDRESS_LENGTH])
        if destination.is_multicast:
            raise WireError("icmpv6.destination_address", _OPTIONS_OFFSET, f"{destination} is a multicast address")
        options = read_options(payload[2 * _ADDRESS_LENGTH :], _OPTIONS_OFFSET + _ADDRESS_LENGTH)
        return cls(ipv6_address(payload[:_ADDRESS_LENGTH]), destination, options)

    def icmpv6(self) -> Icmpv6:
        """The message; raises `LocalError` for an option out of its range."""
        payload = self.target.packed + self.destination.packed + pack_options(self.options)
        return Icmpv6(Icmpv6Type.REDIRECT, 0, 0, payload)


NdMessage: TypeAlias = RouterSolicitation | RouterAdvertisement | NeighbourSolicitation | NeighbourAdvertisement | Redirect

_PARSERS: Final[Mapping[int, Callable[[Icmpv6], NdMessage]]] = {
    Icmpv6Type.ROUTER_SOLICITATION: RouterSolicitation.parse,
    Icmpv6Type.ROUTER_ADVERTISEMENT: RouterAdvertisement.parse,
    Icmpv6Type.NEIGHBOUR_SOLICITATION: NeighbourSolicitation.parse,
    Icmpv6Type.NEIGHBOUR_ADVERTISEMENT: NeighbourAdvertisement.parse,
    Icmpv6Type.REDIRECT: Redirect.parse,
}


def parse_ndisc(message: Icmpv6) -> NdMessage | None:
    """What a message of neighbour discovery says; None for any other; raises `WireError`."""
    parser = _PARSERS.get(message.type)
    if parser is None:
        return None
    if message.code:
        raise WireError("icmpv6.code", 1, f"{message.code} is not 0, which neighbour discovery needs")
    return parser(message)


def check_packet(ip: IPv6, message: NdMessage) -> None:
    """Raise `WireError` when `message` may not come in such a packet (RFC 4861 6.1.1, 6.1.2, 7.1.1, 7.1.2, 8.1)."""
    if ip.hop_limit != HOP_LIMIT:
        raise WireError("ipv6.hop_limit", 7, f"{ip.hop_limit} is not 255, so a router forwarded it")
    match message:
        case RouterAdvertisement() | Redirect() if not ip.source.is_link_local:
            raise WireError("ipv6.source", 8, f"{ip.source} is not link-local, as a router's is here")
        case RouterSolicitation() | NeighbourSolicitation() if ip.source == ANY_IPV6:
            if any(isinstance(option, SourceLinkLayerAddress) for option in message.options):
                raise WireError("nd_option.link_layer_address", 0, "the unspecified address has none")
            if isinstance(message, NeighbourSolicitation) and ip.destination != solicited_node(message.target):
                raise WireError("ipv6.destination", 24, f"{ip.destination} is not the target's solicited-node address")
        case NeighbourAdvertisement() if ip.destination.is_multicast and message.solicited:
            raise WireError("icmpv6.solicited", 4, f"an answer to one is sent to all, {ip.destination}")


def _check_length(message: Icmpv6, needed: int) -> None:
    if len(message.payload) < needed:
        length, least = HEADER_LENGTH + len(message.payload), HEADER_LENGTH + needed
        raise WireError("icmpv6", length, f"the message has at least {least} octets, {length} are here")


def _target(message: Icmpv6) -> IPv6Address:
    _check_length(message, _ADDRESS_LENGTH)
    target = ipv6_address(message.payload[:_ADDRESS_LENGTH])
    if target.is_multicast:
        raise WireError("icmpv6.target_address", HEADER_LENGTH, f"{target} is a multicast address")
    return target
