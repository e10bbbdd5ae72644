"""One address family's side of a user-mode network: what its services need of IPv4 and IPv6 alike.

UDP, TCP, echo, DNS and forwarded ports are the same for both families: a guest's endpoint is translated to a socket of the host's.
What differs is here: whose an address is, how a datagram is sent to a guest, and how an error about one is worded. A service finds
the side of an address by its version (`Realm.side`). The two sides are `netemu.user.side4` and `netemu.user.side6`.

A guest's datagram is an `IPv4`, or a `Datagram6`, which has the same names: extension headers are dealt with before a service sees
it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, replace
from ipaddress import IPv6Address
from typing import Final, Self, TypeAlias

from netemu.stack.icmp import TokenBucket
from netemu.wire.address import Family, IPAddress
from netemu.wire.fields import ANY_IPV4, ANY_IPV6
from netemu.wire.ipv4 import IPv4
from netemu.wire.ipv6 import IPv6

__all__ = ["UNSPECIFIED", "Datagram6", "Packet", "Quotation", "Side"]

UNSPECIFIED: Final[dict[int, IPAddress]] = {4: ANY_IPV4, 6: ANY_IPV6}
"""Where a socket of the host's is bound that may be anywhere, by family."""

_QUOTED: Final = 548  # octets of a datagram that an ICMP error can hold (RFC 1812 4.3.2.3: 576 with its own headers)
_QUOTED6: Final = 1232  # likewise for ICMPv6 (RFC 4443 2.4(c): 1280 with its own headers)
_HEAD: Final = 8  # octets of payload that tell what a datagram was


@dataclass(frozen=True, slots=True)
class Datagram6:
    """A guest's IPv6 packet, whole and without its extension headers; `octets` is how it came, for errors about it."""

    source: IPv6Address
    destination: IPv6Address
    protocol: int
    payload: bytes
    ttl: int
    octets: bytes

    @classmethod
    def of(cls, packet: IPv6) -> Self:
        return cls(packet.source, packet.destination, packet.next_header, packet.payload, packet.hop_limit, packet.pack())


Packet: TypeAlias = IPv4 | Datagram6


@dataclass(frozen=True, slots=True)
class Quotation:
    """As much of a guest's datagram as an ICMP error about it needs. `head` is the datagram with its payload cut."""

    head: Packet
    octets: bytes

    @classmethod
    def of(cls, packet: Packet) -> Self:
        if isinstance(packet, IPv4):
            return cls(replace(packet, payload=packet.payload[:_HEAD]), packet.pack()[:_QUOTED])
        return cls(replace(packet, payload=packet.payload[:_HEAD], octets=b""), packet.octets[:_QUOTED6])


class Side(ABC):
    """One family. `gateway` is the address that stands for the host's `loopback`; `resolvers` are where DNS is served."""

    family: Family
    loopback: IPAddress
    header_length: int  # octets of an IP header without options

    def __init__(self, counters: Counter[str], gateway: IPAddress, resolvers: Collection[IPAddress]) -> None:
        self.counters = counters
        self.gateway = gateway
        self.resolvers = frozenset(resolvers)
        self._errors = TokenBucket()

    @abstractmethod
    def is_own(self, address: IPAddress) -> bool:
        """One of the network's own addresses."""

    @abstractmethod
    def add_own(self, address: IPAddress) -> None:
        """The network has this address too from now on: it answers for it on the link."""

    @abstractmethod
    def is_local(self, address: IPAddress) -> bool:
        """An address on the guests' link."""

    @abstractmethod
    def datagram(
        self,
        source: IPAddress,
        destination: IPAddress,
        protocol: int,
        payload: bytes,
        now: int,
        *,
        dont_fragment: bool = False,
    ) -> None:
        """Send a datagram of our own to the guest that has the address `destination`."""

    @abstractmethod
    def echo_reply(self, source: IPAddress, guest: IPAddress, identifier: int, sequence: int, payload: bytes, now: int) -> None:
        """Answer a guest's ping in the name of `source`."""

    @abstractmethod
    def unreachable(self, quotation: Quotation, error: int, now: int, source: IPAddress | None = None) -> None:
        """Tell a guest why its datagram went nowhere; `error` is the host's errno, `source` who says so (the gateway)."""

    @abstractmethod
    def relay_error(self, quotation: Quotation, kind: int, code: int, now: int, source: IPAddress) -> None:
        """Pass on an error of this family's ICMP that came back to the host, from `source`."""
