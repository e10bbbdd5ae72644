"""A node on an IPv6 link: what neighbour discovery tells it, and what it says (RFC 4861, RFC 4862).

`Node6` joins the address table, the routers and the neighbour cache of one interface, and speaks for them: it answers solicitations
for our addresses, asks for duplicates, routers and neighbours, makes addresses from advertised prefixes, and chooses the next
hop. Packets of neighbour discovery go in checked (`wire.ndisc.check_packet`) and come out of `packets`, each with the MAC
address it is for. Packets that waited for a neighbour come out of `parked`. A redirect is believed when it comes from
the router that its destination is sent to (RFC 4861 8.1, 8.3); 64 are kept.

Counted: `nd-conflict` (somebody uses an address of ours), `nd-duplicate` (somebody had it before), `nd-not-for-us`,
`nd-solicitation-ignored`, `nd-redirect-ignored` and `nd-addresses-full`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from ipaddress import IPv6Address, IPv6Interface, IPv6Network
from typing import Final

from netemu.net.clock import MILLISECOND, SECOND
from netemu.stack.addresses6 import FOR_EVER, Address6, AddressTable6
from netemu.stack.neighbour import Resolved, Unresolved
from netemu.stack.neighbour6 import NeighbourCache6, Solicit
from netemu.stack.router_discovery import RouterDiscovery, Slaac, interface_prefixes, valid_lifetime
from netemu.wire.address import MacAddress
from netemu.wire.fields import ANY_IPV6, ipv6_address
from netemu.wire.ipv6 import (
    ALL_NODES,
    ALL_ROUTERS,
    MINIMUM_MTU,
    IPv6,
    NextHeader,
    interface_identifier,
    multicast_mac,
    solicited_node,
)
from netemu.wire.ndisc import (
    HOP_LIMIT,
    NdMessage,
    NeighbourAdvertisement,
    NeighbourSolicitation,
    Redirect,
    RouterAdvertisement,
    RouterSolicitation,
)
from netemu.wire.ndisc_options import Mtu, NdOption, SourceLinkLayerAddress, TargetLinkLayerAddress

__all__ = ["Node6"]

_LINK_LOCAL: Final = int(IPv6Address("fe80::"))  # RFC 4291 2.5.6
_LINK_LOCAL_LENGTH: Final = 64
_MAX_REACHABLE: Final = 3_600_000  # milliseconds (RFC 4861 6.2.1, AdvReachableTime)
_MAX_REDIRECTS: Final = 64
_MAX_ADDRESSES: Final = 32  # beyond these no prefix gives one, whatever routers say


class Node6:
    """One interface with the hardware address `mac`; `link_mtu` in octets. Times are nanoseconds."""

    def __init__(self, mac: MacAddress, link_mtu: int, getrandbits: Callable[[int], int], counters: Counter[str]) -> None:
        self.addresses = AddressTable6()
        self.discovery = RouterDiscovery()
        self.neighbours: NeighbourCache6[IPv6] = NeighbourCache6(getrandbits)
        self.link_local = ipv6_address(_LINK_LOCAL | interface_identifier(mac))
        self.mtu = link_mtu
        self.packets: list[tuple[MacAddress, IPv6]] = []
        self.parked: list[Resolved[IPv6] | Unresolved[IPv6]] = []
        self._mac = mac
        self._link_mtu = link_mtu
        self._counters = counters
        self._static_networks: set[IPv6Network] = set()
        self._static_router: IPv6Address | None = None
        self._redirects: dict[IPv6Address, IPv6Address] = {}  # destination: better next hop

    def start(self, now: int) -> None:
        """Own the link-local address, and ask for routers."""
        self.add(self.link_local, _LINK_LOCAL_LENGTH, "link-local", now)
        self.discovery.start(now)

    def add(
        self, address: IPv6Address, length: int, origin: str, now: int, preferred: int = FOR_EVER, valid: int = FOR_EVER
    ) -> Address6:
        """Own `address`, for lifetimes in seconds, unless somebody objects; one that we have gets these lifetimes."""
        entry = self.addresses.get(address)
        if entry is None:
            entry = Address6(address, length, origin)
            self.addresses.add(entry, now)
        entry.live(now, preferred, valid)
        return entry

    def configure(self, interface: IPv6Interface, router: IPv6Address | None, now: int) -> None:
        """Own a static address, with its network on the link, beside others; `router` is used before all others."""
        self.add(interface.ip, interface.network.prefixlen, "static", now)
        self._static_networks.add(interface.network)
        if router is not None:
            self._static_router = router

    def clear(self) -> None:
        """Lose every address, router and neighbour."""
        self.addresses.clear()
        self.discovery.clear()
        self.neighbours.flush()
        self.packets.clear()
        self.parked.clear()
        self._static_networks.clear()
        self._redirects.clear()
        self._static_router = None
        self.mtu = self._link_mtu

    @property
    def autoconfigured(self) -> Slaac:
        """What the routers of the link gave."""
        entries = [entry for entry in self.addresses.addresses if entry.origin == "slaac"]
        usable = tuple(entry.address for entry in entries if self.addresses.is_usable(entry.address))
        found = self.discovery
        mtu = self.mtu if self.mtu != self._link_mtu else None
        return Slaac(usable, found.routers, found.dns, found.search, mtu, found.managed, found.other)

    def next_hop(self, destination: IPv6Address) -> IPv6Address | None:
        """Whom to send to on the link (RFC 4861 5.2); None: there is no route. Multicasts are their own next hop."""
        on_link = destination.is_multicast or self.discovery.is_on_link(destination)
        if on_link or any(destination in network for network in self._static_networks):
            return destination
        if destination in self._redirects:
            return self._redirects[destination]
        if self._static_router is not None:
            return self._static_router
        routers = self.discovery.routers
        known = (router for router in routers if self.neighbours.lookup(router) is not None)
        return next(known, routers[0] if routers else None)

    # What comes in.

    def receive(self, message: NdMessage, packet: IPv6, now: int) -> None:
        """A checked message of neighbour discovery."""
        match message:
            case NeighbourSolicitation():
                self._solicited(message, packet.source, now)
            case NeighbourAdvertisement():
                self._advertised(message, now)
            case RouterAdvertisement():
                self._router(message, packet.source, now)
            case RouterSolicitation():
                self._counters["nd-solicitation-ignored"] += 1  # hosts are silent (RFC 4861 6.2.6)
            case Redirect():
                self._redirected(message, packet.source)

    def _solicited(self, message: NeighbourSolicitation, source: IPv6Address, now: int) -> None:
        if source == ANY_IPV6 and self.addresses.conflict(message.target):
            self._counters["nd-duplicate"] += 1
            return
        if message.target.is_loopback or not self.addresses.is_usable(message.target):
            self._counters["nd-not-for-us"] += 1
            return
        mac = _mac_in(message.options, SourceLinkLayerAddress)
        if source == ANY_IPV6:  # somebody wants our address (RFC 4861 7.2.4)
            self._advertise(message.target, ALL_NODES, multicast_mac(ALL_NODES), solicited=False)
            return
        if mac is not None:
            self.neighbours.learn(source, message.target, mac)
        known = mac or self.neighbours.lookup(source)
        if known is not None:
            self._advertise(message.target, source, known, solicited=True)
        else:
            answer = NeighbourAdvertisement(message.target, False, True, True, (TargetLinkLayerAddress(self._mac),))
            packet = self._packet(answer, message.target, source)
            self.neighbours.resolve(source, message.target, packet, now)

    def _advertised(self, message: NeighbourAdvertisement, now: int) -> None:
        if self.addresses.conflict(message.target):
            self._counters["nd-duplicate"] += 1
        elif self.addresses.get(message.target) is not None:
            self._counters["nd-conflict"] += 1
        else:
            mac = _mac_in(message.options, TargetLinkLayerAddress)
            flags = {"solicited": message.solicited, "override": message.override, "is_router": message.router}
            if self.neighbours.advertised(message.target, mac, now, **flags):
                self.discovery.no_router(message.target)
                self._redirects = {to: hop for to, hop in self._redirects.items() if hop != message.target}

    def _redirected(self, message: Redirect, source: IPv6Address) -> None:
        destination, target = message.destination, message.target
        better = target.is_link_local or target == destination
        if not better or source != self.next_hop(destination) or len(self._redirects) >= _MAX_REDIRECTS:
            self._counters["nd-redirect-ignored"] += 1
            return
        self._redirects[destination] = target
        mac = _mac_in(message.options, TargetLinkLayerAddress)
        if mac is not None:
            self.neighbours.learn(target, self.link_local, mac, is_router=None if target == destination else True)

    def _router(self, message: RouterAdvertisement, source: IPv6Address, now: int) -> None:
        self.discovery.advertised(source, message, now)
        mac = _mac_in(message.options, SourceLinkLayerAddress)
        if mac is not None:
            self.neighbours.learn(source, self.link_local, mac, is_router=True)
        if 0 < message.reachable_time <= _MAX_REACHABLE:
            self.neighbours.reachable_time = message.reachable_time * MILLISECOND
        if message.retrans_timer:
            self.neighbours.retrans_timer = message.retrans_timer * MILLISECOND
        for option in message.options:
            if isinstance(option, Mtu) and MINIMUM_MTU <= option.mtu <= self._link_mtu:  # RFC 4861 6.3.4
                self.mtu = option.mtu
        for prefix in interface_prefixes(message):
            address = ipv6_address(int(prefix.prefix.network_address) | int(self.link_local) & (1 << 64) - 1)
            entry = self.addresses.get(address)
            valid = prefix.valid_lifetime
            if entry is not None:
                left = FOR_EVER if entry.valid_until is None else max(0, entry.valid_until - now) // SECOND
                valid = valid_lifetime(valid, left)
            if entry is None and len(self.addresses.addresses) >= _MAX_ADDRESSES:
                self._counters["nd-addresses-full"] += 1
            elif valid:
                self.add(address, prefix.prefix.prefixlen, "slaac", now, prefix.preferred_lifetime, valid)

    # What goes out.

    def work(self, now: int) -> None:
        """Put what is to be said into `packets` and `parked`."""
        for address in self.addresses.solicitations():
            self._say(NeighbourSolicitation(address), ANY_IPV6, solicited_node(address))
        if self.discovery.take_solicitation(now):
            source = self.link_local if self.addresses.is_usable(self.link_local) else ANY_IPV6
            options = () if source == ANY_IPV6 else (SourceLinkLayerAddress(self._mac),)  # RFC 4861 4.1
            self._say(RouterSolicitation(options), source, ALL_ROUTERS)
        for event in self.neighbours.events():
            if isinstance(event, Solicit):
                message = NeighbourSolicitation(event.target, (SourceLinkLayerAddress(self._mac),))
                destination = solicited_node(event.target) if event.mac is None else event.target
                self.packets.append((event.mac or multicast_mac(destination), self._packet(message, event.source, destination)))
            else:
                self.parked.append(event)

    def deadline(self) -> int | None:
        moments = (self.addresses.deadline(), self.discovery.deadline(), self.neighbours.deadline())
        return min((moment for moment in moments if moment is not None), default=None)

    def expire(self, now: int) -> None:
        """Run the timers that are due; `work` follows."""
        self.addresses.expire(now)
        self.discovery.expire(now)
        self.neighbours.expire(now)

    def _advertise(self, target: IPv6Address, destination: IPv6Address, mac: MacAddress, *, solicited: bool) -> None:
        message = NeighbourAdvertisement(target, False, solicited, True, (TargetLinkLayerAddress(self._mac),))
        self.packets.append((mac, self._packet(message, target, destination)))

    def _say(self, message: NdMessage, source: IPv6Address, destination: IPv6Address) -> None:
        self.packets.append((multicast_mac(destination), self._packet(message, source, destination)))

    def _packet(self, message: NdMessage, source: IPv6Address, destination: IPv6Address) -> IPv6:
        payload = message.icmpv6().pack(source, destination)
        return IPv6(source, destination, NextHeader.ICMPV6, payload, HOP_LIMIT)


def _mac_in(options: tuple[NdOption, ...], kind: type[SourceLinkLayerAddress | TargetLinkLayerAddress]) -> MacAddress | None:
    """The link-layer address in the first option of `kind`; a group has none (RFC 4861 4.6.1)."""
    found = (option.address for option in options if isinstance(option, kind))
    return next((mac for mac in found if not mac.is_multicast), None)
