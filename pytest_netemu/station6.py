"""The IPv6 half of a station: packets of IPv6 from the same frame-level endpoint.

It has a link-local address and one in a prefix, both made from the hardware address (RFC 4291 2.5.1), and answers solicitations
for both unless it is told not to. What it waits for it sees with the station's own `expect` and `silence`.
"""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network
from typing import Final

from netemu.wire.address import MacAddress
from netemu.wire.ether import EtherType
from netemu.wire.icmpv6 import Icmpv6
from netemu.wire.ipv6 import IPv6, NextHeader, interface_identifier, multicast_mac, solicited_node
from netemu.wire.ndisc import HOP_LIMIT, NeighbourAdvertisement, NeighbourSolicitation
from netemu.wire.ndisc_options import NdOption, SourceLinkLayerAddress, TargetLinkLayerAddress
from netemu.wire.udp import Udp
from pytest_netemu.packet import Packet
from pytest_netemu.station import Station

__all__ = ["ANY6", "Station6", "link_local"]

ANY6: Final = IPv6Address("::")

_LINK_LOCAL: Final = 0xFE80 << 112  # RFC 4291 2.5.6


def link_local(mac: MacAddress) -> IPv6Address:
    """The link-local address made from a hardware address."""
    return IPv6Address(_LINK_LOCAL | interface_identifier(mac))


class Station6:
    """`station`, speaking IPv6 with an address in `prefix`; `opposite` is whom its packets go through."""

    def __init__(self, station: Station, prefix: IPv6Network, opposite: IPv6Address) -> None:
        self.station = station
        self.mac = station.mac
        self.link_local = link_local(station.mac)
        self.address = IPv6Address(int(prefix.network_address) | interface_identifier(station.mac))
        self.opposite = opposite
        self.answers = True
        self.is_router = False
        self._opposite_mac: MacAddress | None = None
        station.answer(NeighbourSolicitation, self._answer)

    @property
    def opposite_mac(self) -> MacAddress:
        """The hardware address of the opposite station, solicited once."""
        if self._opposite_mac is None:
            self.solicit(self.opposite)
            answer = self.station.expect(NeighbourAdvertisement, target=self.opposite)[NeighbourAdvertisement]
            told = [option.address for option in answer.options if isinstance(option, TargetLinkLayerAddress)]
            assert told, "the advertisement tells no link-layer address"
            self._opposite_mac = told[0]
        return self._opposite_mac

    def send(self, packet: IPv6) -> IPv6:
        """Send a packet to its group, or to the opposite station; gives it back."""
        group = packet.destination.is_multicast
        mac = multicast_mac(packet.destination) if group else self.opposite_mac
        self.station.send(self.station.ethernet(mac, EtherType.IPV6, packet.pack()))
        return packet

    def send_icmp(
        self, message: Icmpv6, destination: IPv6Address, *, source: IPv6Address | None = None, hop_limit: int = 64
    ) -> IPv6:
        """Send an ICMPv6 message."""
        source = source or self.address
        return self.send(IPv6(source, destination, NextHeader.ICMPV6, message.pack(source, destination), hop_limit=hop_limit))

    def send_udp(self, payload: bytes, port: int, destination: IPv6Address, *, hop_limit: int = 64) -> IPv6:
        """Send a UDP datagram."""
        datagram = Udp(40_000, port, payload).pack(self.address, destination)
        return self.send(IPv6(self.address, destination, NextHeader.UDP, datagram, hop_limit=hop_limit))

    def solicit(self, target: IPv6Address, *, source: IPv6Address | None = None, hop_limit: int = HOP_LIMIT) -> None:
        """Who has `target`? From the unspecified address, to find a duplicate."""
        options: tuple[NdOption, ...] = () if source == ANY6 else (SourceLinkLayerAddress(self.mac),)
        message = NeighbourSolicitation(target, options).icmpv6()
        self.send_icmp(message, solicited_node(target), source=source or self.link_local, hop_limit=hop_limit)

    def _answer(self, packet: Packet) -> None:
        target, asker = packet[NeighbourSolicitation].target, packet[IPv6].source
        if not self.answers or target not in (self.address, self.link_local):
            return
        told = NeighbourAdvertisement(
            target, self.is_router, solicited=True, override=True, options=(TargetLinkLayerAddress(self.mac),)
        )
        answer = IPv6(target, asker, NextHeader.ICMPV6, told.icmpv6().pack(target, asker), hop_limit=HOP_LIMIT)
        mac = self._opposite_mac or multicast_mac(solicited_node(asker))
        self.station.port.send(self.station.ethernet(mac, EtherType.IPV6, answer.pack()))
