"""DHCPv6 messages between client and server (RFC 8415 8; options 21, in `dhcpv6_options`).

A message is a type, a transaction ID and options in an order that is kept, for an option may come several times. `parse`
also verifies the inside of the options it knows, so a message that was read answers every property; on one made here, a
property raises `WireError` for a value that is not what its option holds.

The messages of relay agents have another layout and are refused: client and server share a link here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv6Address
from typing import Final, Self

from netemu.wire.dhcpv6_options import (
    Dhcpv6Option,
    Dhcpv6StatusCode,
    IaAddress,
    IaNa,
    Options,
    Status,
    check_options,
    duid_ll,
    duid_llt,
    pack_addresses,
    pack_numbers,
    pack_options,
    parse_addresses,
    parse_numbers,
    read_options,
)
from netemu.wire.domain_list import pack_domain_list, parse_domain_list
from netemu.wire.errors import WireError
from netemu.wire.fields import Buffer, check_limits, truncated

__all__ = [
    "ALL_RELAY_AGENTS_AND_SERVERS",
    "CLIENT_PORT",
    "SERVER_PORT",
    "Dhcpv6",
    "Dhcpv6MessageType",
    "Dhcpv6Option",
    "Dhcpv6StatusCode",
    "IaAddress",
    "IaNa",
    "Options",
    "Status",
    "duid_ll",
    "duid_llt",
    "pack_addresses",
    "pack_domain_list",
    "pack_numbers",
]

CLIENT_PORT: Final = 546  # RFC 8415 7.2
SERVER_PORT: Final = 547
ALL_RELAY_AGENTS_AND_SERVERS: Final = IPv6Address("ff02::1:2")  # RFC 8415 7.1

_HEADER_LENGTH: Final = 4
_LIMITS: Final = {"message_type": 0xFF, "transaction_id": 0xFFFFFF}


class Dhcpv6MessageType(IntEnum):
    """Message types (RFC 8415 7.3)."""

    SOLICIT = 1
    ADVERTISE = 2
    REQUEST = 3
    CONFIRM = 4
    RENEW = 5
    REBIND = 6
    REPLY = 7
    RELEASE = 8
    DECLINE = 9
    RECONFIGURE = 10
    INFORMATION_REQUEST = 11
    RELAY_FORW = 12
    RELAY_REPL = 13


_RELAYED: Final = frozenset({Dhcpv6MessageType.RELAY_FORW, Dhcpv6MessageType.RELAY_REPL})


@dataclass(frozen=True, slots=True)
class Dhcpv6:
    """One message: `message_type` 0..255, `transaction_id` 24 bits, `options` as (code, value) pairs."""

    message_type: int
    transaction_id: int
    options: Options = ()

    def values(self, code: int) -> tuple[bytes, ...]:
        """The value of every option with this code, in order."""
        return tuple(value for number, value in self.options if number == code)

    def value(self, code: int) -> bytes | None:
        """The value of the first option with this code; None without one."""
        return next((value for number, value in self.options if number == code), None)

    @property
    def client_id(self) -> bytes | None:
        """The client's DUID."""
        return self.value(Dhcpv6Option.CLIENTID)

    @property
    def server_id(self) -> bytes | None:
        """The DUID of the server that speaks or is chosen."""
        return self.value(Dhcpv6Option.SERVERID)

    @property
    def ia_nas(self) -> tuple[IaNa, ...]:
        """The identities that ask for addresses, or have some."""
        return tuple(map(IaNa.parse, self.values(Dhcpv6Option.IA_NA)))

    @property
    def requested_options(self) -> tuple[int, ...]:
        """The codes in ORO."""
        return parse_numbers(self.value(Dhcpv6Option.ORO) or b"")

    @property
    def elapsed_time(self) -> int | None:
        """Hundredths of a second since the client began (RFC 8415 21.9)."""
        return self._number(Dhcpv6Option.ELAPSED_TIME)

    @property
    def preference(self) -> int | None:
        """The server's wish to be chosen, 0..255 (RFC 8415 21.8)."""
        return self._number(Dhcpv6Option.PREFERENCE)

    @property
    def rapid_commit(self) -> bool:
        """The client takes, or the server gives, a REPLY to a SOLICIT (RFC 8415 21.14)."""
        return self.value(Dhcpv6Option.RAPID_COMMIT) is not None

    @property
    def status(self) -> Status | None:
        """The message's own status; an identity or address has one of its own."""
        value = self.value(Dhcpv6Option.STATUS_CODE)
        return None if value is None else Status.parse(value)

    @property
    def dns_servers(self) -> tuple[IPv6Address, ...]:
        """The addresses in DNS_SERVERS."""
        return parse_addresses(self.value(Dhcpv6Option.DNS_SERVERS) or b"")

    @property
    def domain_list(self) -> tuple[str, ...]:
        """The names in DOMAIN_LIST."""
        return parse_domain_list(self.value(Dhcpv6Option.DOMAIN_LIST) or b"", "dhcpv6.domain_list")

    @classmethod
    def parse(cls, data: Buffer) -> Self:
        """Read a message; raises `WireError`."""
        if len(data) < _HEADER_LENGTH:
            raise truncated("dhcpv6", data, _HEADER_LENGTH)
        octets = bytes(data)
        message_type = octets[0]
        if message_type in _RELAYED:
            raise WireError("dhcpv6.msg_type", 0, f"{message_type} is a relay agent's message")
        options = read_options(octets[_HEADER_LENGTH:], _HEADER_LENGTH)
        check_options(options, _HEADER_LENGTH)
        return cls(message_type, int.from_bytes(octets[1:_HEADER_LENGTH], "big"), options)

    def pack(self) -> bytes:
        """The message's octets; raises `LocalError` for a field out of its range."""
        check_limits(self, _LIMITS)
        return bytes((self.message_type,)) + self.transaction_id.to_bytes(3, "big") + pack_options(self.options)

    def _number(self, code: int) -> int | None:
        value = self.value(code)
        return None if value is None else int.from_bytes(value, "big")
