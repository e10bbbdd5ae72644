"""Hypothesis strategies for every value of netemu.wire, and one table of the formats for the tests that all of them share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from hypothesis import strategies as st

from netemu.wire.address import MacAddress
from netemu.wire.arp import Arp
from netemu.wire.dhcpv4 import DhcpOption, Dhcpv4
from netemu.wire.dns import DnsMessage, Question, RecordType, ResourceRecord
from netemu.wire.dns_name import name_text, pack_labels
from netemu.wire.ether import Ethernet
from netemu.wire.icmpv4 import Icmpv4
from netemu.wire.ipv4 import IPv4
from netemu.wire.tcp import EMPTY_OPTIONS, Tcp, TcpOptions
from netemu.wire.udp import Udp
from netemu.wire.vlan import Vlan
from netemu.wire.vnet_hdr import VnetHeader

SOURCE = IPv4Address("10.0.2.15")
DESTINATION = IPv4Address("10.0.2.2")

u8 = st.integers(0, 0xFF)
u16 = st.integers(0, 0xFFFF)
u32 = st.integers(0, 0xFFFFFFFF)
payloads = st.binary(max_size=80)
addresses = st.builds(IPv4Address, u32)
macs = st.builds(MacAddress, st.binary(min_size=6, max_size=6))

ethernets = st.builds(Ethernet, macs, macs, st.integers(0x600, 0xFFFF), payloads)
vlans = st.builds(Vlan, st.integers(0, 7), st.booleans(), st.integers(0, 0xFFF), u16, payloads)
arps = st.builds(Arp, u16, macs, addresses, macs, addresses)
ipv4s = st.builds(
    IPv4,
    addresses,
    addresses,
    u8,
    payloads,
    ttl=u8,
    identification=u16,
    dont_fragment=st.booleans(),
    more_fragments=st.booleans(),
    fragment_offset=st.integers(0, 0x1FFF).map(lambda units: units * 8),
    dscp=st.integers(0, 63),
    ecn=st.integers(0, 3),
    options=st.integers(0, 10).flatmap(lambda words: st.binary(min_size=words * 4, max_size=words * 4)),
)
icmpv4s = st.builds(Icmpv4, u8, u8, u32, payloads)
udps = st.builds(Udp, u16, u16, payloads)

_unknown_kinds = u8.filter(lambda kind: kind not in (0, 1, 2, 3, 4, 5, 8))
tcp_options = st.builds(
    TcpOptions,
    mss=st.none() | u16,
    window_scale=st.none() | u8,
    sack_permitted=st.booleans(),
    sack=st.lists(st.tuples(u32, u32), max_size=1).map(tuple),
    timestamps=st.none() | st.tuples(u32, u32),
    unknown=st.lists(st.tuples(_unknown_kinds, st.binary(max_size=4)), max_size=1).map(tuple),
).filter(lambda options: options.sack == () or options.unknown == ())  # so that 40 octets always hold them
tcps = st.builds(Tcp, u16, u16, u32, u32, u8, u16, payloads, u16, st.just(EMPTY_OPTIONS) | tcp_options)

_free_codes = st.integers(129, 254)  # none of them has a fixed length
dhcp_options = st.dictionaries(_free_codes, st.binary(max_size=600), max_size=4).flatmap(
    lambda free: st.fixed_dictionaries(
        {},
        optional={
            int(DhcpOption.DHCP_MESSAGE_TYPE): st.binary(min_size=1, max_size=1),
            int(DhcpOption.REQUESTED_IP_ADDRESS): st.binary(min_size=4, max_size=4),
            int(DhcpOption.IP_ADDRESS_LEASE_TIME): st.binary(min_size=4, max_size=4),
            int(DhcpOption.HOST_NAME): st.binary(max_size=20),
        },
    ).map(lambda fixed: {**fixed, **free})
)
_texts = st.binary(max_size=64).map(lambda octets: octets.replace(b"\0", b""))
dhcpv4s = st.builds(
    Dhcpv4,
    u8,
    u32,
    macs,
    ciaddr=addresses,
    yiaddr=addresses,
    siaddr=addresses,
    giaddr=addresses,
    secs=u16,
    broadcast=st.booleans(),
    hops=u8,
    sname=_texts,
    file=_texts,
    options=dhcp_options,
)

labels = st.lists(st.binary(min_size=1, max_size=10) | st.sampled_from([b"example", b"com", b"a"]), max_size=6)
names = labels.map(name_text)
networks = st.tuples(u32, st.integers(0, 32)).map(lambda pair: IPv4Network(pair, strict=False))
questions = st.builds(Question, names, u16, u16)
# Free octets only for types in whose data no structure is read.
_plain_types = st.sampled_from([RecordType.HINFO, RecordType.TXT, RecordType.OPT, RecordType.HTTPS, 300])
records = (
    st.builds(ResourceRecord, names, _plain_types, u32, payloads, u16)
    | st.builds(ResourceRecord, names, st.just(RecordType.A), u32, st.binary(min_size=4, max_size=4))
    | st.builds(ResourceRecord, names, st.just(RecordType.CNAME), u32, labels.map(pack_labels))
    | st.builds(ResourceRecord, names, st.just(RecordType.MX), u32, labels.map(lambda name: b"\0\5" + pack_labels(name)))
)
_sections = st.lists(records, max_size=3).map(tuple)
dns_messages = st.builds(
    DnsMessage,
    u16,
    st.lists(questions, max_size=2).map(tuple),
    _sections,
    _sections,
    _sections,
    response=st.booleans(),
    opcode=st.integers(0, 15),
    authoritative=st.booleans(),
    truncated=st.booleans(),
    recursion_desired=st.booleans(),
    recursion_available=st.booleans(),
    response_code=st.integers(0, 15),
)
vnet_headers = st.builds(VnetHeader, u8, u8, u16, u16, u16, u16, u16)


@dataclass(frozen=True)
class Format:
    """One format, as the tests that hold for all of them see it."""

    name: str
    values: st.SearchStrategy[Any]
    pack: Callable[[Any], bytes]
    parse: Callable[[bytes | bytearray | memoryview], Any]

    def __str__(self) -> str:
        return self.name


def _plain(name: str, kind: Any, values: st.SearchStrategy[Any]) -> Format:
    return Format(name, values, lambda value: value.pack(), kind.parse)


def _with_addresses(name: str, kind: Any, values: st.SearchStrategy[Any]) -> Format:
    return Format(name, values, lambda value: value.pack(SOURCE, DESTINATION), lambda data: kind.parse(data, SOURCE, DESTINATION))


FORMATS = (
    _plain("ethernet", Ethernet, ethernets),
    _plain("vlan", Vlan, vlans),
    _plain("arp", Arp, arps),
    _plain("ipv4", IPv4, ipv4s),
    _plain("icmpv4", Icmpv4, icmpv4s),
    _with_addresses("udp", Udp, udps),
    _with_addresses("tcp", Tcp, tcps),
    Format("udp unverified", udps, lambda value: value.pack(SOURCE, DESTINATION), Udp.parse),
    Format("tcp unverified", tcps, lambda value: value.pack(SOURCE, DESTINATION), Tcp.parse),
    _plain("tcp_options", TcpOptions, tcp_options),
    _plain("dhcpv4", Dhcpv4, dhcpv4s),
    _plain("dns", DnsMessage, dns_messages),
    _plain("vnet_hdr", VnetHeader, vnet_headers),
)
