"""Where datagrams go: the addresses of an interface, its routes, and the path MTUs it has learnt.

Theory of operation. An address brings the route of its own network; routes through a router are added beside it. `lookup` takes the
longest prefix that fits (RFC 1122 3.3.1.1, RFC 3442). Addresses are compared as integers. The table also answers what only
the interface knows: which destinations are ours, and which are broadcasts.

Path MTUs are kept for each destination, lowered by ICMP and forgotten after ten minutes (RFC 1191 6.3); they never go up
otherwise, and never below 68.

Documents: RFC 1122 3.2.1.3 and 3.3.1, RFC 1191, RFC 3442. What is not done: redirects, dead gateway detection, more than
one interface.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Final

from netemu.net.clock import SECOND
from netemu.stack.icmp import MINIMUM_MTU
from netemu.wire.fields import ANY_IPV4, IPAddress

__all__ = ["LIMITED_BROADCAST", "LOOPBACK", "PATH_MTU_LIFETIME", "PathMtus", "Route", "RouteTable"]

LIMITED_BROADCAST: Final = IPv4Address(0xFFFFFFFF)
LOOPBACK: Final = IPv4Address("127.0.0.1")
PATH_MTU_LIFETIME: Final = 600 * SECOND  # RFC 1191 6.3
_MAX_PATHS: Final = 1024


@dataclass(frozen=True, slots=True)
class Route:
    """Datagrams to `network` leave with the address `source`, to `router` or, if None, to the destination itself."""

    network: IPv4Network
    source: IPv4Address
    router: IPv4Address | None = None


class RouteTable:
    """Addresses and routes of one interface."""

    def __init__(self) -> None:
        self.addresses: list[IPv4Interface] = []
        self._routes: list[tuple[int, int, Route]] = []  # (mask, network, route), the longest prefix first
        self._local: set[int] = {int(LOOPBACK)}
        self._broadcasts: set[int] = {int(LIMITED_BROADCAST)}

    @property
    def address(self) -> IPv4Address | None:
        """The first address, which sockets use when nothing else decides."""
        return self.addresses[0].ip if self.addresses else None

    def add_address(self, interface: IPv4Interface) -> None:
        """Own this address; its network is on the link."""
        self.addresses.append(interface)
        self._local.add(int(interface.ip))
        if interface.network.prefixlen < 31:  # RFC 3021: a network of two has no broadcast address
            self._broadcasts |= {int(interface.network.broadcast_address), int(interface.network.network_address)}
        self.add_route(Route(interface.network, interface.ip))

    def add_route(self, route: Route) -> None:
        """Use `route` where no longer prefix fits; the first of two equal ones wins."""
        self._routes.append((int(route.network.netmask), int(route.network.network_address), route))
        self._routes.sort(key=lambda entry: -entry[0])

    def clear(self) -> None:
        """Lose every address and route."""
        self.addresses.clear()
        self._routes.clear()
        self._local = {int(LOOPBACK)}
        self._broadcasts = {int(LIMITED_BROADCAST)}

    def lookup(self, destination: IPv4Address) -> Route | None:
        """The route to `destination`; None if there is none. Broadcasts and multicasts leave by the first address."""
        number = int(destination)
        if number in self._local:
            return Route(IPv4Network(destination), destination)
        if number in self._broadcasts or number >> 28 == 0xE:
            return Route(IPv4Network(destination), self.address or ANY_IPV4)
        for mask, network, route in self._routes:
            if number & mask == network:
                return route
        return None

    def is_local(self, number: int) -> bool:
        """The address, as 32 bits, is ours."""
        return number in self._local

    def is_broadcast(self, number: int) -> bool:
        """The address, as 32 bits, means everybody on this link."""
        return number in self._broadcasts


class PathMtus:
    """What path MTU discovery learnt, in either family; `least` is the smallest MTU that is believed."""

    def __init__(self, least: int = MINIMUM_MTU) -> None:
        self._least = least
        self._paths: dict[IPAddress, tuple[int, int]] = {}  # destination: (octets, forgotten at)

    def get(self, destination: IPAddress, limit: int, now: int) -> int:
        """The MTU towards `destination`, `limit` (the link's) at most."""
        if not self._paths:
            return limit
        size, until = self._paths.get(destination, (limit, now))
        if until < now:
            del self._paths[destination]
            return limit
        return min(size, limit)

    def lower(self, destination: IPAddress, size: int, now: int) -> None:
        """A router said that no more than `size` octets pass."""
        if len(self._paths) >= _MAX_PATHS:
            del self._paths[next(iter(self._paths))]
        known, _ = self._paths.get(destination, (size, now))
        self._paths[destination] = (max(self._least, min(known, size)), now + PATH_MTU_LIFETIME)
