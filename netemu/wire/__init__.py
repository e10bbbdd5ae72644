"""Bytes to values and back: the formats on the wire, without clock, socket or logging.

Every format is a frozen value with `parse(data)`, which gives a value or raises one `WireError` for any octets at all, and
`pack()`, which gives octets or raises `LocalError`. One module a format; `checksum`, `dns_name` and `fields` serve them,
`describe` turns whole frames into words.

The names here are the values and what reads or makes them, each loaded when first used. Constants whose names several formats
share (header lengths, flags) stay in their modules.
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
    from netemu.wire.dns import DnsMessage, Question, RecordType, ResourceRecord, ResponseCode, a_record
    from netemu.wire.errors import WireError
    from netemu.wire.ether import Ethernet, EtherType
    from netemu.wire.fields import Buffer
    from netemu.wire.icmpv4 import IcmpType, Icmpv4, RedirectCode, TimeExceededCode, UnreachableCode
    from netemu.wire.ipv4 import IPv4, Protocol
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
    "DnsMessage",
    "Endpoint",
    "EtherType",
    "Ethernet",
    "IPv4",
    "IcmpType",
    "Icmpv4",
    "MacAddress",
    "Protocol",
    "Question",
    "RecordType",
    "RedirectCode",
    "ResourceRecord",
    "ResponseCode",
    "Tcp",
    "TcpOptions",
    "TimeExceededCode",
    "Udp",
    "UnreachableCode",
    "Vlan",
    "VnetHeader",
    "WireError",
    "a_record",
    "dissect",
    "flags_text",
    "internet_checksum",
    "ones_complement_sum",
    "pseudo_header_sum",
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
    "DnsMessage": "netemu.wire.dns",
    "Endpoint": "netemu.wire.address",
    "EtherType": "netemu.wire.ether",
    "Ethernet": "netemu.wire.ether",
    "IPv4": "netemu.wire.ipv4",
    "IcmpType": "netemu.wire.icmpv4",
    "Icmpv4": "netemu.wire.icmpv4",
    "MacAddress": "netemu.wire.address",
    "Protocol": "netemu.wire.ipv4",
    "Question": "netemu.wire.dns",
    "RecordType": "netemu.wire.dns",
    "RedirectCode": "netemu.wire.icmpv4",
    "ResourceRecord": "netemu.wire.dns",
    "ResponseCode": "netemu.wire.dns",
    "Tcp": "netemu.wire.tcp",
    "TcpOptions": "netemu.wire.tcp",
    "TimeExceededCode": "netemu.wire.icmpv4",
    "Udp": "netemu.wire.udp",
    "UnreachableCode": "netemu.wire.icmpv4",
    "Vlan": "netemu.wire.vlan",
    "VnetHeader": "netemu.wire.vnet_hdr",
    "WireError": "netemu.wire.errors",
    "a_record": "netemu.wire.dns",
    "dissect": "netemu.wire.describe",
    "flags_text": "netemu.wire.tcp",
    "internet_checksum": "netemu.wire.checksum",
    "ones_complement_sum": "netemu.wire.checksum",
    "pseudo_header_sum": "netemu.wire.checksum",
    "summarize": "netemu.wire.describe",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - PEP 562: a module attribute has any type
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'netemu.wire' has no attribute {name!r}")
