"""Bytes to values and back: the formats on the wire, without clock, socket or logging.

Every format is a frozen value with `parse(data)`, which gives a value or raises one `WireError` for any octets at all, and
`pack()`, which gives octets or raises `LocalError`. One module a format; `checksum`, `dns_name` and `fields` serve them,
`describe` turns whole frames into words.

The names here are the values and what reads or makes them; constants with names that several formats share (header lengths,
flags) stay in their modules.
"""

from __future__ import annotations

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
