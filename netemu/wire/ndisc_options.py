"""The options of neighbour discovery (RFC 4861 4.6; routes RFC 4191, DNS RFC 8106) as values.

An option is a type, a length in units of 8 octets, and what its type says. Types not known here are kept as
`UnknownOption`. So are options of RFC 4191 and RFC 8106 whose inside breaks their rules, for such an option is ignored but
its message is not (RFC 8106 5.3.1); a wrong length of RFC 4861's own is a `WireError`. Only Ethernet is known: a link-layer
address has six octets.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv6Address, IPv6Network
from typing import Final, Self, TypeAlias

from netemu.errors import LocalError
from netemu.wire.address import MacAddress
from netemu.wire.domain_list import pack_domain_list, parse_domain_list
from netemu.wire.errors import WireError
from netemu.wire.fields import ipv6_address, mac_address, pack_fields

__all__ = [
    "Dnssl",
    "Mtu",
    "NdOption",
    "NdOptionType",
    "PrefixInformation",
    "Rdnss",
    "RedirectedHeader",
    "RouteInformation",
    "RouterPreference",
    "SourceLinkLayerAddress",
    "TargetLinkLayerAddress",
    "UnknownOption",
    "pack_options",
    "read_options",
]

_UNIT: Final = 8
_MAXIMUM_LENGTH: Final = 255 * _UNIT
_HEADER_LENGTH: Final = 2  # type and length; `data` below is what follows them
_PREFIX: Final = struct.Struct("!BBIIxxxx16s")
_LIFETIME: Final = struct.Struct("!xxI")  # also the layout of MTU
_ROUTE: Final = struct.Struct("!BBI")
_ON_LINK: Final = 0x80  # L (RFC 4861 4.6.2)
_AUTONOMOUS: Final = 0x40  # A
_PREFERENCE_SHIFT: Final = 3  # Prf (RFC 4191 2.3)
_REDIRECTED_RESERVED: Final = 6
_LIFETIME_LIMITS: Final = {"lifetime": 0xFFFFFFFF}


class NdOptionType(IntEnum):
    """Option types (1 to 5 RFC 4861 4.6; 24 RFC 4191 2.3; 25 and 31 RFC 8106 5)."""

    SOURCE_LINK_LAYER_ADDRESS = 1
    TARGET_LINK_LAYER_ADDRESS = 2
    PREFIX_INFORMATION = 3
    REDIRECTED_HEADER = 4
    MTU = 5
    ROUTE_INFORMATION = 24
    RDNSS = 25
    DNSSL = 31


class RouterPreference(IntEnum):
    """Which of several routers, or routes, to take (RFC 4191 2.1). The fourth value, 2, is read as MEDIUM."""

    MEDIUM = 0
    HIGH = 1
    LOW = 3

    @classmethod
    def of_bits(cls, bits: int) -> RouterPreference:
        """The preference in the two low bits of `bits`."""
        return _PREFERENCES.get(bits & 3, cls.MEDIUM)


_PREFERENCES: Final = {int(preference): preference for preference in RouterPreference}


@dataclass(frozen=True, slots=True)
class SourceLinkLayerAddress:
    """The sender's (RFC 4861 4.6.1)."""

    address: MacAddress

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read what follows the option's length; raises `WireError`."""
        return cls(_link_layer_address(data))

    def pack(self) -> bytes:
        """The option's octets."""
        return _option(NdOptionType.SOURCE_LINK_LAYER_ADDRESS, self.address)


@dataclass(frozen=True, slots=True)
class TargetLinkLayerAddress:
    """The target's (RFC 4861 4.6.1)."""

    address: MacAddress

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read what follows the option's length; raises `WireError`."""
        return cls(_link_layer_address(data))

    def pack(self) -> bytes:
        """The option's octets."""
        return _option(NdOptionType.TARGET_LINK_LAYER_ADDRESS, self.address)


@dataclass(frozen=True, slots=True)
class PrefixInformation:
    """A prefix that is on the link, that addresses may be made from, or both (RFC 4861 4.6.2).

    Lifetimes are seconds, 32 bits; 0xffffffff is for ever. Bits behind the prefix are ignored when read.
    """

    prefix: IPv6Network
    valid_lifetime: int
    preferred_lifetime: int
    on_link: bool = True
    autonomous: bool = True

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read what follows the option's length; raises `WireError`."""
        _check_length(data, _PREFIX.size, "prefix_information")
        width, flags, valid, preferred, prefix = _PREFIX.unpack(data)
        return cls(_network(prefix, width), valid, preferred, bool(flags & _ON_LINK), bool(flags & _AUTONOMOUS))

    def pack(self) -> bytes:
        """The option's octets; raises `LocalError` for a field out of its range."""
        flags = (_ON_LINK if self.on_link else 0) | (_AUTONOMOUS if self.autonomous else 0)
        limits = {"valid_lifetime": 0xFFFFFFFF, "preferred_lifetime": 0xFFFFFFFF}
        width, prefix = self.prefix.prefixlen, self.prefix.network_address.packed
        data = pack_fields(_PREFIX, self, limits, width, flags, self.valid_lifetime, self.preferred_lifetime, prefix)
        return _option(NdOptionType.PREFIX_INFORMATION, data)


@dataclass(frozen=True, slots=True)
class RedirectedHeader:
    """The front of the packet that was redirected, a multiple of 8 octets (RFC 4861 4.6.3)."""

    packet: bytes

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read what follows the option's length."""
        return cls(data[_REDIRECTED_RESERVED:])

    def pack(self) -> bytes:
        """The option's octets; raises `LocalError` for a length that is not whole or too large."""
        return _option(NdOptionType.REDIRECTED_HEADER, bytes(_REDIRECTED_RESERVED) + self.packet)


@dataclass(frozen=True, slots=True)
class Mtu:
    """The MTU that everyone on the link shall use, in octets, 32 bits (RFC 4861 4.6.4)."""

    mtu: int

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read what follows the option's length; raises `WireError`."""
        _check_length(data, _LIFETIME.size, "mtu")
        return cls(*_LIFETIME.unpack(data))

    def pack(self) -> bytes:
        """The option's octets; raises `LocalError` for a field out of its range."""
        return _option(NdOptionType.MTU, pack_fields(_LIFETIME, self, {"mtu": 0xFFFFFFFF}, self.mtu))


@dataclass(frozen=True, slots=True)
class RouteInformation:
    """A route through this router, for `lifetime` seconds, 32 bits (RFC 4191 2.3)."""

    prefix: IPv6Network
    lifetime: int
    preference: RouterPreference = RouterPreference.MEDIUM

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read what follows the option's length; raises `WireError`."""
        width, flags, lifetime = _ROUTE.unpack_from(data)
        prefix = data[_ROUTE.size :]
        if len(prefix) > 16 or len(prefix) * 8 < width:
            raise WireError("nd_option.route_information", 0, f"{len(prefix)} octets hold no prefix of {width} bits")
        return cls(_network(prefix.ljust(16, b"\0"), width), lifetime, RouterPreference.of_bits(flags >> _PREFERENCE_SHIFT))

    def pack(self) -> bytes:
        """The option's octets, with as much of the prefix as matters; raises `LocalError` for a field out of its range."""
        width = self.prefix.prefixlen
        fixed = pack_fields(_ROUTE, self, _LIFETIME_LIMITS, width, self.preference << _PREFERENCE_SHIFT, self.lifetime)
        return _option(NdOptionType.ROUTE_INFORMATION, fixed + self.prefix.network_address.packed[: (width + 63) // 64 * 8])


@dataclass(frozen=True, slots=True)
class Rdnss:
    """Recursive DNS servers, at least one, for `lifetime` seconds, 32 bits (RFC 8106 5.1)."""

    lifetime: int
    servers: tuple[IPv6Address, ...]

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read what follows the option's length; raises `WireError`."""
        (lifetime,) = _LIFETIME.unpack_from(data)
        addresses = data[_LIFETIME.size :]
        if not addresses or len(addresses) % 16:
            raise WireError("nd_option.rdnss", 0, f"{len(addresses)} octets are no whole number of addresses")
        return cls(lifetime, tuple(ipv6_address(octets) for (octets,) in struct.iter_unpack("!16s", addresses)))

    def pack(self) -> bytes:
        """The option's octets; raises `LocalError` for a field out of its range."""
        if not self.servers:
            raise LocalError("Rdnss.servers is empty: give at least one address")
        fixed = pack_fields(_LIFETIME, self, _LIFETIME_LIMITS, self.lifetime)
        return _option(NdOptionType.RDNSS, fixed + b"".join(server.packed for server in self.servers))


@dataclass(frozen=True, slots=True)
class Dnssl:
    """Domains to search, at least one, for `lifetime` seconds, 32 bits (RFC 8106 5.2)."""

    lifetime: int
    names: tuple[str, ...]

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read what follows the option's length; raises `WireError`."""
        (lifetime,) = _LIFETIME.unpack_from(data)
        names = parse_domain_list(data[_LIFETIME.size :], "nd_option.dnssl")
        if not names:
            raise WireError("nd_option.dnssl", 0, "no name is in the list")
        return cls(lifetime, names)

    def pack(self) -> bytes:
        """The option's octets, padded with zeros; raises `LocalError` for a field out of its range or a bad name."""
        if not self.names:
            raise LocalError("Dnssl.names is empty: give at least one domain name")
        fixed = pack_fields(_LIFETIME, self, _LIFETIME_LIMITS, self.lifetime)
        names = pack_domain_list(self.names)
        return _option(NdOptionType.DNSSL, fixed + names + bytes(-len(names) % _UNIT))


@dataclass(frozen=True, slots=True)
class UnknownOption:
    """An option that is not read further: its type, 0..255, and the octets behind its length."""

    type: int
    data: bytes

    def pack(self) -> bytes:
        """The option's octets; raises `LocalError` for a field out of its range."""
        if not 0 <= self.type <= 0xFF:
            raise LocalError(f"UnknownOption.type is {self.type}: give an integer from 0 to 255")
        return _option(self.type, self.data)


NdOption: TypeAlias = (
    SourceLinkLayerAddress
    | TargetLinkLayerAddress
    | PrefixInformation
    | RedirectedHeader
    | Mtu
    | RouteInformation
    | Rdnss
    | Dnssl
    | UnknownOption
)

_PARSERS: Final[Mapping[int, Callable[[bytes], NdOption]]] = {
    NdOptionType.SOURCE_LINK_LAYER_ADDRESS: SourceLinkLayerAddress.parse,
    NdOptionType.TARGET_LINK_LAYER_ADDRESS: TargetLinkLayerAddress.parse,
    NdOptionType.PREFIX_INFORMATION: PrefixInformation.parse,
    NdOptionType.REDIRECTED_HEADER: RedirectedHeader.parse,
    NdOptionType.MTU: Mtu.parse,
    NdOptionType.ROUTE_INFORMATION: RouteInformation.parse,
    NdOptionType.RDNSS: Rdnss.parse,
    NdOptionType.DNSSL: Dnssl.parse,
}
_IGNORED_ALONE: Final = frozenset({NdOptionType.ROUTE_INFORMATION, NdOptionType.RDNSS, NdOptionType.DNSSL})


def read_options(area: bytes, offset: int) -> tuple[NdOption, ...]:
    """The options in `area`, which begins at octet `offset` of the ICMP message; raises `WireError`."""
    options = []
    at = 0
    while at < len(area):
        if at + _HEADER_LENGTH > len(area):
            raise WireError("nd_option", offset + at, "an option has at least 8 octets, 1 is here")
        kind, length = area[at], area[at + 1] * _UNIT
        if length == 0:
            raise WireError("nd_option.length", offset + at + 1, "an option of length zero")  # RFC 4861 4.6
        if at + length > len(area):
            raise WireError("nd_option.length", offset + at + 1, f"option {kind} runs past the end of the message")
        options.append(_read_option(kind, area[at + _HEADER_LENGTH : at + length], offset + at))
        at += length
    return tuple(options)


def pack_options(options: Iterable[NdOption]) -> bytes:
    """The options in their order; raises `LocalError`."""
    return b"".join(option.pack() for option in options)


def _read_option(kind: int, data: bytes, offset: int) -> NdOption:
    parser = _PARSERS.get(kind)
    if parser is None:
        return UnknownOption(kind, data)
    try:
        return parser(data)
    except WireError as error:
        if kind in _IGNORED_ALONE:
            return UnknownOption(kind, data)
        raise WireError(error.field, offset + error.offset, error.rule) from None


def _option(kind: int, data: bytes) -> bytes:
    """The octets of option `kind`."""
    length = _HEADER_LENGTH + len(data)
    if length % _UNIT or not data or length > _MAXIMUM_LENGTH:
        raise LocalError(f"neighbour discovery option {kind} of {length} octets: give a multiple of 8, at most 2,040")
    return bytes((kind, length // _UNIT)) + data


def _check_length(data: bytes, needed: int, name: str) -> None:
    if len(data) != needed:
        raise WireError(f"nd_option.{name}", 0, f"{len(data) + _HEADER_LENGTH} octets, not {needed + _HEADER_LENGTH}")


def _link_layer_address(data: bytes) -> MacAddress:
    _check_length(data, 6, "link_layer_address")
    return mac_address(data)


def _network(prefix: bytes, width: int) -> IPv6Network:
    if width > 128:
        raise WireError("nd_option.prefix_length", _HEADER_LENGTH, f"{width} is more than 128")
    return IPv6Network((prefix, width), strict=False)
