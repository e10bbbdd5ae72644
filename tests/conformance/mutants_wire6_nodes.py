"""Mutants of a guest's IPv6: routers, addresses and paths."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from ipaddress import IPv6Address

import pytest
from mutant_parts import has, patched
from mutants_ipv6 import change6, kind
from mutants_wire6 import GUEST6, OTHER6
from mutation import Mutant, drop

import netemu.stack.addresses6 as addresses6
import netemu.stack.ipv6 as ipv6
import netemu.stack.node6 as node6
import netemu.stack.router_discovery as router_discovery
from netemu.stack.addresses6 import FOR_EVER, AddressState, AddressTable6
from netemu.stack.node6 import Node6
from netemu.stack.router_discovery import RouterDiscovery
from netemu.stack.routes import PathMtus
from netemu.wire.address import MacAddress
from netemu.wire.ether import Ethernet
from netemu.wire.icmpv6 import Icmpv6, Icmpv6Type
from netemu.wire.ipv6 import ALL_NODES, IPv6, interface_identifier
from netemu.wire.ndisc import NeighbourSolicitation, RouterAdvertisement, RouterSolicitation
from netemu.wire.ndisc_options import Mtu, NdOption, PrefixInformation, SourceLinkLayerAddress, UnknownOption
from pytest_netemu.packet import Packet
from pytest_netemu.wire6 import PREFIX

ROUTER6 = IPv6Address(int(PREFIX.network_address) | interface_identifier(MacAddress("52:54:00:7e:57:02")))
Heard = Callable[[RouterAdvertisement], RouterAdvertisement]


def hears(change: Heard) -> Callable[[pytest.MonkeyPatch], None]:
    """The guest takes an advertisement for another."""
    usual = Node6._router

    def router(node: Node6, message: RouterAdvertisement, source: IPv6Address, now: int) -> None:
        usual(node, change(message), source, now)

    return patched(Node6, "_router", router)


def hears_options(change: Callable[[NdOption], NdOption | None]) -> Callable[[pytest.MonkeyPatch], None]:
    """The guest takes an option of advertisements for another, or for none."""

    def changed(message: RouterAdvertisement) -> RouterAdvertisement:
        return replace(message, options=tuple(found for found in map(change, message.options) if found is not None))

    return hears(changed)


def with_prefix(change: Callable[[PrefixInformation], PrefixInformation | None]) -> Callable[[pytest.MonkeyPatch], None]:
    return hears_options(lambda option: change(option) if isinstance(option, PrefixInformation) else option)


def never_goes(message: RouterAdvertisement) -> RouterAdvertisement:
    return replace(message, router_lifetime=message.router_lifetime or 1800)


def for_ever(message: RouterAdvertisement) -> RouterAdvertisement:
    """What has a lifetime has no end."""
    options = tuple(
        replace(option, valid_lifetime=FOR_EVER) if isinstance(option, PrefixInformation) and option.valid_lifetime else option
        for option in message.options
    )
    return replace(message, router_lifetime=9000 if message.router_lifetime else 0, options=options)


def known_options_only(message: RouterAdvertisement) -> RouterAdvertisement:
    """A router that says what nobody knows is none."""
    strange = any(isinstance(option, UnknownOption) for option in message.options)
    return replace(message, router_lifetime=0) if strange else message


def cancels_in_silence(option: PrefixInformation) -> PrefixInformation:
    return option if option.on_link else replace(option, on_link=True, valid_lifetime=0)


def asks_on(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = RouterDiscovery.advertised

    def advertised(discovery: RouterDiscovery, *said: object) -> None:
        due = discovery._solicit_at
        usual(discovery, *said)
        discovery._solicit_at = due

    monkeypatch.setattr(RouterDiscovery, "advertised", advertised)


def named_by_nobody(packet: Packet) -> Iterable[bytes]:
    """A router solicitation from the unspecified address tells a hardware address."""
    if RouterSolicitation not in packet:
        return [packet.frame]
    ip = packet[IPv6]
    message = RouterSolicitation((SourceLinkLayerAddress(packet[Ethernet].source),)).icmpv6()
    return [replace(packet[Ethernet], payload=replace(ip, payload=message.pack(ip.source, ip.destination)).pack()).pack()]


def is_probe(packet: Packet) -> bool:
    return NeighbourSolicitation in packet and packet[IPv6].source.is_unspecified


def any_prefix(message: RouterAdvertisement) -> list[PrefixInformation]:
    return [option for option in message.options if isinstance(option, PrefixInformation)]


def raises(paths: PathMtus, destination: IPv6Address, size: int, now: int) -> None:
    paths._paths[destination] = (size, now + 10**12)


WIRE_ROUTERS6 = (
    Mutant("rs_without_end", ("rfc4861/6.3.7/01",), patch=patched(router_discovery, "MAX_RTR_SOLICITATIONS", 9)),
    Mutant("rs_after_an_answer", ("rfc4861/6.3.7/02",), patch=asks_on),
    Mutant("rs_to_all_nodes", ("rfc4861/6.3.7/03",), out=change6(IPv6, has(RouterSolicitation), destination=lambda _: ALL_NODES)),
    Mutant("rs_from_another", ("rfc4861/6.3.7/04",), out=change6(IPv6, has(RouterSolicitation), source=lambda _: OTHER6)),
    Mutant("rs_named_by_nobody", ("rfc4861/6.3.7/05",), out=named_by_nobody),
    Mutant("ra_of_no_use", ("rfc4861/6.3.4/01",), patch=patched(RouterDiscovery, "routers", ())),
    Mutant("ra_never_goes", ("rfc4861/6.3.4/02",), patch=hears(never_goes)),
    Mutant("ra_for_ever", ("rfc4861/6.3.5/01", "rfc4861/6.3.5/02", "rfc4862/5.5.4/01"), patch=hears(for_ever)),
    Mutant("ra_once_a_router", ("rfc4861/7.2.5/03",), patch=patched(RouterDiscovery, "no_router", lambda *_: None)),
    Mutant("ra_known_options_only", ("rfc4861/6.1.2/02",), patch=hears(known_options_only)),
    Mutant("ra_unchecked", ("rfc4861/6.1.2/01", "rfc4861/8.1/01"), patch=patched(ipv6, "check_packet", lambda *_: None)),
    Mutant("link_is_the_prefix", ("rfc4861/6.3.4/04",), patch=with_prefix(lambda each: each if each.autonomous else None)),
    Mutant("link_cancelled_in_silence", ("rfc4861/6.3.4/05",), patch=with_prefix(cancels_in_silence)),
    Mutant("link_never_cancelled", ("rfc4861/6.3.4/06",), patch=with_prefix(lambda each: each if each.valid_lifetime else None)),
    Mutant("link_mtu_unheard", ("rfc4861/6.3.4/03",), patch=hears_options(lambda each: None if isinstance(each, Mtu) else each)),
    Mutant("redirects_unheard", ("rfc4861/8.3/01",), patch=patched(Node6, "_redirected", lambda *_: None)),
)

WIRE_ADDRESSES6 = (
    Mutant("dad_never_asks", ("rfc4862/5.4/01",), patch=patched(AddressTable6, "solicitations", lambda _: [])),
    Mutant("dad_asks_all", ("rfc4862/5.4.2/01",), out=change6(IPv6, is_probe, destination=lambda _: ALL_NODES)),
    Mutant("dad_unheard", ("rfc4862/5.4.4/01", "rfc4862/5.4.3/03"), patch=patched(AddressTable6, "conflict", lambda *_: False)),
    Mutant("tentative_is_good_enough", ("rfc4862/5.4.3/02",), patch=patched(addresses6, "_USABLE", frozenset(AddressState))),
    Mutant(
        "any_prefix_makes_addresses",
        ("rfc4862/5.5.3/03", "rfc4862/5.5.3/04", "rfc4862/5.5.3/05", "rfc4862/5.5.3/06"),
        patch=patched(node6, "interface_prefixes", any_prefix),
    ),
    Mutant("lifetimes_never_change", ("rfc4862/5.5.3/07",), patch=patched(node6, "valid_lifetime", lambda _, left: left)),
    Mutant(
        "lifetimes_are_what_is_said",
        ("rfc4862/5.5.3/08", "rfc4862/5.5.3/09"),
        patch=patched(node6, "valid_lifetime", lambda said, _: said),
    ),
    Mutant(
        "nothing_is_deprecated",
        ("rfc4862/5.5.4/02",),
        patch=with_prefix(lambda each: replace(each, preferred_lifetime=each.valid_lifetime)),
    ),
    Mutant("deprecated_is_gone", ("rfc4862/5.5.4/03",), patch=patched(addresses6, "_USABLE", frozenset({AddressState.PREFERRED}))),
    Mutant(
        "loopback6_from_outside",
        ("rfc4291/2.5.3/01",),
        into=change6(IPv6, lambda packet: packet[IPv6].destination.is_loopback, destination=lambda _: GUEST6),
    ),
    Mutant(
        "groups6_speak",
        ("rfc4291/2.7/01",),
        into=change6(IPv6, lambda packet: packet[IPv6].source.is_multicast, source=lambda _: ROUTER6),
    ),
)

WIRE_PATHS6 = (
    Mutant("path_mtu_unheard", ("rfc8201/4/01",), into=drop(Icmpv6, kind(Icmpv6Type.PACKET_TOO_BIG))),
    Mutant("path_mtu_of_anything", ("rfc8201/4/02",), patch=patched(ipv6, "MINIMUM_MTU", 0)),
    Mutant("path_mtu_rises", ("rfc8201/4/03",), patch=patched(PathMtus, "lower", raises)),
)
