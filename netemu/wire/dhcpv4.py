"""DHCP messages (RFC 2131 2 and 4.1; options RFC 2132, in `dhcpv4_options`).

`parse` joins the options of all the fields that hold some: the options field, then `file`, then `sname` when the message
says that those are overloaded (RFC 2131 4.1, RFC 3396 5). OPTION_OVERLOAD itself is thereby used up: it is not in
`options`, and a field that held options is empty. A value therefore packs to the plain form of the same message. `pack`
never overloads.

A message without the magic cookie is BOOTP (RFC 951, RFC 1534 2): legal, with a vendor field that means nothing here. It
parses to a value without options, whose `message_type` is None; whether to serve it is the reader's choice. Only Ethernet
is known: another `htype` or `hlen` is a `WireError`.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from ipaddress import IPv4Address
from typing import Final, Self

from netemu.errors import LocalError
from netemu.wire.address import MacAddress
from netemu.wire.dhcpv4_options import (
    DhcpOption,
    check_lengths,
    pack_addresses,
    pack_classless_routes,
    pack_domain_search,
    pack_options,
    parse_classless_routes,
    parse_domain_search,
    read_options,
)
from netemu.wire.errors import WireError
from netemu.wire.fields import ANY_IPV4, Buffer, ipv4_address, mac_address, pack_fields, unpack_fields

__all__ = [
    "BOOTREPLY",
    "BOOTREQUEST",
    "CLIENT_PORT",
    "MINIMUM_LENGTH",
    "SERVER_PORT",
    "DhcpMessageType",
    "DhcpOption",
    "Dhcpv4",
    "pack_addresses",
    "pack_classless_routes",
    "pack_domain_search",
    "parse_classless_routes",
    "parse_domain_search",
]

BOOTREQUEST: Final = 1  # `op` (RFC 2131 2)
BOOTREPLY: Final = 2
SERVER_PORT: Final = 67  # RFC 2131 4.1
CLIENT_PORT: Final = 68
MINIMUM_LENGTH: Final = 300  # a BOOTP message's size, which relays may insist on (RFC 1542 2.1)

_HEADER: Final = struct.Struct("!BBBBIHHIIII16s64s128s")
_SNAME_OFFSET: Final = 44
_FILE_OFFSET: Final = 108
_OPTIONS_OFFSET: Final = 236
_ETHERNET: Final = 1  # htype (RFC 2131 2)
_BROADCAST: Final = 0x8000  # flags (RFC 2131 2, figure 2)
_MAGIC_COOKIE: Final = bytes((99, 130, 83, 99))  # RFC 2131 3
_FILE_OVERLOADED: Final = 1  # OPTION_OVERLOAD is a bit each, 1 to 3 (RFC 2132 9.3)
_SNAME_OVERLOADED: Final = 2
_TEXT_LENGTHS: Final = {"sname": 64, "file": 128}
_LIMITS: Final = {
    "op": 0xFF,
    "xid": 0xFFFFFFFF,
    "secs": 0xFFFF,
    "hops": 0xFF,
    "ciaddr": 0xFFFFFFFF,
    "yiaddr": 0xFFFFFFFF,
    "siaddr": 0xFFFFFFFF,
    "giaddr": 0xFFFFFFFF,
}


class DhcpMessageType(IntEnum):
    """The values of DHCP_MESSAGE_TYPE (RFC 2132 9.6)."""

    DISCOVER = 1
    OFFER = 2
    REQUEST = 3
    DECLINE = 4
    ACK = 5
    NAK = 6
    RELEASE = 7
    INFORM = 8


_MESSAGE_TYPES: Final = {bytes((kind,)): kind for kind in DhcpMessageType}


@dataclass(frozen=True, slots=True)
class Dhcpv4:
    """One message; field names are RFC 2131's.

    `secs` in seconds, 16 bits; `hops` and `op` 8; `xid` 32; `sname` and `file` end in front of their first zero octet;
    `options` maps numbers to values, in the order of the message.
    """

    op: int
    xid: int
    chaddr: MacAddress
    ciaddr: IPv4Address = ANY_IPV4
    yiaddr: IPv4Address = ANY_IPV4
    siaddr: IPv4Address = ANY_IPV4
    giaddr: IPv4Address = ANY_IPV4
    secs: int = 0
    broadcast: bool = False
    hops: int = 0
    sname: bytes = b""
    file: bytes = b""
    options: Mapping[int, bytes] = field(default_factory=dict)

    @property
    def message_type(self) -> DhcpMessageType | None:
        """None for BOOTP and for a type that RFC 2132 does not have."""
        return _MESSAGE_TYPES.get(self.options.get(DhcpOption.DHCP_MESSAGE_TYPE, b""))

    @property
    def server_identifier(self) -> IPv4Address | None:
        """The server that speaks or is chosen."""
        return self._address(DhcpOption.SERVER_IDENTIFIER)

    @property
    def requested_address(self) -> IPv4Address | None:
        """The address the client asks for."""
        return self._address(DhcpOption.REQUESTED_IP_ADDRESS)

    @property
    def lease_time(self) -> int | None:
        """Seconds; 0xffffffff is for ever (RFC 2131 3.3)."""
        return self.u32(DhcpOption.IP_ADDRESS_LEASE_TIME)

    def addresses(self, option: int) -> tuple[IPv4Address, ...]:
        """The addresses in `option`; none when it is missing or holds no whole number of them."""
        value = self.options.get(option, b"")
        if len(value) % 4:
            return ()
        return tuple(ipv4_address(number) for (number,) in struct.iter_unpack("!I", value))

    def u32(self, option: int) -> int | None:
        """The 32-bit number in `option`; None when it is missing or of another length."""
        value = self.options.get(option, b"")
        return int.from_bytes(value, "big") if len(value) == 4 else None

    @classmethod
    def parse(cls, data: Buffer) -> Self:
        """Read a message; raises `WireError`."""
        op, htype, hlen, hops, xid, secs, flags, ciaddr, yiaddr, siaddr, giaddr, chaddr, sname, file = unpack_fields(
            _HEADER, data, "dhcpv4"
        )
        if htype != _ETHERNET:
            raise WireError("dhcpv4.htype", 1, f"hardware type {htype} is not Ethernet (1)")
        if hlen != 6:
            raise WireError("dhcpv4.hlen", 2, f"a hardware address of {hlen} octets is not Ethernet's (6)")
        options: dict[int, bytes] = {}
        begin = _OPTIONS_OFFSET + len(_MAGIC_COOKIE)
        if data[_OPTIONS_OFFSET:begin] == _MAGIC_COOKIE:
            read_options(bytes(data[begin:]), begin, options)
            overload = _overload(options)
            if overload & _FILE_OVERLOADED:
                read_options(file, _FILE_OFFSET, options)
                file = b""
            if overload & _SNAME_OVERLOADED:
                read_options(sname, _SNAME_OFFSET, options)
                sname = b""
            check_lengths(options, begin)
            options.pop(DhcpOption.OPTION_OVERLOAD, None)
        return cls(
            op,
            xid,
            mac_address(chaddr[:6]),
            ipv4_address(ciaddr),
            ipv4_address(yiaddr),
            ipv4_address(siaddr),
            ipv4_address(giaddr),
            secs,
            bool(flags & _BROADCAST),
            hops,
            sname.split(b"\0", 1)[0],
            file.split(b"\0", 1)[0],
            options,
        )

    def pack(self) -> bytes:
        """The message's octets, at least 300; raises `LocalError` for a field out of its range."""
        for name, length in _TEXT_LENGTHS.items():
            value: bytes = getattr(self, name)
            if len(value) > length or b"\0" in value:
                raise LocalError(f"Dhcpv4.{name} is {value!r}: give at most {length} octets, none of them zero")
        if DhcpOption.OPTION_OVERLOAD in self.options:
            raise LocalError("Dhcpv4.options has OPTION_OVERLOAD: leave it out, for pack() does not overload fields")
        header = pack_fields(
            _HEADER,
            self,
            _LIMITS,
            self.op,
            _ETHERNET,
            6,
            self.hops,
            self.xid,
            self.secs,
            _BROADCAST if self.broadcast else 0,
            int(self.ciaddr),
            int(self.yiaddr),
            int(self.siaddr),
            int(self.giaddr),
            self.chaddr,
            self.sname,
            self.file,
        )
        return (header + _MAGIC_COOKIE + pack_options(self.options)).ljust(MINIMUM_LENGTH, b"\0")

    def _address(self, option: int) -> IPv4Address | None:
        number = self.u32(option)
        return None if number is None else ipv4_address(number)


def _overload(options: Mapping[int, bytes]) -> int:
    """Which fields hold options too; raises `WireError` for a value that has no meaning."""
    value = options.get(DhcpOption.OPTION_OVERLOAD, b"\0")
    if value not in (b"\0", b"\1", b"\2", b"\3") or (value == b"\0" and DhcpOption.OPTION_OVERLOAD in options):
        raise WireError("dhcpv4.options", _OPTIONS_OFFSET, f"option overload is {value.hex()}, not 1, 2 or 3")
    return value[0]
