"""Hypothesis strategies for every value of netemu.wire, and one table of the formats for the tests that all of them share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

from hypothesis import strategies as st

from netemu.wire import ndisc, ndisc_options, tftp
from netemu.wire.address import MacAddress
from netemu.wire.arp import Arp
from netemu.wire.dhcpv4 import DhcpOption, Dhcpv4
from netemu.wire.dhcpv6 import Dhcpv6, Dhcpv6Option, IaAddress, IaNa, Status, pack_addresses, pack_domain_list, pack_numbers
from netemu.wire.dns import DnsMessage, Question, RecordType, ResourceRecord
from netemu.wire.dns_name import name_text, pack_labels
from netemu.wire.ether import Ethernet
from netemu.wire.fields import Buffer
from netemu.wire.icmpv4 import Icmpv4
from netemu.wire.icmpv6 import Icmpv6
from netemu.wire.ipv4 import IPv4
from netemu.wire.ipv6 import Extension, Fragment6, IPv6, NextHeader
from netemu.wire.tcp import EMPTY_OPTIONS, Tcp, TcpOptions
from netemu.wire.udp import Udp
from netemu.wire.vlan import Vlan
from netemu.wire.vnet_hdr import VnetHeader

SOURCE = IPv4Address("10.0.2.15")
DESTINATION = IPv4Address("10.0.2.2")
V6_SOURCE = IPv6Address("fec0::15")
V6_DESTINATION = IPv6Address("fec0::2")

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


v6_addresses = st.builds(IPv6Address, st.integers(0, (1 << 128) - 1))
v6_networks = st.tuples(st.integers(0, (1 << 128) - 1), st.integers(0, 128)).map(lambda pair: IPv6Network(pair, strict=False))
_whole_units = st.integers(0, 4).flatmap(lambda units: st.binary(min_size=6 + units * 8, max_size=6 + units * 8))
fragments = st.builds(Fragment6, st.integers(0, 0x1FFF).map(lambda units: units * 8), st.booleans(), u32)
_atomic_fragments = st.builds(Fragment6, st.just(0), st.just(False), u32)
_extensions = st.builds(Extension, st.sampled_from([NextHeader.ROUTING, NextHeader.DESTINATION_OPTIONS]), _whole_units)
_hop_by_hop = st.lists(st.builds(Extension, st.just(NextHeader.HOP_BY_HOP), _whole_units), max_size=1)
_not_extensions = u8.filter(lambda number: number not in (0, 43, 44, 60))


@st.composite
def _extension_chains(draw: st.DrawFn) -> tuple[int, tuple[Extension, ...]]:
    """A next header and what stands in front of it, as `parse` gives them."""
    chain = draw(_hop_by_hop) + draw(st.lists(_extensions | _atomic_fragments.map(Fragment6.extension), max_size=3))
    last = draw(st.none() | fragments)
    if last is None:
        return draw(_not_extensions), tuple(chain)
    is_part = last.more or last.offset > 0
    return draw(u8.filter(bool) if is_part else _not_extensions), (*chain, last.extension())


ipv6s = st.builds(
    lambda chain, *values, **named: IPv6(*values[:2], chain[0], *values[2:], extensions=chain[1], **named),
    _extension_chains(),
    v6_addresses,
    v6_addresses,
    payloads,
    hop_limit=u8,
    traffic_class=u8,
    flow_label=st.integers(0, 0xFFFFF),
)
icmpv6s = st.builds(Icmpv6, u8, u8, u32, payloads)

_domains = st.lists(st.binary(min_size=1, max_size=10), min_size=1, max_size=3).map(name_text)
_preferences = st.sampled_from(ndisc_options.RouterPreference)
nd_options = st.one_of(
    st.builds(ndisc_options.SourceLinkLayerAddress, macs),
    st.builds(ndisc_options.TargetLinkLayerAddress, macs),
    st.builds(ndisc_options.PrefixInformation, v6_networks, u32, u32, st.booleans(), st.booleans()),
    st.builds(ndisc_options.RedirectedHeader, st.integers(0, 5).map(lambda units: bytes(range(units * 8)))),
    st.builds(ndisc_options.Mtu, u32),
    st.builds(ndisc_options.RouteInformation, v6_networks, u32, _preferences),
    st.builds(ndisc_options.Rdnss, u32, st.lists(v6_addresses, min_size=1, max_size=3).map(tuple)),
    st.builds(ndisc_options.Dnssl, u32, st.lists(_domains, min_size=1, max_size=3).map(tuple)),
    st.builds(ndisc_options.UnknownOption, st.integers(32, 255), _whole_units),
)
_nd_option_lists = st.lists(nd_options, max_size=3).map(tuple)
_targets = v6_addresses.filter(lambda address: not address.is_multicast)
nd_messages = st.one_of(
    st.builds(ndisc.RouterSolicitation, _nd_option_lists),
    st.builds(
        ndisc.RouterAdvertisement, u8, st.booleans(), st.booleans(), u16, u32, u32, _nd_option_lists, preference=_preferences
    ),
    st.builds(ndisc.NeighbourSolicitation, _targets, _nd_option_lists),
    st.builds(ndisc.NeighbourAdvertisement, _targets, st.booleans(), st.booleans(), st.booleans(), _nd_option_lists),
    st.builds(ndisc.Redirect, _targets, _targets, _nd_option_lists),
)

statuses = st.builds(Status, u16, st.text("words ", max_size=8))
ia_addresses = st.builds(IaAddress, v6_addresses, u32, u32, st.none() | statuses)
ia_nas = st.builds(IaNa, u32, u32, u32, st.lists(ia_addresses, max_size=2).map(tuple), st.none() | statuses)
_dhcpv6_options = st.one_of(
    st.tuples(st.integers(200, 0xFFFF), st.binary(max_size=40)),
    st.tuples(st.just(Dhcpv6Option.CLIENTID), st.binary(min_size=3, max_size=20)),
    st.tuples(st.just(Dhcpv6Option.IA_NA), ia_nas.map(IaNa.pack)),
    st.tuples(st.just(Dhcpv6Option.ORO), st.lists(u16, max_size=4).map(lambda codes: pack_numbers(*codes))),
    st.tuples(st.just(Dhcpv6Option.ELAPSED_TIME), st.binary(min_size=2, max_size=2)),
    st.tuples(st.just(Dhcpv6Option.STATUS_CODE), statuses.map(Status.pack)),
    st.tuples(st.just(Dhcpv6Option.DNS_SERVERS), st.lists(v6_addresses, max_size=2).map(lambda found: pack_addresses(*found))),
    st.tuples(st.just(Dhcpv6Option.DOMAIN_LIST), st.lists(_domains, max_size=2).map(pack_domain_list)),
)
dhcpv6s = st.builds(
    Dhcpv6,
    u8.filter(lambda kind: kind not in (12, 13)),
    st.integers(0, 0xFFFFFF),
    st.lists(_dhcpv6_options, max_size=4).map(tuple),
)

_tftp_octets = st.binary(max_size=20).map(lambda octets: octets.replace(b"\0", b""))
_tftp_texts = _tftp_octets.map(lambda octets: octets.decode("utf-8", "surrogateescape"))
_tftp_names = _tftp_octets.map(lambda octets: (octets.lower() or b"x").decode("utf-8", "surrogateescape"))
_tftp_options = st.dictionaries(_tftp_names, _tftp_texts, max_size=3)
tftps = st.one_of(
    st.builds(tftp.Request, st.sampled_from([tftp.Opcode.RRQ, tftp.Opcode.WRQ]), _tftp_texts, _tftp_names, _tftp_options),
    st.builds(tftp.Data, u16, payloads),
    st.builds(tftp.Acknowledgment, u16),
    st.builds(tftp.Error, u16, _tftp_texts),
    st.builds(tftp.OptionAcknowledgment, _tftp_options),
)


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


def _over_ipv6(name: str, kind: Any, values: st.SearchStrategy[Any]) -> Format:
    return Format(
        name,
        values,
        lambda value: value.pack(V6_SOURCE, V6_DESTINATION),
        lambda data: kind.parse(data, V6_SOURCE, V6_DESTINATION),
    )


def _pack_unsummed(message: ndisc.NdMessage) -> bytes:
    """The octets of a neighbour discovery message without a checksum, so that random changes are read further."""
    icmp = message.icmpv6()
    return bytes((icmp.type, icmp.code, 0, 0)) + icmp.rest.to_bytes(4, "big") + icmp.payload


def _parse_unsummed(data: Buffer) -> ndisc.NdMessage | None:
    octets = bytes(data).ljust(8, b"\0")
    return ndisc.parse_ndisc(Icmpv6(octets[0], octets[1], int.from_bytes(octets[4:8], "big"), octets[8:]))


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
    _plain("ipv6", IPv6, ipv6s),
    _over_ipv6("icmpv6", Icmpv6, icmpv6s),
    _over_ipv6("udp over ipv6", Udp, udps),
    _over_ipv6("tcp over ipv6", Tcp, tcps),
    Format("ndisc", nd_messages, _pack_unsummed, _parse_unsummed),
    _plain("dhcpv6", Dhcpv6, dhcpv6s),
    Format("ia_na", ia_nas, IaNa.pack, lambda data: IaNa.parse(bytes(data))),
    Format("tftp", tftps, lambda value: value.pack(), tftp.parse),
    _plain("vnet_hdr", VnetHeader, vnet_headers),
)
