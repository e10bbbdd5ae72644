"""The tester: a station in a guest's place, for checks of a user-mode network that no well-behaved guest could make.

    reply = tester.exchange_dhcp(DhcpMessageType.DISCOVER, DhcpMessageType.OFFER)
    tester.send_icmp(Icmpv4.echo_request(1, 1, b"data"))
    tester.expect(Icmpv4, type=IcmpType.ECHO_REPLY)

It has the address a first guest would have; what it talks to is the gateway, which stands for the host's loopback.
"""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Final

from netemu.netdev.protocol import UserBackend
from netemu.network import Network
from netemu.wire.address import BROADCAST_MAC, MacAddress
from netemu.wire.dhcpv4 import BOOTREQUEST, CLIENT_PORT, SERVER_PORT, DhcpMessageType, DhcpOption, Dhcpv4
from netemu.wire.ether import Ethernet, EtherType
from netemu.wire.ipv4 import Protocol
from netemu.wire.udp import Udp
from pytest_netemu.packet import Packet
from pytest_netemu.station import ANY, LIMITED_BROADCAST, Station

__all__ = ["Tester"]

_TESTER_MAC: Final = MacAddress("52:54:00:7e:57:01")


class Tester(Station):
    """A frame-level endpoint on `backend`'s cable, with the address a first guest would have."""

    __test__ = False  # pytest takes a class of this name for tests

    def __init__(self, network: Network, backend: UserBackend, *, mac: MacAddress = _TESTER_MAC) -> None:
        super().__init__(network, "tester", mac, backend.dhcpstart, backend.gateway)
        self.backend = backend
        self.gateway = backend.gateway
        network.link(self.port, backend.port)

    @property
    def gateway_mac(self) -> MacAddress:
        """The gateway's hardware address, asked for by ARP once."""
        return self.resolve(self.gateway)

    def next_hop(self, destination: IPv4Address) -> MacAddress:
        """The destination, if it answers for itself, else the gateway."""
        if destination == LIMITED_BROADCAST or destination == self.backend.net.broadcast_address:
            return BROADCAST_MAC
        return self.resolve(destination if destination in (self.gateway, self.backend.dns) else self.gateway)

    # DHCP

    def send_dhcp(
        self,
        kind: DhcpMessageType,
        options: dict[int, bytes] | None = None,
        *,
        xid: int = 0x5EED,
        mac: MacAddress | None = None,
        ciaddr: IPv4Address = ANY,
        broadcast: bool = False,
        server: IPv4Address = LIMITED_BROADCAST,
    ) -> Dhcpv4:
        """Send a client's message: broadcast from 0.0.0.0, or from `ciaddr` and to `server` where those are given."""
        mac = mac or self.mac
        message = Dhcpv4(
            op=BOOTREQUEST,
            xid=xid,
            chaddr=mac,
            ciaddr=ciaddr,
            broadcast=broadcast,
            options={DhcpOption.DHCP_MESSAGE_TYPE: bytes((kind,)), **(options or {})},
        )
        udp = Udp(CLIENT_PORT, SERVER_PORT, message.pack()).pack(ciaddr, server)
        datagram = self.ip(server, Protocol.UDP, udp, source=ciaddr)
        hop = BROADCAST_MAC if server == LIMITED_BROADCAST else self.gateway_mac
        self.send(Ethernet(hop, mac, EtherType.IPV4, datagram.pack()).pack())
        return message

    def exchange_dhcp(
        self,
        kind: DhcpMessageType,
        answer: DhcpMessageType,
        options: dict[int, bytes] | None = None,
        *,
        mac: MacAddress | None = None,
        ciaddr: IPv4Address = ANY,
        broadcast: bool = False,
    ) -> Packet:
        """Send a client's message and give the server's `answer` with the same transaction id."""
        __tracebackhide__ = True
        sent = self.send_dhcp(kind, options, mac=mac, ciaddr=ciaddr, broadcast=broadcast)
        return self.expect(Dhcpv4, lambda message: message.message_type == answer, xid=sent.xid, chaddr=sent.chaddr)

    def lease(self, *, mac: MacAddress | None = None, options: dict[int, bytes] | None = None) -> Dhcpv4:
        """The acknowledgement of a lease taken in four messages."""
        __tracebackhide__ = True
        offer = self.exchange_dhcp(DhcpMessageType.DISCOVER, DhcpMessageType.OFFER, options, mac=mac)[Dhcpv4]
        if offer.server_identifier is None:
            raise AssertionError("the offer names no server, so no client could choose it")
        choice: dict[int, bytes] = {
            DhcpOption.REQUESTED_IP_ADDRESS: offer.yiaddr.packed,
            DhcpOption.SERVER_IDENTIFIER: offer.server_identifier.packed,
        }
        return self.exchange_dhcp(DhcpMessageType.REQUEST, DhcpMessageType.ACK, {**(options or {}), **choice}, mac=mac)[Dhcpv4]
