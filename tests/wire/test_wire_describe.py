from __future__ import annotations

from dataclasses import fields, replace
from ipaddress import IPv4Address, IPv6Address, IPv6Network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wire_strategies import arps, dhcpv4s, dhcpv6s, dns_messages, icmpv4s, icmpv6s, ipv6s, nd_messages, tcps, tftps

from netemu.wire import describe, tftp
from netemu.wire.address import BROADCAST_MAC, ZERO_MAC, MacAddress
from netemu.wire.arp import Arp, ArpOperation
from netemu.wire.describe import dissect, summarize
from netemu.wire.dhcpv4 import BOOTREQUEST, Dhcpv4
from netemu.wire.dhcpv6 import Dhcpv6, Dhcpv6StatusCode, IaAddress, IaNa, Status, duid_ll
from netemu.wire.dns import DnsMessage, Question, RecordType, ResourceRecord, ResponseCode, a_record
from netemu.wire.ether import Ethernet, EtherType
from netemu.wire.icmpv4 import Icmpv4, UnreachableCode
from netemu.wire.icmpv6 import Icmpv6
from netemu.wire.ipv4 import IPv4, Protocol
from netemu.wire.ipv6 import Extension, Fragment6, IPv6, NextHeader
from netemu.wire.ndisc import (
    NdMessage,
    NeighbourAdvertisement,
    NeighbourSolicitation,
    Redirect,
    RouterAdvertisement,
    RouterSolicitation,
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
from netemu.wire.tcp import ACK, PSH, SYN, Tcp, TcpOptions
from netemu.wire.udp import Udp
from netemu.wire.vlan import Vlan

GUEST, HOST = IPv4Address("10.0.2.15"), IPv4Address("10.0.2.2")
GUEST_MAC, HOST_MAC = MacAddress("52:54:00:12:34:56"), MacAddress("52:55:0a:00:02:02")


def ip_frame(protocol: int, payload: bytes, **fields_of_ip) -> bytes:
    return Ethernet(HOST_MAC, GUEST_MAC, EtherType.IPV4, IPv4(GUEST, HOST, protocol, payload, **fields_of_ip).pack()).pack()


def tcp_frame(segment: Tcp) -> bytes:
    return ip_frame(Protocol.TCP, segment.pack(GUEST, HOST))


def udp_frame(source_port: int, destination_port: int, payload: bytes) -> bytes:
    return ip_frame(Protocol.UDP, Udp(source_port, destination_port, payload).pack(GUEST, HOST))


GUEST6, HOST6 = IPv6Address("fec0::15"), IPv6Address("fec0::2")
ROUTE6 = "fec0::15 > fec0::2"


def ip6_frame(next_header: int, payload: bytes, **fields_of_ip) -> bytes:
    packet = IPv6(GUEST6, HOST6, next_header, payload, **fields_of_ip)
    return Ethernet(HOST_MAC, GUEST_MAC, EtherType.IPV6, packet.pack()).pack()


def icmp6_frame(message: Icmpv6) -> bytes:
    return ip6_frame(NextHeader.ICMPV6, message.pack(GUEST6, HOST6))


def nd_frame(message: NdMessage) -> bytes:
    return icmp6_frame(message.icmpv6())


def udp6_frame(source_port: int, destination_port: int, payload: bytes) -> bytes:
    return ip6_frame(Protocol.UDP, Udp(source_port, destination_port, payload).pack(GUEST6, HOST6))


def dns_frame(message: DnsMessage) -> bytes:
    return udp_frame(40000, 53, message.pack())


def dhcp_frame(message: Dhcpv4) -> bytes:
    return udp_frame(68, 67, message.pack())


REQUEST = Arp(ArpOperation.REQUEST, GUEST_MAC, GUEST, ZERO_MAC, HOST)
REPLY = Arp(ArpOperation.REPLY, HOST_MAC, HOST, GUEST_MAC, GUEST)
SYN_SEGMENT = Tcp(49152, 80, 1, 0, SYN, 65535, options=TcpOptions(1460, 7, True, (), (5, 0), ((254, b"\1"),)))
QUERY = DnsMessage(7, (Question("example.com", RecordType.A),))
ROUTE = "10.0.2.15:49152 > 10.0.2.2:80"
DNS_ROUTE = "10.0.2.15:40000 > 10.0.2.2:53"


@pytest.mark.parametrize(
    ("frame", "line"),
    [
        (
            Ethernet(BROADCAST_MAC, GUEST_MAC, EtherType.ARP, REQUEST.pack()).pack(),
            "52:54:00:12:34:56 > ff:ff:ff:ff:ff:ff ARP who-has 10.0.2.2 tell 10.0.2.15",
        ),
        (
            Ethernet(GUEST_MAC, HOST_MAC, EtherType.ARP, REPLY.pack()).pack(),
            "52:55:0a:00:02:02 > 52:54:00:12:34:56 ARP 10.0.2.2 is-at 52:55:0a:00:02:02",
        ),
        (
            Ethernet(GUEST_MAC, HOST_MAC, EtherType.ARP, replace(REPLY, operation=9).pack()).pack(),
            "52:55:0a:00:02:02 > 52:54:00:12:34:56 ARP operation 9",
        ),
        (tcp_frame(SYN_SEGMENT), f"{ROUTE} TCP SYN seq=1 win=65535 <mss 1460,wscale 7,sackOK,ts 5 0,option 254 01>"),
        (
            tcp_frame(Tcp(49152, 80, 2, 9, ACK | PSH, 512, b"GET /", options=TcpOptions(sack=((1, 3),)))),
            f"{ROUTE} TCP PSH,ACK seq=2 ack=9 win=512 len=5 <sack 1-3>",
        ),
        (
            dhcp_frame(Dhcpv4(BOOTREQUEST, 0xABC, GUEST_MAC, options={53: b"\3", 50: GUEST.packed, 54: HOST.packed})),
            "10.0.2.15:68 > 10.0.2.2:67 DHCP REQUEST xid=0x00000abc requested=10.0.2.15 server=10.0.2.2",
        ),
        (
            dhcp_frame(Dhcpv4(BOOTREQUEST, 1, GUEST_MAC, yiaddr=GUEST)),
            "10.0.2.15:68 > 10.0.2.2:67 BOOTP xid=0x00000001 yiaddr=10.0.2.15",
        ),
        (ip_frame(1, Icmpv4.echo_request(7, 1, b"abc").pack()), "10.0.2.15 > 10.0.2.2 ICMP echo request id=7 seq=1 len=3"),
        (ip_frame(1, Icmpv4.echo_reply(7, 1, b"").pack()), "10.0.2.15 > 10.0.2.2 ICMP echo reply id=7 seq=1 len=0"),
        (
            ip_frame(1, Icmpv4.unreachable(UnreachableCode.PORT, b"").pack()),
            "10.0.2.15 > 10.0.2.2 ICMP destination unreachable (port)",
        ),
        (
            ip_frame(1, Icmpv4.unreachable(UnreachableCode.FRAGMENTATION_NEEDED, b"", 1400).pack()),
            "10.0.2.15 > 10.0.2.2 ICMP destination unreachable (fragmentation needed) mtu=1400",
        ),
        (ip_frame(1, Icmpv4(11, 77, 0, b"").pack()), "10.0.2.15 > 10.0.2.2 ICMP time exceeded (77)"),
        (ip_frame(1, Icmpv4(200, 3, 0, b"").pack()), "10.0.2.15 > 10.0.2.2 ICMP 200 code=3"),
        (udp_frame(1, 2, b"abc"), "10.0.2.15:1 > 10.0.2.2:2 UDP len=3"),
        (ip_frame(47, b"abc"), "10.0.2.15 > 10.0.2.2 47 len=3"),
        (
            ip_frame(17, bytes(8), identification=5, more_fragments=True),
            "10.0.2.15 > 10.0.2.2 UDP fragment id=5 offset=0 len=8 more",
        ),
        (ip_frame(17, b"abc", identification=5, fragment_offset=8), "10.0.2.15 > 10.0.2.2 UDP fragment id=5 offset=8 len=3"),
        (dns_frame(QUERY), f"{DNS_ROUTE} DNS A? example.com id=7"),
        (
            dns_frame(replace(QUERY, response=True, answers=(a_record("example.com", HOST, 1), a_record("example.com", GUEST, 1)))),
            f"{DNS_ROUTE} DNS A? example.com = 10.0.2.2,10.0.2.15 id=7",
        ),
        (
            dns_frame(replace(QUERY, response=True, answers=(ResourceRecord("example.com", RecordType.CNAME, 1, b"\1a\0"),))),
            f"{DNS_ROUTE} DNS A? example.com = CNAME id=7",
        ),
        (dns_frame(replace(QUERY, response=True)), f"{DNS_ROUTE} DNS A? example.com = no answer id=7"),
        (
            dns_frame(replace(QUERY, response=True, response_code=ResponseCode.NAME_ERROR)),
            f"{DNS_ROUTE} DNS A? example.com NAME_ERROR id=7",
        ),
        (
            Ethernet(HOST_MAC, GUEST_MAC, EtherType.VLAN, Vlan(0, False, 5, EtherType.ARP, REQUEST.pack()).pack()).pack(),
            "52:54:00:12:34:56 > 52:55:0a:00:02:02 VLAN 5 ARP who-has 10.0.2.2 tell 10.0.2.15",
        ),
        (
            Ethernet(HOST_MAC, GUEST_MAC, EtherType.VLAN, Vlan(0, False, 5, 0x88CC, b"ab").pack()).pack(),
            "52:54:00:12:34:56 > 52:55:0a:00:02:02 VLAN 5 type 0x88cc len=2",
        ),
        (
            Ethernet(HOST_MAC, GUEST_MAC, 0x88CC, b"ab").pack(),
            "52:54:00:12:34:56 > 52:55:0a:00:02:02 type 0x88cc len=2",
        ),
    ],
)
def test_one_line_for_each_kind_of_frame(frame, line):
    assert summarize(frame) == line


LEASE6 = IaNa(7, addresses=(IaAddress(GUEST6, 1, 2),), status=Status(Dhcpv6StatusCode.SUCCESS))
REPLY6 = Dhcpv6(7, 0xABC, ((1, duid_ll(GUEST_MAC)), (3, LEASE6.pack()), (14, b""), (200, b"x")))
ADVERTISED = RouterAdvertisement(
    64,
    True,
    False,
    1800,
    options=(
        PrefixInformation(IPv6Network("fec0::/64"), 86400, 14400),
        Mtu(1500),
        Rdnss(300, (HOST6,)),
        Dnssl(300, ("example.com", "test")),
        RouteInformation(IPv6Network("2001:db8::/32"), 9, RouterPreference.LOW),
        UnknownOption(200, b"nonce!"),
    ),
    preference=RouterPreference.HIGH,
)


@pytest.mark.parametrize(
    ("frame", "line"),
    [
        (
            ip6_frame(6, SYN_SEGMENT.pack(GUEST6, HOST6)),
            "[fec0::15]:49152 > [fec0::2]:80 TCP SYN seq=1 win=65535 <mss 1460,wscale 7,sackOK,ts 5 0,option 254 01>",
        ),
        (udp6_frame(1, 2, b"abc"), "[fec0::15]:1 > [fec0::2]:2 UDP len=3"),
        (ip6_frame(59, b"abc"), f"{ROUTE6} NO_NEXT_HEADER len=3"),
        (ip6_frame(47, b"abc", extensions=(Extension(60, bytes(6)),)), f"{ROUTE6} 47 len=3"),
        (
            ip6_frame(17, bytes(8), extensions=(Fragment6(0, True, 5).extension(),)),
            f"{ROUTE6} UDP fragment id=5 offset=0 len=8 more",
        ),
        (
            ip6_frame(58, b"abc", extensions=(Fragment6(8, False, 5).extension(),)),
            f"{ROUTE6} ICMPV6 fragment id=5 offset=8 len=3",
        ),
        (icmp6_frame(Icmpv6.echo_request(7, 1, b"abc")), f"{ROUTE6} ICMPv6 echo request id=7 seq=1 len=3"),
        (icmp6_frame(Icmpv6.echo_reply(7, 1, b"")), f"{ROUTE6} ICMPv6 echo reply id=7 seq=1 len=0"),
        (icmp6_frame(Icmpv6.unreachable(4, b"")), f"{ROUTE6} ICMPv6 destination unreachable (port)"),
        (icmp6_frame(Icmpv6.packet_too_big(1400, b"")), f"{ROUTE6} ICMPv6 packet too big mtu=1400"),
        (icmp6_frame(Icmpv6.time_exceeded(0, b"")), f"{ROUTE6} ICMPv6 time exceeded (hop limit)"),
        (icmp6_frame(Icmpv6.parameter_problem(1, 40, b"")), f"{ROUTE6} ICMPv6 parameter problem (next header) pointer=40"),
        (icmp6_frame(Icmpv6(143, 0, 0, b"")), f"{ROUTE6} ICMPv6 multicast listener report v2"),
        (icmp6_frame(Icmpv6(200, 3, 0, b"")), f"{ROUTE6} ICMPv6 200 code=3"),
        (nd_frame(RouterSolicitation()), f"{ROUTE6} ND router solicitation"),
        (
            nd_frame(ADVERTISED),
            (
                f"{ROUTE6} ND router advertisement hop_limit=64 lifetime=1800 managed high"
                " <prefix fec0::/64 on-link autonomous 86400/14400,mtu 1500,dns fec0::2 300,search example.com test 300"
                ",route 2001:db8::/32 low 9,option 200 6e6f6e636521>"
            ),
        ),
        (
            nd_frame(NeighbourSolicitation(HOST6, (SourceLinkLayerAddress(GUEST_MAC),))),
            f"{ROUTE6} ND who-has fec0::2 <source 52:54:00:12:34:56>",
        ),
        (
            nd_frame(NeighbourAdvertisement(HOST6, True, True, False, (TargetLinkLayerAddress(HOST_MAC),))),
            f"{ROUTE6} ND fec0::2 is-here router solicited <target 52:55:0a:00:02:02>",
        ),
        (
            nd_frame(Redirect(HOST6, GUEST6, (RedirectedHeader(bytes(40)),))),
            f"{ROUTE6} ND redirect fec0::15 to fec0::2 <redirected len=40>",
        ),
        (
            udp6_frame(547, 546, REPLY6.pack()),
            "[fec0::15]:547 > [fec0::2]:546 DHCPv6 REPLY xid=0x000abc address=fec0::15 rapid-commit status=SUCCESS",
        ),
        (
            udp6_frame(40000, 69, tftp.Request(tftp.Opcode.RRQ, "a\nb", options={"tsize": "0", "blksize": "9"}).pack()),
            r"[fec0::15]:40000 > [fec0::2]:69 TFTP RRQ a\nb octet <tsize 0,blksize 9>",
        ),
        (udp_frame(69, 40000, tftp.Error(1, "none").pack()), "10.0.2.15:69 > 10.0.2.2:40000 TFTP ERROR FILE_NOT_FOUND none"),
        (udp_frame(69, 40000, tftp.Error(99).pack()), "10.0.2.15:69 > 10.0.2.2:40000 TFTP ERROR 99"),
        (udp_frame(69, 40000, tftp.Data(2, b"abc").pack()), "10.0.2.15:69 > 10.0.2.2:40000 TFTP DATA block=2 len=3"),
        (udp_frame(69, 40000, tftp.Acknowledgment(2).pack()), "10.0.2.15:69 > 10.0.2.2:40000 TFTP ACK block=2"),
        (
            udp_frame(69, 40000, tftp.OptionAcknowledgment({"blksize": "9"}).pack()),
            "10.0.2.15:69 > 10.0.2.2:40000 TFTP OACK <blksize 9>",
        ),
    ],
)
def test_one_line_for_each_kind_of_ipv6_frame(frame, line):
    assert summarize(frame) == line


@pytest.mark.parametrize(
    ("frame", "line"),
    [
        (b"", "malformed: ethernet at octet 0: the header has at least 14 octets, 0 are here"),
        (
            tcp_frame(SYN_SEGMENT)[:-1],
            "52:54:00:12:34:56 > 52:55:0a:00:02:02 malformed: ipv4.total_length at octet 2: 64 octets announced, 63 are here",
        ),
        (
            tcp_frame(SYN_SEGMENT)[:-1] + b"\x55",
            "10.0.2.15 > 10.0.2.2 malformed: tcp.checksum at octet 16: the segment does not sum to 0xffff",
        ),
        (
            udp_frame(68, 67, b"short"),
            "10.0.2.15:68 > 10.0.2.2:67 malformed: dhcpv4 at octet 5: the header has at least 236 octets, 5 are here",
        ),
        (
            icmp6_frame(Icmpv6(133, 0, 0, bytes(8))),
            f"{ROUTE6} malformed: nd_option.length at octet 9: an option of length zero",
        ),
    ],
)
def test_a_malformed_frame_says_where_and_how(frame, line):
    assert summarize(frame) == line
    assert dissect(frame)["malformed"] == line.partition("malformed: ")[2]


def test_dissect_keeps_the_octets_that_could_not_be_read():
    found = dissect(udp_frame(68, 67, b"short"))
    assert found["udp.payload"] == b"short".hex()
    assert "ipv4.payload" not in found


def test_a_checksum_left_to_an_offload_is_not_malformed():
    frame = ip_frame(Protocol.TCP, SYN_SEGMENT.pack_partial(GUEST, HOST))
    assert summarize(frame) == summarize(tcp_frame(SYN_SEGMENT))


def test_dissect_names_each_field_in_wire_order():
    frame = tcp_frame(Tcp(49152, 80, 1, 2, ACK, 3, b"\1\2", options=TcpOptions(mss=1460)))
    assert list(dissect(frame).items()) == [
        ("ethernet.destination", "52:55:0a:00:02:02"),
        ("ethernet.source", "52:54:00:12:34:56"),
        ("ethernet.ethertype", 0x800),
        ("ipv4.dscp", 0),
        ("ipv4.ecn", 0),
        ("ipv4.identification", 0),
        ("ipv4.dont_fragment", 0),
        ("ipv4.more_fragments", 0),
        ("ipv4.fragment_offset", 0),
        ("ipv4.ttl", 64),
        ("ipv4.protocol", 6),
        ("ipv4.source", "10.0.2.15"),
        ("ipv4.destination", "10.0.2.2"),
        ("ipv4.options", ""),
        ("tcp.source_port", 49152),
        ("tcp.destination_port", 80),
        ("tcp.sequence", 1),
        ("tcp.acknowledgment", 2),
        ("tcp.flags", 16),
        ("tcp.window", 3),
        ("tcp.urgent_pointer", 0),
        ("tcp.options.mss", 1460),
        ("tcp.options.sack_permitted", 0),
        ("tcp.payload", "0102"),
    ]


def test_dissect_reads_dhcp_options_by_name():
    found = dissect(dhcp_frame(Dhcpv4(BOOTREQUEST, 1, GUEST_MAC, options={53: b"\1", 200: b"x"})))
    assert found["dhcpv4.chaddr"] == "52:54:00:12:34:56"
    assert found["dhcpv4.options.dhcp_message_type"] == "01"
    assert found["dhcpv4.options.200"] == "78"
    assert "udp.payload" not in found


def test_dissect_reads_dns_records():
    found = dissect(dns_frame(replace(QUERY, response=True, answers=(a_record("example.com", HOST, 9),))))
    assert found["dns.questions.0.name"] == "example.com"
    assert found["dns.answers.0.ttl"] == 9
    assert found["dns.answers.0.data"] == "0a000202"


def test_dissect_reads_ipv6_in_wire_order():
    frame = ip6_frame(17, b"\1\2", traffic_class=3, extensions=(Fragment6(8, False, 5).extension(),))
    assert list(dissect(frame).items())[3:] == [
        ("ipv6.traffic_class", 3),
        ("ipv6.flow_label", 0),
        ("ipv6.hop_limit", 64),
        ("ipv6.source", "fec0::15"),
        ("ipv6.destination", "fec0::2"),
        ("ipv6.extensions.0.next_header_type", 44),
        ("ipv6.extensions.0.data", "000800000005"),
        ("ipv6.next_header", 17),
        ("ipv6.payload", "0102"),
    ]


def test_dissect_reads_neighbour_discovery():
    found = dissect(nd_frame(ADVERTISED))
    assert found["icmpv6.type"] == 134
    assert found["ndisc.managed"] == 1
    assert found["ndisc.options.0.prefix_information.prefix"] == "fec0::/64"
    assert found["ndisc.options.1.mtu.mtu"] == 1500
    assert found["ndisc.options.2.rdnss.servers.0"] == "fec0::2"
    assert found["ndisc.options.3.dnssl.names.1"] == "test"
    assert "icmpv6.payload" not in found


def test_dissect_reads_dhcpv6_options_by_name():
    found = dissect(udp6_frame(547, 546, REPLY6.pack()))
    assert found["dhcpv6.message_type"] == 7
    assert found["dhcpv6.options.0.clientid"] == duid_ll(GUEST_MAC).hex()
    assert found["dhcpv6.options.1.ia_na.addresses.0.address"] == "fec0::15"
    assert found["dhcpv6.options.1.ia_na.status.code"] == 0
    assert found["dhcpv6.options.3.200"] == "78"
    assert "udp.payload" not in found


def test_dissect_reads_a_request_for_a_file():
    found = dissect(udp_frame(40000, 69, b"\0\1f\xff\0octet\0tsize\x000\0"))
    assert found["tftp.filename"] == r"f\udcff"
    assert found["tftp.options.tsize"] == "0"


def test_each_further_tag_has_its_own_name():
    inner = Vlan(0, False, 6, EtherType.VLAN, Vlan(0, False, 7, 0x88CC, b"ab").pack())
    frame = Ethernet(HOST_MAC, GUEST_MAC, EtherType.VLAN, Vlan(0, False, 5, EtherType.VLAN, inner.pack()).pack()).pack()
    found = dissect(frame)
    assert [found[f"{tag}.vlan_id"] for tag in ("vlan", "vlan2", "vlan3")] == [5, 6, 7]
    assert [name for name in found if name.endswith("payload")] == ["vlan3.payload"]
    assert found["vlan3.payload"] == "6162"


def test_the_orders_name_every_field_once():
    for kind, order in describe._WIRE_ORDER.items():
        assert sorted(order.split()) == sorted(field.name for field in fields(kind))


frames = st.one_of(
    st.binary(max_size=100),
    arps.map(lambda arp: Ethernet(HOST_MAC, GUEST_MAC, EtherType.ARP, arp.pack()).pack()),
    icmpv4s.map(lambda icmp: ip_frame(1, icmp.pack())),
    tcps.map(tcp_frame),
    dhcpv4s.map(dhcp_frame),
    dns_messages.map(dns_frame),
    st.binary(max_size=40).map(lambda tail: tcp_frame(SYN_SEGMENT)[:34] + tail),
    st.binary(max_size=300).map(lambda octets: udp_frame(68, 67, octets)),
    st.binary(max_size=100).map(lambda octets: udp_frame(53, 53, octets)),
    ipv6s.map(lambda packet: Ethernet(HOST_MAC, GUEST_MAC, EtherType.IPV6, packet.pack()).pack()),
    icmpv6s.map(icmp6_frame),
    nd_messages.map(nd_frame),
    dhcpv6s.map(lambda message: udp6_frame(546, 547, message.pack())),
    tftps.map(lambda packet: udp6_frame(40000, 69, packet.pack())),
    st.binary(max_size=100).map(lambda octets: udp6_frame(546, 547, octets)),
    st.binary(max_size=100).map(lambda octets: udp_frame(69, 69, octets)),
    st.binary(max_size=100).map(lambda octets: icmp6_frame(Icmpv6(134, 0, 0, octets))),
)


@settings(max_examples=300, deadline=None)
@given(frame=frames)
def test_neither_ever_raises(frame):
    line = summarize(frame)
    found = dissect(memoryview(frame))
    assert line
    assert "\n" not in line
    assert ("malformed: " in line) == ("malformed" in found)
    assert all(type(value) in (str, int) for value in found.values())


@settings(max_examples=20, deadline=None)
@given(frame=frames, flip=st.integers(1, 255))
def test_nor_for_any_corruption(frame, flip):
    for position in range(0, len(frame), 3):
        corrupt = bytearray(frame)
        corrupt[position] ^= flip
        assert summarize(corrupt)
        assert dissect(corrupt) or summarize(corrupt).startswith("malformed")
