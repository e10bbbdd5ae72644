"""The IPv6 layer of a host at frame level: what it answers, what it drops and counts, and that nothing makes it raise."""

from __future__ import annotations

import random
from dataclasses import replace
from ipaddress import IPv6Address, IPv6Interface

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netemu.errors import HostError, LocalError
from netemu.net.clock import SECOND
from netemu.stack.addresses6 import Address6, AddressState, AddressTable6
from netemu.stack.dual import DualStack
from netemu.stack.neighbour import MAX_ENTRIES
from netemu.stack.neighbour6 import NeighbourCache6, NeighbourState, Solicit
from netemu.stack.parking import MAX_PARKED
from netemu.stack.router_discovery import valid_lifetime
from netemu.wire.address import MacAddress
from netemu.wire.ether import Ethernet, EtherType
from netemu.wire.icmpv6 import Icmpv6, Icmpv6Type
from netemu.wire.ipv6 import ALL_NODES, Extension, Fragment6, IPv6, NextHeader, multicast_mac, solicited_node
from netemu.wire.ndisc import NeighbourAdvertisement, NeighbourSolicitation, Redirect, RouterSolicitation, parse_ndisc
from netemu.wire.ndisc_options import SourceLinkLayerAddress, TargetLinkLayerAddress
from netemu.wire.udp import Udp

MAC, PEER_MAC = MacAddress("52:54:00:00:00:0a"), MacAddress("52:54:00:00:00:0b")
HERE, PEER = IPv6Address("2001:db8::a"), IPv6Address("2001:db8::b")
ANY = IPv6Address("::")
PADDING = bytes((1, 4, 0, 0, 0, 0))


class Wire:
    """A host, configured, and its peer, who is the test."""

    def __init__(self) -> None:
        self.now = 0
        self.stack = DualStack(MAC, getrandbits=random.Random(1).getrandbits)
        self.stack.configure_ipv6(IPv6Interface(f"{HERE}/64"), None, 0)
        self.run_until(2 * SECOND)
        self.say(NeighbourSolicitation(HERE, (SourceLinkLayerAddress(PEER_MAC),)))
        self.stack.counters.clear()

    def run_until(self, when: int) -> None:
        while (deadline := self.stack.deadline()) is not None and deadline <= when:
            self.now = deadline
            self.stack.expire(self.now)
            self.stack.transmit(self.now)
        self.now = when

    def sent(self) -> list[IPv6]:
        frames = [Ethernet.parse(frame) for frame in self.stack.transmit(self.now)]
        return [IPv6.parse(frame.payload) for frame in frames]

    def give(self, packet: IPv6, mac: MacAddress | None = None) -> list[IPv6]:
        """What the host sends when `packet` comes."""
        destination = multicast_mac(packet.destination) if packet.destination.is_multicast else MAC
        self.stack.receive(Ethernet(mac or destination, PEER_MAC, EtherType.IPV6, packet.pack()).pack(), self.now)
        return self.sent()

    def say(self, message, destination=HERE, source=PEER, hop_limit=255) -> list[IPv6]:
        return self.give(icmp(message.icmpv6(), source, destination, hop_limit=hop_limit))


def icmp(message: Icmpv6, source=PEER, destination=HERE, **fields) -> IPv6:
    return IPv6(source, destination, NextHeader.ICMPV6, message.pack(source, destination), **fields)


def error_in(packet: IPv6) -> tuple[int, int, int, bytes]:
    message = Icmpv6.parse(packet.payload, packet.source, packet.destination)
    return message.type, message.code, message.rest, message.payload


def udp(data: bytes = b"data", port: int = 9, destination=HERE, source=PEER, **fields) -> IPv6:
    return IPv6(source, destination, NextHeader.UDP, Udp(1000, port, data).pack(source, destination), **fields)


@pytest.fixture
def wire() -> Wire:
    return Wire()


# Echo, and errors of ours.


def test_echo_is_answered(wire):
    (reply,) = wire.give(icmp(Icmpv6.echo_request(7, 8, b"payload")))
    assert (reply.source, reply.destination) == (HERE, PEER)
    assert Icmpv6.parse(reply.payload, HERE, PEER) == Icmpv6.echo_reply(7, 8, b"payload")


def test_a_large_echo_is_answered_in_fragments(wire):
    request = icmp(Icmpv6.echo_request(7, 8, bytes(2000)))
    pieces = [replace(request, payload=request.payload[:1000]), replace(request, payload=request.payload[1000:])]
    first, last = (
        replace(each, extensions=(Fragment6(at, more, 3).extension(),))
        for each, at, more in zip(pieces, (0, 1000), (True, False), strict=True)
    )
    assert wire.give(last) == []
    replies = wire.give(first)
    assert [reply.is_fragment for reply in replies] == [True, True]


def test_a_closed_port_is_told_with_the_packet_in_it(wire):
    packet = udp(bytes(3000))
    (answer,) = wire.give(packet)
    kind, code, _, quoted = error_in(answer)
    assert (kind, code) == (Icmpv6Type.DESTINATION_UNREACHABLE, 4)
    assert quoted == packet.pack()[: 1280 - 48]
    assert len(answer.pack()) == 1280


def test_an_unknown_next_header_is_told_with_its_place(wire):
    plain, behind = IPv6(PEER, HERE, 200, bytes(8)), IPv6(PEER, HERE, 200, bytes(8), extensions=(Extension(60, PADDING),))
    assert error_in(wire.give(plain)[0])[:3] == (Icmpv6Type.PARAMETER_PROBLEM, 1, 6)
    assert error_in(wire.give(behind)[0])[:3] == (Icmpv6Type.PARAMETER_PROBLEM, 1, 40)
    assert wire.give(IPv6(PEER, HERE, NextHeader.NO_NEXT_HEADER, b"anything")) == []


def test_hop_by_hop_options_come_first_or_not_at_all(wire):
    chain = bytes((0, 0, *PADDING)) + bytes((17, 0, *PADDING))
    packet = replace(udp(), next_header=NextHeader.DESTINATION_OPTIONS, payload=chain + udp().payload)
    raw = bytearray(packet.pack())
    wire.stack.receive(Ethernet(MAC, PEER_MAC, EtherType.IPV6, bytes(raw)).pack(), wire.now)
    (answer,) = wire.sent()
    assert error_in(answer) == (Icmpv6Type.PARAMETER_PROBLEM, 1, 40, bytes(raw))


OPTION = {"skip": 0x1E, "discard": 0x5E, "tell": 0x9E, "tell a unicast": 0xDE}


@pytest.mark.parametrize("kind", [NextHeader.HOP_BY_HOP, NextHeader.DESTINATION_OPTIONS])
@pytest.mark.parametrize(
    ("action", "unicast", "multicast"),
    [("skip", "port", None), ("discard", None, None), ("tell", "option", "option"), ("tell a unicast", "option", None)],
)
def test_what_an_unknown_option_wants(wire, kind, action, unicast, multicast):
    """RFC 8200 4.2: the two high bits of its type."""
    option = Extension(kind, bytes((0, OPTION[action], 3, 0, 0, 0)))
    for destination, expected in ((HERE, unicast), (ALL_NODES, multicast)):
        answers = wire.give(udp(destination=destination, extensions=(option,)))
        found = [error_in(answer)[:3] for answer in answers]
        assert found == {None: [], "port": [(1, 4, 0)], "option": [(4, 2, 43)]}[expected]
        assert all(answer.source == HERE for answer in answers)


@pytest.mark.parametrize(("segments", "answer"), [(0, (1, 4, 0)), (1, (4, 0, 42))])
@pytest.mark.parametrize("kind", [0, 4, 253])
def test_a_routing_header_with_segments_left_is_refused(wire, kind, segments, answer):
    routing = Extension(NextHeader.ROUTING, bytes((kind, segments, 0, 0, 0, 0)))
    assert error_in(wire.give(udp(extensions=(routing,)))[0])[:3] == answer


def test_an_option_that_runs_past_its_header_is_told(wire):
    assert error_in(wire.give(udp(extensions=(Extension(60, bytes((0, 1, 9, 0, 0, 0))),)))[0])[:3] == (4, 0, 44)


def test_a_bad_fragment_is_told(wire):
    header = Fragment6(0, True, 1).extension()
    assert error_in(wire.give(replace(udp(b"x"), extensions=(header,)))[0])[:3] == (4, 0, 4)


def test_a_fragment_that_makes_its_packet_too_long_is_told(wire):
    """RFC 8200 4.5, for any fragment."""
    header = Fragment6(65_528, False, 1).extension()
    assert error_in(wire.give(replace(udp(bytes(16)), extensions=(header,)))[0])[:3] == (4, 0, 42)


@pytest.mark.parametrize("next_header", [NextHeader.TCP, NextHeader.DESTINATION_OPTIONS])
def test_a_first_fragment_has_all_headers(wire, next_header):
    """RFC 8200 4.5: a parameter problem, code 3, that points at nothing."""
    first = IPv6(PEER, HERE, next_header, b"\x11\1" + bytes(6))
    assert error_in(wire.give(replace(first, extensions=(Fragment6(0, True, 1).extension(),)))[0])[:3] == (4, 3, 0)


def test_an_echo_request_for_all_is_answered_by_one(wire):
    (answer,) = wire.give(icmp(Icmpv6.echo_request(1, 1, b""), destination=ALL_NODES))
    assert (answer.source, answer.destination) == (HERE, PEER)


def test_a_packet_whose_rest_never_comes_is_told(wire):
    first = replace(udp(bytes(100)), payload=udp(bytes(100)).payload[:64], extensions=(Fragment6(0, True, 1).extension(),))
    wire.give(first)
    wire.now += 60 * SECOND
    wire.stack.expire(wire.now)
    assert error_in(wire.sent()[-1])[:2] == (Icmpv6Type.TIME_EXCEEDED, 1)


@pytest.mark.parametrize(
    "packet",
    [
        icmp(Icmpv6.unreachable(4, udp(source=HERE, destination=PEER).pack())),
        icmp(Icmpv6(Icmpv6Type.REDIRECT, 0, 0, bytes(32)), hop_limit=255),
        udp(destination=ALL_NODES),
        udp(source=ANY),
        IPv6(ANY, HERE, 200, b"12345678"),
    ],
)
def test_what_is_never_answered_with_an_error(wire, packet):
    """RFC 4443 2.4(e)."""
    assert wire.give(packet) == []


def test_errors_are_limited(wire):
    answers = [answer for _ in range(200) for answer in wire.give(udp())]
    assert len(answers) == 50
    assert wire.stack.counters["icmp6-error-rate-limited"] == 150


# What is dropped.


@pytest.mark.parametrize(
    ("packet", "counted"),
    [
        (udp(destination=IPv6Address("2001:db8::99")), "ip6-not-for-us"),
        (udp(destination=IPv6Address("::1")), "ip6-not-for-us"),
        (udp(destination=IPv6Address("ff02::99")), "ip6-not-for-us"),
        (udp(source=IPv6Address("ff02::1")), "ip6-bad-source"),
        (udp(source=IPv6Address("::1")), "ip6-bad-source"),
        (udp(source=HERE), "ip6-bad-source"),
        (icmp(Icmpv6(200, 0, 0, b"")), "icmp6-ignored"),
        (icmp(Icmpv6.echo_request(1, 1, b""), source=ANY), "icmp6-echo-unanswerable"),
        (icmp(Icmpv6.echo_reply(1, 1, b"")), "icmp-unexpected-reply"),
        (icmp(Icmpv6.unreachable(4, b"short")), "malformed-icmpv6.quotation"),
        (icmp(Icmpv6.packet_too_big(1280, udp(source=HERE, destination=PEER).pack())), "icmp6-error-unexpected"),
        (icmp(RouterSolicitation().icmpv6(), destination=ALL_NODES, hop_limit=255), "nd-solicitation-ignored"),
        (icmp(Redirect(PEER, PEER).icmpv6(), source=IPv6Address("fe80::1"), hop_limit=255), "nd-redirect-ignored"),
        (icmp(NeighbourSolicitation(PEER).icmpv6(), destination=ALL_NODES, hop_limit=255), "nd-not-for-us"),
        (icmp(NeighbourSolicitation(HERE).icmpv6(), hop_limit=254), "malformed-ipv6.hop_limit"),
        (icmp(NeighbourAdvertisement(HERE).icmpv6(), hop_limit=255), "nd-conflict"),
    ],
)
def test_what_is_dropped_is_counted(wire, packet, counted):
    assert wire.give(packet) == []
    assert wire.stack.counters[counted] == 1


def test_a_unicast_in_a_multicast_frame_is_dropped(wire):
    assert wire.give(udp(), multicast_mac(ALL_NODES)) == []
    assert wire.stack.counters == {"ip6-unicast-in-multicast": 1}


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.sampled_from([b"", udp().pack()[:40], icmp(Icmpv6.echo_request(1, 1, b"x")).pack()[:44]]))
def test_nothing_on_the_wire_raises(junk, front):
    wire = Wire()
    for mac in (MAC, multicast_mac(ALL_NODES)):
        wire.stack.receive(Ethernet(mac, PEER_MAC, EtherType.IPV6, front + junk).pack(), wire.now)
    wire.sent()
    assert len(wire.give(icmp(Icmpv6.echo_request(7, 8, b"still there")))) == 1


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 255), st.integers(0, 255), st.binary(max_size=64), st.booleans())
def test_no_message_of_icmpv6_raises(kind, code, payload, to_all):
    wire = Wire()
    destination = ALL_NODES if to_all else HERE
    wire.give(icmp(Icmpv6(kind, code, 0, payload), IPv6Address("fe80::1"), destination, hop_limit=255))
    assert len(wire.give(icmp(Icmpv6.echo_request(7, 8, b"still there")))) == 1


# Solicitations for our addresses.


def test_a_solicitation_is_answered_to_who_asks(wire):
    other = IPv6Address("2001:db8::c")
    (answer,) = wire.say(NeighbourSolicitation(HERE, (SourceLinkLayerAddress(PEER_MAC),)), solicited_node(HERE), other)
    message = parse_ndisc(Icmpv6.parse(answer.payload, answer.source, answer.destination))
    assert (answer.source, answer.destination, answer.hop_limit) == (HERE, other, 255)
    assert message == NeighbourAdvertisement(HERE, False, True, True, (TargetLinkLayerAddress(MAC),))
    assert wire.stack.ipv6.node.neighbours.state(other) is NeighbourState.STALE


def test_who_wants_our_address_is_told_with_everybody(wire):
    (answer,) = wire.say(NeighbourSolicitation(HERE), solicited_node(HERE), ANY)
    message = parse_ndisc(Icmpv6.parse(answer.payload, answer.source, answer.destination))
    assert answer.destination == ALL_NODES
    assert not message.solicited


# The neighbour cache (RFC 4861 7.2.5, appendix C).


OTHER_MAC = MacAddress("52:54:00:00:00:0c")
S = NeighbourState


def cache_in(state: NeighbourState) -> NeighbourCache6[str]:
    cache: NeighbourCache6[str] = NeighbourCache6(lambda _bits: 512)
    if state is S.INCOMPLETE:
        cache.resolve(PEER, HERE, "packet", 0)
        return cache
    cache.learn(PEER, HERE, PEER_MAC)
    if state is S.REACHABLE:
        cache.advertised(PEER, None, 0, solicited=True, override=True, is_router=False)
    elif state is not S.STALE:
        cache.resolve(PEER, HERE, "packet", 0)
        if state is S.PROBE:
            cache.expire(5 * SECOND)
    cache.events()
    assert cache.state(PEER) is state
    return cache


@pytest.mark.parametrize(
    ("before", "mac", "solicited", "override", "after", "known"),
    [
        (S.INCOMPLETE, PEER_MAC, True, False, S.REACHABLE, PEER_MAC),
        (S.INCOMPLETE, PEER_MAC, False, False, S.STALE, PEER_MAC),
        (S.INCOMPLETE, None, True, True, S.INCOMPLETE, None),
        (S.REACHABLE, OTHER_MAC, True, False, S.STALE, PEER_MAC),
        (S.STALE, OTHER_MAC, True, False, S.STALE, PEER_MAC),
        (S.PROBE, OTHER_MAC, True, False, S.PROBE, PEER_MAC),
        (S.REACHABLE, OTHER_MAC, True, True, S.REACHABLE, OTHER_MAC),
        (S.REACHABLE, OTHER_MAC, False, True, S.STALE, OTHER_MAC),
        (S.REACHABLE, PEER_MAC, False, True, S.REACHABLE, PEER_MAC),
        (S.PROBE, None, True, True, S.REACHABLE, PEER_MAC),
        (S.DELAY, PEER_MAC, True, False, S.REACHABLE, PEER_MAC),
        (S.STALE, None, False, False, S.STALE, PEER_MAC),
    ],
)
def test_what_an_advertisement_does(before, mac, solicited, override, after, known):
    cache = cache_in(before)
    cache.advertised(PEER, mac, 0, solicited=solicited, override=override, is_router=False)
    assert (cache.state(PEER), cache.lookup(PEER)) == (after, known)


def test_a_router_that_becomes_a_host_is_noticed_once():
    cache = cache_in(S.STALE)
    cache.learn(PEER, HERE, PEER_MAC, is_router=True)
    flags = {"solicited": True, "override": True, "is_router": False}
    assert [cache.advertised(PEER, None, 0, **flags) for _ in range(2)] == [True, False]


def test_advertisements_about_strangers_are_not_kept():
    cache: NeighbourCache6[str] = NeighbourCache6(lambda _bits: 0)
    cache.advertised(PEER, PEER_MAC, 0, solicited=True, override=True, is_router=False)
    assert (len(cache), cache.counters) == (0, {"nd-unsolicited-unknown": 1})


def test_reachable_is_stale_after_its_time():
    cache = cache_in(S.REACHABLE)
    cache.expire(30 * SECOND - 1)
    assert cache.state(PEER) is S.REACHABLE
    cache.expire(30 * SECOND)
    assert cache.state(PEER) is S.STALE


def test_packets_wait_up_to_a_limit_and_neighbours_too():
    cache = cache_in(S.INCOMPLETE)
    for number in range(MAX_PARKED):
        cache.resolve(PEER, HERE, str(number), 0)
    assert cache.counters == {"nd-parked-dropped": 1}
    assert cache.events() == [Solicit(PEER, HERE, None)]
    for number in range(MAX_ENTRIES):
        cache.learn(IPv6Address(number + 1), HERE, PEER_MAC)
    assert (len(cache), cache.counters["nd-evicted"]) == (MAX_ENTRIES, 1)


# Addresses.


def table(*addresses: tuple[str, AddressState]) -> AddressTable6:
    found = AddressTable6()
    for text, state in addresses:
        interface = IPv6Interface(text)
        found.addresses.append(Address6(interface.ip, interface.network.prefixlen, "static", state))
    return found


P, D, X = AddressState.PREFERRED, AddressState.DEPRECATED, AddressState.TENTATIVE


@pytest.mark.parametrize(
    ("addresses", "destination", "source"),
    [
        ([("fe80::1/64", P), ("2001:db8::1/64", P)], "2001:db8:9::1", "2001:db8::1"),
        ([("fe80::1/64", P), ("2001:db8::1/64", P)], "fe80::9", "fe80::1"),
        ([("fe80::1/64", P), ("2001:db8::1/64", P)], "ff02::1", "fe80::1"),
        ([("fe80::1/64", P), ("2001:db8::1/64", P)], "ff0e::1", "2001:db8::1"),
        ([("fe80::1/64", P)], "2001:db8:9::1", "fe80::1"),
        ([("2001:db8:1::1/64", P), ("2001:db8:2::1/64", P)], "2001:db8:2::9", "2001:db8:2::1"),
        ([("2001:db8:2::1/64", D), ("2001:db8:1::1/64", P)], "2001:db8:2::9", "2001:db8:1::1"),
        ([("2001:db8:2::1/64", D), ("fe80::1/64", P)], "2001:db8:2::9", "2001:db8:2::1"),
        ([("2001:db8::1/64", P), ("2001:db8::2/64", P)], "2001:db8::1", "2001:db8::1"),
        ([("2001:db8::1/64", P), ("2001:db8::2/64", P)], "2001:db8::9", "2001:db8::1"),
        ([("2001:db8::1/64", X)], "2001:db8::9", None),
        ([], "::1", "::1"),
    ],
)
def test_the_source_of_a_packet(addresses, destination, source):
    """RFC 6724 5, rules 1, 2, 3 and 8."""
    found = table(*addresses).source_for(IPv6Address(destination))
    assert found == (None if source is None else IPv6Address(source))


@pytest.mark.parametrize(
    ("advertised", "remaining", "kept"),
    [
        (10_000, 5_000, 10_000),
        (100, 50, 100),
        (7_201, 50_000, 7_201),
        (100, 5_000, 5_000),
        (100, 50_000, 7_200),
        (0, 0xFFFFFFFF, 7_200),
    ],
)
def test_the_rule_of_two_hours(advertised, remaining, kept):
    assert valid_lifetime(advertised, remaining) == kept


# What sockets are refused.


def test_what_cannot_be_sent(wire):
    socket = wire.stack.udp.open()
    with pytest.raises(LocalError, match="give 1 to 255"):
        wire.stack.send(HERE, PEER, 17, b"", ttl=0)
    with pytest.raises(HostError, match="EMSGSIZE"):
        wire.stack.send(HERE, PEER, 17, bytes(65_536))
    wire.stack.close()
    assert wire.stack.deadline() is None
    assert wire.sent() == []
    assert socket.local.port
