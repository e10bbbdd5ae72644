"""Router discovery of a guest: how it asks, what it believes, and which way it sends (RFC 4861 6.3 and 8).

A packet from far away shows where the guest sends its answer: to the router, to a neighbour, or nowhere.
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Address, IPv6Network
from itertools import pairwise

import pytest

from netemu.wire.address import MacAddress
from netemu.wire.ether import Ethernet
from netemu.wire.icmpv6 import Icmpv6
from netemu.wire.ipv6 import ALL_NODES, ALL_ROUTERS, MINIMUM_MTU, IPv6, NextHeader
from netemu.wire.ndisc import NeighbourSolicitation, Redirect, RouterAdvertisement, RouterSolicitation
from netemu.wire.ndisc_options import Mtu, PrefixInformation, SourceLinkLayerAddress, TargetLinkLayerAddress, UnknownOption
from pytest_netemu.packet import Packet
from pytest_netemu.station6 import ANY6, link_local
from pytest_netemu.suites import judges
from pytest_netemu.wire import Wire
from pytest_netemu.wire6 import ELSEWHERE, Wire6

pytestmark = pytest.mark.netemu_requires("slaac")

_FAR = IPv6Network((ELSEWHERE, 64), strict=False)
_OTHER_MAC = MacAddress("52:54:00:7e:57:03")
_OTHER_ROUTER = link_local(_OTHER_MAC)
_LIFETIME = 1800  # seconds
_GRACE = 5.0


def _prefix(lifetime: int = _LIFETIME, *, on_link: bool = True) -> RouterAdvertisement:
    """An advertisement that says of the addresses far away that they are neighbours, and no more."""
    return RouterAdvertisement(options=(PrefixInformation(_FAR, lifetime, lifetime, on_link, autonomous=False),))


def _solicitations(six: Wire6) -> list[Packet]:
    return [packet for packet in six.wire.inbox if RouterSolicitation in packet]


def _uses_the_router(six: Wire6) -> None:
    six.echo(source=ELSEWHERE)
    assert six.answered()[Ethernet].destination == six.mac


def _knows_no_way(six: Wire6) -> None:
    six.echo(source=ELSEWHERE)
    six.unanswered()


def _asks_for_a_neighbour(six: Wire6) -> None:
    six.echo(source=ELSEWHERE)
    six.wire.expect(NeighbourSolicitation, target=ELSEWHERE)


# Questions


@judges("rfc4861/6.3.7/01")
@pytest.mark.netemu_requires("virtual-clock")
def test_routers_are_asked_for_three_times(netemu_wire: Wire) -> None:
    asked = [packet.time for packet in _solicitations(Wire6(netemu_wire).without_router(60.0))]
    assert len(asked) in range(2, 4), f"asked {len(asked)} times; MAX_RTR_SOLICITATIONS is 3"
    gaps = [(later - sooner) / 1e9 for sooner, later in pairwise(asked)]
    assert all(gap >= 4 for gap in gaps), f"{gaps} s between questions; RTR_SOLICITATION_INTERVAL is 4 s"


@judges("rfc4861/6.3.7/02")
@pytest.mark.netemu_requires("virtual-clock")
def test_no_more_questions_after_an_answer(netemu_wire: Wire) -> None:
    six = Wire6(netemu_wire).up()
    netemu_wire.run_for(60.0)
    assert _solicitations(six) == []


@judges("rfc4861/6.3.7/03")
@judges("rfc4861/6.3.7/04")
@judges("rfc4861/6.3.7/05")
def test_a_question_is_for_all_routers(netemu_wire: Wire) -> None:
    six, asked = Wire6(netemu_wire), list[Packet]()
    netemu_wire.answer(RouterSolicitation, asked.append)
    six.up()
    ip, options = asked[-1][IPv6], asked[-1][RouterSolicitation].options
    assert (ip.destination, ip.hop_limit) == (ALL_ROUTERS, 255)
    assert ip.source in (six.opposite, ANY6)
    told = [option.address for option in options if isinstance(option, SourceLinkLayerAddress)]
    assert told == ([] if ip.source == ANY6 else [netemu_wire.guest.mac])


# Default routers


@judges("rfc4861/6.3.4/01")
def test_who_advertises_itself_is_used(netemu_wire: Wire) -> None:
    _uses_the_router(Wire6(netemu_wire).up())


@judges("rfc4861/6.3.4/02")
def test_a_router_that_goes_is_not_used(netemu_wire: Wire) -> None:
    six = Wire6(netemu_wire).up()
    six.advertise(RouterAdvertisement(router_lifetime=0))
    _knows_no_way(six)


@judges("rfc4861/6.3.5/01")
@pytest.mark.netemu_requires("virtual-clock")
def test_a_router_is_used_for_its_lifetime(netemu_wire: Wire) -> None:
    six = Wire6(netemu_wire).up()
    netemu_wire.run_for(_LIFETIME - 2 * _GRACE)
    _uses_the_router(six)
    netemu_wire.run_for(2 * _GRACE)
    _knows_no_way(six)


@judges("rfc4861/7.2.5/03")
def test_who_is_no_router_any_more_is_not_used(netemu_wire: Wire) -> None:
    six = Wire6(netemu_wire).up()
    _uses_the_router(six)
    six.advertise_neighbour(six.link_local)
    _knows_no_way(six)


@judges("rfc4861/6.1.2/01")
@pytest.mark.parametrize("wrong", ["forwarded", "code", "checksum", "short", "not link-local", "option of no length"])
def test_an_invalid_advertisement_is_discarded(netemu_wire: Wire, wrong: str) -> None:
    six = Wire6(netemu_wire).up()
    said = replace(_prefix(), router_lifetime=0).icmpv6()
    source = six.address if wrong == "not link-local" else six.link_local
    payload = {"short": said.payload[:4], "option of no length": said.payload + bytes((200, 0, 0, 0, 0, 0, 0, 0))}
    said = replace(said, code=int(wrong == "code"), payload=payload.get(wrong, said.payload))
    octets = bytearray(said.pack(source, ALL_NODES))
    octets[2] ^= 0x55 * (wrong == "checksum")
    six.send(IPv6(source, ALL_NODES, NextHeader.ICMPV6, bytes(octets), hop_limit=254 if wrong == "forwarded" else 255))
    _uses_the_router(six)


@judges("rfc4861/6.1.2/02")
def test_an_unknown_option_is_ignored(netemu_wire: Wire) -> None:
    six = Wire6(netemu_wire)
    six.advertisement = replace(six.advertisement, options=(UnknownOption(200, bytes(6)), *six.advertisement.options))
    _uses_the_router(six.up())


# The link


@judges("rfc4861/6.3.4/04")
def test_a_prefix_on_the_link_has_neighbours(netemu_wire: Wire) -> None:
    six = Wire6(netemu_wire).up()
    six.advertise(_prefix())
    _asks_for_a_neighbour(six)


@judges("rfc4861/6.3.4/05")
def test_silence_about_the_link_cancels_nothing(netemu_wire: Wire) -> None:
    six = Wire6(netemu_wire).up()
    six.advertise(_prefix())
    six.advertise(_prefix(0, on_link=False))
    _asks_for_a_neighbour(six)


@judges("rfc4861/6.3.4/06")
def test_a_prefix_that_is_cancelled_is_behind_the_router(netemu_wire: Wire) -> None:
    six = Wire6(netemu_wire).up()
    six.advertise(_prefix())
    six.advertise(_prefix(0))
    _uses_the_router(six)


@judges("rfc4861/6.3.5/02")
@pytest.mark.netemu_requires("virtual-clock")
def test_a_prefix_is_on_the_link_for_its_lifetime(netemu_wire: Wire) -> None:
    six = Wire6(netemu_wire).up()
    six.advertise(_prefix(600))
    netemu_wire.run_for(600 + _GRACE)
    _uses_the_router(six)


@judges("rfc4861/6.3.4/03")
@pytest.mark.parametrize(("mtu", "longest"), [(1400, 1400), (MINIMUM_MTU - 1, 1500), (9000, 1500)])
def test_the_routers_mtu_is_the_links(netemu_wire: Wire, mtu: int, longest: int) -> None:
    six = Wire6(netemu_wire).up()
    six.advertise(replace(six.advertisement, options=(Mtu(mtu),)))
    six.echo(bytes(1452))
    first = netemu_wire.expect(IPv6, lambda ip: ip.destination == six.address and len(ip.payload) > 100)
    assert longest - 8 < len(first[IPv6].pack()) <= longest


# Redirects


def _redirect(six: Wire6, *, source: IPv6Address, code: int = 0, hop_limit: int = 255) -> None:
    """Another router would be better for what is far away."""
    said = Redirect(_OTHER_ROUTER, ELSEWHERE, (TargetLinkLayerAddress(_OTHER_MAC),)).icmpv6()
    six.send_icmp(Icmpv6(said.type, code, 0, said.payload), six.guest_address, source=source, hop_limit=hop_limit)


@judges("rfc4861/8.3/01")
def test_a_redirect_is_followed(netemu_wire: Wire) -> None:
    six = Wire6(netemu_wire).up()
    _uses_the_router(six)
    _redirect(six, source=six.link_local)
    six.echo(source=ELSEWHERE, sequence=2)
    assert six.answered(2)[Ethernet].destination == _OTHER_MAC


@judges("rfc4861/8.1/01")
@pytest.mark.parametrize("wrong", ["forwarded", "code", "not link-local", "not the router"])
def test_an_invalid_redirect_is_discarded(netemu_wire: Wire, wrong: str) -> None:
    six = Wire6(netemu_wire).up()
    _uses_the_router(six)
    source = {"not link-local": six.address, "not the router": _OTHER_ROUTER}.get(wrong, six.link_local)
    _redirect(six, source=source, code=int(wrong == "code"), hop_limit=254 if wrong == "forwarded" else 255)
    six.echo(source=ELSEWHERE, sequence=2)
    assert six.answered(2)[Ethernet].destination == six.mac
