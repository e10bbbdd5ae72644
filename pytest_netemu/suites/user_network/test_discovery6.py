"""Neighbour and router discovery of a user-mode network (RFC 4861)."""

from __future__ import annotations

import pytest

from netemu.wire.ether import Ethernet
from netemu.wire.icmpv6 import Icmpv6, Icmpv6Type
from netemu.wire.ipv6 import ALL_NODES, IPv6, solicited_node
from netemu.wire.ndisc import NeighbourAdvertisement, RouterAdvertisement
from netemu.wire.ndisc_options import PrefixInformation, Rdnss, TargetLinkLayerAddress
from pytest_netemu.station6 import ANY6
from pytest_netemu.suites import judges
from pytest_netemu.tester import Tester
from pytest_netemu.tester6 import Tester6

pytestmark = pytest.mark.netemu_requires("ipv6")

_BETWEEN = 3.0  # seconds: MIN_DELAY_BETWEEN_RAS (RFC 4861 10)
_THREE_INTERVALS = 3 * 600  # seconds: three times the default MaxRtrAdvInterval (RFC 4861 6.2.1)
_SUBNET = 64  # bits (RFC 4291 2.5.1)
_DELAY = 0.5  # seconds: MAX_RA_DELAY_TIME


@judges("rfc4861/7.2.4/01")
@pytest.mark.parametrize("which", ["gateway6", "dns6"])
def test_a_solicitation_is_answered_to_who_asked(netemu_tester: Tester, which: str) -> None:
    tester = Tester6(netemu_tester)
    target = getattr(netemu_tester.backend, which)
    tester.solicit(target)
    answer = netemu_tester.expect(NeighbourAdvertisement, target=target)
    assert answer[IPv6].destination == tester.link_local
    assert answer[NeighbourAdvertisement].solicited


@judges("rfc4861/7.2.4/02")
def test_who_has_no_address_yet_is_answered_through_all_nodes(netemu_tester: Tester) -> None:
    tester = Tester6(netemu_tester)
    tester.solicit(tester.gateway, source=ANY6)
    answer = netemu_tester.expect(NeighbourAdvertisement, target=tester.gateway)
    assert answer[IPv6].destination == ALL_NODES
    assert not answer[NeighbourAdvertisement].solicited


@judges("rfc4861/7.1.1/01")
def test_a_solicitation_that_was_forwarded_is_discarded(netemu_tester: Tester) -> None:
    tester = Tester6(netemu_tester)
    tester.solicit(tester.gateway, hop_limit=254)
    netemu_tester.silence(NeighbourAdvertisement)


@judges("rfc4861/6.1.1/01")
def test_a_router_solicitation_that_was_forwarded_is_discarded(netemu_tester: Tester) -> None:
    tester = Tester6(netemu_tester)
    tester.solicit_router()  # and so the first advertisements of all are over before the one that counts
    netemu_tester.expect(RouterAdvertisement)
    netemu_tester.run_for(_BETWEEN)
    tester.solicit_router(hop_limit=254)
    netemu_tester.silence(RouterAdvertisement, within=_DELAY)


@judges("rfc4861/6.2.6/01")
def test_a_router_answers_within_half_a_second(netemu_tester: Tester) -> None:
    tester = Tester6(netemu_tester)
    tester.solicit_router()
    netemu_tester.expect(RouterAdvertisement, within=_DELAY)


@judges("rfc4861/6.2.6/02")
def test_advertisements_for_all_are_rare(netemu_tester: Tester) -> None:
    tester = Tester6(netemu_tester)
    tester.solicit_router()
    first = netemu_tester.expect(RouterAdvertisement)
    if first[IPv6].destination != ALL_NODES:
        return  # one for each who asks has no such limit
    for _ in range(5):
        tester.solicit_router()
    again = netemu_tester.expect(RouterAdvertisement, within=_BETWEEN + 2 * _DELAY)
    gap = (again.time - first.time) / 1e9
    assert gap >= _BETWEEN, f"two advertisements for all nodes within {gap:g} s"


@judges("rfc4861/7.2.4/03")
def test_the_gateway_says_that_it_is_a_router(netemu_tester: Tester) -> None:
    tester = Tester6(netemu_tester)
    tester.solicit(tester.gateway)
    assert netemu_tester.expect(NeighbourAdvertisement, target=tester.gateway)[NeighbourAdvertisement].router


@judges("rfc4861/7.2.4/04")
@pytest.mark.parametrize("which", ["gateway6", "dns6"])
def test_an_answer_tells_the_link_layer_address(netemu_tester: Tester, which: str) -> None:
    target = getattr(netemu_tester.backend, which)
    Tester6(netemu_tester).solicit(target)
    answer = netemu_tester.expect(NeighbourAdvertisement, target=target)
    told = [option.address for option in answer[NeighbourAdvertisement].options if isinstance(option, TargetLinkLayerAddress)]
    assert told == [answer[Ethernet].source]


@judges("rfc4861/4.6/01")
def test_an_option_of_no_length_is_discarded(netemu_tester: Tester) -> None:
    tester = Tester6(netemu_tester)
    message = Icmpv6(Icmpv6Type.NEIGHBOUR_SOLICITATION, 0, 0, tester.gateway.packed + bytes((1, 0)) + tester.mac)
    tester.send_icmp(message, solicited_node(tester.gateway), source=tester.link_local, hop_limit=255)
    netemu_tester.silence(NeighbourAdvertisement)


def _advertised(netemu_tester: Tester) -> RouterAdvertisement:
    Tester6(netemu_tester).solicit_router()
    return netemu_tester.expect(RouterAdvertisement)[RouterAdvertisement]


def _prefixes(netemu_tester: Tester) -> list[PrefixInformation]:
    return [option for option in _advertised(netemu_tester).options if isinstance(option, PrefixInformation)]


@judges("rfc4861/4.6.2/01")
def test_the_link_local_prefix_is_not_advertised(netemu_tester: Tester) -> None:
    assert not any(option.prefix.is_link_local for option in _prefixes(netemu_tester))


@judges("rfc4862/5.5.3/01")
def test_no_address_is_preferred_for_longer_than_it_is_valid(netemu_tester: Tester) -> None:
    assert all(option.preferred_lifetime <= option.valid_lifetime for option in _prefixes(netemu_tester))


@judges("rfc4862/5.5.3/02")
def test_a_prefix_for_making_addresses_leaves_an_identifier_its_64_bits(netemu_tester: Tester) -> None:
    lengths = {option.prefix.prefixlen for option in _prefixes(netemu_tester) if option.autonomous}
    assert lengths <= {_SUBNET}


@judges("rfc8106/5.1/01")
def test_name_servers_outlive_three_advertisements(netemu_tester: Tester) -> None:
    servers = [option for option in _advertised(netemu_tester).options if isinstance(option, Rdnss)]
    assert all(option.lifetime >= _THREE_INTERVALS for option in servers)


@judges("rfc4861/6.2.5/01")
@pytest.mark.netemu_requires("ra.goodbye")
def test_a_router_that_goes_says_so(netemu_tester: Tester) -> None:
    _advertised(netemu_tester)
    netemu_tester.backend.close()
    assert not netemu_tester.expect(RouterAdvertisement)[RouterAdvertisement].router_lifetime


@judges("rfc8106/5.1/02")
@pytest.mark.netemu_requires("ra.goodbye")
def test_a_router_that_goes_takes_its_name_server_along(netemu_tester: Tester) -> None:
    named = {server for option in _advertised(netemu_tester).options if isinstance(option, Rdnss) for server in option.servers}
    netemu_tester.backend.close()
    last = netemu_tester.expect(RouterAdvertisement)[RouterAdvertisement]
    gone = {server for option in last.options if isinstance(option, Rdnss) and not option.lifetime for server in option.servers}
    assert gone == named


@judges("rfc4861/4.2/01")
def test_advertisements_come_from_a_link_local_address(netemu_tester: Tester) -> None:
    Tester6(netemu_tester).solicit_router()
    assert netemu_tester.expect(RouterAdvertisement)[IPv6].source.is_link_local


@judges("rfc4861/7.2.8/01")
@pytest.mark.parametrize("where", ["on the link", "elsewhere"])
def test_no_answer_for_others_overrides_theirs(netemu_tester: Tester, where: str) -> None:
    tester = Tester6(netemu_tester)
    target = tester.address + (1 if where == "on the link" else 1 << 64)
    tester.solicit(target)
    answer = netemu_tester.wait(NeighbourAdvertisement, target=target)
    overrides = answer is not None and answer[NeighbourAdvertisement].override
    assert not overrides, f"nobody has {target}, and it was answered for with the Override flag: {answer}"
