"""The tester: a frame-level endpoint in a guest's place, for checks that no well-behaved guest could make.

It sends any frame, says what it expects to see and for how long, and explains what it saw instead:

    tester.send(tester.ethernet(tester.gateway_mac, EtherType.ARP, Arp(...).pack()))
    reply = tester.expect(Arp, operation=ArpOperation.REPLY, sender_ip=tester.gateway)
    assert reply[Arp].sender_mac == reply[Ethernet].source

An expectation names a layer and any of its fields; a field that is not named is don't-care, one whose value is a function is asked.
`expect` takes the first frame that matches out of the inbox and leaves the others; `silence` holds if none comes. The tester
answers ARP requests for its own address, as any host would, unless it is told not to; it does nothing else by itself.

Checksums are verified when a frame is read: a layer whose checksum is wrong is not there, and `Packet.broken` says why.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from typing import Final, TypedDict, TypeVar, Unpack

from netemu.net.clock import nanoseconds
from netemu.net.port import Port
from netemu.netdev.protocol import UserBackend
from netemu.network import Network
from netemu.wire.address import BROADCAST_MAC, ZERO_MAC, MacAddress
from netemu.wire.arp import Arp, ArpOperation
from netemu.wire.describe import summarize
from netemu.wire.dhcpv4 import BOOTREQUEST, CLIENT_PORT, SERVER_PORT, DhcpMessageType, DhcpOption, Dhcpv4
from netemu.wire.dhcpv6 import CLIENT_PORT as DHCPV6_CLIENT_PORT
from netemu.wire.dhcpv6 import Dhcpv6
from netemu.wire.dns import DnsMessage
from netemu.wire.errors import WireError
from netemu.wire.ether import Ethernet, EtherType
from netemu.wire.icmpv4 import Icmpv4
from netemu.wire.icmpv6 import Icmpv6
from netemu.wire.ipv4 import IPv4, Protocol
from netemu.wire.ipv6 import IPv6, NextHeader
from netemu.wire.ndisc import NeighbourAdvertisement, NeighbourSolicitation, RouterAdvertisement, parse_ndisc
from netemu.wire.tcp import Tcp
from netemu.wire.udp import Udp
from netemu.wire.vnet_hdr import VnetHeader
from pytest_netemu.outcomes import Inconclusive

__all__ = ["ANY", "LIMITED_BROADCAST", "IpFields", "Packet", "Tester"]

ANY: Final = IPv4Address("0.0.0.0")
LIMITED_BROADCAST: Final = IPv4Address("255.255.255.255")

_DNS_PORT: Final = 53
_TESTER_MAC: Final = MacAddress("52:54:00:7e:57:01")
_SHOWN: Final = 12  # frames that a failing expectation lists

Layer = TypeVar(
    "Layer",
    Ethernet,
    Arp,
    IPv4,
    Icmpv4,
    IPv6,
    Icmpv6,
    RouterAdvertisement,
    NeighbourSolicitation,
    NeighbourAdvertisement,
    Udp,
    Tcp,
    Dhcpv4,
    Dhcpv6,
    DnsMessage,
)


class IpFields(TypedDict, total=False):
    """What a check may say of an IPv4 header."""

    source: IPv4Address
    ttl: int
    identification: int
    dont_fragment: bool
    more_fragments: bool
    fragment_offset: int
    dscp: int
    options: bytes


@dataclass(frozen=True, slots=True)
class Packet:
    """A received frame: when it came (nanoseconds), its octets, and its layers by class."""

    time: int
    frame: bytes
    layers: dict[type, object] = field(compare=False)
    broken: str = ""

    @classmethod
    def read(cls, frame: bytes, time: int) -> Packet:
        layers: dict[type, object] = {}
        broken = ""
        try:
            _read_ethernet(frame, layers)
        except WireError as error:
            broken = str(error)
        return cls(time, frame, layers, broken)

    def __getitem__(self, layer: type[Layer]) -> Layer:
        found = self.layers[layer]
        assert isinstance(found, layer)
        return found

    def __contains__(self, layer: type) -> bool:
        return layer in self.layers

    def __str__(self) -> str:
        return summarize(self.frame) + (f" [{self.broken}]" if self.broken else "")


def _read_ethernet(frame: bytes, layers: dict[type, object]) -> None:
    layers[Ethernet] = ethernet = Ethernet.parse(frame)
    if ethernet.ethertype == EtherType.ARP:
        layers[Arp] = Arp.parse(ethernet.payload)
    elif ethernet.ethertype == EtherType.IPV4:
        layers[IPv4] = ip = IPv4.parse(ethernet.payload)
        if not ip.is_fragment:
            _read_transport(ip, layers)
    elif ethernet.ethertype == EtherType.IPV6:
        layers[IPv6] = packet = IPv6.parse(ethernet.payload)
        if not packet.is_fragment:
            _read_transport6(packet, layers)


def _read_transport(ip: IPv4, layers: dict[type, object]) -> None:
    if ip.protocol == Protocol.ICMP:
        layers[Icmpv4] = Icmpv4.parse(ip.payload)
    elif ip.protocol == Protocol.TCP:
        layers[Tcp] = Tcp.parse(ip.payload, ip.source, ip.destination)
    elif ip.protocol == Protocol.UDP:
        layers[Udp] = udp = Udp.parse(ip.payload, ip.source, ip.destination)
        if {udp.source_port, udp.destination_port} == {SERVER_PORT, CLIENT_PORT}:
            layers[Dhcpv4] = Dhcpv4.parse(udp.payload)
        elif udp.source_port == _DNS_PORT:
            layers[DnsMessage] = DnsMessage.parse(udp.payload)


def _read_transport6(ip: IPv6, layers: dict[type, object]) -> None:
    if ip.next_header == NextHeader.ICMPV6:
        layers[Icmpv6] = message = Icmpv6.parse(ip.payload, ip.source, ip.destination)
        if (discovery := parse_ndisc(message)) is not None:
            layers[type(discovery)] = discovery
    elif ip.next_header == NextHeader.TCP:
        layers[Tcp] = Tcp.parse(ip.payload, ip.source, ip.destination)
    elif ip.next_header == NextHeader.UDP:
        layers[Udp] = udp = Udp.parse(ip.payload, ip.source, ip.destination)
        if udp.destination_port == DHCPV6_CLIENT_PORT:  # libslirp sends from port 8962, which is 547 with its octets swapped
            layers[Dhcpv6] = Dhcpv6.parse(udp.payload)
        elif udp.source_port == _DNS_PORT:
            layers[DnsMessage] = DnsMessage.parse(udp.payload)


class Tester:
    """A frame-level endpoint on `backend`'s cable, with the address a first guest would have."""

    __test__ = False  # pytest takes a class of this name for tests

    def __init__(self, network: Network, backend: UserBackend, *, mac: MacAddress = _TESTER_MAC) -> None:
        self.network = network
        self.backend = backend
        self.mac = mac
        self.address = backend.dhcpstart
        self.gateway = backend.gateway
        self.answers_arp = True
        self.inbox: list[Packet] = []
        self._macs: dict[IPv4Address, MacAddress] = {}
        self._next_port = 49_152  # RFC 6335 6, the first dynamic port
        self._next_identification = 0
        self.port = Port(network.loop, "tester")
        network.link(self.port, backend.port)
        self.port.attach(self._receive)

    # Sending

    def send(self, frame: bytes) -> None:
        """Put a frame on the cable, as it is."""
        with self.network.loop:
            self.port.send(frame)

    def ethernet(self, destination: MacAddress, ethertype: int, payload: bytes) -> bytes:
        """A frame from the tester."""
        return Ethernet(destination, self.mac, ethertype, payload).pack()

    def ip(self, destination: IPv4Address, protocol: int, payload: bytes, **header: Unpack[IpFields]) -> IPv4:
        """A datagram from the tester's address, whose identification counts, unless `header` says otherwise."""
        self._next_identification += 1
        datagram = IPv4(self.address, destination, protocol, payload, identification=self._next_identification & 0xFFFF)
        return replace(datagram, **header)

    def send_ip(self, datagram: IPv4, destination: MacAddress | None = None) -> IPv4:
        """Send a datagram to the next hop: the destination if it answers for itself, else the gateway; gives it back."""
        self.send(self.ethernet(destination or self._next_hop(datagram.destination), EtherType.IPV4, datagram.pack()))
        return datagram

    def send_icmp(self, message: Icmpv4, destination: IPv4Address | None = None, **header: Unpack[IpFields]) -> IPv4:
        """Send an ICMP message, to the gateway unless a destination is given."""
        return self.send_ip(self.ip(destination or self.gateway, Protocol.ICMP, message.pack(), **header))

    def send_udp(
        self,
        payload: bytes,
        port: int,
        destination: IPv4Address | None = None,
        *,
        source_port: int = 40_000,
        **header: Unpack[IpFields],
    ) -> IPv4:
        """Send a UDP datagram, to the gateway (that is, the host's loopback) unless a destination is given."""
        target = destination or self.gateway
        udp = Udp(source_port, port, payload).pack(header.get("source", self.address), target)
        return self.send_ip(self.ip(target, Protocol.UDP, udp, **header))

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

    # Seeing

    def expect(
        self, layer: type[Layer], condition: Callable[[Layer], bool] | None = None, *, within: float = 1.0, **fields: object
    ) -> Packet:
        """The first frame with `layer` and these fields, within so many seconds; an `AssertionError` says what came instead."""
        __tracebackhide__ = True
        found = self.wait(layer, condition, within=within, **fields)
        if found is None:
            raise AssertionError(f"expected {_words(layer, condition, fields)} within {within:g} s, but {self._saw()}")
        return found

    def wait(
        self, layer: type[Layer], condition: Callable[[Layer], bool] | None = None, *, within: float = 1.0, **fields: object
    ) -> Packet | None:
        """As `expect`, but None if nothing came."""
        loop = self.network.loop

        def first() -> Packet | None:
            return next((packet for packet in self.inbox if _matches(packet, layer, condition, fields)), None)

        loop.run_until(lambda: first() is not None, loop.now() + nanoseconds(within))
        found = first()
        if found is not None:
            self.inbox.remove(found)
        return found

    def silence(
        self, layer: type[Layer], condition: Callable[[Layer], bool] | None = None, *, within: float = 2.0, **fields: object
    ) -> None:
        """Nothing like this comes for `within` seconds; a lost observation is `Inconclusive`, not silence."""
        __tracebackhide__ = True
        found = self.wait(layer, condition, within=within, **fields)
        if found is not None:
            raise AssertionError(f"expected no {_words(layer, condition, fields)}, but this came: {found}")
        if self.network.frames.overflowed or self.port.counters["dropped-full"]:
            raise Inconclusive("frames were lost while nothing was to be seen, so silence was not observed")

    def run_for(self, seconds: float) -> None:
        """Let time pass."""
        self.network.run_for(seconds)

    def drain(self) -> None:
        """Let what is under way arrive, then forget everything in the inbox."""
        self.run_for(0.01)
        self.inbox.clear()

    # What nearly every check does

    @property
    def gateway_mac(self) -> MacAddress:
        """The gateway's hardware address, asked for by ARP once."""
        return self.resolve(self.gateway)

    def resolve(self, address: IPv4Address) -> MacAddress:
        """The hardware address of `address`, by ARP; asked once."""
        if address not in self._macs:
            self.send_arp(ArpOperation.REQUEST, address)
            self._macs[address] = self.expect(Arp, operation=ArpOperation.REPLY, sender_ip=address)[Arp].sender_mac
        return self._macs[address]

    def send_arp(self, operation: ArpOperation, target: IPv4Address, *, sender: IPv4Address | None = None) -> None:
        """Broadcast an ARP packet about `target`."""
        packet = Arp(operation, self.mac, self.address if sender is None else sender, ZERO_MAC, target)
        self.send(self.ethernet(BROADCAST_MAC, EtherType.ARP, packet.pack()))

    def fresh_port(self) -> int:
        """A source port that this tester has not used yet."""
        self._next_port += 1
        return self._next_port

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

    # Inside

    def _next_hop(self, destination: IPv4Address) -> MacAddress:
        if destination == LIMITED_BROADCAST or destination == self.backend.net.broadcast_address:
            return BROADCAST_MAC
        return self.resolve(destination if destination in (self.gateway, self.backend.dns) else self.gateway)

    def _receive(self, frame: bytes, header: VnetHeader | None) -> bool:
        del header  # the tester offers no offloads
        packet = Packet.read(frame, self.network.loop.now())
        self.inbox.append(packet)
        if self.answers_arp and Arp in packet:
            question = packet[Arp]
            if question.operation == ArpOperation.REQUEST and question.target_ip == self.address:
                answer = Arp(ArpOperation.REPLY, self.mac, self.address, question.sender_mac, question.sender_ip)
                self.port.send(self.ethernet(question.sender_mac, EtherType.ARP, answer.pack()))
        return True

    def _saw(self) -> str:
        if not self.inbox:
            return "nothing came"
        lines = "".join(f"\n  {packet.time / 1e9:.6f} s  {packet}" for packet in self.inbox[-_SHOWN:])
        count = len(self.inbox)
        what = "these are all that came" if count <= _SHOWN else f"{count} frames came, of which these are the last"
        return f"{what}:{lines}"


def _matches(packet: Packet, layer: type[Layer], condition: Callable[[Layer], bool] | None, fields: dict[str, object]) -> bool:
    if layer not in packet:
        return False
    found = packet[layer]
    for name, wanted in fields.items():
        value = getattr(found, name)
        if not (wanted(value) if callable(wanted) else value == wanted):
            return False
    return condition is None or condition(found)


def _words(layer: type, condition: object, fields: dict[str, object]) -> str:
    said = ", ".join(f"{name}={'...' if callable(value) else value}" for name, value in fields.items())
    more = " that meets the condition" if condition is not None else ""
    return f"{layer.__name__}({said}){more}"
