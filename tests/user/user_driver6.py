"""A guest made of IPv6 frames, at the port of a user-mode network on an in-memory host."""

from __future__ import annotations

import random
from dataclasses import dataclass
from ipaddress import IPv6Address

from netemu.io.simhost import SimHost
from netemu.net.clock import nanoseconds
from netemu.net.loop import VirtualLoop
from netemu.net.port import Port, connect
from netemu.netdev.user import UserNetdev
from netemu.user.options import UserOptions
from netemu.wire.address import MacAddress
from netemu.wire.dhcpv6 import ALL_RELAY_AGENTS_AND_SERVERS, CLIENT_PORT, SERVER_PORT, Dhcpv6
from netemu.wire.ether import Ethernet, EtherType
from netemu.wire.icmpv6 import Icmpv6
from netemu.wire.ipv6 import IPv6, NextHeader, multicast_mac
from netemu.wire.ndisc import (
    NdMessage,
    NeighbourAdvertisement,
    NeighbourSolicitation,
    parse_ndisc,
)
from netemu.wire.ndisc_options import TargetLinkLayerAddress
from netemu.wire.tcp import Tcp
from netemu.wire.udp import Udp

GATEWAY = IPv6Address("fec0::2")
DNS = IPv6Address("fec0::3")
ROUTER = IPv6Address("fe80::2")
GUEST = IPv6Address("fec0::15")
LINK_LOCAL = IPv6Address("fe80::5054:ff:fe12:3456")
SERVER = IPv6Address("2001:db8::7")
ANY = IPv6Address("::")
GATEWAY_MAC = MacAddress("52:55:0a:00:02:02")
GUEST_MAC = MacAddress("52:54:00:12:34:56")


@dataclass(frozen=True)
class Seen:
    """One frame from the network, as far as it could be read."""

    frame: Ethernet
    ip: IPv6
    nd: NdMessage | None = None
    icmp: Icmpv6 | None = None
    udp: Udp | None = None
    tcp: Tcp | None = None

    @property
    def dhcp(self) -> Dhcpv6:
        assert self.udp is not None
        assert (self.udp.source_port, self.udp.destination_port) == (SERVER_PORT, CLIENT_PORT)
        return Dhcpv6.parse(self.udp.payload)


def see(octets: bytes) -> Seen:
    frame = Ethernet.parse(octets)
    assert frame.ethertype == EtherType.IPV6, frame
    ip = IPv6.parse(frame.payload)
    ends = (ip.source, ip.destination)
    if ip.is_fragment:
        return Seen(frame, ip)
    match ip.next_header:
        case NextHeader.ICMPV6:
            message = Icmpv6.parse(ip.payload, *ends)
            return Seen(frame, ip, nd=parse_ndisc(message), icmp=message)
        case NextHeader.UDP:
            return Seen(frame, ip, udp=Udp.parse(ip.payload, *ends))
    return Seen(frame, ip, tcp=Tcp.parse(ip.payload, *ends))


def answer_for(target: IPv6Address) -> NeighbourAdvertisement:
    """What the guest says when it is asked for one of its addresses."""
    mac = (TargetLinkLayerAddress(GUEST_MAC),)
    return NeighbourAdvertisement(target, solicited=True, override=True, options=mac)


class Lab6:
    """A user-mode network, and one guest of raw frames at its port.

    The guest answers solicitations for its two addresses, unless told not to; those, and the router's unsolicited advertisements
    where `hears_router` is not set, are kept out of what `take` gives.
    """

    def __init__(
        self,
        options: UserOptions | None = None,
        *,
        answers: bool = True,
        hears_router: bool = False,
        nameserver: str | None = None,
    ) -> None:
        self.loop = VirtualLoop()
        self.host = SimHost(self.loop, nameservers=[nameserver] if nameserver else [])
        self.host.add_address(SERVER)
        self.user = UserNetdev(self.loop, "user0", options or UserOptions(), self.host, random.Random(1).getrandbits)
        self.network = self.user.network
        self.answers = answers
        self.hears_router = hears_router
        self.port = Port(self.loop, "guest", self._receive)
        self._seen: list[Seen] = []
        connect(self.port, self.user.port)

    @property
    def counters(self) -> dict[str, int]:
        return self.network.counters

    def _receive(self, octets: bytes, header: object) -> bool:
        seen = see(bytes(octets))
        mine = (GUEST, LINK_LOCAL)
        if self.answers and isinstance(seen.nd, NeighbourSolicitation) and seen.nd.target in mine:
            told = NeighbourAdvertisement(
                seen.nd.target, solicited=True, override=True, options=(TargetLinkLayerAddress(GUEST_MAC),)
            )
            self.icmp(seen.ip.source, told.icmpv6(), source=seen.nd.target, hop_limit=255)
        elif self.hears_router or seen.icmp is None or seen.icmp.type != 134:
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

    def ip(self, packet: IPv6, mac: MacAddress | None = None) -> IPv6:
        group = packet.destination.is_multicast
        destination = mac or (multicast_mac(packet.destination) if group else GATEWAY_MAC)
        self.port.send(Ethernet(destination, GUEST_MAC, EtherType.IPV6, packet.pack()).pack())
        return packet

    def icmp(self, destination: IPv6Address, message: Icmpv6, *, source: IPv6Address = GUEST, hop_limit: int = 64) -> IPv6:
        return self.ip(IPv6(source, destination, NextHeader.ICMPV6, message.pack(source, destination), hop_limit=hop_limit))

    def echo(self, destination: IPv6Address, *, source: IPv6Address = GUEST, hop_limit: int = 64, payload: bytes = b"ping") -> IPv6:
        return self.icmp(destination, Icmpv6.echo_request(7, 1, payload), source=source, hop_limit=hop_limit)

    def udp(
        self,
        destination: IPv6Address,
        port: int,
        data: bytes,
        *,
        source: IPv6Address = GUEST,
        source_port: int = 5000,
        hop_limit: int = 64,
    ) -> IPv6:
        payload = Udp(source_port, port, data).pack(source, destination)
        return self.ip(IPv6(source, destination, NextHeader.UDP, payload, hop_limit=hop_limit))

    def tcp(self, destination: IPv6Address, segment: Tcp) -> IPv6:
        return self.ip(IPv6(GUEST, destination, NextHeader.TCP, segment.pack(GUEST, destination)))

    def dhcp(self, message: Dhcpv6, destination: IPv6Address = ALL_RELAY_AGENTS_AND_SERVERS) -> None:
        self.udp(destination, SERVER_PORT, message.pack(), source=LINK_LOCAL, source_port=CLIENT_PORT)


def is_error(seen: Seen, kind: int, code: int, about: IPv6, source: IPv6Address) -> Icmpv6:
    """`seen` is the ICMPv6 error that it must be: from `source`, quoting `about` octet by octet."""
    assert seen.icmp is not None, seen
    assert (seen.icmp.type, seen.icmp.code) == (kind, code)
    assert (seen.ip.source, seen.ip.destination) == (source, about.source)
    assert seen.icmp.payload == about.pack()[:1232]
    return seen.icmp
