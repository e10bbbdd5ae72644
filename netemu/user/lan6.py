"""The guests' side of a user-mode network in IPv6: neighbour discovery, router advertisements, and packets for guests.

The network answers neighbour solicitations for its own addresses only, which are also its link-local ones: fe80::2 (the router) and
fe80::3 (the DNS server), as libslirp has them. A solicitation from the unspecified address, by which a guest looks for a
duplicate of an address it wants, is answered to all nodes (RFC 4861 7.2.4). Other addresses belong to guests that may be beside
each other on a hub.

All its addresses are at one MAC address, the one that it has in IPv4.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from ipaddress import IPv6Address

from netemu.stack.fragments6 import fragment6
from netemu.stack.neighbour import NeighbourSnapshot, Resolved
from netemu.stack.neighbour6 import NeighbourCache6, Solicit
from netemu.user.options import UserOptions
from netemu.user.options6 import link_local
from netemu.user.ra import RouterAdvertiser, RouterSnapshot, advertisement
from netemu.wire.address import IPAddress, MacAddress
from netemu.wire.ether import Ethernet, EtherType
from netemu.wire.fields import ANY_IPV6
from netemu.wire.icmpv6 import Icmpv6
from netemu.wire.ipv6 import ALL_NODES, ALL_ROUTERS, IPv6, NextHeader, multicast_mac, solicited_node
from netemu.wire.ndisc import (
    HOP_LIMIT,
    NdMessage,
    NeighbourAdvertisement,
    NeighbourSolicitation,
    RouterSolicitation,
    check_packet,
)
from netemu.wire.ndisc_options import NdOption, SourceLinkLayerAddress, TargetLinkLayerAddress

__all__ = ["Lan6"]


class Lan6:
    """Sends packets to guests by `put`. `on_unreachable` gets each one whose guest does not answer."""

    def __init__(
        self,
        options: UserOptions,
        mac: MacAddress,
        put: Callable[[Ethernet], None],
        counters: Counter[str],
        getrandbits: Callable[[int], int],
        on_unreachable: Callable[[IPv6, int], None],
    ) -> None:
        self.mac = mac
        self.router = link_local(options.ipv6_host)
        self._own: set[IPAddress] = set()
        self._groups = {ALL_NODES, ALL_ROUTERS}
        for address in options.own_addresses6:
            self.add_own(address)
        self._net = options.ipv6_net
        self._mtu = options.mtu6
        self._put = put
        self._getrandbits = getrandbits
        self._counters = counters
        self._on_unreachable = on_unreachable
        self._neighbours: NeighbourCache6[IPv6] = NeighbourCache6(getrandbits)
        self._neighbours.counters = counters
        self._advertiser = RouterAdvertiser(getrandbits)
        self._advertisement = advertisement(options, mac).icmpv6()
        self._last_words = advertisement(options, mac, last=True).icmpv6()

    def is_own(self, address: IPAddress) -> bool:
        """One of the network's addresses."""
        return address in self._own

    def add_own(self, address: IPv6Address) -> None:
        """The network has this address too from now on."""
        self._own.add(address)
        self._groups.add(solicited_node(address))

    def is_member(self, group: IPv6Address) -> bool:
        """A group whose neighbour discovery is for the network (RFC 4291 2.8)."""
        return group in self._groups

    def leave(self, now: int) -> None:
        """Nobody routes here from now on (RFC 4861 6.2.5)."""
        if self._advertiser.heard:
            self._send_nd(self.router, ALL_NODES, self._last_words, now)

    # From the guests

    def greet(self, now: int) -> None:
        """A guest spoke IPv6: the router advertises itself from now on."""
        self._advertiser.start(now)

    def receive(self, packet: IPv6, message: NdMessage, now: int) -> None:
        """A message of neighbour discovery; raises `WireError` for one that came in a wrong packet."""
        check_packet(packet, message)
        if packet.source in self._own:
            self._counters["address-conflict"] += 1
            return
        match message:
            case RouterSolicitation():
                self._learn(packet.source, message.options)
                self._advertiser.solicited(now)
            case NeighbourSolicitation() if message.target in self._own:
                self._learn(packet.source, message.options)
                self._answer(packet.source, message.target, now)
            case NeighbourAdvertisement():
                self._advertised(message, now)
            case _:
                self._counters["nd-ignored"] += 1
        self._run_events(now)

    def _learn(self, source: IPv6Address, options: tuple[NdOption, ...]) -> None:
        for option in options:
            if isinstance(option, SourceLinkLayerAddress) and source != ANY_IPV6 and not option.address.is_multicast:
                self._neighbours.learn(source, self.router, option.address)

    def _answer(self, asker: IPv6Address, target: IPv6Address, now: int) -> None:
        probe = asker == ANY_IPV6
        reply = NeighbourAdvertisement(
            target, router=True, solicited=not probe, override=True, options=(TargetLinkLayerAddress(self.mac),)
        )
        self._send_nd(target, ALL_NODES if probe else asker, reply.icmpv6(), now)

    def _advertised(self, message: NeighbourAdvertisement, now: int) -> None:
        if message.target in self._own:
            self._counters["address-conflict"] += 1
            return
        macs = (option.address for option in message.options if isinstance(option, TargetLinkLayerAddress))
        mac = next((mac for mac in macs if not mac.is_multicast), None)
        flags = {"solicited": message.solicited, "override": message.override, "is_router": message.router}
        self._neighbours.advertised(message.target, mac, now, **flags)

    def heard(self, address: IPv6Address, mac: MacAddress, now: int) -> None:
        """A guest's link-layer address, from a frame that we answer."""
        self._neighbours.learn(address, self.router, mac)
        self._run_events(now)

    # To the guests

    def reachable(self, address: IPv6Address) -> MacAddress | None:
        """The MAC address of a guest if it is known and need not be asked about yet."""
        return self._neighbours.reachable(address)

    def send(self, packet: IPv6, now: int) -> None:
        """Send to the guest, or the group, that has the destination address, cut to the MTU."""
        for piece in fragment6(packet, self._mtu, self._getrandbits(32)):
            self._route(piece, now)
        self._run_events(now)

    def _route(self, packet: IPv6, now: int) -> None:
        if packet.destination.is_multicast:
            self._frame(multicast_mac(packet.destination), packet)
            return
        mac = self._neighbours.resolve(packet.destination, self.router, packet, now)
        if mac is not None:
            self._frame(mac, packet)

    def _frame(self, mac: MacAddress, packet: IPv6) -> None:
        self._put(Ethernet(mac, self.mac, EtherType.IPV6, packet.pack()))

    def _nd_packet(self, source: IPv6Address, destination: IPv6Address, message: Icmpv6) -> IPv6:
        return IPv6(source, destination, NextHeader.ICMPV6, message.pack(source, destination), hop_limit=HOP_LIMIT)

    def _send_nd(self, source: IPv6Address, destination: IPv6Address, message: Icmpv6, now: int) -> None:
        self._route(self._nd_packet(source, destination, message), now)

    # State

    def snapshot(self, now: int) -> tuple[RouterSnapshot, tuple[NeighbourSnapshot, ...]]:
        """When the router speaks, and the guests that are known."""
        return self._advertiser.snapshot(now), self._neighbours.snapshot()

    def restore(self, router: RouterSnapshot, neighbours: Iterable[NeighbourSnapshot], now: int) -> None:
        self._advertiser.restore(router, now)
        self._neighbours.restore(neighbours, self.router)

    # Time

    def deadline(self) -> int | None:
        deadlines = (self._neighbours.deadline(), self._advertiser.deadline())
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def expire(self, now: int) -> None:
        self._neighbours.expire(now)
        if self._advertiser.expire(now):
            self._send_nd(self.router, ALL_NODES, self._advertisement, now)
        self._run_events(now)

    def _run_events(self, now: int) -> None:
        for event in self._neighbours.events():
            match event:
                case Solicit(target, source, mac):
                    asked = NeighbourSolicitation(target, (SourceLinkLayerAddress(self.mac),)).icmpv6()
                    destination = solicited_node(target) if mac is None else target
                    self._frame(mac or multicast_mac(destination), self._nd_packet(source, destination, asked))
                case Resolved(_, mac, packets):
                    for packet in packets:
                        self._frame(mac, packet)
                case _:
                    self._counters["guest-unreachable"] += len(event.packets)
                    for packet in event.packets:
                        self._on_unreachable(packet, now)
