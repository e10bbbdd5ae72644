"""Frames for people: one line for a ladder (`summarize`), and named fields for a difference (`dissect`).

Both read a frame layer by layer until nothing inside is known or something is malformed; then the `WireError` is the last
layer. Neither ever raises for any octets. UDP payloads are read by port: 67 and 68 as DHCP, 546 and 547 as DHCPv6, 53 as
DNS, 69 as TFTP, of which that leaves the requests alone. The words of a line are in `describe_text`.

A transport checksum is verified, unless it is the pseudo-header's sum alone: then the rest was left to an offload.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from typing import Final

from netemu.wire import dhcpv4, dhcpv6, ndisc, ndisc_options, tftp
from netemu.wire.address import Endpoint, MacAddress
from netemu.wire.arp import Arp
from netemu.wire.checksum import pseudo_header_sum
from netemu.wire.describe_text import Layer, layer_text, number_name, visible
from netemu.wire.dhcpv4 import DhcpOption, Dhcpv4
from netemu.wire.dhcpv6 import Dhcpv6, Dhcpv6Option, IaNa
from netemu.wire.dns import DnsMessage, ResourceRecord
from netemu.wire.errors import WireError
from netemu.wire.ether import Ethernet, EtherType
from netemu.wire.fields import Buffer, IPAddress
from netemu.wire.icmpv4 import Icmpv4
from netemu.wire.icmpv6 import Icmpv6
from netemu.wire.ipv4 import IPv4, Protocol
from netemu.wire.ipv6 import IPv6, NextHeader
from netemu.wire.tcp import Tcp
from netemu.wire.udp import Udp
from netemu.wire.vlan import Vlan

__all__ = ["dissect", "summarize"]

_DNS_PORT: Final = 53  # RFC 1035 4.2.1
_UDP_CHECKSUM: Final = slice(6, 8)
_TCP_CHECKSUM: Final = slice(16, 18)

_LAYER_NAMES: Final[Mapping[type, str]] = {
    Ethernet: "ethernet",
    Vlan: "vlan",
    Arp: "arp",
    IPv4: "ipv4",
    IPv6: "ipv6",
    Icmpv4: "icmpv4",
    Icmpv6: "icmpv6",
    ndisc.RouterSolicitation: "ndisc",
    ndisc.RouterAdvertisement: "ndisc",
    ndisc.NeighbourSolicitation: "ndisc",
    ndisc.NeighbourAdvertisement: "ndisc",
    ndisc.Redirect: "ndisc",
    Udp: "udp",
    Tcp: "tcp",
    Dhcpv4: "dhcpv4",
    Dhcpv6: "dhcpv6",
    DnsMessage: "dns",
    tftp.Request: "tftp",
    tftp.Data: "tftp",
    tftp.Acknowledgment: "tftp",
    tftp.Error: "tftp",
    tftp.OptionAcknowledgment: "tftp",
}
# The fields of the values that do not name theirs in wire order.
_WIRE_ORDER: Final[Mapping[type, str]] = {
    IPv4: "dscp ecn identification dont_fragment more_fragments fragment_offset ttl protocol source destination options payload",
    IPv6: "traffic_class flow_label hop_limit source destination extensions next_header payload",
    ndisc.RouterAdvertisement: "hop_limit managed other preference router_lifetime reachable_time retrans_timer options",
    ndisc.NeighbourAdvertisement: "router solicited override target options",
    Tcp: "source_port destination_port sequence acknowledgment flags window urgent_pointer options payload",
    Dhcpv4: "op hops xid secs broadcast ciaddr yiaddr siaddr giaddr chaddr sname file options",
    DnsMessage: "identification response opcode authoritative truncated recursion_desired recursion_available"
    " response_code questions answers authorities additionals",
    ResourceRecord: "name type class_ ttl data",
}
# Options in a list are told apart by a name of their own behind their place in it.
_OPTION_NAMES: Final[Mapping[type, str]] = {
    ndisc_options.SourceLinkLayerAddress: "source_link_layer_address",
    ndisc_options.TargetLinkLayerAddress: "target_link_layer_address",
    ndisc_options.PrefixInformation: "prefix_information",
    ndisc_options.RedirectedHeader: "redirected_header",
    ndisc_options.Mtu: "mtu",
    ndisc_options.RouteInformation: "route_information",
    ndisc_options.Rdnss: "rdnss",
    ndisc_options.Dnssl: "dnssl",
    ndisc_options.UnknownOption: "unknown",
}


def summarize(frame: Buffer) -> str:
    """The frame on one line, such as `10.0.2.15:49152 > 10.0.2.2:80 TCP SYN seq=1 win=65535 <mss 1460>`."""
    layers = list(_layers(frame))
    words = [_route(layers), *(layer_text(layer, layer is layers[-1]) for layer in layers)]
    return " ".join(filter(None, words))


def dissect(frame: Buffer) -> dict[str, str | int]:
    """The frame's fields in wire order, named `layer.field` (`ipv4.source`); addresses as text, octets as hexadecimal.

    A payload is given only where nothing in it could be read. A second VLAN tag is `vlan2`. What is malformed gives one
    entry, `malformed`, with the words of the `WireError`.
    """
    found: dict[str, str | int] = {}
    seen: Counter[str] = Counter()
    layers = list(_layers(frame))
    for layer, inner in zip(layers, [*layers[1:], None], strict=True):
        if isinstance(layer, WireError):
            found["malformed"] = str(layer)
            continue
        name = _LAYER_NAMES[type(layer)]
        seen[name] += 1
        name += str(seen[name]) if seen[name] > 1 else ""
        found.update(_flatten(name, layer))
        if inner is not None and not isinstance(inner, WireError):
            found.pop(f"{name}.payload", None)
    return found


def _layers(frame: Buffer) -> Iterator[Layer]:
    """The frame's layers from the outside in, a `WireError` last when one is malformed."""
    try:
        ethernet = Ethernet.parse(frame)
        yield ethernet
        ethertype, payload = ethernet.ethertype, ethernet.payload
        while ethertype == EtherType.VLAN:
            tag = Vlan.parse(payload)
            yield tag
            ethertype, payload = tag.ethertype, tag.payload
        if ethertype == EtherType.ARP:
            yield Arp.parse(payload)
        elif ethertype == EtherType.IPV4:
            ipv4 = IPv4.parse(payload)
            yield ipv4
            yield from _upper_layers(ipv4, ipv4.protocol)
        elif ethertype == EtherType.IPV6:
            ipv6 = IPv6.parse(payload)
            yield ipv6
            yield from _upper_layers(ipv6, ipv6.next_header)
    except WireError as error:
        yield error


def _upper_layers(ip: IPv4 | IPv6, protocol: int) -> Iterator[Layer]:
    """What the packet carries; a fragment is read no further."""
    if ip.is_fragment:
        return
    if isinstance(ip, IPv4) and protocol == Protocol.ICMP:
        yield Icmpv4.parse(ip.payload)
    elif isinstance(ip, IPv6) and protocol == NextHeader.ICMPV6:
        message = Icmpv6.parse(ip.payload, ip.source, ip.destination)
        yield message
        discovery = ndisc.parse_ndisc(message)
        if discovery is not None:
            yield discovery
    elif protocol == Protocol.TCP:
        yield Tcp.parse(ip.payload, *_checksum_addresses(ip, protocol, _TCP_CHECKSUM))
    elif protocol == Protocol.UDP:
        udp = Udp.parse(ip.payload, *_checksum_addresses(ip, protocol, _UDP_CHECKSUM))
        yield udp
        yield from _udp_layers(udp)


def _udp_layers(udp: Udp) -> Iterator[Layer]:
    ports = {udp.source_port, udp.destination_port}
    if ports <= {dhcpv4.SERVER_PORT, dhcpv4.CLIENT_PORT}:
        yield Dhcpv4.parse(udp.payload)
    elif ports <= {dhcpv6.SERVER_PORT, dhcpv6.CLIENT_PORT}:
        yield Dhcpv6.parse(udp.payload)
    elif _DNS_PORT in ports:
        yield DnsMessage.parse(udp.payload)
    elif tftp.SERVER_PORT in ports:
        yield tftp.parse(udp.payload)


def _checksum_addresses(ip: IPv4 | IPv6, protocol: int, checksum: slice) -> tuple[IPAddress, IPAddress] | tuple[()]:
    """The addresses to verify the checksum with; none when it was left to an offload."""
    partial = pseudo_header_sum(ip.source, ip.destination, protocol, len(ip.payload))
    left_out = ip.payload[checksum] == partial.to_bytes(2, "big")
    return () if left_out else (ip.source, ip.destination)


def _route(layers: list[Layer]) -> str:
    """Who speaks to whom, in the innermost addresses that were read."""
    source: MacAddress | IPAddress | Endpoint | None = None
    destination: MacAddress | IPAddress | Endpoint | None = None
    for layer in layers:
        match layer:
            case Ethernet() | IPv4() | IPv6():
                source, destination = layer.source, layer.destination
            case Tcp() | Udp() if isinstance(source, IPAddress) and isinstance(destination, IPAddress):
                source, destination = Endpoint(source, layer.source_port), Endpoint(destination, layer.destination_port)
    return f"{source} > {destination}" if source is not None else ""


def _flatten(name: str, value: object) -> Iterator[tuple[str, str | int]]:
    """The fields inside `value`, each with its dotted name; what is None has none."""
    match value:
        case None:
            return
        case int():
            yield name, int(value)
        case MacAddress() | IPv4Address() | IPv6Address() | IPv6Network():
            yield name, str(value)
        case str():
            yield name, visible(value)
        case bytes():
            yield name, value.hex()
        case tuple():
            for index, item in enumerate(value):
                yield from _flatten(f"{name}.{index}", item)
        case Mapping():
            for number, item in value.items():
                yield from _flatten(f"{name}.{visible(number_name(DhcpOption, number)).lower()}", item)
        case Dhcpv6():
            yield f"{name}.message_type", value.message_type
            yield f"{name}.transaction_id", value.transaction_id
            for index, (code, octets) in enumerate(value.options):
                option = f"{name}.options.{index}.{number_name(Dhcpv6Option, code).lower()}"
                yield from _flatten(option, IaNa.parse(octets) if code == Dhcpv6Option.IA_NA else octets)
        case _ if is_dataclass(value):
            order = _WIRE_ORDER.get(type(value))
            option_name = _OPTION_NAMES.get(type(value))
            name += f".{option_name}" if option_name is not None else ""
            for member in order.split() if order is not None else [field.name for field in fields(value)]:
                yield from _flatten(f"{name}.{member}", getattr(value, member))
