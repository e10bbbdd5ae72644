"""The Internet Protocol, version 6 (RFC 8200), and the addresses that it makes from others (RFC 4291, RFC 2464).

`parse` reads the fixed header and walks the extension headers behind it, at most eight of them, until one names a header
that is not an extension; `next_header` and `payload` are that one's number and octets. Extensions may come in any order
and number (RFC 8200 4.1), except hop-by-hop options, which come first or not at all. The walk ends at a fragment header
that says the packet is a part: what follows is a piece of the original, so `next_header` may then name another extension,
which `read_extensions` reads once the pieces are together. A fragment header on a whole packet, an atomic fragment
(RFC 6946), is one extension among others.

The offset of a `WireError` counts from the first octet of the packet: it is the pointer for a Parameter Problem. Its code
is 1 when the field is `ipv6.next_header`, otherwise 0 (RFC 8200 4).

Octets behind the payload length are the link's padding and are dropped. `pack` puts extensions in the order given, even a
wrong one. Options inside the extensions stay octets. Jumbograms (RFC 2675) are refused; the headers of IPsec are payload.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv6Address
from typing import Final, Self

from netemu.errors import LocalError
from netemu.wire.address import MacAddress
from netemu.wire.errors import WireError
from netemu.wire.fields import Buffer, check_limits, ipv6_address, pack_fields, unpack_fields

__all__ = [
    "ALL_NODES",
    "ALL_ROUTERS",
    "HEADER_LENGTH",
    "MAXIMUM_PAYLOAD",
    "MINIMUM_MTU",
    "Extension",
    "Fragment6",
    "IPv6",
    "NextHeader",
    "interface_identifier",
    "multicast_mac",
    "read_extensions",
    "solicited_node",
]

HEADER_LENGTH: Final = 40  # RFC 8200 3
MAXIMUM_PAYLOAD: Final = 0xFFFF  # Payload Length has 16 bits; extension headers count in it (RFC 8200 3)
MINIMUM_MTU: Final = 1280  # RFC 8200 5
ALL_NODES: Final = IPv6Address("ff02::1")  # RFC 4291 2.7.1
ALL_ROUTERS: Final = IPv6Address("ff02::2")

_HEADER: Final = struct.Struct("!IHBB16s16s")
_FRAGMENT: Final = struct.Struct("!HI")
_PAYLOAD_LENGTH_OFFSET: Final = 4
_UNIT: Final = 8  # extension headers are whole units of 8 octets (RFC 8200 4)
_LENGTH_OFFSET: Final = 1  # of Hdr Ext Len in an extension header
_DATA_OFFSET: Final = 2
_MAXIMUM_EXTENSIONS: Final = 8
_MAXIMUM_EXTENSION_DATA: Final = 256 * _UNIT - _DATA_OFFSET
_OFFSET_MASK: Final = 0xFFF8  # 13 bits of units of 8 octets, above two reserved bits and the M flag (RFC 8200 4.5)
_MORE_FRAGMENTS: Final = 1
_SHARED_LIMITS: Final = {"traffic_class": 0xFF, "flow_label": 0xFFFFF, "next_header": 0xFF}
_LIMITS: Final = {"hop_limit": 0xFF}
_FRAGMENT_LIMITS: Final = {"offset": _OFFSET_MASK, "identification": 0xFFFFFFFF}
_SOLICITED_NODE: Final = int(IPv6Address("ff02::1:ff00:0"))  # RFC 4291 2.7.1


class NextHeader(IntEnum):
    """The IANA's numbers for what follows a header."""

    HOP_BY_HOP = 0  # RFC 8200 4.3
    TCP = 6
    UDP = 17
    ROUTING = 43  # RFC 8200 4.4
    FRAGMENT = 44  # RFC 8200 4.5
    ICMPV6 = 58  # RFC 4443 1
    NO_NEXT_HEADER = 59  # RFC 8200 4.7
    DESTINATION_OPTIONS = 60  # RFC 8200 4.6


_EXTENSIONS: Final = frozenset({NextHeader.HOP_BY_HOP, NextHeader.ROUTING, NextHeader.FRAGMENT, NextHeader.DESTINATION_OPTIONS})


@dataclass(frozen=True, slots=True)
class Fragment6:
    """What a fragment header says (RFC 8200 4.5): `offset` in octets, a multiple of 8 up to 65,528; `identification` 32 bits."""

    offset: int
    more: bool
    identification: int

    def extension(self) -> Extension:
        """The header that says so; raises `LocalError` for a field out of its range."""
        check_limits(self, _FRAGMENT_LIMITS)
        if self.offset & ~_OFFSET_MASK:
            raise LocalError(f"Fragment6.offset is {self.offset}: give a multiple of 8 octets")
        word = self.offset | (_MORE_FRAGMENTS if self.more else 0)
        return Extension(NextHeader.FRAGMENT, _FRAGMENT.pack(word, self.identification))


@dataclass(frozen=True, slots=True)
class Extension:
    """One extension header: the number that announces it, and its octets behind Next Header and Hdr Ext Len.

    `data` has 6 octets more than a multiple of 8, at most 2,046; that of a fragment header exactly 6.
    """

    next_header_type: int
    data: bytes

    @property
    def fragment(self) -> Fragment6 | None:
        """What a fragment header says; None for every other."""
        if self.next_header_type != NextHeader.FRAGMENT or len(self.data) != _FRAGMENT.size:
            return None
        word, identification = _FRAGMENT.unpack(self.data)
        return Fragment6(word & _OFFSET_MASK, bool(word & _MORE_FRAGMENTS), identification)


@dataclass(frozen=True, slots=True)
class IPv6:
    """One packet or fragment.

    `next_header`, `hop_limit` and `traffic_class` 0..255; `flow_label` 20 bits. `payload` is what follows the extensions,
    and `next_header` says what that is.
    """

    source: IPv6Address
    destination: IPv6Address
    next_header: int
    payload: bytes
    hop_limit: int = 64
    traffic_class: int = 0
    flow_label: int = 0
    extensions: tuple[Extension, ...] = ()

    @property
    def header_length(self) -> int:
        """Octets of header, extensions included."""
        return HEADER_LENGTH + sum(_DATA_OFFSET + len(extension.data) for extension in self.extensions)

    @property
    def fragment(self) -> Fragment6 | None:
        """What the first fragment header says; None without one."""
        for extension in self.extensions:
            if extension.next_header_type == NextHeader.FRAGMENT:
                return extension.fragment
        return None

    @property
    def is_fragment(self) -> bool:
        """Part of a packet, not all of it; an atomic fragment is whole."""
        fragment = self.fragment
        return fragment is not None and _is_part(fragment)

    @classmethod
    def parse(cls, data: Buffer) -> Self:
        """Read a packet and drop the link's padding behind it; raises `WireError`."""
        first, payload_length, next_header, hop_limit, source, destination = unpack_fields(_HEADER, data, "ipv6")
        if first >> 28 != 6:
            raise WireError("ipv6.version", 0, f"{first >> 28} is not 6")
        if payload_length == 0 and next_header == NextHeader.HOP_BY_HOP:
            raise WireError("ipv6.payload_length", _PAYLOAD_LENGTH_OFFSET, "0 in front of options: jumbograms are not taken")
        end = HEADER_LENGTH + payload_length
        if end > len(data):
            here = len(data) - HEADER_LENGTH
            raise WireError("ipv6.payload_length", _PAYLOAD_LENGTH_OFFSET, f"{payload_length} octets announced, {here} are here")
        extensions: tuple[Extension, ...] = ()
        payload = bytes(data[HEADER_LENGTH:end])
        if next_header in _EXTENSIONS:
            extensions, next_header, payload = read_extensions(next_header, payload)
        return cls(
            ipv6_address(source),
            ipv6_address(destination),
            next_header,
            payload,
            hop_limit,
            first >> 20 & 0xFF,
            first & 0xFFFFF,
            extensions,
        )

    def pack(self) -> bytes:
        """The packet's octets; raises `LocalError` for a field out of its range."""
        check_limits(self, _SHARED_LIMITS)
        chain, first = _pack_extensions(self.extensions, self.next_header)
        payload_length = len(chain) + len(self.payload)
        if payload_length > MAXIMUM_PAYLOAD:
            raise LocalError(f"an IPv6 payload of {payload_length} octets: 65,535 is the most, so fragment it")
        header = pack_fields(
            _HEADER,
            self,
            _LIMITS,
            6 << 28 | self.traffic_class << 20 | self.flow_label,
            payload_length,
            first,
            self.hop_limit,
            self.source.packed,
            self.destination.packed,
        )
        return b"".join((header, chain, self.payload))


def read_extensions(next_header: int, data: bytes) -> tuple[tuple[Extension, ...], int, bytes]:
    """The extensions at the front of `data`, the number of what follows them, and that; raises `WireError`.

    `data` is what follows the fixed header, where `next_header` announced it; or a packet put together, without its
    fragment header.
    """
    extensions: list[Extension] = []
    at = 0
    while next_header in _EXTENSIONS:
        offset = HEADER_LENGTH + at
        if len(extensions) == _MAXIMUM_EXTENSIONS:
            raise WireError("ipv6.extension", offset, f"more than {_MAXIMUM_EXTENSIONS} extension headers")
        if at + _UNIT > len(data):
            raise WireError("ipv6.extension", offset, f"a header has at least 8 octets, {len(data) - at} are here")
        is_fragment = next_header == NextHeader.FRAGMENT
        # Where others have a length, a fragment header has an octet that is ignored (RFC 8200 4.5).
        end = at + _UNIT * (1 if is_fragment else 1 + data[at + _LENGTH_OFFSET])
        if end > len(data):
            raise WireError("ipv6.hdr_ext_len", offset + _LENGTH_OFFSET, "the extension header runs past the end")
        extension = Extension(next_header, data[at + _DATA_OFFSET : end])
        extensions.append(extension)
        next_header, at = data[at], end
        if next_header == NextHeader.HOP_BY_HOP:
            raise WireError("ipv6.next_header", offset, "hop-by-hop options come first or not at all")
        fragment = extension.fragment
        if fragment is not None and _is_part(fragment):
            break
    return tuple(extensions), next_header, data[at:]


def solicited_node(address: IPv6Address) -> IPv6Address:
    """The multicast address that answers for the last 24 bits of `address` (RFC 4291 2.7.1)."""
    return ipv6_address(_SOLICITED_NODE | int(address) & 0xFFFFFF)


def multicast_mac(address: IPv6Address) -> MacAddress:
    """The group on Ethernet that a multicast address is sent to (RFC 2464 7)."""
    return MacAddress(b"\x33\x33" + address.packed[-4:])


def interface_identifier(mac: MacAddress) -> int:
    """The 64 low bits of an address made from a MAC address: the modified EUI-64 (RFC 2464 4)."""
    return int.from_bytes(bytes((mac[0] ^ 2,)) + mac[1:3] + b"\xff\xfe" + mac[3:], "big")


def _is_part(fragment: Fragment6) -> bool:
    return fragment.more or fragment.offset > 0


def _pack_extensions(extensions: tuple[Extension, ...], last: int) -> tuple[bytes, int]:
    """The octets of the chain that ends at header `last`, and the number of its first header."""
    chain = b""
    for extension in reversed(extensions):
        kind, length = extension.next_header_type, len(extension.data)
        if kind not in _EXTENSIONS:
            raise LocalError(f"extension header {kind}: give 0, 43, 44 or 60")
        most = _FRAGMENT.size if kind == NextHeader.FRAGMENT else _MAXIMUM_EXTENSION_DATA
        if (length + _DATA_OFFSET) % _UNIT or not 0 < length <= most:
            raise LocalError(f"extension header {kind} has {length} octets of data: give 6 more than a multiple of 8, to {most}")
        chain = bytes((last, (length + _DATA_OFFSET) // _UNIT - 1)) + extension.data + chain
        last = kind
    return chain, last
