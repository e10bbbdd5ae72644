"""Router advertisements of a user-mode network (RFC 4861 6.2), sans-IO: solicitations and the time in, advertisements out.

When one is sent. By itself every 200 to 600 seconds, at a random moment, so that routers do not fall into step (6.2.4); the
first three within 16 seconds of each other. Asked by a solicitation after a random delay of up to half a second, but not
within three seconds of the last one (6.2.6). All go to every node: one advertisement answers all who asked. Nothing is sent before
the first guest has spoken IPv6, for there is nobody to hear it.

What it says. This is the default router, for 1800 s; `ipv6_net` is on the link, and guests may make addresses in it if it leaves
them 64 bits (RFC 4862 5.5.3 d); the MTU; the DNS server and the search list (RFC 8106), with the lifetime that its section 5.1
recommends. The flags M and O say what the DHCPv6 server serves. A restricted network has no way out: its router is
nobody's default router (lifetime 0), and no DNS server is named.

When the network ends it says so, in a last advertisement with lifetimes of zero for the router (6.2.5) and the names (RFC 8106 5.1,
5.2), unless it never sent another. The prefix stays: guests may go on talking to each other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from netemu.net.clock import SECOND
from netemu.user.options import UserOptions
from netemu.wire.address import MacAddress
from netemu.wire.ndisc import RouterAdvertisement
from netemu.wire.ndisc_options import Dnssl, Mtu, NdOption, PrefixInformation, Rdnss, SourceLinkLayerAddress

__all__ = ["RouterAdvertiser", "RouterSnapshot", "advertisement"]

# RFC 4861 6.2.1, defaults, and 10, protocol constants
_MAX_INTERVAL: Final = 600 * SECOND  # MaxRtrAdvInterval
_MIN_INTERVAL: Final = 200 * SECOND  # MinRtrAdvInterval, rounded up from 0.33 of it
_INITIAL_INTERVAL: Final = 16 * SECOND  # MAX_INITIAL_RTR_ADVERT_INTERVAL
_INITIAL_ADVERTISEMENTS: Final = 3  # MAX_INITIAL_RTR_ADVERTISEMENTS
_MIN_DELAY_BETWEEN: Final = 3 * SECOND  # MIN_DELAY_BETWEEN_RAS
_MAX_DELAY: Final = SECOND // 2  # MAX_RA_DELAY_TIME
_CUR_HOP_LIMIT: Final = 64
_ROUTER_LIFETIME: Final = 1800  # seconds: AdvDefaultLifetime, three times the interval
_VALID_LIFETIME: Final = 2_592_000  # AdvValidLifetime, 30 days
_PREFERRED_LIFETIME: Final = 604_800  # AdvPreferredLifetime, 7 days
_DNS_LIFETIME: Final = 1800  # RFC 8106 5.1: three times the interval
_SLAAC_PREFIX: Final = 64


def advertisement(options: UserOptions, mac: MacAddress, *, last: bool = False) -> RouterAdvertisement:
    """What the router of a network with `options` says of it; in its `last` words, that it routes and resolves no more."""
    net = options.ipv6_net
    dns_lifetime = 0 if last else _DNS_LIFETIME
    told: list[NdOption] = [
        SourceLinkLayerAddress(mac),
        Mtu(options.mtu6),
        PrefixInformation(net, _VALID_LIFETIME, _PREFERRED_LIFETIME, on_link=True, autonomous=net.prefixlen == _SLAAC_PREFIX),
    ]
    if not options.restrict:
        told.append(Rdnss(dns_lifetime, (options.ipv6_dns,)))
    if options.dnssearch:
        told.append(Dnssl(dns_lifetime, options.dnssearch))
    return RouterAdvertisement(
        hop_limit=_CUR_HOP_LIMIT,
        managed=options.dhcpv6 == "stateful",
        other=options.dhcpv6 != "off",
        router_lifetime=0 if last or options.restrict else _ROUTER_LIFETIME,
        options=tuple(told),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterSnapshot:
    """As it is saved: how many advertisements were `sent`, how long ago the last, in how long the next."""

    sent: int
    last: int | None
    next: int | None


class RouterAdvertiser:
    """Says when an advertisement is due. `getrandbits(n)` gives n random bits; times are nanoseconds."""

    def __init__(self, getrandbits: Callable[[int], int]) -> None:
        self._getrandbits = getrandbits
        self._sent = 0
        self._last: int | None = None
        self._next: int | None = None

    def start(self, now: int) -> None:
        """Somebody is there to hear: advertise from now on."""
        if self._next is None:
            self._next = now + self._random(0, _INITIAL_INTERVAL)

    def solicited(self, now: int) -> None:
        """A valid solicitation came."""
        self.start(now)
        due = now + self._random(0, _MAX_DELAY)
        if self._last is not None and now < self._last + _MIN_DELAY_BETWEEN:
            due += self._last + _MIN_DELAY_BETWEEN - now
        if self._next is None or due < self._next:
            self._next = due

    @property
    def heard(self) -> bool:
        """Something was advertised."""
        return self._sent > 0

    def snapshot(self, now: int) -> RouterSnapshot:
        return RouterSnapshot(
            sent=self._sent,
            last=None if self._last is None else now - self._last,
            next=None if self._next is None else max(self._next - now, 0),
        )

    def restore(self, state: RouterSnapshot, now: int) -> None:
        self._sent = state.sent
        self._last = None if state.last is None else now - state.last
        self._next = None if state.next is None else now + state.next

    def deadline(self) -> int | None:
        return self._next

    def expire(self, now: int) -> bool:
        """Is an advertisement to be sent now?"""
        if self._next is None or now < self._next:
            return False
        self._sent += 1
        self._last = now
        interval = self._random(_MIN_INTERVAL, _MAX_INTERVAL)
        self._next = now + (min(interval, _INITIAL_INTERVAL) if self._sent < _INITIAL_ADVERTISEMENTS else interval)
        return True

    def _random(self, low: int, high: int) -> int:
        """A moment from `low` to `high`, uniformly."""
        return low + ((high - low) * self._getrandbits(32) >> 32)
