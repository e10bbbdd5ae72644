"""Routes and port numbers of an in-memory Internet: where a packet ends, and who is there.

A route says what becomes of a packet for its network: it arrives, after a number of routers; or an error comes back, from a router
(an ICMP message, a turn of the loop later) or from the host's own routing table (at once, as the system call's errno); or nothing
ever happens. The longest prefix decides, as everywhere. Both families share the table.

A `PortTable` gives port numbers to sockets of one protocol. Ephemeral ones are counted up from 49152 (RFC 6335 6), so a run is
repeatable.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final, Generic, NamedTuple, Self, TypeAlias, TypeVar

from netemu.errors import HostError
from netemu.wire.address import Endpoint, Family, IPAddress
from netemu.wire.fields import ANY_IPV4, ANY_IPV6
from netemu.wire.icmpv4 import IcmpType, TimeExceededCode, UnreachableCode
from netemu.wire.icmpv6 import Icmpv6TimeExceededCode, Icmpv6Type, Icmpv6UnreachableCode

__all__ = [
    "EPHEMERAL_PORTS",
    "UNREACHABLE_ERRORS",
    "Fate",
    "IcmpReport",
    "Network",
    "PortTable",
    "Route",
    "RouteTable",
    "unspecified",
]

EPHEMERAL_PORTS = range(49152, 65536)  # RFC 6335 6: dynamic ports

UNREACHABLE_ERRORS: Final = (errno.ENETUNREACH, errno.EHOSTUNREACH)

# Type and code of the error that a socket sees as this errno (RFC 1122 4.2.3.9, RFC 4443 3.1).
_UNREACHABLE: Final[dict[tuple[Family, int], tuple[int, int]]] = {
    (4, errno.ENETUNREACH): (IcmpType.DESTINATION_UNREACHABLE, UnreachableCode.NET),
    (4, errno.EHOSTUNREACH): (IcmpType.DESTINATION_UNREACHABLE, UnreachableCode.HOST),
    (4, errno.ECONNREFUSED): (IcmpType.DESTINATION_UNREACHABLE, UnreachableCode.PORT),
    (6, errno.ENETUNREACH): (Icmpv6Type.DESTINATION_UNREACHABLE, Icmpv6UnreachableCode.NO_ROUTE),
    (6, errno.EHOSTUNREACH): (Icmpv6Type.DESTINATION_UNREACHABLE, Icmpv6UnreachableCode.ADDRESS),
    (6, errno.ECONNREFUSED): (Icmpv6Type.DESTINATION_UNREACHABLE, Icmpv6UnreachableCode.PORT),
}
_TIME_EXCEEDED: Final[dict[Family, tuple[int, int]]] = {
    4: (IcmpType.TIME_EXCEEDED, TimeExceededCode.TTL),
    6: (Icmpv6Type.TIME_EXCEEDED, Icmpv6TimeExceededCode.HOP_LIMIT),
}

Network: TypeAlias = IPv4Network | IPv6Network


def unspecified(address: IPAddress) -> IPAddress:
    """The address that means all of them, of the family of `address`."""
    return ANY_IPV4 if address.version == 4 else ANY_IPV6


class IcmpReport(NamedTuple):
    """An ICMP error that came back: type and code (RFC 792 or RFC 4443), who sent it, and the errno sockets see."""

    type: int
    code: int
    reporter: IPAddress
    error: int

    @classmethod
    def unreachable(cls, reporter: IPAddress, error: int) -> Self:
        """`reporter` could not deliver the packet: ENETUNREACH, EHOSTUNREACH, or ECONNREFUSED for a closed port."""
        return cls(*_UNREACHABLE[reporter.version, error], reporter, error)

    @classmethod
    def time_exceeded(cls, reporter: IPAddress) -> Self:
        """The packet's TTL or hop limit ran out at `reporter`."""
        return cls(*_TIME_EXCEEDED[reporter.version], reporter, errno.EHOSTUNREACH)


class Fate(Enum):
    """What becomes of a packet."""

    ARRIVES = auto()
    REFUSED = auto()
    LOST = auto()


@dataclass(frozen=True, slots=True)
class Route:
    """One route. `path` are the routers on the way; `reporter` is who refuses with `error`, None for the host itself."""

    fate: Fate
    path: tuple[IPAddress, ...] = ()
    error: int = 0
    reporter: IPAddress | None = None

    def report(self, ttl: int) -> IcmpReport | None:
        """The ICMP error that a packet with this TTL meets on the way, if any."""
        if ttl <= len(self.path):
            return IcmpReport.time_exceeded(self.path[ttl - 1])
        if self.fate is Fate.REFUSED and self.reporter is not None:
            return IcmpReport.unreachable(self.reporter, self.error)
        return None


class RouteTable:
    """Routes by network; what matches none goes the default way."""

    def __init__(self, default: Route) -> None:
        self._default = default
        self._routes: dict[Network, Route] = {}
        self._lengths: list[int] = []  # prefix lengths in use, longest first

    def set(self, network: Network, route: Route) -> None:
        """Add a route, or replace the one for the same network."""
        self._routes[network] = route
        self._lengths = sorted({known.prefixlen for known in self._routes}, reverse=True)

    def find(self, address: IPAddress) -> Route:
        for length in self._lengths:
            if length > address.max_prefixlen:
                continue
            route = self._routes.get(ip_network((address, length), strict=False))
            if route is not None:
                return route
        return self._default


Holder = TypeVar("Holder")


class PortTable(Generic[Holder]):
    """Who is bound to which endpoint of one protocol."""

    def __init__(self, protocol: str) -> None:
        self._protocol = protocol
        self._bound: dict[Endpoint, Holder] = {}
        self._ports: Counter[tuple[Family, int]] = Counter()  # how many are bound to each, at whatever address
        self._next = 0

    def __iter__(self) -> Iterator[Holder]:
        return iter(list(self._bound.values()))

    def choose(self, local: Endpoint) -> Endpoint:
        """`local`, with a free ephemeral port for port 0; raises `HostError` EADDRINUSE."""
        if local.port:
            if self._taken(local):
                raise HostError(errno.EADDRINUSE, f"bind {self._protocol} {local}")
            return local
        for _ in EPHEMERAL_PORTS:
            candidate = Endpoint(local.address, EPHEMERAL_PORTS[self._next])
            self._next = (self._next + 1) % len(EPHEMERAL_PORTS)
            if not self._taken(candidate):
                return candidate
        raise HostError(errno.EADDRINUSE, f"bind {self._protocol} {local}, every ephemeral port is taken")

    def hold(self, local: Endpoint, holder: Holder) -> None:
        """Bind an endpoint that `choose` gave."""
        if local not in self._bound:
            self._ports[local.address.version, local.port] += 1
        self._bound[local] = holder

    def find(self, destination: Endpoint) -> Holder | None:
        """Who gets what is sent to `destination`: bound to it, or to its port on every address."""
        return self._bound.get(destination) or self._bound.get(Endpoint(unspecified(destination.address), destination.port))

    def release(self, local: Endpoint, holder: Holder) -> None:
        """`holder` has closed: the endpoint is free, unless somebody else has it by now."""
        if self._bound.get(local) is holder:
            del self._bound[local]
            port = local.address.version, local.port
            self._ports[port] -= 1
            if not self._ports[port]:
                del self._ports[port]

    def _taken(self, local: Endpoint) -> bool:
        if self.find(local) is not None:
            return True
        return local.address.is_unspecified and (local.address.version, local.port) in self._ports
