"""The IPv6 half of the tester, for checks of a user-mode network.

tester = Tester6(netemu_tester)
tester.solicit(tester.gateway)                         # who has the gateway's address?
tester.tester.expect(NeighbourAdvertisement, target=tester.gateway)
"""

from __future__ import annotations

from netemu.wire.address import MacAddress
from netemu.wire.dhcpv6 import ALL_RELAY_AGENTS_AND_SERVERS, CLIENT_PORT, SERVER_PORT, Dhcpv6
from netemu.wire.ipv6 import ALL_ROUTERS, IPv6, NextHeader
from netemu.wire.ndisc import HOP_LIMIT, RouterSolicitation
from netemu.wire.ndisc_options import SourceLinkLayerAddress
from netemu.wire.udp import Udp
from pytest_netemu.station6 import Station6
from pytest_netemu.tester import Tester

__all__ = ["Tester6"]


class Tester6(Station6):
    """`tester`, speaking IPv6 with an address in the backend's prefix."""

    __test__ = False  # pytest takes a class of this name for tests

    def __init__(self, tester: Tester) -> None:
        super().__init__(tester, tester.backend.net6, tester.backend.gateway6)
        self.tester = tester
        self.gateway = tester.backend.gateway6

    @property
    def gateway_mac(self) -> MacAddress:
        """The gateway's hardware address, solicited once."""
        return self.opposite_mac

    def send_dhcp(self, message: Dhcpv6) -> None:
        """Send a client's message to all servers."""
        source, destination = self.link_local, ALL_RELAY_AGENTS_AND_SERVERS
        datagram = Udp(CLIENT_PORT, SERVER_PORT, message.pack()).pack(source, destination)
        self.send(IPv6(source, destination, NextHeader.UDP, datagram, hop_limit=1))

    def solicit_router(self, *, hop_limit: int = HOP_LIMIT) -> None:
        """Who is a router here?"""
        message = RouterSolicitation((SourceLinkLayerAddress(self.mac),)).icmpv6()
        self.send_icmp(message, ALL_ROUTERS, source=self.link_local, hop_limit=hop_limit)
