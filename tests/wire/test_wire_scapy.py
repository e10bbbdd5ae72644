"""Agreement with scapy, which shares no code with netemu: what it builds we read alike, and what we pack it reads alike.

Packing is compared octet by octet with what scapy builds from the same fields, so its checksums and lengths judge ours.
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.dns import DNS, DNSQR, DNSRR, DNSRRMX, DNSRRSOA
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet, Raw
from scapy.utils import checksum
from wire_strategies import DESTINATION, SOURCE, addresses, arps, ethernets, icmpv4s, ipv4s, tcps, u16, u32, udps, vlans

from netemu.wire.address import MacAddress
from netemu.wire.arp import Arp
from netemu.wire.dhcpv4 import DhcpMessageType, Dhcpv4, pack_addresses
from netemu.wire.dns import DnsMessage, Question, RecordType, ResourceRecord, ResponseCode, a_record
from netemu.wire.dns_name import pack_labels
from netemu.wire.ether import Ethernet
from netemu.wire.icmpv4 import Icmpv4
from netemu.wire.ipv4 import IPv4
from netemu.wire.tcp import EMPTY_OPTIONS, Tcp, TcpOptions
from netemu.wire.udp import Udp
from netemu.wire.vlan import Vlan

MAC = MacAddress("52:54:00:12:34:56")
bounded = settings(max_examples=100, deadline=None)


def over_ip(transport: Packet) -> bytes:
    """The octets of `transport` as scapy builds them between our two addresses, its checksum included."""
    return bytes(IP(src=str(SOURCE), dst=str(DESTINATION)) / transport)[20:]


@bounded
@given(frame=ethernets)
def test_ethernet(frame: Ethernet):
    theirs = Ether(dst=str(frame.destination), src=str(frame.source), type=frame.ethertype) / Raw(frame.payload)
    assert frame.pack() == bytes(theirs)


@bounded
@given(tag=vlans)
def test_vlan(tag: Vlan):
    theirs = Dot1Q(prio=tag.priority, dei=int(tag.drop_eligible), vlan=tag.vlan_id, type=tag.ethertype) / Raw(tag.payload)
    assert tag.pack() == bytes(theirs)


@bounded
@given(arp=arps)
def test_arp(arp: Arp):
    theirs = ARP(
        op=arp.operation,
        hwsrc=str(arp.sender_mac),
        psrc=str(arp.sender_ip),
        hwdst=str(arp.target_mac),
        pdst=str(arp.target_ip),
    )
    assert arp.pack() == bytes(theirs)
    assert Arp.parse(bytes(theirs)) == arp


@bounded
@given(datagram=ipv4s)
def test_ipv4(datagram: IPv4):
    octets = datagram.pack()
    # Options made of random octets have no scapy form: it reads them, and must find the same lengths and checksum.
    theirs = IP(octets)
    assert (theirs.src, theirs.dst, theirs.proto) == (str(datagram.source), str(datagram.destination), datagram.protocol)
    assert (theirs.ttl, theirs.id, theirs.tos) == (datagram.ttl, datagram.identification, datagram.dscp << 2 | datagram.ecn)
    assert (bool(theirs.flags.DF), bool(theirs.flags.MF)) == (datagram.dont_fragment, datagram.more_fragments)
    assert (theirs.frag * 8, theirs.ihl * 4, theirs.len) == (datagram.fragment_offset, datagram.header_length, len(octets))
    plain = replace(datagram, options=b"")
    built = bytes(
        IP(
            src=theirs.src,
            dst=theirs.dst,
            proto=theirs.proto,
            ttl=theirs.ttl,
            id=theirs.id,
            tos=theirs.tos,
            flags=theirs.flags,
            frag=theirs.frag,
        )
        / Raw(datagram.payload)
    )
    assert plain.pack() == built
    assert IPv4.parse(built) == plain


@bounded
@given(message=icmpv4s)
def test_icmpv4(message: Icmpv4):
    # scapy gives most types fields of their own and cannot build them from octets: its checksum function judges alone.
    head, tail = bytes((message.type, message.code)), message.rest.to_bytes(4, "big") + message.payload
    expected = head + checksum(head + b"\0\0" + tail).to_bytes(2, "big") + tail
    assert message.pack() == expected
    assert Icmpv4.parse(expected) == message


@bounded
@given(identifier=u16, sequence=u16, payload=st.binary(max_size=60))
def test_icmpv4_echo(identifier: int, sequence: int, payload: bytes):
    request = bytes(ICMP(type="echo-request", id=identifier, seq=sequence) / Raw(payload))
    assert Icmpv4.parse(request) == Icmpv4.echo_request(identifier, sequence, payload)
    reply = bytes(ICMP(type="echo-reply", id=identifier, seq=sequence) / Raw(payload))
    assert Icmpv4.parse(reply) == Icmpv4.echo_reply(identifier, sequence, payload)


@bounded
@given(original=st.binary(max_size=60), mtu=u16)
def test_icmpv4_errors(original: bytes, mtu: int):
    assert Icmpv4.unreachable(4, original, mtu).pack() == bytes(ICMP(type=3, code=4, nexthopmtu=mtu) / Raw(original))
    assert Icmpv4.time_exceeded(1, original).pack() == bytes(ICMP(type=11, code=1) / Raw(original))
    pointer = mtu & 0xFF
    assert Icmpv4.parameter_problem(pointer, original).pack() == bytes(ICMP(type=12, ptr=pointer) / Raw(original))


@bounded
@given(datagram=udps)
def test_udp(datagram: Udp):
    theirs = over_ip(UDP(sport=datagram.source_port, dport=datagram.destination_port) / Raw(datagram.payload))
    assert datagram.pack(SOURCE, DESTINATION) == theirs
    assert Udp.parse(theirs, SOURCE, DESTINATION) == datagram


@bounded
@given(segment=tcps)
def test_tcp_as_scapy_reads_it(segment: Tcp):
    octets = segment.pack(SOURCE, DESTINATION)
    theirs = TCP(octets)
    assert (theirs.sport, theirs.dport, theirs.seq, theirs.ack) == (
        segment.source_port,
        segment.destination_port,
        segment.sequence,
        segment.acknowledgment,
    )
    assert (int(theirs.flags), theirs.window, theirs.urgptr) == (segment.flags, segment.window, segment.urgent_pointer)
    assert bytes(theirs.payload) == segment.payload
    options = {name: value for name, value in theirs.options if name not in ("NOP", "EOL")}
    assert options.pop("MSS", None) == segment.options.mss
    assert options.pop("WScale", None) == segment.options.window_scale
    assert options.pop("Timestamp", None) == segment.options.timestamps
    assert ("SAckOK" in options) == segment.options.sack_permitted
    assert options.pop("SAck", ()) == sum(segment.options.sack, ())


@bounded
@given(segment=tcps.map(lambda segment: replace(segment, options=EMPTY_OPTIONS)), mss=u16, stamps=st.tuples(u32, u32))
def test_tcp_as_scapy_builds_it(segment: Tcp, mss: int, stamps: tuple[int, int]):
    fields = {
        "sport": segment.source_port,
        "dport": segment.destination_port,
        "seq": segment.sequence,
        "ack": segment.acknowledgment,
        "flags": segment.flags,
        "window": segment.window,
        "urgptr": segment.urgent_pointer,
    }
    plain = over_ip(TCP(**fields) / Raw(segment.payload))
    assert segment.pack(SOURCE, DESTINATION) == plain
    assert Tcp.parse(plain, SOURCE, DESTINATION) == segment

    scapy_options = [("MSS", mss), ("SAckOK", b""), ("Timestamp", stamps), ("NOP", None), ("WScale", 7)]
    with_options = replace(segment, options=TcpOptions(mss, 7, True, (), stamps))
    theirs = over_ip(TCP(**fields, options=scapy_options) / Raw(segment.payload))
    assert with_options.pack(SOURCE, DESTINATION) == theirs
    assert Tcp.parse(theirs, SOURCE, DESTINATION) == with_options


@bounded
@given(
    xid=u32,
    secs=u16,
    broadcast=st.booleans(),
    yiaddr=addresses,
    servers=st.lists(addresses, min_size=1, max_size=3),
    lease=u32,
    hostname=st.binary(min_size=1, max_size=20),
)
def test_dhcpv4(xid, secs, broadcast, yiaddr, servers, lease, hostname):
    theirs = BOOTP(
        op=2, xid=xid, secs=secs, flags=0x8000 if broadcast else 0, yiaddr=str(yiaddr), chaddr=bytes(MAC), file=b"boot"
    ) / DHCP(
        options=[
            ("message-type", "offer"),
            ("server_id", "10.0.2.2"),
            ("name_server", *map(str, servers)),
            ("lease_time", lease),
            ("hostname", hostname),
            "end",
        ]
    )
    ours = Dhcpv4(
        2,
        xid,
        MAC,
        yiaddr=yiaddr,
        secs=secs,
        broadcast=broadcast,
        file=b"boot",
        options={
            53: bytes((DhcpMessageType.OFFER,)),
            54: pack_addresses(IPv4Address("10.0.2.2")),
            6: pack_addresses(*servers),
            51: lease.to_bytes(4, "big"),
            12: hostname,
        },
    )
    built = bytes(theirs)
    assert Dhcpv4.parse(built) == ours
    assert ours.pack() == built.ljust(300, b"\0")


QUESTION = Question("www.example.com", RecordType.A)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (
            DNSRR(rrname="www.example.com", type="A", ttl=60, rdata="10.0.2.3"),
            a_record("www.example.com", IPv4Address("10.0.2.3"), 60),
        ),
        (
            DNSRR(rrname="www.example.com", type="CNAME", ttl=60, rdata="a.example.com"),
            ResourceRecord("www.example.com", RecordType.CNAME, 60, pack_labels([b"a", b"example", b"com"])),
        ),
        (
            DNSRR(rrname="www.example.com", type="TXT", ttl=60, rdata=["text"]),
            ResourceRecord("www.example.com", RecordType.TXT, 60, b"\4text"),
        ),
        (
            DNSRRMX(rrname="example.com", ttl=60, preference=10, exchange="mx.example.com"),
            ResourceRecord("example.com", RecordType.MX, 60, b"\0\x0a" + pack_labels([b"mx", b"example", b"com"])),
        ),
        (
            DNSRRSOA(
                rrname="example.com",
                ttl=60,
                mname="a.example.com",
                rname="b.example.com",
                serial=1,
                refresh=2,
                retry=3,
                expire=4,
                minimum=5,
            ),
            ResourceRecord(
                "example.com",
                RecordType.SOA,
                60,
                pack_labels([b"a", b"example", b"com"])
                + pack_labels([b"b", b"example", b"com"])
                + b"".join(number.to_bytes(4, "big") for number in (1, 2, 3, 4, 5)),
            ),
        ),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("compressed", [False, True])
def test_dns(theirs: Packet, ours: ResourceRecord, compressed: bool):
    message = DNS(id=7, qr=1, rd=1, ra=1, rcode=0, qd=[DNSQR(qname="www.example.com")], an=[theirs])
    octets = bytes(message.compress() if compressed else message)
    expected = DnsMessage(
        7,
        (QUESTION,),
        (ours,),
        response=True,
        recursion_desired=True,
        recursion_available=True,
        response_code=ResponseCode.NO_ERROR,
    )
    assert DnsMessage.parse(octets) == expected
    # Compressed or not, scapy reads ours as it reads its own.
    read = DNS(expected.pack())
    assert (read.id, read.qr, read.rd, read.ra, read.ancount) == (7, 1, 1, 1, 1)
    assert read.qd[0].qname == b"www.example.com."
    theirs_again = DNS(bytes(message)).an[0]
    assert {name: read.an[0].getfieldval(name) for name in theirs.fields} == {
        name: theirs_again.getfieldval(name) for name in theirs.fields
    }
