"""Router discovery: what the routers of the link say, kept for as long as they say (RFC 4861 6.3, RFC 4862 5.5, RFC 8106 5).

Theory of operation. `start` asks for routers: three solicitations, four seconds apart, until one advertises itself (6.3.7).
Each advertisement replaces what was known from that router: its lifetime, the prefixes on the link, recursive DNS servers,
search domains, MTU and timers. What runs out of its lifetime is forgotten. Prefixes to make addresses from are handed to the
interface as they come (`interface_prefixes`); `valid_lifetime` is the rule of two hours for those it has already.

Bounds: 16 routers, 64 prefixes, 16 DNS servers and domains; more are ignored. What is not done: router preference between equal
routers beyond HIGH, MEDIUM and LOW, route information (RFC 4191 type C hosts), interfaces that become routers, the random delay
before the first solicitation (6.3.7; it spreads machines that power on together).
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network
from typing import Final, TypeVar

from netemu.net.clock import SECOND
from netemu.stack.addresses6 import FOR_EVER, until
from netemu.wire.ndisc import RouterAdvertisement
from netemu.wire.ndisc_options import Dnssl, PrefixInformation, Rdnss, RouterPreference

__all__ = ["RouterDiscovery", "Slaac", "interface_prefixes", "valid_lifetime"]

# RFC 4861 10
MAX_RTR_SOLICITATIONS: Final = 3
RTR_SOLICITATION_INTERVAL: Final = 4 * SECOND

TWO_HOURS: Final = 7200  # seconds (RFC 4862 5.5.3 e)
PREFIX_LENGTH: Final = 64  # 128 less the identifier's length (RFC 4291 2.5.1, RFC 4862 5.5.3 d)
_MAX_ROUTERS: Final = 16
_MAX_PREFIXES: Final = 64
_MAX_NAMES: Final = 16
Key = TypeVar("Key", IPv6Address, IPv6Network, str)

_RANK: Final = {RouterPreference.HIGH: 0, RouterPreference.MEDIUM: 1, RouterPreference.LOW: 2}


@dataclass(frozen=True, slots=True)
class Slaac:
    """What stateless autoconfiguration gave: usable addresses, default routers (the best first), DNS, search domains, MTU.

    `managed` and `other` are the flags of the advertisement that came last: addresses, or only other things, are to be had by
    DHCPv6 (RFC 4861 4.2).
    """

    addresses: tuple[IPv6Address, ...]
    routers: tuple[IPv6Address, ...]
    dns: tuple[IPv6Address, ...] = ()
    search: tuple[str, ...] = ()
    mtu: int | None = None
    managed: bool = False
    other: bool = False


@dataclass(slots=True)
class _Router:
    rank: int
    until: int | None


class RouterDiscovery:
    """The routers of one interface, and what they advertise. `heard`: some router has spoken since `start`."""

    def __init__(self) -> None:
        self.heard = False
        self.managed = False
        self.other = False
        self._routers: dict[IPv6Address, _Router] = {}
        self._on_link: dict[IPv6Network, int | None] = {}  # until when
        self._dns: dict[IPv6Address, int | None] = {}
        self._search: dict[str, int | None] = {}
        self._solicitations = 0
        self._solicit_at: int | None = None

    def start(self, now: int) -> None:
        """Ask for routers."""
        self.heard, self._solicitations, self._solicit_at = False, 0, now

    def clear(self) -> None:
        """Forget everything (the link changed)."""
        for table in (self._routers, self._on_link, self._dns, self._search):
            table.clear()
        self._solicit_at = None

    def take_solicitation(self, now: int) -> bool:
        """A router solicitation is due now."""
        if self._solicit_at is None or self._solicit_at > now:
            return False
        self._solicitations += 1
        more = self._solicitations < MAX_RTR_SOLICITATIONS
        self._solicit_at = now + RTR_SOLICITATION_INTERVAL if more else None
        return True

    def advertised(self, router: IPv6Address, message: RouterAdvertisement, now: int) -> None:
        """A router's advertisement, checked already."""
        self.heard, self._solicit_at = True, None
        self.managed, self.other = message.managed, message.other
        if not message.router_lifetime:
            self._routers.pop(router, None)
        elif router in self._routers or len(self._routers) < _MAX_ROUTERS:
            self._routers[router] = _Router(_RANK[message.preference], now + message.router_lifetime * SECOND)
        for option in message.options:
            match option:
                case PrefixInformation(on_link=True) if not option.prefix.is_link_local:
                    _keep(self._on_link, option.prefix, option.valid_lifetime, now, _MAX_PREFIXES)
                case Rdnss():
                    for server in option.servers:
                        _keep(self._dns, server, option.lifetime, now, _MAX_NAMES)
                case Dnssl():
                    for name in option.names:
                        _keep(self._search, name, option.lifetime, now, _MAX_NAMES)

    def no_router(self, address: IPv6Address) -> None:
        """`address` says that it is no router any more, or does not answer (RFC 4861 7.2.5, 6.3.6)."""
        self._routers.pop(address, None)

    @property
    def routers(self) -> tuple[IPv6Address, ...]:
        """The default routers, the preferred first, and of equal ones the older."""
        return tuple(sorted(self._routers, key=lambda address: self._routers[address].rank))

    @property
    def dns(self) -> tuple[IPv6Address, ...]:
        return tuple(self._dns)

    @property
    def search(self) -> tuple[str, ...]:
        return tuple(self._search)

    def is_on_link(self, address: IPv6Address) -> bool:
        """`address` can be reached without a router (RFC 4861 5.1)."""
        return address.is_link_local or any(address in network for network in self._on_link)

    def deadline(self) -> int | None:
        moments = [self._solicit_at, *(router.until for router in self._routers.values())]
        for table in (self._on_link, self._dns, self._search):
            moments += table.values()
        return min((moment for moment in moments if moment is not None), default=None)

    def expire(self, now: int) -> None:
        """Forget what has run out."""
        for address in [address for address, router in self._routers.items() if router.until is not None and router.until <= now]:
            del self._routers[address]
        _forget(self._on_link, now)
        _forget(self._dns, now)
        _forget(self._search, now)


def interface_prefixes(message: RouterAdvertisement) -> list[PrefixInformation]:
    """The prefixes that an address may be made from (RFC 4862 5.5.3 a to d)."""
    return [
        option
        for option in message.options
        if isinstance(option, PrefixInformation)
        and option.autonomous
        and not option.prefix.is_link_local
        and option.preferred_lifetime <= option.valid_lifetime
        and option.prefix.prefixlen == PREFIX_LENGTH
    ]


def valid_lifetime(advertised: int, remaining: int) -> int:
    """The valid lifetime of an address that exists, in seconds: nobody shortens it to less than two hours (5.5.3 e).

    `remaining` is what is left of it, FOR_EVER included.
    """
    if advertised > TWO_HOURS or advertised > remaining:
        return advertised
    return min(remaining, TWO_HOURS) if remaining != FOR_EVER else TWO_HOURS


def _keep(table: dict[Key, int | None], key: Key, lifetime: int, now: int, limit: int) -> None:
    """Keep `key` for `lifetime` seconds; 0 forgets it."""
    if not lifetime:
        table.pop(key, None)
    elif key in table or len(table) < limit:
        table[key] = until(now, lifetime)


def _forget(table: dict[Key, int | None], now: int) -> None:
    for key in [key for key, moment in table.items() if moment is not None and moment <= now]:
        del table[key]
