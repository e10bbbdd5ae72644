from __future__ import annotations

from dataclasses import fields, replace
from ipaddress import IPv4Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wire_strategies import arps, dhcpv4s, dns_messages, icmpv4s, tcps

from netemu.wire import describe
from netemu.wire.address import BROADCAST_MAC, ZERO_MAC, MacAddress
from netemu.wire.arp import Arp, ArpOperation
from netemu.wire.describe import dissect, summarize
from netemu.wire.dhcpv4 import BOOTREQUEST, Dhcpv4
from netemu.wire.dns import DnsMessage, Question, RecordType, ResourceRecord, ResponseCode, a_record
from netemu.wire.ether import Ethernet, EtherType
from netemu.wire.icmpv4 import Icmpv4, UnreachableCode
from netemu.wire.ipv4 import IPv4, Protocol
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
