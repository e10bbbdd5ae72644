"""Mutants of IPv6: neighbour discovery, advertisements, echo, errors, fragments and DHCPv6."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from ipaddress import IPv6Address, IPv6Network
from typing import Any

import pytest
from mutant_parts import HOUR, has, patched
from mutation import Mutant, Rewrite, drop

import netemu.stack.fragments as fragments
import netemu.user.lan6 as lan6
import netemu.user.ra as ra
import netemu.user.router6 as router6
import netemu.user.side as side
import netemu.user.side6 as side6
import netemu.wire.ndisc as ndisc
from netemu.user.dhcpv6 import Dhcpv6Server
from netemu.wire.address import MacAddress
from netemu.wire.dhcpv6 import Dhcpv6, Dhcpv6Option
from netemu.wire.ether import Ethernet
from netemu.wire.icmpv6 import Icmpv6, Icmpv6Type
from netemu.wire.ipv6 import ALL_NODES, IPv6, NextHeader
from netemu.wire.ndisc import NeighbourAdvertisement, NeighbourSolicitation, RouterAdvertisement
from netemu.wire.ndisc_options import NdOption, PrefixInformation, SourceLinkLayerAddress
from netemu.wire.udp import Udp
from pytest_netemu.packet import Packet

GATEWAY, DNS = IPv6Address("fec0::2"), IPv6Address("fec0::3")


def kind(*types: int) -> Callable[[Icmpv6], bool]:
    return lambda message: message.type in types


def change6(layer: type, condition: Callable[[Packet], bool], **fields: Callable[[Any], object]) -> Rewrite:
    """Frames with `layer` that meet the condition get other fields in it, and right checksums."""

    def rewrite(packet: Packet) -> Iterable[bytes]:
        if layer not in packet or not condition(packet):
            return [packet.frame]
        old: Any = packet.layers[layer]
        new = replace(old, **{name: value(old) for name, value in fields.items()})
        ip = new if layer is IPv6 else packet[IPv6]
        return [replace(packet[Ethernet], payload=replace(ip, payload=_payload(packet, ip, new)).pack()).pack()]

    return rewrite


def answers_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    receive = lan6.Lan6.receive

    def answering(self: Any, packet: IPv6, message: Any, now: int) -> None:
        if isinstance(message, NeighbourSolicitation) and not self.is_own(message.target):
            self._learn(packet.source, message.options)
            self._answer(packet.source, message.target, now)
        receive(self, packet, message, now)

    monkeypatch.setattr(lan6.Lan6, "receive", answering)
    monkeypatch.setattr(lan6.Lan6, "is_member", lambda *_: True)


def headers_as_ports(packet: Packet) -> Iterable[bytes]:
    """Octets 2 and 3 of an extension header are taken for the port of the UDP datagram behind it."""
    if Udp not in packet or not packet[IPv6].extensions:
        return [packet.frame]
    ip, datagram = packet[IPv6], packet[Udp]
    misread = int.from_bytes(ip.extensions[0].data[:2])
    payload = replace(datagram, destination_port=misread).pack(ip.source, ip.destination)
    return [replace(packet[Ethernet], payload=replace(ip, payload=payload, extensions=()).pack()).pack()]


def without_padded(packet: Packet) -> Iterable[bytes]:
    """A packet with anything behind it is dropped."""
    return [] if IPv6 in packet and len(packet.frame) > 14 + len(packet[IPv6].pack()) else [packet.frame]


def _payload(packet: Packet, ip: IPv6, new: Any) -> bytes:
    ends = ip.source, ip.destination
    if isinstance(new, NeighbourAdvertisement):
        return new.icmpv6().pack(*ends)
    if isinstance(new, Dhcpv6):
        return replace(packet[Udp], payload=new.pack()).pack(*ends)
    return (new if isinstance(new, Icmpv6) else packet[Icmpv6]).pack(*ends)


def always(packet: Packet) -> bool:
    del packet
    return True


def error_about_all(packet: IPv6, source: IPv6Address, build: Callable[[bytes], Icmpv6]) -> IPv6:
    payload = build(b"").pack(source, packet.source)
    return IPv6(source, packet.source, NextHeader.ICMPV6, payload)


def any_option(area: bytes, offset: int) -> tuple[SourceLinkLayerAddress, ...]:
    """Whatever the option is, and however long it says it is, it is the sender's link-layer address."""
    del offset
    return (SourceLinkLayerAddress(MacAddress(area[2:8])),)


def advertises(option: NdOption) -> Callable[[pytest.MonkeyPatch], None]:
    """The router says this, too."""
    usual = lan6.advertisement

    def more(*arguments: Any, **keywords: Any) -> RouterAdvertisement:
        said = usual(*arguments, **keywords)
        return replace(said, options=(*said.options, option))

    return patched(lan6, "advertisement", more)


def leaves_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last advertisement has the names' usual lifetime."""
    usual = lan6.advertisement
    monkeypatch.setattr(lan6, "advertisement", lambda options, mac, **_: replace(usual(options, mac), router_lifetime=0))


def to_all(packet: Packet) -> bool:
    return packet[IPv6].destination == ALL_NODES


def echo_from(address: IPv6Address) -> Callable[[Packet], bool]:
    return lambda packet: Icmpv6 in packet and packet[Icmpv6].type == Icmpv6Type.ECHO_REPLY and packet[IPv6].source == address


def any_checksum(packet: Packet) -> Iterable[bytes]:
    """A UDP datagram whose checksum is wrong has a right one."""
    if IPv6 not in packet or packet[IPv6].next_header != NextHeader.UDP or Udp in packet:
        return [packet.frame]
    ip = packet[IPv6]
    datagram = Udp.parse(ip.payload).pack(ip.source, ip.destination)
    return [replace(packet[Ethernet], payload=replace(ip, payload=datagram).pack()).pack()]


def without_server(message: Dhcpv6) -> object:
    return tuple((code, value) for code, value in message.options if code != Dhcpv6Option.SERVERID)


def another_file(message: Dhcpv6) -> object:
    return tuple((code, value + b"x" if code == Dhcpv6Option.BOOTFILE_URL else value) for code, value in message.options)


DISCOVERY6 = (
    Mutant("nd_never_solicited", ("rfc4861/7.2.4/01",), out=change6(NeighbourAdvertisement, always, solicited=lambda _: False)),
    Mutant("nd_solicited_by_nobody", ("rfc4861/7.2.4/02",), out=change6(NeighbourAdvertisement, to_all, solicited=lambda _: True)),
    Mutant("nd_from_afar", ("rfc4861/7.1.1/01", "rfc4861/6.1.1/01"), patch=patched(lan6, "check_packet", lambda *_: None)),
    Mutant("nd_answers_for_all", ("rfc4861/7.2.8/01",), patch=answers_for_all),
    Mutant("nd_no_router", ("rfc4861/7.2.4/03",), out=change6(NeighbourAdvertisement, always, router=lambda _: False)),
    Mutant("nd_without_mac", ("rfc4861/7.2.4/04",), out=change6(NeighbourAdvertisement, always, options=lambda _: ())),
    Mutant("nd_options_unread", ("rfc4861/4.6/01",), patch=patched(ndisc, "read_options", any_option)),
    Mutant("ra_from_afar", ("rfc4861/4.2/01",), out=change6(IPv6, has(RouterAdvertisement), source=lambda _: GATEWAY)),
    Mutant("ra_of_the_link_itself", ("rfc4861/4.6.2/01",), patch=advertises(PrefixInformation(IPv6Network("fe80::/64"), 1, 1))),
    Mutant("ra_preferred_for_ever", ("rfc4862/5.5.3/01",), patch=advertises(PrefixInformation(IPv6Network("fec0::/64"), 1, 2))),
    Mutant("ra_of_half_a_subnet", ("rfc4862/5.5.3/02",), patch=advertises(PrefixInformation(IPv6Network("fec0::/65"), 2, 1))),
    Mutant("ra_names_for_a_moment", ("rfc8106/5.1/01",), patch=patched(ra, "_DNS_LIFETIME", 600)),
    Mutant("ra_goes_in_silence", ("rfc4861/6.2.5/01",), patch=patched(lan6.Lan6, "leave", lambda *_: None)),
    Mutant("ra_leaves_names_behind", ("rfc8106/5.1/02",), patch=leaves_names),
    Mutant("ra_when_it_likes", ("rfc4861/6.2.6/01",), patch=patched(ra.RouterAdvertiser, "solicited", ra.RouterAdvertiser.start)),
    Mutant("ra_for_each_who_asks", ("rfc4861/6.2.6/02",), patch=patched(ra, "_MIN_DELAY_BETWEEN", 0)),
)

IPV6 = (
    Mutant("echo6_silent", ("rfc4443/4.2/01",), out=drop(Icmpv6, kind(Icmpv6Type.ECHO_REPLY))),
    Mutant("echo6_cut", ("rfc4443/4.2/02",), out=change6(Icmpv6, echo_from(GATEWAY), payload=lambda message: message.payload[:-1])),
    Mutant("echo6_from_the_gateway", ("rfc4443/4.2/03",), out=change6(IPv6, echo_from(DNS), source=lambda _: GATEWAY)),
    Mutant("port6_closed_in_silence", ("rfc4443/3.1/01",), out=drop(Icmpv6, kind(Icmpv6Type.DESTINATION_UNREACHABLE))),
    Mutant("error6_quotes_little", ("rfc4443/2.4/01",), patch=patched(side, "_QUOTED6", 100)),
    Mutant("headers6_are_udps", ("rfc8200/4/02",), into=headers_as_ports),
    Mutant("padding6_is_discarded", ("rfc8200/3/01",), into=without_padded),
    Mutant("hop_limit_ends_in_silence", ("rfc4443/3.3/01",), out=drop(Icmpv6, kind(Icmpv6Type.TIME_EXCEEDED))),
    Mutant("headers6_wrong_in_silence", ("rfc8200/4/01", "rfc8200/4.5/02"), out=drop(Icmpv6, kind(Icmpv6Type.PARAMETER_PROBLEM))),
    Mutant("error6_about_all", ("rfc4443/2.4/02",), patch=patched(side6, "error_about6", error_about_all)),
    Mutant(
        "extensions_end_the_packet",
        ("rfc8200/4.1/01", "rfc8200/4.2/01", "rfc8200/4.4/01"),
        into=drop(IPv6, lambda packet: bool(packet.extensions)),
    ),
    Mutant(
        "extensions_unread",
        ("rfc8200/4.2/02", "rfc8200/4.2/03", "rfc8200/4.4/02"),
        patch=patched(router6, "problem_with", lambda _: None),
    ),
    Mutant("fragments6_overlap", ("rfc8200/4.5/03",), patch=patched(fragments.Partial, "overlaps", lambda *_: False)),
    Mutant("fragments6_kept_for_an_hour", ("rfc8200/4.5/01",), patch=patched(fragments, "REASSEMBLY_TIMEOUT", HOUR)),
    Mutant("udp6_checksum_ignored", ("rfc8200/8.1/01",), into=any_checksum),
)

DHCP6_SERVER = (
    Mutant("boot_url_of_another_file", ("rfc5970/3.1/01",), out=change6(Dhcpv6, always, options=another_file)),
    Mutant("dhcp6_server_unnamed", ("rfc8415/18.3/01",), out=change6(Dhcpv6, always, options=without_server)),
    Mutant(
        "dhcp6_discards_nothing",
        ("rfc8415/16.2/01", "rfc8415/16.6/01"),
        patch=patched(Dhcpv6Server, "_discarded", lambda *_, **__: None),
    ),
)
