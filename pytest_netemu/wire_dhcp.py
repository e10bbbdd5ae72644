"""A DHCP server for checks of a client: it says what a check wants said, and remembers what it heard (RFC 2131).

    server = DhcpServer(netemu_wire)
    server.replies[REQUEST] = lambda message: [server.nak(message)]
    netemu_wire.guest.dhcp4()
    request = server.heard(REQUEST)[0]

Left alone it offers the address that the wire has for its guest, and grants what is asked for. It never broadcasts but for a NAK:
a client that wants broadcasts says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Final

from netemu.wire.dhcpv4 import (
    BOOTREPLY,
    BOOTREQUEST,
    CLIENT_PORT,
    SERVER_PORT,
    DhcpMessageType,
    DhcpOption,
    Dhcpv4,
    pack_addresses,
)
from netemu.wire.ipv4 import Protocol
from netemu.wire.udp import Udp
from pytest_netemu.packet import Packet
from pytest_netemu.station import ANY, LIMITED_BROADCAST
from pytest_netemu.wire import Wire

__all__ = ["DhcpServer"]

_LEASE_TIME: Final = 3600  # seconds

Reply = Callable[[Dhcpv4], Sequence[Dhcpv4 | bytes]]


class DhcpServer:
    """The server of `wire`. `replies` holds what is said to each kind of message: messages, or octets where those are wrong.

    `identifier` is the server identifier, `lease_time` the seconds of a lease.
    """

    def __init__(self, wire: Wire) -> None:
        self.identifier = wire.address
        self.lease_time = _LEASE_TIME
        self.replies: dict[DhcpMessageType, Reply] = {
            DhcpMessageType.DISCOVER: lambda message: [self.offer(message)],
            DhcpMessageType.REQUEST: lambda message: [self.ack(message)],
        }
        self._wire = wire
        self._heard: list[Packet] = []
        wire.answer(Dhcpv4, self._answer, op=BOOTREQUEST)

    def heard(self, *kinds: DhcpMessageType) -> list[Packet]:
        """The client's messages of these kinds, or all of them, oldest first."""
        return [packet for packet in self._heard if not kinds or packet[Dhcpv4].message_type in kinds]

    def offer(self, message: Dhcpv4, options: Mapping[int, bytes] | None = None, address: IPv4Address | None = None) -> Dhcpv4:
        """An OFFER, with more `options` or others, of `address` or the guest's."""
        return self._granting(message, DhcpMessageType.OFFER, address or self._wire.opposite, options)

    def ack(self, message: Dhcpv4, options: Mapping[int, bytes] | None = None, address: IPv4Address | None = None) -> Dhcpv4:
        """An ACK for `address`, or for what was asked for."""
        asked = message.ciaddr if message.ciaddr != ANY else message.requested_address
        return self._granting(message, DhcpMessageType.ACK, address or asked or self._wire.opposite, options)

    def nak(self, message: Dhcpv4) -> Dhcpv4:
        """A NAK."""
        return self._reply(message, DhcpMessageType.NAK, ANY, {})

    def send(self, reply: Dhcpv4 | bytes) -> None:
        """Send a message to the guest: to its hardware address and the address it is given, or to all if that is none."""
        if isinstance(reply, Dhcpv4):
            payload, destination = reply.pack(), reply.yiaddr
        else:
            payload, destination = reply, self._wire.opposite
        if destination == ANY:
            destination = LIMITED_BROADCAST
        wire = self._wire
        udp = Udp(SERVER_PORT, CLIENT_PORT, payload).pack(wire.address, destination)
        wire.send_ip(wire.ip(destination, Protocol.UDP, udp))

    def _granting(
        self, message: Dhcpv4, kind: DhcpMessageType, address: IPv4Address, options: Mapping[int, bytes] | None
    ) -> Dhcpv4:
        usual: dict[int, bytes] = {
            DhcpOption.SUBNET_MASK: self._wire.net.netmask.packed,
            DhcpOption.ROUTER: pack_addresses(self._wire.address),
            DhcpOption.IP_ADDRESS_LEASE_TIME: self.lease_time.to_bytes(4),
        }
        return self._reply(message, kind, address, usual | dict(options or {}))

    def _reply(self, message: Dhcpv4, kind: DhcpMessageType, address: IPv4Address, options: Mapping[int, bytes]) -> Dhcpv4:
        head: dict[int, bytes] = {
            DhcpOption.DHCP_MESSAGE_TYPE: bytes((kind,)),
            DhcpOption.SERVER_IDENTIFIER: self.identifier.packed,
        }
        return replace(message, op=BOOTREPLY, yiaddr=address, options=head | dict(options), secs=0, hops=0, sname=b"", file=b"")

    def _answer(self, packet: Packet) -> None:
        self._heard.append(packet)
        kind = packet[Dhcpv4].message_type
        for reply in self.replies[kind](packet[Dhcpv4]) if kind in self.replies else ():
            self.send(reply)
