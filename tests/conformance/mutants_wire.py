"""Mutants of a guest. Those that break frames are the user network's own: what is wrong on a wire is wrong on either side."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv4Address

from mutant_parts import ELSEWHERE, EVERYBODY, GATEWAY, GUEST, LOOPBACK, NOWHERE, UNREACHABLE, icmp
from mutants_ip import ARP, FRAGMENTS, ICMP, IPV4
from mutation import IP, Mutant, change, changed, drop, is_ip, mend_header, mend_icmp, octets

from netemu.wire.address import MacAddress
from netemu.wire.arp import Arp
from netemu.wire.ether import Ethernet
from netemu.wire.icmpv4 import Icmpv4
from netemu.wire.ipv4 import IPv4
from pytest_netemu.packet import Packet

GUEST_MAC = MacAddress("52:54:00:12:34:56")
NOBODY = {LOOPBACK, NOWHERE, EVERYBODY, IPv4Address("224.0.0.1")}


def like(mutants: Iterable[Mutant], *requirements: str) -> list[Mutant]:
    """The user network's mutants that these requirements kill, for these alone."""
    return [
        replace(mutant, killed_by=tuple(name for name in mutant.killed_by if name in requirements))
        for mutant in mutants
        if {*mutant.killed_by} & {*requirements}
    ]


def takes_all(packet: Packet) -> list[bytes]:
    """Whatever the destinations of frame and datagram are, they are taken for the guest's."""
    if IPv4 not in packet:
        return [packet.frame]
    frame = Packet.read(changed(packet, Ethernet, destination=GUEST_MAC), packet.time)
    return [changed(frame, IPv4, destination=GUEST)]


def believe_the_frame(frame: bytearray) -> None:
    """The datagram is as long as its frame, whatever it says."""
    frame[IP + 2 : IP + 4] = (len(frame) - IP).to_bytes(2)
    mend_header(frame)
    mend_icmp(frame)


WIRE_ARP = (
    *(mutant for mutant in ARP if mutant.name != "arp_answers_for_all"),
    Mutant("arp_answers_for_all", ("rfc826/reception/04",), into=change(Arp, target_ip=GUEST)),
)

WIRE_IPV4 = (
    *like(IPV4, "rfc1122/3.2.1.2/01", "rfc1122/3.2.1.7/01", "rfc1122/3.2.1.7/02", "rfc1122/3.2.1.8/01", "rfc894/frame-format/01"),
    *like(
        FRAGMENTS, "rfc1122/3.3.2/01", "rfc791/3.1/02", "rfc791/3.2/01", "rfc1122/3.3.2/02", "rfc1122/3.3.2/03", "rfc1122/3.2.2/06"
    ),
    Mutant("any_version", ("rfc1122/3.2.1.1/01", "rfc791/3.1/04"), into=octets(is_ip(), mend_header)),
    Mutant("any_length", ("rfc791/3.1/03",), into=octets(is_ip(1), believe_the_frame)),
    Mutant(
        "takes_all",
        ("rfc1122/3.2.1.3/02", "rfc1122/3.2.1.3/04", "rfc1122/3.3.6/01", "rfc1122/3.2.2/05", "rfc1122/3.2.2/07"),
        into=takes_all,
    ),
    Mutant(
        "any_source",
        ("rfc1122/3.2.1.3/03", "rfc1122/3.2.2/08"),
        into=change(IPv4, lambda ip: ip.source in NOBODY, source=GATEWAY),
    ),
    Mutant(
        "knows_no_neighbours", ("rfc1122/3.3.1/01",), out=drop(Arp, lambda arp: arp.operation == 1 and arp.target_ip != GATEWAY)
    ),
    Mutant("one_identification", ("rfc791/2.3/01",), out=change(IPv4, identification=7)),
)

WIRE_ICMP = (
    *like(
        ICMP,
        "rfc1122/3.2.2.6/01",
        "rfc1122/3.2.2.6/03",
        "rfc792/echo/01",
        "rfc792/echo/02",
        "rfc792/echo/03",
        "rfc792/echo/04",
        "rfc1122/3.2.2/01",
        "rfc1122/3.2.2/02",
        "rfc1122/3.2.2/03",
        "rfc1122/3.2.2/04",
        "rfc1122/3.2.2.7/01",
        "rfc1122/3.2.2.9/01",
        "rfc792/unreachable/01",
        "rfc1122/4.1.3.1/01",
    ),
    Mutant(
        "icmp_from_elsewhere",
        ("rfc1122/3.2.2.6/02", "rfc1122/3.2.1.3/01"),
        out=change(IPv4, lambda ip: ip.protocol == 1, source=ELSEWHERE),
    ),
    Mutant("unknown_protocols_in_silence", ("rfc1122/3.2.2.1/01",), out=drop(Icmpv4, icmp(UNREACHABLE))),
)
