"""Mutants of a guest's IPv6: headers and fragments, ICMPv6, neighbours."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from ipaddress import IPv6Address

import pytest
from mutant_parts import HOUR, has, patched
from mutants_ipv6 import always, any_checksum, change6, kind, to_all, without_padded
from mutation import Mutant, drop

import netemu.stack.fragments as fragments
import netemu.stack.icmp as icmp
import netemu.stack.icmp6 as icmp6
import netemu.stack.ipv6 as ipv6
import netemu.stack.neighbour6 as neighbour6
import netemu.wire.icmpv6 as icmpv6
import netemu.wire.ndisc as ndisc
from netemu.stack.addresses6 import AddressTable6
from netemu.stack.neighbour6 import NeighbourCache6
from netemu.wire.address import MacAddress
from netemu.wire.errors import WireError
from netemu.wire.ether import Ethernet
from netemu.wire.icmpv6 import Icmpv6, Icmpv6Type
from netemu.wire.ipv6 import ALL_NODES, IPv6, NextHeader, interface_identifier
from netemu.wire.ndisc import NeighbourAdvertisement, NeighbourSolicitation
from netemu.wire.ndisc_options import NdOption, read_options
from pytest_netemu.packet import Packet
from pytest_netemu.wire6 import PREFIX

GUEST_MAC = MacAddress("52:54:00:12:34:56")
GUEST6 = IPv6Address(int(PREFIX.network_address) | interface_identifier(GUEST_MAC))
LINK_LOCAL6 = IPv6Address(0xFE80 << 112 | interface_identifier(GUEST_MAC))
OTHER6 = PREFIX[0x77]


def is_reply(packet: Packet) -> bool:
    return Icmpv6 in packet and packet[Icmpv6].type == Icmpv6Type.ECHO_REPLY


def is_error(packet: Packet) -> bool:
    return Icmpv6 in packet and packet[Icmpv6].is_error


def to_a_group(packet: Packet) -> bool:
    return packet[IPv6].destination.is_multicast


def replies_only_from(address: IPv6Address, otherwise: IPv6Address) -> Callable[[Packet], Iterable[bytes]]:
    """Whatever speaks to the network speaks from `otherwise` where it should from `address`."""
    return change6(IPv6, lambda packet: has(Icmpv6)(packet) and packet[IPv6].source == address, source=lambda _: otherwise)


def mended(packet: Packet) -> Iterable[bytes]:
    """An ICMPv6 message whose checksum is wrong has a right one."""
    if IPv6 not in packet or packet[IPv6].next_header != NextHeader.ICMPV6 or Icmpv6 in packet:
        return [packet.frame]
    ip = packet[IPv6]
    octets = ip.payload
    message = Icmpv6(octets[0], octets[1], int.from_bytes(octets[4:8]), octets[8:])
    return [replace(packet[Ethernet], payload=replace(ip, payload=message.pack(ip.source, ip.destination)).pack()).pack()]


def unknown_types_are_echoes(packet: Packet) -> Iterable[bytes]:
    """What nobody knows comes back."""
    if Icmpv6 not in packet or packet[Icmpv6].type != 201:
        return [packet.frame]
    return change6(Icmpv6, always, type=lambda _: Icmpv6Type.ECHO_REQUEST)(packet)


def nothing_is_something(packet: Packet) -> Iterable[bytes]:
    """Header 59 announces what it likes."""
    if IPv6 not in packet or packet[IPv6].next_header != NextHeader.NO_NEXT_HEADER:
        return [packet.frame]
    return [replace(packet[Ethernet], payload=replace(packet[IPv6], next_header=253).pack()).pack()]


def errors_about_all(packet: IPv6, source: IPv6Address, build: Callable[[bytes], Icmpv6]) -> IPv6:
    to = ALL_NODES if packet.source.is_unspecified or packet.source.is_multicast else packet.source
    message = build(packet.pack())
    return IPv6(source, to, NextHeader.ICMPV6, message.pack(source, to))


def errors_about_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error is answered with another, like anything that is not understood."""
    report = ipv6.Ipv6Layer._receive_icmp

    def complaining(layer: ipv6.Ipv6Layer, packet: IPv6, message: Icmpv6, now: int) -> None:
        if message.is_error:
            layer._queue(errors_about_all(packet, packet.destination, lambda quoted: Icmpv6.unreachable(4, quoted)))
            layer._host.wake()
        report(layer, packet, message, now)

    monkeypatch.setattr(ipv6.Ipv6Layer, "_receive_icmp", complaining)


def any_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors go to whom they may not, too; and nothing is wrong with a multicast source."""
    monkeypatch.setattr(ipv6, "error_about6", errors_about_all)
    receive = ipv6.Ipv6Layer.receive

    def receiving(layer: ipv6.Ipv6Layer, data: bytes, now: int, *, link_multicast: bool) -> None:
        packet = IPv6.parse(data)
        if packet.source.is_multicast:
            layer._open(packet, now)
        else:
            receive(layer, data, now, link_multicast=link_multicast)

    monkeypatch.setattr(ipv6.Ipv6Layer, "receive", receiving)


def hop_by_hop_anywhere(packet: Packet) -> Iterable[bytes]:
    """A frame that cannot be read is dropped."""
    return [packet.frame] if IPv6 in packet or not packet.broken else []


def problems_silent_but(*codes: int) -> Callable[[Packet], Iterable[bytes]]:
    """Of the parameter problems, only these codes are sent."""
    return drop(Icmpv6, lambda message: message.type == Icmpv6Type.PARAMETER_PROBLEM and message.code not in codes)


WIRE_HEADERS6 = (
    Mutant("padding6_is_discarded", ("rfc8200/3/01",), into=without_padded),
    Mutant("hop_limit_of_zero_is_none", ("rfc8200/3/02",), into=drop(IPv6, lambda ip: ip.hop_limit == 0)),
    Mutant("next_headers_unknown_in_silence", ("rfc8200/4/01", "rfc8200/4/03"), out=problems_silent_but(0, 2, 3)),
    Mutant("unreadable6_in_silence", ("rfc8200/4/03",), into=hop_by_hop_anywhere),
    Mutant("nothing6_is_something", ("rfc8200/4.7/01",), into=nothing_is_something),
    Mutant(
        "extensions6_end_the_packet",
        ("rfc8200/4.1/01", "rfc8200/4.2/01", "rfc8200/4.4/01", "rfc8200/4.5/05"),
        into=drop(IPv6, lambda packet: bool(packet.extensions)),
    ),
    Mutant(
        "extensions6_unread",
        ("rfc8200/4.2/02", "rfc8200/4.2/03", "rfc8200/4.2/04", "rfc8200/4.4/02", "rfc8200/4.5/07"),
        patch=patched(ipv6, "problem_with", lambda _: None),
    ),
    Mutant("udp6_checksum_ignored", ("rfc8200/8.1/01",), into=any_checksum),
    Mutant("fragments6_dropped", ("rfc8200/5/01", "rfc8200/4.5/04"), into=drop(IPv6, lambda packet: packet.is_fragment)),
    Mutant("fragments6_problems_in_silence", ("rfc8200/4.5/02", "rfc8200/4.5/06"), out=problems_silent_but(1, 2, 3)),
    Mutant("fragments6_overlap", ("rfc8200/4.5/03",), patch=patched(fragments.Partial, "overlaps", lambda *_: False)),
    Mutant("fragments6_for_an_hour", ("rfc8200/4.5/01", "rfc8200/4.5/08"), patch=patched(fragments, "REASSEMBLY_TIMEOUT", HOUR)),
)

WIRE_ICMP6 = (
    Mutant("echo6_silent", ("rfc4443/4.2/01",), out=drop(Icmpv6, kind(Icmpv6Type.ECHO_REPLY))),
    Mutant("echo6_cut", ("rfc4443/4.2/02",), out=change6(Icmpv6, is_reply, payload=lambda message: message.payload[:-1])),
    Mutant("echo6_renumbered", ("rfc4443/4.2/06",), out=change6(Icmpv6, is_reply, rest=lambda message: message.rest ^ 1 << 16)),
    Mutant("echo6_from_the_prefix", ("rfc4443/4.2/03", "rfc4443/2.2/01"), out=replies_only_from(LINK_LOCAL6, GUEST6)),
    Mutant(
        "echo6_not_for_all", ("rfc4443/4.2/04",), into=drop(IPv6, lambda ip: ip.destination.is_multicast and ip.hop_limit == 64)
    ),
    Mutant("echo6_from_another", ("rfc4443/4.2/05",), out=change6(IPv6, is_reply, source=lambda _: OTHER6)),
    Mutant("icmp6_checksum_ignored", ("rfc4443/2.1/01", "rfc4861/7.1.1/01"), into=mended),
    Mutant("icmp6_unknown_types_come_back", ("rfc4443/2.4/03",), into=unknown_types_are_echoes),
    Mutant("port6_closed_in_silence", ("rfc4443/3.1/01",), out=drop(Icmpv6, kind(Icmpv6Type.DESTINATION_UNREACHABLE))),
    Mutant("error6_quotes_little", ("rfc4443/2.4/01",), patch=patched(icmpv6, "_QUOTE_LIMIT", 100)),
    Mutant("error6_about_errors", ("rfc4443/2.4/02",), patch=errors_about_errors),
    Mutant("error6_about_all", ("rfc4443/2.4/04",), patch=patched(icmp6, "_answers_multicast", always)),
    Mutant("error6_to_anybody", ("rfc4443/2.4/05",), patch=any_source),
    Mutant("error6_without_end", ("rfc4443/2.4/06",), patch=patched(icmp.TokenBucket, "take", lambda *_: True)),
)


def options_or_none(area: bytes, offset: int) -> tuple[NdOption, ...]:
    """Options that cannot be read are as good as none."""
    try:
        return read_options(area, offset)
    except WireError:
        return ()


def answers_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    usable = AddressTable6.is_usable
    monkeypatch.setattr(AddressTable6, "is_usable", lambda table, address: usable(table, address) or address == PREFIX[0x99])


def learns_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NeighbourCache6, "learn", lambda *_, **__: None)


def always_overrides(monkeypatch: pytest.MonkeyPatch) -> None:
    advertised = NeighbourCache6.advertised
    monkeypatch.setattr(NeighbourCache6, "advertised", lambda *said, **flags: advertised(*said, **{**flags, "override": True}))


def never_overrides(monkeypatch: pytest.MonkeyPatch) -> None:
    advertised = NeighbourCache6.advertised
    monkeypatch.setattr(NeighbourCache6, "advertised", lambda *said, **flags: advertised(*said, **{**flags, "override": False}))


def without_mac(packet: Packet) -> Iterable[bytes]:
    """A solicitation does not tell who asks."""
    if NeighbourSolicitation not in packet:
        return [packet.frame]
    ip = packet[IPv6]
    message = NeighbourSolicitation(packet[NeighbourSolicitation].target).icmpv6()
    return [replace(packet[Ethernet], payload=replace(ip, payload=message.pack(ip.source, ip.destination)).pack()).pack()]


WIRE_NEIGHBOURS6 = (
    Mutant("nd_never_solicited", ("rfc4861/7.2.4/01",), out=change6(NeighbourAdvertisement, always, solicited=lambda _: False)),
    Mutant(
        "nd_solicited_by_nobody",
        ("rfc4861/7.2.4/02",),
        out=change6(NeighbourAdvertisement, to_all, solicited=lambda _: True),
    ),
    Mutant("nd_wanted_in_silence", ("rfc4862/5.4.3/01",), out=drop(IPv6, lambda ip: ip.destination == ALL_NODES)),
    Mutant("nd_a_router", ("rfc4861/7.2.4/05",), out=change6(NeighbourAdvertisement, always, router=lambda _: True)),
    Mutant("nd_without_mac", ("rfc4861/7.2.4/04",), out=change6(NeighbourAdvertisement, always, options=lambda _: ())),
    Mutant("nd_from_afar", ("rfc4861/7.1.1/01", "rfc4861/7.1.2/01"), patch=patched(ipv6, "check_packet", lambda *_: None)),
    Mutant("nd_options_unread", ("rfc4861/4.6/01",), patch=patched(ndisc, "read_options", options_or_none)),
    Mutant("nd_answers_for_all", ("rfc4861/7.2.3/02",), patch=answers_for_all),
    Mutant("nd_learns_nobody", ("rfc4861/7.2.3/01",), patch=learns_nobody),
    Mutant("nd_asks_in_secret", ("rfc4861/7.2.2/01",), out=without_mac),
    Mutant("nd_nothing_waits", ("rfc4861/7.2.2/02",), patch=patched(neighbour6.Parking, "take", lambda *_: [])),
    Mutant("nd_always_overrides", ("rfc4861/7.2.5/01",), patch=always_overrides),
    Mutant("nd_never_overrides", ("rfc4861/7.2.5/02",), patch=never_overrides),
    Mutant(
        "nd_asks_without_end",
        ("rfc4861/7.2.2/04", "rfc4861/7.3.3/01"),
        patch=lambda monkeypatch: [monkeypatch.setattr(neighbour6, f"MAX_{way}_SOLICIT", 9) for way in ("MULTICAST", "UNICAST")],
    ),
    Mutant("nd_asks_once", ("rfc4861/7.2.2/03",), patch=patched(neighbour6, "MAX_MULTICAST_SOLICIT", 1)),
)
