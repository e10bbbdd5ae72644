"""Neighbour discovery and router advertisements of a user-mode network."""

from ipaddress import IPv6Address, IPv6Network
from itertools import pairwise

import pytest
from user_driver6 import ANY, DNS, GATEWAY, GATEWAY_MAC, GUEST, GUEST_MAC, LINK_LOCAL, ROUTER, Lab6

from netemu.errors import HostError
from netemu.network import Network
from netemu.user.options import UserOptions
from netemu.wire.address import MacAddress
from netemu.wire.icmpv6 import Icmpv6Type
from netemu.wire.ipv6 import ALL_NODES, ALL_ROUTERS, multicast_mac, solicited_node
from netemu.wire.ndisc import (
    NeighbourAdvertisement,
    NeighbourSolicitation,
    RouterAdvertisement,
    RouterSolicitation,
)
from netemu.wire.ndisc_options import (
    Dnssl,
    Mtu,
    PrefixInformation,
    Rdnss,
    SourceLinkLayerAddress,
    TargetLinkLayerAddress,
)

MINE = (SourceLinkLayerAddress(GUEST_MAC),)


@pytest.mark.parametrize("target", [GATEWAY, DNS, ROUTER, IPv6Address("fe80::3")])
def test_the_networks_addresses_are_advertised(target: IPv6Address) -> None:
    lab = Lab6()
    lab.icmp(solicited_node(target), NeighbourSolicitation(target, MINE).icmpv6(), hop_limit=255)
    seen = lab.one()
    assert (seen.frame.source, seen.frame.destination) == (GATEWAY_MAC, GUEST_MAC)
    assert (seen.ip.source, seen.ip.destination, seen.ip.hop_limit) == (target, GUEST, 255)
    told = (TargetLinkLayerAddress(GATEWAY_MAC),)
    assert seen.nd == NeighbourAdvertisement(target, router=True, solicited=True, override=True, options=told)


def test_a_probe_for_a_duplicate_is_answered_to_everybody() -> None:
    lab = Lab6()
    lab.icmp(solicited_node(GATEWAY), NeighbourSolicitation(GATEWAY).icmpv6(), source=ANY, hop_limit=255)
    seen = lab.one()
    assert (seen.frame.destination, seen.ip.destination) == (multicast_mac(ALL_NODES), ALL_NODES)
    assert isinstance(seen.nd, NeighbourAdvertisement)
    assert (seen.nd.target, seen.nd.solicited, seen.nd.override) == (GATEWAY, False, True)


@pytest.mark.parametrize("target", ["fec0::15", "fec0::4", "2001:db8::7", "fe80::4"])
def test_other_addresses_are_not_ours_to_advertise(target: str) -> None:
    lab = Lab6()
    address = IPv6Address(target)
    lab.icmp(solicited_node(address), NeighbourSolicitation(address, MINE).icmpv6(), source=LINK_LOCAL, hop_limit=255)
    lab.icmp(solicited_node(address), NeighbourSolicitation(address).icmpv6(), source=ANY, hop_limit=255)
    assert lab.take(5) == []


def test_a_solicitation_from_afar_is_not_believed() -> None:
    lab = Lab6()
    lab.icmp(solicited_node(GATEWAY), NeighbourSolicitation(GATEWAY, MINE).icmpv6(), hop_limit=254)
    assert lab.take() == []
    assert lab.counters["malformed-ipv6"] == 1


def test_a_guest_is_solicited_and_its_packets_wait() -> None:
    lab = Lab6(answers=False)
    lab.echo(GATEWAY)
    asked = lab.one()
    assert asked.nd == NeighbourSolicitation(GUEST, (SourceLinkLayerAddress(GATEWAY_MAC),))
    assert (asked.ip.source, asked.ip.destination, asked.ip.hop_limit) == (ROUTER, solicited_node(GUEST), 255)
    assert asked.frame.destination == multicast_mac(solicited_node(GUEST))
    mine = (TargetLinkLayerAddress(GUEST_MAC),)
    answer = NeighbourAdvertisement(GUEST, solicited=True, override=True, options=mine).icmpv6()
    lab.icmp(ROUTER, answer, hop_limit=255)
    reply = lab.one()
    assert reply.icmp is not None
    assert (reply.icmp.type, reply.frame.destination) == (Icmpv6Type.ECHO_REPLY, GUEST_MAC)


def test_a_silent_guest_is_asked_three_times_and_given_up() -> None:
    lab = Lab6(answers=False)
    lab.echo(GATEWAY)
    assert len(lab.take(10)) == 3
    assert lab.counters["guest-unreachable"] == 1


def test_a_known_guest_is_asked_again_by_unicast_when_it_was_long_silent() -> None:
    lab = Lab6()
    lab.echo(GATEWAY)
    lab.take(46)  # REACHABLE_TIME and a random half of it
    lab.answers = False
    lab.echo(GATEWAY)
    assert lab.one().nd is None
    for asked in lab.take(8):
        assert isinstance(asked.nd, NeighbourSolicitation)
        assert (asked.ip.destination, asked.frame.destination) == (GUEST, GUEST_MAC)
    lab.echo(GATEWAY)
    assert lab.one().ip.destination == solicited_node(GUEST)  # forgotten


def test_unasked_advertisements_make_no_entry() -> None:
    lab = Lab6(answers=False)
    forged = MacAddress("52:54:00:66:66:66")
    told = NeighbourAdvertisement(GUEST, override=True, options=(TargetLinkLayerAddress(forged),))
    lab.icmp(ALL_NODES, told.icmpv6(), hop_limit=255)
    lab.echo(GATEWAY)
    assert lab.one().nd == NeighbourSolicitation(GUEST, (SourceLinkLayerAddress(GATEWAY_MAC),))


def test_an_address_of_ours_in_a_guests_mouth_is_a_conflict() -> None:
    lab = Lab6()
    told = NeighbourAdvertisement(GATEWAY, override=True, options=(TargetLinkLayerAddress(GUEST_MAC),))
    lab.icmp(ALL_NODES, told.icmpv6(), hop_limit=255)
    lab.run()
    assert lab.counters["address-conflict"] == 1


def test_a_flood_of_neighbours_is_bounded() -> None:
    lab = Lab6(answers=False)
    for number in range(3000):
        lab.echo(GATEWAY, source=IPv6Address(int(GUEST) + 1 + number))
    lab.take()
    assert lab.counters["nd-evicted"] == 3000 - 1024


# Router advertisements


def solicit(lab: Lab6) -> None:
    lab.icmp(ALL_ROUTERS, RouterSolicitation(MINE).icmpv6(), source=LINK_LOCAL, hop_limit=255)


def advertised(options: UserOptions | None = None) -> RouterAdvertisement:
    lab = Lab6(options, hears_router=True)
    solicit(lab)
    seen = lab.one(0.5)
    assert (seen.ip.source, seen.ip.destination, seen.ip.hop_limit) == (ROUTER, ALL_NODES, 255)
    assert isinstance(seen.nd, RouterAdvertisement)
    return seen.nd


def test_what_the_router_says() -> None:
    assert advertised(UserOptions(dnssearch=("a.example", "b.example"))) == RouterAdvertisement(
        hop_limit=64,
        managed=True,
        other=True,
        router_lifetime=1800,
        options=(
            SourceLinkLayerAddress(GATEWAY_MAC),
            Mtu(1500),
            PrefixInformation(IPv6Network("fec0::/64"), 2_592_000, 604_800),
            Rdnss(1800, (DNS,)),
            Dnssl(1800, ("a.example", "b.example")),
        ),
    )


@pytest.mark.parametrize(("mode", "flags"), [("stateful", (True, True)), ("stateless", (False, True)), ("off", (False, False))])
def test_the_flags_say_what_dhcpv6_serves(mode: str, flags: tuple[bool, bool]) -> None:
    said = advertised(UserOptions.from_pairs([("dhcpv6", mode)]))
    assert (said.managed, said.other) == flags


def test_the_router_says_when_it_goes() -> None:
    options = UserOptions(dnssearch=("a.example",))
    lab = Lab6(options, hears_router=True)
    solicit(lab)
    lab.take(1)
    lab.user.close()
    seen = lab.one()
    assert (seen.ip.source, seen.ip.destination, seen.ip.hop_limit) == (ROUTER, ALL_NODES, 255)
    assert isinstance(seen.nd, RouterAdvertisement)
    assert seen.nd.router_lifetime == 0
    assert seen.nd.options[2:] == (
        PrefixInformation(IPv6Network("fec0::/64"), 2_592_000, 604_800),
        Rdnss(0, (DNS,)),
        Dnssl(0, ("a.example",)),
    )
    lab.user.close()
    assert lab.take() == []


def test_a_router_that_nobody_heard_of_goes_in_silence() -> None:
    lab = Lab6(hears_router=True)
    lab.user.close()
    assert lab.take() == []


def test_a_guest_has_no_router_when_the_network_has_gone() -> None:
    network = Network()
    user = network.netdev("user")
    guest = network.guest(netdev=user)
    guest.slaac()
    user.close()
    network.run_for(0.1)
    with pytest.raises(HostError, match="ENETUNREACH"), guest.udp() as socket:
        socket.send_to(b"x", "2001:db8::7", 9)
    network.close()


def test_a_prefix_that_leaves_no_64_bits_is_not_for_making_addresses() -> None:
    (prefix,) = (
        each
        for each in advertised(UserOptions.from_pairs([("ipv6-net", "2001:db8::/80")])).options
        if isinstance(each, PrefixInformation)
    )
    assert (prefix.prefix, prefix.on_link, prefix.autonomous) == (IPv6Network("2001:db8::/80"), True, False)


def test_a_restricted_network_has_no_way_out() -> None:
    said = advertised(UserOptions(restrict=True))
    assert said.router_lifetime == 0
    assert not any(isinstance(option, Rdnss) for option in said.options)


def test_the_mtu_is_one_that_ipv6_can_have() -> None:
    assert Mtu(1280) in advertised(UserOptions(mtu=576)).options
    assert Mtu(9000) in advertised(UserOptions(mtu=9000)).options


def test_many_solicitations_get_one_answer_in_three_seconds() -> None:
    lab = Lab6(hears_router=True)
    for _ in range(20):
        solicit(lab)
    assert len(lab.take(0.5)) == 1
    for _ in range(5):
        solicit(lab)
        assert lab.take(0.4) == []
    assert len(lab.take(2)) == 1


def test_the_router_speaks_up_now_and_then() -> None:
    lab = Lab6(hears_router=True)
    assert lab.take(3600) == []  # nobody is there to hear
    solicit(lab)
    moments = []
    for _ in range(3000):
        moments += [lab.loop.now() // 10**9 for _ in lab.take(1)]
    gaps = [later - earlier for earlier, later in pairwise(moments)]
    assert gaps[:2] == [16, 16]
    assert all(199 <= gap <= 601 for gap in gaps[2:])
    assert len(set(gaps[2:])) > 1
    assert 5 <= len(gaps) <= 17
