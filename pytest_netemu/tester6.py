"""The IPv6 half of the tester: packets of IPv6 from the same frame-level endpoint, for checks of a user-mode network.

    tester = Tester6(netemu_tester)
    tester.solicit(tester.gateway)                         # who has the gateway's address?
    tester.tester.expect(NeighbourAdvertisement, target=tester.gateway)

It has a link-local address and one in the backend's prefix, made from its MAC address (RFC 4291 2.5.1), and answers solicitations
for both unless it is told not to. What it waits for it sees with the tester's own `expect` and `silence`.
"""

from __future__ import annotations

from ipaddress import IPv6Address
from typing import Final

from netemu.wire.address import MacAddress
from netemu.wire.dhcpv6 import ALL_RELAY_AGENTS_AND_SERVERS, CLIENT_PORT, SERVER_PORT, Dhcpv6
from netemu.wire.ether import EtherType
from netemu.wire.icmpv6 import Icmpv6
from netemu.wire.ipv6 import (
    ALL_ROUTERS,
    IPv6,
    NextHeader,
    interface_identifier,
    multicast_mac,
    solicited_node,
)
from netemu.wire.ndisc import HOP_LIMIT, NeighbourAdvertisement, NeighbourSolicitation, RouterSolicitation
from netemu.wire.ndisc_options import NdOption, SourceLinkLayerAddress, TargetLinkLayerAddress
from netemu.wire.udp import Udp
from netemu.wire.vnet_hdr import VnetHeader
from pytest_netemu.tester import Packet, Tester

__all__ = ["ANY6", "Tester6"]

ANY6: Final = IPv6Address("::")

_LINK_LOCAL: Final = 0xFE80 << 112  # RFC 4291 2.5.6


class Tester6:
    """`tester`, speaking IPv6."""

    __test__ = False  # pytest takes a class of this name for tests

    def __init__(self, tester: Tester) -> None:
        identifier = interface_identifier(tester.mac)
        self.tester = tester
        self.mac = tester.mac
        self.link_local = IPv6Address(_LINK_LOCAL | identifier)
        self.address = IPv6Address(int(tester.backend.net6.network_address) | identifier)
        self.gateway = tester.backend.gateway6
        self.answers = True
        self._gateway_mac: MacAddress | None = None
        tester.port.attach(self._receive)

    @property
    def gateway_mac(self) -> MacAddress:
        """The gateway's hardware address, solicited once."""
        if self._gateway_mac is None:
            self.solicit(self.gateway)
            answer = self.tester.expect(NeighbourAdvertisement, target=self.gateway)[NeighbourAdvertisement]
            told = [option.address for option in answer.options if isinstance(option, TargetLinkLayerAddress)]
            assert told, "the advertisement tells no link-layer address"
            self._gateway_mac = told[0]
        return self._gateway_mac

    def send(self, packet: IPv6) -> IPv6:
        """Send a packet to its group, or through the gateway; gives it back."""
        group = packet.destination.is_multicast
        mac = multicast_mac(packet.destination) if group else self.gateway_mac
        self.tester.send(self.tester.ethernet(mac, EtherType.IPV6, packet.pack()))
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

    def send_dhcp(self, message: Dhcpv6) -> None:
        """Send a client's message to all servers."""
        source, destination = self.link_local, ALL_RELAY_AGENTS_AND_SERVERS
        datagram = Udp(CLIENT_PORT, SERVER_PORT, message.pack()).pack(source, destination)
        self.send(IPv6(source, destination, NextHeader.UDP, datagram, hop_limit=1))

    def solicit(self, target: IPv6Address, *, source: IPv6Address | None = None, hop_limit: int = HOP_LIMIT) -> None:
        """Who has `target`? From the unspecified address, to find a duplicate."""
        options: tuple[NdOption, ...] = () if source == ANY6 else (SourceLinkLayerAddress(self.mac),)
        message = NeighbourSolicitation(target, options).icmpv6()
        self.send_icmp(message, solicited_node(target), source=source or self.link_local, hop_limit=hop_limit)

    def solicit_router(self, *, hop_limit: int = HOP_LIMIT) -> None:
        """Who is a router here?"""
        message = RouterSolicitation((SourceLinkLayerAddress(self.mac),)).icmpv6()
        self.send_icmp(message, ALL_ROUTERS, source=self.link_local, hop_limit=hop_limit)

    def _receive(self, frame: bytes, header: VnetHeader | None) -> bool:
        del header  # the tester offers no offloads
        packet = Packet.read(frame, self.tester.network.loop.now())
        self.tester.inbox.append(packet)
        if self.answers and NeighbourSolicitation in packet:
            target = packet[NeighbourSolicitation].target
            if target in (self.address, self.link_local):
                self._advertise(target, packet[IPv6].source)
        return True

    def _advertise(self, target: IPv6Address, asker: IPv6Address) -> None:
        told = NeighbourAdvertisement(target, solicited=True, override=True, options=(TargetLinkLayerAddress(self.mac),))
        packet = IPv6(target, asker, NextHeader.ICMPV6, told.icmpv6().pack(target, asker), hop_limit=HOP_LIMIT)
        mac = self._gateway_mac or multicast_mac(solicited_node(asker))
        self.tester.port.send(self.tester.ethernet(mac, EtherType.IPV6, packet.pack()))
