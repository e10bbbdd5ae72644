"""A received frame, read layer by layer, and whether it is what a check waits for.

Checksums are verified when a frame is read: a layer whose checksum is wrong is not there, and `Packet.broken` says why.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

from netemu.wire.arp import Arp
from netemu.wire.describe import summarize
from netemu.wire.dhcpv4 import CLIENT_PORT, SERVER_PORT, Dhcpv4
from netemu.wire.dhcpv6 import CLIENT_PORT as CLIENT_PORT6
from netemu.wire.dhcpv6 import SERVER_PORT as SERVER_PORT6
from netemu.wire.dhcpv6 import Dhcpv6
from netemu.wire.dns import DnsMessage
from netemu.wire.errors import WireError
from netemu.wire.ether import Ethernet, EtherType
from netemu.wire.icmpv4 import Icmpv4
from netemu.wire.icmpv6 import Icmpv6
from netemu.wire.ipv4 import IPv4, Protocol
from netemu.wire.ipv6 import IPv6, NextHeader
from netemu.wire.ndisc import (
    NeighbourAdvertisement,
    NeighbourSolicitation,
    RouterAdvertisement,
    RouterSolicitation,
    parse_ndisc,
)
from netemu.wire.tcp import Tcp
from netemu.wire.udp import Udp

__all__ = ["Layer", "Packet", "matches", "words"]

_DNS_PORT: Final = 53

Layer = TypeVar(
    "Layer",
    Ethernet,
    Arp,
    IPv4,
    Icmpv4,
    IPv6,
    Icmpv6,
    RouterAdvertisement,
    RouterSolicitation,
    NeighbourSolicitation,
    NeighbourAdvertisement,
    Udp,
    Tcp,
    Dhcpv4,
    Dhcpv6,
    DnsMessage,
)


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
        elif _DNS_PORT in (udp.source_port, udp.destination_port):
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
        if udp.destination_port in (
            CLIENT_PORT6,
            SERVER_PORT6,
        ):  # libslirp sends from 8962, 547 with swapped octets
            layers[Dhcpv6] = Dhcpv6.parse(udp.payload)
        elif _DNS_PORT in (udp.source_port, udp.destination_port):
            layers[DnsMessage] = DnsMessage.parse(udp.payload)


def matches(packet: Packet, layer: type[Layer], condition: Callable[[Layer], bool] | None, fields: dict[str, object]) -> bool:
    """`packet` has `layer`, its fields are `fields` (a value that is a function is asked), and `condition` holds for it."""
    if layer not in packet:
        return False
    found = packet[layer]
    for name, wanted in fields.items():
        value = getattr(found, name)
        if not (wanted(value) if callable(wanted) else value == wanted):
            return False
    return condition is None or condition(found)


def words(layer: type, condition: object, fields: dict[str, object]) -> str:
    """What `matches` asks for, to be said in a failure."""
    said = ", ".join(f"{name}={'...' if callable(value) else value}" for name, value in fields.items())
    more = " that meets the condition" if condition is not None else ""
    return f"{layer.__name__}({said}){more}"
