"""A guest made of frames: it says exactly what a test wants said to a user-mode network, and shows what came back."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from ipaddress import IPv4Address

from netemu.io.simhost import SimHost
from netemu.net.clock import nanoseconds
from netemu.net.loop import VirtualLoop
from netemu.net.port import Port, connect
from netemu.netdev.user import UserNetdev
from netemu.user.options import UserOptions
from netemu.wire.address import BROADCAST_MAC, ZERO_MAC, MacAddress
from netemu.wire.arp import Arp, ArpOperation
from netemu.wire.dhcpv4 import BOOTREQUEST, CLIENT_PORT, SERVER_PORT, DhcpMessageType, DhcpOption, Dhcpv4
from netemu.wire.ether import Ethernet, EtherType, pad
from netemu.wire.fields import ANY_IPV4
from netemu.wire.icmpv4 import IcmpType, Icmpv4
from netemu.wire.ipv4 import IPv4, Protocol
from netemu.wire.tcp import Tcp
from netemu.wire.udp import Udp

GATEWAY = IPv4Address("10.0.2.2")
DNS = IPv4Address("10.0.2.3")
SMB = IPv4Address("10.0.2.4")
GUEST = IPv4Address("10.0.2.15")
SERVER = IPv4Address("198.51.100.7")
BROADCAST = IPv4Address("255.255.255.255")
GATEWAY_MAC = MacAddress("52:55:0a:00:02:02")
GUEST_MAC = MacAddress("52:54:00:12:34:56")


@dataclass(frozen=True)
class Seen:
    """One frame from the network, as far as it could be read."""

    frame: Ethernet
    arp: Arp | None = None
    ip: IPv4 | None = None
    icmp: Icmpv4 | None = None
    udp: Udp | None = None
    tcp: Tcp | None = None

    @property
    def dhcp(self) -> Dhcpv4 | None:
        return Dhcpv4.parse(self.udp.payload) if self.udp and self.udp.source_port == SERVER_PORT else None


def see(octets: bytes) -> Seen:
    frame = Ethernet.parse(octets)
    if frame.ethertype == EtherType.ARP:
        return Seen(frame, arp=Arp.parse(frame.payload))
    ip = IPv4.parse(frame.payload)
    if ip.is_fragment:
        return Seen(frame, ip=ip)
    ends = (ip.source, ip.destination)
    match ip.protocol:
        case Protocol.ICMP:
            return Seen(frame, ip=ip, icmp=Icmpv4.parse(ip.payload))
        case Protocol.UDP:
            return Seen(frame, ip=ip, udp=Udp.parse(ip.payload, *ends))
    return Seen(frame, ip=ip, tcp=Tcp.parse(ip.payload, *ends))


class Lab:
    """A user-mode network on an in-memory host, and one guest of raw frames at its port.

    `answers_arp` makes the guest answer ARP requests for `address`, and keeps them out of what `take` gives. `nameserver` is the
    host's, and not there unless a test makes it.
    """

    def __init__(
        self,
        options: UserOptions | None = None,
        *,
        address: IPv4Address = GUEST,
        answers_arp: bool = True,
        nameserver: str | None = None,
    ) -> None:
        self.loop = VirtualLoop()
        self.host = SimHost(self.loop, nameservers=[nameserver] if nameserver else [])
        self.host.add_address(SERVER)
        self.user = UserNetdev(self.loop, "user0", options or UserOptions(), self.host, random.Random(1).getrandbits)
        self.network = self.user.network
        self.address = address
        self.answers_arp = answers_arp
        self.port = Port(self.loop, "guest", self._receive)
        self._seen: list[Seen] = []
        connect(self.port, self.user.port)

    @property
    def counters(self) -> dict[str, int]:
        return self.network.counters

    def _receive(self, octets: bytes, header: object) -> bool:
        seen = see(octets)
        asked = seen.arp is not None and seen.arp.operation == ArpOperation.REQUEST and seen.arp.target_ip == self.address
        if asked and self.answers_arp and seen.arp is not None:
            self.arp(ArpOperation.REPLY, seen.arp.sender_ip, target_mac=seen.arp.sender_mac)
        else:
            self._seen.append(seen)
        return True

    def run(self, seconds: float = 0.0) -> None:
        self.loop.run_until(lambda: False, self.loop.now() + nanoseconds(seconds))

    def take(self, seconds: float = 0.0) -> list[Seen]:
        """What came since the last call, after `seconds` more."""
        self.run(seconds)
        seen, self._seen = self._seen, []
        return seen

    def one(self, seconds: float = 0.0) -> Seen:
        (seen,) = self.take(seconds)
        return seen

    # What the guest says

    def frame(self, octets: bytes) -> None:
        self.port.send(octets)

    def ethernet(self, ethertype: int, payload: bytes, destination: MacAddress = GATEWAY_MAC) -> None:
        self.frame(pad(Ethernet(destination, GUEST_MAC, ethertype, payload).pack()))

    def arp(
        self, operation: int, target: IPv4Address, *, sender: IPv4Address | None = None, target_mac: MacAddress = ZERO_MAC
    ) -> None:
        arp = Arp(operation, GUEST_MAC, self.address if sender is None else sender, target_mac, target)
        self.ethernet(EtherType.ARP, arp.pack(), BROADCAST_MAC)

    def ip(self, packet: IPv4, destination: MacAddress = GATEWAY_MAC) -> IPv4:
        self.ethernet(EtherType.IPV4, packet.pack(), destination)
        return packet

    def packet(self, destination: IPv4Address, protocol: int, payload: bytes, **fields: int) -> IPv4:
        return IPv4(self.address, destination, protocol, payload, **fields)  # type: ignore[arg-type] # numbers only

    def echo(
        self, destination: IPv4Address, *, identifier: int = 7, sequence: int = 1, payload: bytes = b"ping", ttl: int = 64
    ) -> IPv4:
        message = Icmpv4.echo_request(identifier, sequence, payload)
        return self.ip(self.packet(destination, Protocol.ICMP, message.pack(), ttl=ttl, identification=4711))

    def udp(self, destination: IPv4Address, port: int, data: bytes, *, source_port: int = 5000, ttl: int = 64) -> IPv4:
        payload = Udp(source_port, port, data).pack(self.address, destination)
        return self.ip(self.packet(destination, Protocol.UDP, payload, ttl=ttl, identification=4712))

    def tcp(self, destination: IPv4Address, segment: Tcp, *, ttl: int = 64) -> IPv4:
        payload = segment.pack(self.address, destination)
        return self.ip(self.packet(destination, Protocol.TCP, payload, ttl=ttl, identification=4713))

    def dhcp(self, kind: DhcpMessageType | None, options: dict[int, bytes] | None = None, **fields: object) -> None:
        """A DHCP message, broadcast from 0.0.0.0 unless it has a `ciaddr`."""
        message = dhcp_message(kind, options, **fields)
        self.dhcp_octets(message.pack(), message.ciaddr)

    def dhcp_octets(self, octets: bytes, source: IPv4Address = ANY_IPV4) -> None:
        destination = GATEWAY if int(source) else BROADCAST
        udp = Udp(CLIENT_PORT, SERVER_PORT, octets).pack(source, destination)
        self.ip(IPv4(source, destination, Protocol.UDP, udp), GATEWAY_MAC if int(source) else BROADCAST_MAC)

    def lease(self) -> Dhcpv4:
        """DISCOVER, OFFER, REQUEST, ACK."""
        self.dhcp(DhcpMessageType.DISCOVER)
        offer = self.one().dhcp
        assert offer is not None
        self.dhcp(DhcpMessageType.REQUEST, selecting(offer.yiaddr))
        ack = self.one().dhcp
        assert ack is not None
        return ack


def dhcp_message(kind: DhcpMessageType | None, options: dict[int, bytes] | None = None, **fields: object) -> Dhcpv4:
    head = {} if kind is None else {int(DhcpOption.DHCP_MESSAGE_TYPE): bytes((kind,))}
    message = Dhcpv4(BOOTREQUEST, 0x1234, GUEST_MAC, options={**head, **(options or {})})
    return replace(message, **fields)  # type: ignore[arg-type] # a test names fields of Dhcpv4


def selecting(address: IPv4Address, server: IPv4Address = GATEWAY) -> dict[int, bytes]:
    """The options of a REQUEST in SELECTING."""
    return {DhcpOption.REQUESTED_IP_ADDRESS: address.packed, DhcpOption.SERVER_IDENTIFIER: server.packed}


def unreachable(seen: Seen, code: int, about: IPv4, source: IPv4Address) -> None:
    """`seen` is the ICMP error that it must be: this code, from `source`, quoting `about` octet by octet."""
    assert seen.icmp is not None, seen
    assert seen.ip is not None
    assert (seen.icmp.type, seen.icmp.code) == (IcmpType.DESTINATION_UNREACHABLE, code)
    assert (seen.ip.source, seen.ip.destination) == (source, about.source)
    assert seen.icmp.payload == about.pack()[:548]
