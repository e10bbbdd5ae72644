"""Agreement with scapy on IPv6 and what goes over it: octet by octet, both ways (see test_wire_scapy)."""

from __future__ import annotations

import re
from dataclasses import replace
from enum import IntEnum
from ipaddress import IPv6Network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers import dhcp6, inet6
from scapy.layers import tftp as scapy_tftp
from scapy.layers.inet import TCP, UDP
from scapy.layers.inet6 import IPv6 as ScapyIPv6
from scapy.layers.inet6 import IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop, IPv6ExtHdrRouting, PadN
from scapy.packet import Packet, Raw
from wire_strategies import V6_DESTINATION, V6_SOURCE, fragments, icmpv6s, payloads, u8, u16, u32, udps, v6_addresses

from netemu.wire import tftp
from netemu.wire.address import MacAddress
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
    pack_addresses,
    pack_domain_list,
    pack_numbers,
)
from netemu.wire.icmpv6 import Icmpv6, Icmpv6Type, Icmpv6UnreachableCode
from netemu.wire.ipv6 import Extension, Fragment6, IPv6, NextHeader
from netemu.wire.ndisc import (
    NdMessage,
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
)
from netemu.wire.tcp import ACK, Tcp
from netemu.wire.udp import Udp

MAC = MacAddress("52:54:00:12:34:56")
bounded = settings(max_examples=100, deadline=None)


def over_ipv6(transport: Packet) -> bytes:
    """The octets of `transport` as scapy builds them between our two addresses, its checksum included."""
    return bytes(ScapyIPv6(src=str(V6_SOURCE), dst=str(V6_DESTINATION)) / transport)[40:]


def letters(name: str) -> str:
    """The name without what two spellings of it may differ in."""
    return re.sub("[^a-z0-9]", "", name.lower().removeprefix("option_").removeprefix("opt_").replace("neighbour", "neighbor"))


# Each of our tables, scapy's, and where scapy has words of its own (None: it does not know the number).
NUMBERS = [
    (Dhcpv6MessageType, dhcp6.dhcp6types, {}),
    (Dhcpv6StatusCode, dhcp6.dhcp6statuscodes, {}),
    (
        Dhcpv6Option,
        dhcp6.dhcp6opts,
        {
            "DNS_SERVERS": "DNS Recursive Name Server Option",
            "DOMAIN_LIST": "Domain Search List option",
            "SOL_MAX_RT": None,
            "INF_MAX_RT": None,
        },
    ),
    (
        Icmpv6Type,
        inet6.icmp6types,
        {
            "MULTICAST_LISTENER_QUERY": "MLD Query",
            "MULTICAST_LISTENER_REPORT": "MLD Report",
            "MULTICAST_LISTENER_DONE": "MLD Done",
            "MULTICAST_LISTENER_REPORT_V2": "MLD Report Version 2",
            "REDIRECT": "Redirect Message",
        },
    ),
    (
        Icmpv6UnreachableCode,
        inet6.ICMPv6DestUnreach().get_field("code").i2s,
        {
            "NO_ROUTE": "No route to destination",
            "PROHIBITED": "Communication with destination administratively prohibited",
            "BEYOND_SCOPE": "Beyond scope of source address",
            "ADDRESS": "Address unreachable",
            "PORT": "Port unreachable",
            "SOURCE_POLICY": None,
            "REJECT_ROUTE": None,
        },
    ),
    (
        tftp.ErrorCode,
        scapy_tftp.TFTP_Error_Codes,
        {
            "DISK_FULL": "Disk full or allocation exceeded",
            "ILLEGAL_OPERATION": "Illegal TFTP operation",
            "FILE_EXISTS": "File already exists",
            "OPTION_REFUSED": "Terminate transfer due to option negotiation",
        },
    ),
]


@pytest.mark.parametrize(("ours", "theirs", "words"), NUMBERS)
def test_numbers_have_the_same_names(ours: type[IntEnum], theirs: dict[int, str], words: dict[str, str | None]):
    for number in ours:
        name = words.get(number.name, number.name)
        assert (name and letters(name)) == (letters(theirs[number]) if number in theirs else None), number


@bounded
@given(
    source=v6_addresses,
    destination=v6_addresses,
    hop_limit=u8,
    traffic_class=u8,
    flow_label=st.integers(0, 0xFFFFF),
    next_header=u8.filter(lambda number: number not in (0, 43, 44, 60)),
    payload=payloads,
)
def test_ipv6(source, destination, hop_limit, traffic_class, flow_label, next_header, payload):
    ours = IPv6(source, destination, next_header, payload, hop_limit, traffic_class, flow_label)
    theirs = ScapyIPv6(
        src=str(source), dst=str(destination), nh=next_header, hlim=hop_limit, tc=traffic_class, fl=flow_label
    ) / Raw(payload)
    assert ours.pack() == bytes(theirs)
    assert IPv6.parse(bytes(theirs)) == ours


@bounded
@given(fragment=fragments, padding=st.integers(0, 3), payload=payloads)
def test_extension_headers(fragment: Fragment6, padding: int, payload: bytes):
    options = [PadN(optdata=bytes(4 + 8 * padding))]
    theirs = (
        ScapyIPv6(src=str(V6_SOURCE), dst=str(V6_DESTINATION))
        / IPv6ExtHdrHopByHop(options=options)
        / IPv6ExtHdrDestOpt(options=options)
        / IPv6ExtHdrRouting(addresses=[str(V6_SOURCE)], type=0, segleft=1)
        / IPv6ExtHdrFragment(offset=fragment.offset // 8, m=int(fragment.more), id=fragment.identification, nh=17)
        / Raw(payload)
    )
    filler = bytes((1, 4 + 8 * padding)) + bytes(4 + 8 * padding)
    ours = IPv6(
        V6_SOURCE,
        V6_DESTINATION,
        NextHeader.UDP,
        payload,
        extensions=(
            Extension(NextHeader.HOP_BY_HOP, filler),
            Extension(NextHeader.DESTINATION_OPTIONS, filler),
            Extension(NextHeader.ROUTING, b"\0\1" + bytes(4) + V6_SOURCE.packed),
            fragment.extension(),
        ),
    )
    octets = bytes(theirs)
    assert ours.pack() == octets
    assert IPv6.parse(octets) == ours
    assert IPv6.parse(octets).fragment == fragment


@bounded
@given(message=icmpv6s)
def test_icmpv6_checksum(message: Icmpv6):
    octets = message.pack(V6_SOURCE, V6_DESTINATION)
    theirs = inet6.in6_chksum(58, ScapyIPv6(src=str(V6_SOURCE), dst=str(V6_DESTINATION)), octets[:2] + b"\0\0" + octets[4:])
    assert octets[2:4] == theirs.to_bytes(2, "big")


@bounded
@given(identifier=u16, sequence=u16, payload=payloads)
def test_icmpv6_echo(identifier: int, sequence: int, payload: bytes):
    for theirs, ours in (
        (inet6.ICMPv6EchoRequest, Icmpv6.echo_request(identifier, sequence, payload)),
        (inet6.ICMPv6EchoReply, Icmpv6.echo_reply(identifier, sequence, payload)),
    ):
        octets = over_ipv6(theirs(id=identifier, seq=sequence, data=payload))
        assert ours.pack(V6_SOURCE, V6_DESTINATION) == octets
        assert Icmpv6.parse(octets, V6_SOURCE, V6_DESTINATION) == ours


@bounded
@given(code=st.integers(0, 6), number=u32, original=payloads)
def test_icmpv6_errors(code: int, number: int, original: bytes):
    for theirs, ours in (
        (inet6.ICMPv6DestUnreach(code=code), Icmpv6.unreachable(code, original)),
        (inet6.ICMPv6PacketTooBig(mtu=number), Icmpv6.packet_too_big(number, original)),
        (inet6.ICMPv6TimeExceeded(code=code & 1), Icmpv6.time_exceeded(code & 1, original)),
        (inet6.ICMPv6ParamProblem(code=code & 3, ptr=number), Icmpv6.parameter_problem(code & 3, number, original)),
    ):
        octets = over_ipv6(theirs / Raw(original))
        assert ours.pack(V6_SOURCE, V6_DESTINATION) == octets
        assert Icmpv6.parse(octets, V6_SOURCE, V6_DESTINATION) == ours


ADVERTISEMENT = RouterAdvertisement(64, True, False, 1800, 30000, 1000, (), RouterPreference.LOW)
SCAPY_ADVERTISEMENT = inet6.ICMPv6ND_RA(chlim=64, M=1, O=0, prf=3, routerlifetime=1800, reachabletime=30000, retranstimer=1000)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (RouterSolicitation(), inet6.ICMPv6ND_RS()),
        (
            RouterSolicitation((SourceLinkLayerAddress(MAC),)),
            inet6.ICMPv6ND_RS() / inet6.ICMPv6NDOptSrcLLAddr(lladdr=str(MAC)),
        ),
        (ADVERTISEMENT, SCAPY_ADVERTISEMENT),
        (replace(ADVERTISEMENT, options=(Mtu(1500),)), SCAPY_ADVERTISEMENT / inet6.ICMPv6NDOptMTU(mtu=1500)),
        (
            replace(ADVERTISEMENT, options=(PrefixInformation(IPv6Network("fec0::/64"), 86400, 14400, False, True),)),
            SCAPY_ADVERTISEMENT
            / inet6.ICMPv6NDOptPrefixInfo(
                prefixlen=64, L=0, A=1, R=0, validlifetime=86400, preferredlifetime=14400, prefix="fec0::"
            ),
        ),
        (
            replace(ADVERTISEMENT, options=(RouteInformation(IPv6Network("fec0::/64"), 9, RouterPreference.HIGH),)),
            # Two units or three may hold 64 bits (RFC 4191 2.3): scapy would take three.
            SCAPY_ADVERTISEMENT / inet6.ICMPv6NDOptRouteInfo(len=2, plen=64, prf=1, rtlifetime=9, prefix="fec0::"),
        ),
        (
            replace(ADVERTISEMENT, options=(Rdnss(300, (V6_SOURCE, V6_DESTINATION)),)),
            SCAPY_ADVERTISEMENT / inet6.ICMPv6NDOptRDNSS(lifetime=300, dns=[str(V6_SOURCE), str(V6_DESTINATION)]),
        ),
        (
            replace(ADVERTISEMENT, options=(Dnssl(300, ("example.com", "test")),)),
            SCAPY_ADVERTISEMENT / inet6.ICMPv6NDOptDNSSL(lifetime=300, searchlist=["example.com", "test"]),
        ),
        (
            NeighbourSolicitation(V6_SOURCE, (SourceLinkLayerAddress(MAC),)),
            inet6.ICMPv6ND_NS(tgt=str(V6_SOURCE)) / inet6.ICMPv6NDOptSrcLLAddr(lladdr=str(MAC)),
        ),
        (
            NeighbourAdvertisement(V6_SOURCE, True, False, True, (TargetLinkLayerAddress(MAC),)),
            inet6.ICMPv6ND_NA(tgt=str(V6_SOURCE), R=1, S=0, O=1) / inet6.ICMPv6NDOptDstLLAddr(lladdr=str(MAC)),
        ),
        (
            Redirect(V6_SOURCE, V6_DESTINATION, (RedirectedHeader(bytes(40)),)),
            inet6.ICMPv6ND_Redirect(tgt=str(V6_SOURCE), dst=str(V6_DESTINATION)) / inet6.ICMPv6NDOptRedirectedHdr(pkt=bytes(40)),
        ),
    ],
)
def test_neighbour_discovery(ours: NdMessage, theirs: Packet):
    octets = over_ipv6(theirs)
    assert ours.icmpv6().pack(V6_SOURCE, V6_DESTINATION) == octets
    assert parse_ndisc(Icmpv6.parse(octets, V6_SOURCE, V6_DESTINATION)) == ours


@bounded
@given(datagram=udps)
def test_udp_over_ipv6(datagram: Udp):
    theirs = over_ipv6(UDP(sport=datagram.source_port, dport=datagram.destination_port) / Raw(datagram.payload))
    assert datagram.pack(V6_SOURCE, V6_DESTINATION) == theirs
    assert Udp.parse(theirs, V6_SOURCE, V6_DESTINATION) == datagram


@bounded
@given(sequence=u32, acknowledgment=u32, window=u16, payload=payloads)
def test_tcp_over_ipv6(sequence: int, acknowledgment: int, window: int, payload: bytes):
    ours = Tcp(49152, 80, sequence, acknowledgment, ACK, window, payload)
    theirs = over_ipv6(TCP(sport=49152, dport=80, seq=sequence, ack=acknowledgment, flags="A", window=window) / Raw(payload))
    assert ours.pack(V6_SOURCE, V6_DESTINATION) == theirs
    assert Tcp.parse(theirs, V6_SOURCE, V6_DESTINATION) == ours


@bounded
@given(transaction_id=st.integers(0, 0xFFFFFF), iaid=u32, address=v6_addresses, lifetimes=st.tuples(u32, u32), seconds=u32)
def test_dhcpv6(transaction_id, iaid, address, lifetimes, seconds):
    preferred, valid = lifetimes
    theirs = (
        dhcp6.DHCP6_Reply(trid=transaction_id)
        / dhcp6.DHCP6OptClientId(duid=dhcp6.DUID_LLT(timeval=seconds, lladdr=str(MAC)))
        / dhcp6.DHCP6OptServerId(duid=dhcp6.DUID_LL(lladdr=str(MAC)))
        / dhcp6.DHCP6OptIA_NA(
            iaid=iaid,
            T1=preferred,
            T2=valid,
            ianaopts=[
                dhcp6.DHCP6OptIAAddress(addr=str(address), preflft=preferred, validlft=valid),
                dhcp6.DHCP6OptStatusCode(statuscode=0, statusmsg="ok"),
            ],
        )
        / dhcp6.DHCP6OptOptReq(reqopts=[23, 24])
        / dhcp6.DHCP6OptElapsedTime(elapsedtime=5)
        / dhcp6.DHCP6OptPref(prefval=7)
        / dhcp6.DHCP6OptRapidCommit()
        / dhcp6.DHCP6OptDNSServers(dnsservers=[str(address)])
        / dhcp6.DHCP6OptDNSDomains(dnsdomains=["example.com", "test"])
        / dhcp6.DHCP6OptBootFileUrl(optdata=b"tftp://[fec0::2]/boot")
    )
    identity = IaNa(iaid, preferred, valid, (IaAddress(address, preferred, valid),), Status(0, "ok"))
    ours = Dhcpv6(
        7,
        transaction_id,
        (
            (Dhcpv6Option.CLIENTID, duid_llt(MAC, seconds)),
            (Dhcpv6Option.SERVERID, duid_ll(MAC)),
            (Dhcpv6Option.IA_NA, identity.pack()),
            (Dhcpv6Option.ORO, pack_numbers(23, 24)),
            (Dhcpv6Option.ELAPSED_TIME, b"\0\5"),
            (Dhcpv6Option.PREFERENCE, b"\7"),
            (Dhcpv6Option.RAPID_COMMIT, b""),
            (Dhcpv6Option.DNS_SERVERS, pack_addresses(address)),
            (Dhcpv6Option.DOMAIN_LIST, pack_domain_list(["example.com", "test"])),
            (Dhcpv6Option.BOOTFILE_URL, b"tftp://[fec0::2]/boot"),
        ),
    )
    octets = bytes(theirs)
    assert ours.pack() == octets
    assert Dhcpv6.parse(octets) == ours
    assert Dhcpv6.parse(octets).ia_nas == (identity,)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (
            tftp.Request(tftp.Opcode.RRQ, "pxelinux.0", "octet", {"blksize": "1428", "tsize": "0"}),
            scapy_tftp.TFTP()
            / scapy_tftp.TFTP_RRQ(filename="pxelinux.0", mode="octet")
            / scapy_tftp.TFTP_Options(
                options=[
                    scapy_tftp.TFTP_Option(oname="blksize", value="1428"),
                    scapy_tftp.TFTP_Option(oname="tsize", value="0"),
                ]
            ),
        ),
        (
            tftp.Request(tftp.Opcode.WRQ, "file", "netascii"),
            scapy_tftp.TFTP() / scapy_tftp.TFTP_WRQ(filename="file", mode="netascii"),
        ),
        (tftp.Data(65535, b"data"), scapy_tftp.TFTP() / scapy_tftp.TFTP_DATA(block=65535) / Raw(b"data")),
        (tftp.Acknowledgment(7), scapy_tftp.TFTP() / scapy_tftp.TFTP_ACK(block=7)),
        (tftp.Error(2, "no"), scapy_tftp.TFTP() / scapy_tftp.TFTP_ERROR(errorcode=2, errormsg="no")),
        (
            tftp.OptionAcknowledgment({"blksize": "1428"}),
            scapy_tftp.TFTP()
            / scapy_tftp.TFTP_OACK()
            / scapy_tftp.TFTP_Options(options=[scapy_tftp.TFTP_Option(oname="blksize", value="1428")]),
        ),
    ],
)
def test_tftp(ours: tftp.Packet, theirs: Packet):
    octets = bytes(theirs)
    assert ours.pack() == octets
    assert tftp.parse(octets) == ours
