"""The options of DHCPv6 (RFC 8415 21): their numbers, their encoding, and the values that are more than octets.

An option is a 16-bit number, a 16-bit length and that many octets; some hold options again. A DUID is octets, to be
compared and never understood (RFC 8415 11); `duid_ll` and `duid_llt` make one.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv6Address
from typing import Final, Self, TypeAlias

from netemu.errors import LocalError
from netemu.wire.address import MacAddress
from netemu.wire.domain_list import parse_domain_list
from netemu.wire.errors import WireError
from netemu.wire.fields import check_limits, ipv6_address, pack_fields

__all__ = [
    "Dhcpv6Option",
    "Dhcpv6StatusCode",
    "IaAddress",
    "IaNa",
    "Options",
    "Status",
    "check_options",
    "duid_ll",
    "duid_llt",
    "pack_addresses",
    "pack_numbers",
    "pack_options",
    "parse_addresses",
    "parse_numbers",
    "read_options",
]

Options: TypeAlias = tuple[tuple[int, bytes], ...]  # (code, value) pairs in their order

_HEADER: Final = struct.Struct("!HH")
_IA_NA: Final = struct.Struct("!III")
_IAADDR: Final = struct.Struct("!16sII")
_ETHERNET: Final = 1  # hardware type (RFC 8415 11.2)
_DUID_LLT: Final = struct.Struct("!HHI")
_DUID_LL: Final = struct.Struct("!HH")
_DUID_LENGTHS: Final = range(3, 131)  # a type of two octets and 1 to 128 more (RFC 8415 11.1)
_EPOCH_LIMIT: Final = 1 << 32


class Dhcpv6Option(IntEnum):
    """Option codes this project has a use for; any from 0 to 65535 can be sent and is kept when read."""

    CLIENTID = 1
    SERVERID = 2
    IA_NA = 3
    IA_TA = 4
    IAADDR = 5
    ORO = 6
    PREFERENCE = 7
    ELAPSED_TIME = 8
    RELAY_MSG = 9
    AUTH = 11
    UNICAST = 12
    STATUS_CODE = 13
    RAPID_COMMIT = 14
    USER_CLASS = 15
    VENDOR_CLASS = 16
    VENDOR_OPTS = 17
    INTERFACE_ID = 18
    RECONF_MSG = 19
    RECONF_ACCEPT = 20
    DNS_SERVERS = 23  # RFC 3646 3
    DOMAIN_LIST = 24  # RFC 3646 4
    IA_PD = 25
    IAPREFIX = 26
    INFORMATION_REFRESH_TIME = 32
    CLIENT_FQDN = 39  # RFC 4704 4
    BOOTFILE_URL = 59  # RFC 5970 3.1
    BOOTFILE_PARAM = 60  # RFC 5970 3.2
    CLIENT_ARCH_TYPE = 61  # RFC 5970 3.3
    NII = 62  # RFC 5970 3.4
    SOL_MAX_RT = 82
    INF_MAX_RT = 83


class Dhcpv6StatusCode(IntEnum):
    """The codes of STATUS_CODE (RFC 8415 21.13)."""

    SUCCESS = 0
    UNSPEC_FAIL = 1
    NO_ADDRS_AVAIL = 2
    NO_BINDING = 3
    NOT_ON_LINK = 4
    USE_MULTICAST = 5
    NO_PREFIX_AVAIL = 6


@dataclass(frozen=True, slots=True)
class Status:
    """STATUS_CODE (RFC 8415 21.13): 16 bits of `code`, and words for people."""

    code: int
    message: str = ""

    @classmethod
    def parse(cls, value: bytes) -> Self:
        """Read the option's value; raises `WireError`."""
        if len(value) < 2:
            raise WireError("dhcpv6.status_code", 0, f"{len(value)} octets hold no code of 2")
        return cls(int.from_bytes(value[:2], "big"), value[2:].decode("utf-8", "surrogateescape"))

    def pack(self) -> bytes:
        """The option's value; raises `LocalError` for a code out of its range."""
        check_limits(self, {"code": 0xFFFF})
        return self.code.to_bytes(2, "big") + self.message.encode("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True)
class IaAddress:
    """IAADDR (RFC 8415 21.6): an address and its lifetimes in seconds, 32 bits; 0xffffffff is for ever."""

    address: IPv6Address
    preferred_lifetime: int
    valid_lifetime: int
    status: Status | None = None

    @classmethod
    def parse(cls, value: bytes) -> Self:
        """Read the option's value; raises `WireError`. Options inside it other than STATUS_CODE are dropped."""
        if len(value) < _IAADDR.size:
            raise WireError("dhcpv6.iaaddr", 0, f"{len(value)} octets, at least {_IAADDR.size} are needed")
        address, preferred, valid = _IAADDR.unpack_from(value)
        options = read_options(value[_IAADDR.size :], _IAADDR.size)
        _check(options, _IAADDR.size, _IAADDR_FORMS)
        return cls(ipv6_address(address), preferred, valid, _status(options))

    def pack(self) -> bytes:
        """The option's value; raises `LocalError` for a field out of its range."""
        limits = {"preferred_lifetime": 0xFFFFFFFF, "valid_lifetime": 0xFFFFFFFF}
        fixed = pack_fields(_IAADDR, self, limits, self.address.packed, self.preferred_lifetime, self.valid_lifetime)
        return fixed + _pack_status(self.status)


@dataclass(frozen=True, slots=True)
class IaNa:
    """IA_NA (RFC 8415 21.4): an identity of the client and its addresses.

    `iaid` 32 bits; `t1` and `t2`, when to renew and to rebind, in seconds, 32 bits, 0 when the client may choose.
    """

    iaid: int
    t1: int = 0
    t2: int = 0
    addresses: tuple[IaAddress, ...] = ()
    status: Status | None = None

    @classmethod
    def parse(cls, value: bytes) -> Self:
        """Read the option's value; raises `WireError`. Options inside it other than IAADDR and STATUS_CODE are dropped."""
        if len(value) < _IA_NA.size:
            raise WireError("dhcpv6.ia_na", 0, f"{len(value)} octets, at least {_IA_NA.size} are needed")
        options = read_options(value[_IA_NA.size :], _IA_NA.size)
        _check(options, _IA_NA.size, _IA_NA_FORMS)
        addresses = tuple(IaAddress.parse(inner) for code, inner in options if code == Dhcpv6Option.IAADDR)
        iaid, t1, t2 = _IA_NA.unpack_from(value)
        return cls(iaid, t1, t2, addresses, _status(options))

    def pack(self) -> bytes:
        """The option's value; raises `LocalError` for a field out of its range."""
        limits = {"iaid": 0xFFFFFFFF, "t1": 0xFFFFFFFF, "t2": 0xFFFFFFFF}
        addresses = pack_options((Dhcpv6Option.IAADDR, address.pack()) for address in self.addresses)
        return pack_fields(_IA_NA, self, limits, self.iaid, self.t1, self.t2) + addresses + _pack_status(self.status)


def duid_ll(mac: MacAddress) -> bytes:
    """A DUID from a MAC address alone (RFC 8415 11.4)."""
    return _DUID_LL.pack(3, _ETHERNET) + mac


def duid_llt(mac: MacAddress, seconds: int) -> bytes:
    """A DUID from a MAC address and the seconds since 2000, of which 32 bits are kept (RFC 8415 11.2)."""
    return _DUID_LLT.pack(1, _ETHERNET, seconds % _EPOCH_LIMIT) + mac


def read_options(area: bytes, offset: int) -> Options:
    """The options in `area`, which begins at octet `offset` of what is read; raises `WireError`."""
    options = []
    at = 0
    while at < len(area):
        if at + _HEADER.size > len(area):
            raise WireError("dhcpv6.options", offset + at, f"an option has at least 4 octets, {len(area) - at} are here")
        code, length = _HEADER.unpack_from(area, at)
        begin = at + _HEADER.size
        at = begin + length
        if at > len(area):
            raise WireError("dhcpv6.options", offset + begin - 2, f"option {code} runs past the end")
        options.append((code, area[begin:at]))
    return tuple(options)


def pack_options(options: Iterable[tuple[int, bytes]]) -> bytes:
    """The options in their order; raises `LocalError` for a number or a length out of range."""
    parts: list[bytes] = []
    for code, value in options:
        if not 0 <= code <= 0xFFFF or len(value) > 0xFFFF:
            raise LocalError(f"DHCPv6 option {code} of {len(value)} octets: give a code and a length of at most 65,535")
        parts += (_HEADER.pack(code, len(value)), value)
    return b"".join(parts)


def pack_addresses(*addresses: IPv6Address) -> bytes:
    """The value of an option that is a list of addresses, such as DNS_SERVERS."""
    return b"".join(address.packed for address in addresses)


def parse_addresses(value: bytes) -> tuple[IPv6Address, ...]:
    """The addresses in such a value; raises `WireError`."""
    if len(value) % 16:
        raise WireError("dhcpv6.options", 0, f"{len(value)} octets are no whole number of addresses")
    return tuple(ipv6_address(octets) for (octets,) in struct.iter_unpack("!16s", value))


def pack_numbers(*numbers: int) -> bytes:
    """The value of an option that is a list of 16-bit numbers, such as ORO; raises `LocalError` for a larger one."""
    try:
        return struct.pack(f"!{len(numbers)}H", *numbers)
    except struct.error as error:
        raise LocalError(f"DHCPv6 option with the numbers {numbers}: give integers from 0 to 65535") from error


def parse_numbers(value: bytes) -> tuple[int, ...]:
    """The numbers in such a value; raises `WireError`."""
    if len(value) % 2:
        raise WireError("dhcpv6.options", 0, f"{len(value)} octets are no whole number of codes")
    return tuple(number for (number,) in struct.iter_unpack("!H", value))


def check_options(options: Options, offset: int) -> None:
    """Raise `WireError` when a value has not the form that its document fixes; `offset` is where the options begin."""
    _check(options, offset, _FORMS)


def _status(options: Options) -> Status | None:
    """The first STATUS_CODE among `options`."""
    return next((Status.parse(value) for code, value in options if code == Dhcpv6Option.STATUS_CODE), None)


def _pack_status(status: Status | None) -> bytes:
    return b"" if status is None else pack_options([(Dhcpv6Option.STATUS_CODE, status.pack())])


def _check(options: Options, offset: int, forms: Mapping[int, Callable[[bytes], object]]) -> None:
    at = offset
    for code, value in options:
        form = forms.get(code)
        if form is not None:
            try:
                form(value)
            except WireError as error:
                raise WireError(error.field, at + _HEADER.size + error.offset, f"option {code}: {error.rule}") from None
        at += _HEADER.size + len(value)


def _of_length(lengths: Container[int]) -> Callable[[bytes], None]:
    """The form of an option whose value has one of these lengths, in octets."""

    def check(value: bytes) -> None:
        if len(value) not in lengths:
            raise WireError("dhcpv6.options", 0, f"{len(value)} octets, which it never has")

    return check


# What reads, or at least measures, the value of each option whose document fixes a form. Options inside another are only
# looked at where they belong, so depth is bounded.
_IAADDR_FORMS: Final[Mapping[int, Callable[[bytes], object]]] = {Dhcpv6Option.STATUS_CODE: Status.parse}
_IA_NA_FORMS: Final[Mapping[int, Callable[[bytes], object]]] = {
    Dhcpv6Option.IAADDR: IaAddress.parse,
    Dhcpv6Option.STATUS_CODE: Status.parse,
}
_FORMS: Final[Mapping[int, Callable[[bytes], object]]] = {
    Dhcpv6Option.CLIENTID: _of_length(_DUID_LENGTHS),
    Dhcpv6Option.SERVERID: _of_length(_DUID_LENGTHS),
    Dhcpv6Option.IA_NA: IaNa.parse,
    Dhcpv6Option.ORO: parse_numbers,
    Dhcpv6Option.PREFERENCE: _of_length((1,)),
    Dhcpv6Option.ELAPSED_TIME: _of_length((2,)),
    Dhcpv6Option.UNICAST: _of_length((16,)),
    Dhcpv6Option.STATUS_CODE: Status.parse,
    Dhcpv6Option.RAPID_COMMIT: _of_length((0,)),
    Dhcpv6Option.RECONF_MSG: _of_length((1,)),
    Dhcpv6Option.RECONF_ACCEPT: _of_length((0,)),
    Dhcpv6Option.DNS_SERVERS: parse_addresses,
    Dhcpv6Option.DOMAIN_LIST: lambda value: parse_domain_list(value, "dhcpv6.domain_list"),
    Dhcpv6Option.INFORMATION_REFRESH_TIME: _of_length((4,)),
    Dhcpv6Option.CLIENT_ARCH_TYPE: parse_numbers,
    Dhcpv6Option.SOL_MAX_RT: _of_length((4,)),
    Dhcpv6Option.INF_MAX_RT: _of_length((4,)),
}
