"""Bytes to values and back: the formats on the wire, without clock, socket or logging.

Every format is a frozen value with `parse(data)`, which gives a value or raises one `WireError` for any octets at all, and
`pack()`, which gives octets or raises `LocalError`. One module a format; `checksum`, `dns_name` and `fields` serve them,
`describe` turns whole frames into words.

The names here are the values and what reads or makes them, each loaded when first used. Constants whose names several formats
share (header lengths, flags) stay in their modules, and so do TFTP's packets, whose names are plain words (`tftp.Data`).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from netemu.wire.address import BROADCAST_MAC, ZERO_MAC, Endpoint, MacAddress
    from netemu.wire.arp import Arp, ArpOperation
    from netemu.wire.checksum import internet_checksum, ones_complement_sum, pseudo_header_sum
    from netemu.wire.describe import dissect, summarize
    from netemu.wire.dhcpv4 import DhcpMessageType, DhcpOption, Dhcpv4
    from netemu.wire.dhcpv6 import (
        Dhcpv6,
        Dhcpv6MessageType,
        Dhcpv6Option,
        Dhcpv6StatusCode,
        IaAddress,
        IaNa,
        Status,
        duid_ll,
        duid_llt,
    )
    from netemu.wire.dns import DnsMessage, Question, RecordType, ResourceRecord, ResponseCode, a_record
    from netemu.wire.errors import WireError
    from netemu.wire.ether import Ethernet, EtherType
    from netemu.wire.fields import Buffer
    from netemu.wire.icmpv4 import IcmpType, Icmpv4, RedirectCode, TimeExceededCode, UnreachableCode
    from netemu.wire.icmpv6 import Icmpv6, Icmpv6ParameterProblemCode, Icmpv6TimeExceededCode, Icmpv6Type, Icmpv6UnreachableCode
    from netemu.wire.ipv4 import IPv4, Protocol
    from netemu.wire.ipv6 import Extension, Fragment6, IPv6, NextHeader, interface_identifier, multicast_mac, solicited_node
    from netemu.wire.ndisc import (
        NeighbourAdvertisement,
        NeighbourSolicitation,
        Redirect,
        RouterAdvertisement,
        RouterSolicitation,
        parse_ndisc,
    )
    from netemu.wire.ndisc_options import (
        Dnssl,
        Mtu,
        PrefixInformation,
        Rdnss,
        RedirectedHeader,
        RouteInformation,
        RouterPreference,
        SourceLinkLayerAddress,
        TargetLinkLayerAddress,
        UnknownOption,
    )
    from netemu.wire.tcp import Tcp, TcpOptions, flags_text
    from netemu.wire.udp import Udp
    from netemu.wire.vlan import Vlan
    from netemu.wire.vnet_hdr import VnetHeader

__all__ = [
    "BROADCAST_MAC",
    "ZERO_MAC",
    "Arp",
    "ArpOperation",
    "Buffer",
    "DhcpMessageType",
    "DhcpOption",
    "Dhcpv4",
    "Dhcpv6",
    "Dhcpv6MessageType",
    "Dhcpv6Option",
    "Dhcpv6StatusCode",
    "DnsMessage",
    "Dnssl",
    "Endpoint",
    "EtherType",
    "Ethernet",
    "Extension",
    "Fragment6",
    "IPv4",
    "IPv6",
    "IaAddress",
    "IaNa",
    "IcmpType",
    "Icmpv4",
    "Icmpv6",
    "Icmpv6ParameterProblemCode",
    "Icmpv6TimeExceededCode",
    "Icmpv6Type",
    "Icmpv6UnreachableCode",
    "MacAddress",
    "Mtu",
    "NeighbourAdvertisement",
    "NeighbourSolicitation",
    "NextHeader",
    "PrefixInformation",
    "Protocol",
    "Question",
    "Rdnss",
    "RecordType",
    "Redirect",
    "RedirectCode",
    "RedirectedHeader",
    "ResourceRecord",
    "ResponseCode",
    "RouteInformation",
    "RouterAdvertisement",
    "RouterPreference",
    "RouterSolicitation",
    "SourceLinkLayerAddress",
    "Status",
    "TargetLinkLayerAddress",
    "Tcp",
    "TcpOptions",
    "TimeExceededCode",
    "Udp",
    "UnknownOption",
    "UnreachableCode",
    "Vlan",
    "VnetHeader",
    "WireError",
    "a_record",
    "dissect",
    "duid_ll",
    "duid_llt",
    "flags_text",
    "interface_identifier",
    "internet_checksum",
    "multicast_mac",
    "ones_complement_sum",
    "parse_ndisc",
    "pseudo_header_sum",
    "solicited_node",
    "summarize",
]

_HOME = {
    "BROADCAST_MAC": "netemu.wire.address",
    "ZERO_MAC": "netemu.wire.address",
    "Arp": "netemu.wire.arp",
    "ArpOperation": "netemu.wire.arp",
    "Buffer": "netemu.wire.fields",
    "DhcpMessageType": "netemu.wire.dhcpv4",
    "DhcpOption": "netemu.wire.dhcpv4",
    "Dhcpv4": "netemu.wire.dhcpv4",
    "Dhcpv6": "netemu.wire.dhcpv6",
    "Dhcpv6MessageType": "netemu.wire.dhcpv6",
    "Dhcpv6Option": "netemu.wire.dhcpv6",
    "Dhcpv6StatusCode": "netemu.wire.dhcpv6",
    "DnsMessage": "netemu.wire.dns",
    "Dnssl": "netemu.wire.ndisc_options",
    "Endpoint": "netemu.wire.address",
    "EtherType": "netemu.wire.ether",
    "Ethernet": "netemu.wire.ether",
    "Extension": "netemu.wire.ipv6",
    "Fragment6": "netemu.wire.ipv6",
    "IPv4": "netemu.wire.ipv4",
    "IPv6": "netemu.wire.ipv6",
    "IaAddress": "netemu.wire.dhcpv6",
    "IaNa": "netemu.wire.dhcpv6",
    "IcmpType": "netemu.wire.icmpv4",
    "Icmpv4": "netemu.wire.icmpv4",
    "Icmpv6": "netemu.wire.icmpv6",
    "Icmpv6ParameterProblemCode": "netemu.wire.icmpv6",
    "Icmpv6TimeExceededCode": "netemu.wire.icmpv6",
    "Icmpv6Type": "netemu.wire.icmpv6",
    "Icmpv6UnreachableCode": "netemu.wire.icmpv6",
    "MacAddress": "netemu.wire.address",
    "Mtu": "netemu.wire.ndisc_options",
    "NeighbourAdvertisement": "netemu.wire.ndisc",
    "NeighbourSolicitation": "netemu.wire.ndisc",
    "NextHeader": "netemu.wire.ipv6",
    "PrefixInformation": "netemu.wire.ndisc_options",
    "Protocol": "netemu.wire.ipv4",
    "Question": "netemu.wire.dns",
    "Rdnss": "netemu.wire.ndisc_options",
    "RecordType": "netemu.wire.dns",
    "Redirect": "netemu.wire.ndisc",
    "RedirectCode": "netemu.wire.icmpv4",
    "RedirectedHeader": "netemu.wire.ndisc_options",
    "ResourceRecord": "netemu.wire.dns",
    "ResponseCode": "netemu.wire.dns",
    "RouteInformation": "netemu.wire.ndisc_options",
    "RouterAdvertisement": "netemu.wire.ndisc",
    "RouterPreference": "netemu.wire.ndisc_options",
    "RouterSolicitation": "netemu.wire.ndisc",
    "SourceLinkLayerAddress": "netemu.wire.ndisc_options",
    "Status": "netemu.wire.dhcpv6",
    "TargetLinkLayerAddress": "netemu.wire.ndisc_options",
    "Tcp": "netemu.wire.tcp",
    "TcpOptions": "netemu.wire.tcp",
    "TimeExceededCode": "netemu.wire.icmpv4",
    "Udp": "netemu.wire.udp",
    "UnknownOption": "netemu.wire.ndisc_options",
    "UnreachableCode": "netemu.wire.icmpv4",
    "Vlan": "netemu.wire.vlan",
    "VnetHeader": "netemu.wire.vnet_hdr",
    "WireError": "netemu.wire.errors",
    "a_record": "netemu.wire.dns",
    "dissect": "netemu.wire.describe",
    "duid_ll": "netemu.wire.dhcpv6",
    "duid_llt": "netemu.wire.dhcpv6",
    "flags_text": "netemu.wire.tcp",
    "interface_identifier": "netemu.wire.ipv6",
    "internet_checksum": "netemu.wire.checksum",
    "multicast_mac": "netemu.wire.ipv6",
    "ones_complement_sum": "netemu.wire.checksum",
    "parse_ndisc": "netemu.wire.ndisc",
    "pseudo_header_sum": "netemu.wire.checksum",
    "solicited_node": "netemu.wire.ipv6",
    "summarize": "netemu.wire.describe",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - PEP 562: a module attribute has any type
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'netemu.wire' has no attribute {name!r}")
