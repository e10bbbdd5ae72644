"""The in-process guest's verbs over IPv6, on a cable in virtual time; a router is a script at the other end."""

from __future__ import annotations

import errno
import random
from ipaddress import IPv6Address, IPv6Network

import pytest

from netemu.errors import HostError, LocalError, NetemuTimeoutError
from netemu.guest.inproc import InprocGuest
from netemu.guest.protocol import PingError
from netemu.net.clock import MILLISECOND, SECOND
from netemu.net.link import Link
from netemu.net.loop import VirtualLoop
from netemu.net.port import Port, connect
from netemu.wire.address import MacAddress
from netemu.wire.dhcpv6 import (
    ALL_RELAY_AGENTS_AND_SERVERS,
    Dhcpv6,
    Dhcpv6MessageType,
    Dhcpv6Option,
    IaAddress,
    IaNa,
    duid_ll,
)
from netemu.wire.dns import DnsMessage, ResponseCode, a_record
from netemu.wire.ether import Ethernet, EtherType
from netemu.wire.icmpv6 import Icmpv6, Icmpv6Type, Icmpv6UnreachableCode
from netemu.wire.ipv6 import ALL_NODES, IPv6, NextHeader, multicast_mac, solicited_node
from netemu.wire.ndisc import (
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
    RouterPreference,
    SourceLinkLayerAddress,
    TargetLinkLayerAddress,
)
from netemu.wire.udp import Udp

A, B = "2001:db8::a", "2001:db8::b"
MAC_A, MAC_B = MacAddress("52:54:00:00:00:0a"), MacAddress("52:54:00:00:00:0b")
LINK_LOCAL_A = IPv6Address("fe80::5054:ff:fe00:a")
ROUTER, ROUTER_MAC = IPv6Address("fe80::1"), MacAddress("52:54:00:00:00:01")
PREFIX = IPv6Network("2001:db8:1::/64")
FROM_PREFIX = IPv6Address("2001:db8:1::5054:ff:fe00:a")
DNS = IPv6Address("2001:db8:1::53")


class Cable:
    """Guests `a` and `b`, with static addresses unless told otherwise."""

    def __init__(self, *, mtu: int = 1500, configure: bool = True) -> None:
        self.loop = VirtualLoop()
        bits = random.Random(3).getrandbits
        self.a = InprocGuest(self.loop, "a", MAC_A, getrandbits=bits, mtu=mtu)
        self.b = InprocGuest(self.loop, "b", MAC_B, getrandbits=bits, mtu=mtu)
        self.link = Link(self.loop, "cable", self.a.port, self.b.port, delay=MILLISECOND)
        self.records = []
        self.link.taps.append(self.records.append)
        if configure:
            self.a.configure(A, 64, B)
            self.b.configure(B, 64)

    def packets(self, source: MacAddress) -> list[IPv6]:
        frames = [Ethernet.parse(record.frame) for record in self.records]
        return [IPv6.parse(frame.payload) for frame in frames if frame.ethertype == EtherType.IPV6 and frame.source == source]


class Router:
    """A guest whose link's other end is a script: it sees every packet, and sends what it is told to."""

    def __init__(self) -> None:
        self.loop = VirtualLoop()
        self.guest = InprocGuest(self.loop, "a", MAC_A, getrandbits=random.Random(3).getrandbits)
        self.port = Port(self.loop, "router")
        connect(self.guest.port, self.port)
        self.seen: list[tuple[int, IPv6]] = []
        self.replies = []  # called with each packet
        self.port.attach(self._receive)

    def _receive(self, frame, _header):
        packet = IPv6.parse(Ethernet.parse(frame).payload)
        self.seen.append((self.loop.now(), packet))
        for reply in self.replies:
            reply(packet)
        return True

    def send(self, packet: IPv6, destination: MacAddress = MAC_A) -> None:
        self.port.send(Ethernet(destination, ROUTER_MAC, EtherType.IPV6, packet.pack()).pack())

    def say(self, message, destination=ALL_NODES, source=ROUTER, hop_limit=255, mac=None) -> None:
        payload = message.icmpv6().pack(source, destination)
        mac = mac or (multicast_mac(destination) if destination.is_multicast else MAC_A)
        self.send(IPv6(source, destination, NextHeader.ICMPV6, payload, hop_limit), mac)

    def advertise_when_asked(self, message: RouterAdvertisement) -> None:
        def reply(packet):
            if isinstance(said(packet), RouterSolicitation):
                self.say(message)

        self.replies.append(reply)

    def messages(self, kind) -> list[tuple[int, IPv6]]:
        return [(when, packet) for when, packet in self.seen if isinstance(said(packet), kind)]


def said(packet: IPv6):
    """The message of neighbour discovery in a packet, or None."""
    if packet.next_header != NextHeader.ICMPV6 or packet.is_fragment:
        return None
    return parse_ndisc(Icmpv6.parse(packet.payload, packet.source, packet.destination))


def advertisement(**changes) -> RouterAdvertisement:
    options = (
        SourceLinkLayerAddress(ROUTER_MAC),
        PrefixInformation(PREFIX, 86400, 14400),
        Rdnss(600, (DNS,)),
        Dnssl(600, ("example.org", "test")),
    )
    return RouterAdvertisement(**{"options": options, **changes})


@pytest.fixture
def cable() -> Cable:
    return Cable()


@pytest.fixture
def router() -> Router:
    return Router()


# Two guests.


def test_ipv6_is_silent_until_it_is_wanted():
    cable = Cable(configure=False)
    cable.a.configure("10.0.0.1", 24)
    cable.loop.run_for(10 * SECOND)
    assert cable.records == []
    assert cable.a.ipv6_addresses == ()
    with pytest.raises(HostError) as caught:
        cable.a.tcp_connect(B, 80)
    assert caught.value.errno == errno.ENETUNREACH


def test_an_address_is_looked_for_before_it_is_used():
    cable = Cable(configure=False)
    cable.a.configure(A, 64)
    assert cable.loop.now() == SECOND
    (probe,) = [packet for packet in cable.packets(MAC_A) if said(packet) == NeighbourSolicitation(IPv6Address(A))]
    assert (probe.source, probe.destination) == (IPv6Address("::"), solicited_node(IPv6Address(A)))
    assert cable.a.ipv6_addresses == (LINK_LOCAL_A, IPv6Address(A))


def test_an_address_that_somebody_has_is_not_used(cable):
    with pytest.raises(HostError, match="somebody on the link has it") as caught:
        cable.b.configure(A, 64)
    assert caught.value.errno == errno.EADDRINUSE
    assert IPv6Address(A) not in cable.b.ipv6_addresses
    assert cable.b.stack.counters["nd-duplicate"] == 1


def test_two_who_look_for_the_same_address_both_lose_it():
    cable = Cable(configure=False)
    with cable.loop:
        layers = [guest.stack.start_ipv6(0) for guest in (cable.a, cable.b)]
        for layer in layers:
            layer.node.add(IPv6Address(A), 64, "static", 0)
    cable.loop.run_for(2 * SECOND)
    assert IPv6Address(A) not in cable.a.ipv6_addresses + cable.b.ipv6_addresses


@pytest.mark.parametrize("size", [0, 56, 1448, 1449, 65_527])
def test_ping(cable, size):
    result = cable.a.ping(B, count=2, size=size)
    assert (result.received, result.sent, result.destination) == (2, 2, IPv6Address(B))
    assert all(len(packet.pack()) <= 1500 for packet in cable.packets(MAC_A))
    assert any(packet.is_fragment for packet in cable.packets(MAC_A)) == (size > 1452)
    assert cable.a.ping("::1").ok


def test_link_local_addresses_reach_each_other(cable):
    assert cable.b.ping(LINK_LOCAL_A).ok


def test_tcp_both_ways(cable):
    data = bytes(range(256)) * 400
    with cable.b.tcp_listen(80) as listener, cable.a.tcp_connect(B, 80) as client, listener.accept() as server:
        assert (server.remote.address, server.local.address) == (IPv6Address(A), IPv6Address(B))
        client.send(data)
        client.shutdown()
        assert server.recv_all() == data
        server.send(b"thanks")
        assert client.recv_exactly(6) == b"thanks"
    assert max(len(packet.pack()) for packet in cable.packets(MAC_A)) == 1500  # full segments, none fragmented
    with pytest.raises(HostError) as caught:
        cable.a.tcp_connect(B, 81)
    assert caught.value.errno == errno.ECONNREFUSED


def test_one_listener_serves_both_families(cable):
    cable.a.configure("10.0.0.1", 24)
    cable.b.configure("10.0.0.2", 24)
    with cable.b.tcp_listen(80) as listener:
        for address in (B, "10.0.0.2"):
            with cable.a.tcp_connect(address, 80) as client, listener.accept() as server:
                assert server.remote == client.local


def test_udp_and_a_closed_port(cable):
    with cable.b.udp(7) as server, cable.a.udp() as client:
        client.send_to(bytes(3000), B, 7)
        data, source = server.recv()
        assert (len(data), source.address) == (3000, IPv6Address(A))
        client.send_to(b"x", B, 9)
        with pytest.raises(HostError) as caught:
            client.recv()
    assert caught.value.errno == errno.ECONNREFUSED


def test_a_silent_neighbour_is_unreachable(cable):
    began = cable.loop.now()
    result = cable.a.ping("2001:db8::99")
    assert result.errors == (PingError(Icmpv6Type.DESTINATION_UNREACHABLE, Icmpv6UnreachableCode.ADDRESS, None),)
    assert cable.loop.now() - began == 3 * SECOND  # MAX_MULTICAST_SOLICIT, RETRANS_TIMER


def test_without_a_route_there_is_an_error_at_once():
    cable = Cable(configure=False)
    cable.a.configure(A, 64)
    result = cable.a.ping("2001:db8:9::1")
    assert result.errors == (PingError(Icmpv6Type.DESTINATION_UNREACHABLE, Icmpv6UnreachableCode.NO_ROUTE, None),)


def test_configure_does_not_mix_families(cable):
    with pytest.raises(LocalError, match="two families"):
        cable.a.configure(A, 64, "10.0.0.2")
    with pytest.raises(LocalError, match="two families"):
        cable.a.configure("10.0.0.1", 24, B)
    with pytest.raises(LocalError, match="needs 1280"):
        Cable(mtu=1279)


# A router.


def test_slaac(router):
    router.advertise_when_asked(advertisement())
    found = router.guest.slaac()
    assert found.addresses == (FROM_PREFIX,)
    assert (found.routers, found.dns, found.search) == ((ROUTER,), (DNS,), ("example.org", "test"))
    assert (found.mtu, found.managed, found.other) == (None, False, False)
    assert router.loop.now() == SECOND  # the detection of duplicates


def test_solicitations_are_three_four_seconds_apart(router):
    with pytest.raises(NetemuTimeoutError, match="a router's advertisement"):
        router.guest.slaac(timeout=60)
    asked = router.messages(RouterSolicitation)
    assert [when for when, _ in asked] == [0, 4 * SECOND, 8 * SECOND]
    assert [said(packet).options for _, packet in asked] == [(), *[(SourceLinkLayerAddress(MAC_A),)] * 2]
    assert [packet.source for _, packet in asked] == [IPv6Address("::"), LINK_LOCAL_A, LINK_LOCAL_A]


def test_flags_and_mtu(router):
    router.advertise_when_asked(advertisement(managed=True, other=True, options=(Mtu(1400),)))
    found = router.guest.slaac()
    assert (found.addresses, found.managed, found.other, found.mtu) == ((), True, True, 1400)


@pytest.mark.parametrize("mtu", [1279, 1501])
def test_an_impossible_mtu_is_ignored(router, mtu):
    router.advertise_when_asked(advertisement(options=(Mtu(mtu),)))
    assert router.guest.slaac().mtu is None


@pytest.mark.parametrize(
    "prefix",
    [
        PrefixInformation(PREFIX, 86400, 14400, autonomous=False),
        PrefixInformation(IPv6Network("2001:db8:1::/48"), 86400, 14400),
        PrefixInformation(PREFIX, 100, 101),
        PrefixInformation(PREFIX, 0, 0),
        PrefixInformation(IPv6Network("fe80::/64"), 86400, 14400),
    ],
)
def test_no_address_is_made_from_such_a_prefix(router, prefix):
    router.advertise_when_asked(advertisement(options=(prefix,)))
    assert router.guest.slaac().addresses == ()


def test_lifetimes_end(router):
    router.advertise_when_asked(
        advertisement(router_lifetime=1800, options=(PrefixInformation(PREFIX, 100, 50), Rdnss(30, (DNS,))))
    )
    guest = router.guest
    guest.slaac()
    layer = guest.stack.ipv6
    assert layer.node.autoconfigured.dns == (DNS,)
    router.loop.run_for(30 * SECOND)
    assert layer.node.autoconfigured.dns == ()
    router.loop.run_for(70 * SECOND)
    assert layer.node.autoconfigured.addresses == ()
    assert not layer.node.discovery.is_on_link(IPv6Address("2001:db8:1::1"))
    router.loop.run_for(1700 * SECOND)
    assert layer.node.autoconfigured.routers == ()


def test_nobody_shortens_an_address_to_less_than_two_hours(router):
    router.advertise_when_asked(advertisement())
    guest = router.guest
    guest.slaac()
    router.say(advertisement(options=(PrefixInformation(PREFIX, 1, 1),)))
    router.loop.run_for(7100 * SECOND)
    assert FROM_PREFIX in guest.ipv6_addresses
    router.loop.run_for(101 * SECOND)
    assert FROM_PREFIX not in guest.ipv6_addresses


def test_a_router_that_says_goodbye_is_not_used(router):
    router.advertise_when_asked(advertisement())
    guest = router.guest
    guest.slaac()
    router.say(advertisement(router_lifetime=0))
    router.loop.run_for(0)
    assert guest.ping("2001:db8:9::1").errors[0].code == Icmpv6UnreachableCode.NO_ROUTE


def test_the_preferred_router_comes_first(router):
    router.advertise_when_asked(advertisement())
    guest = router.guest
    guest.slaac()
    better = IPv6Address("fe80::2")
    router.say(advertisement(preference=RouterPreference.HIGH), source=better)
    router.loop.run_for(0)
    assert guest.stack.ipv6.node.autoconfigured.routers == (better, ROUTER)


@pytest.mark.parametrize(
    ("change", "counted"),
    [
        ({"hop_limit": 64}, "malformed-ipv6.hop_limit"),
        ({"source": IPv6Address("2001:db8::1")}, "malformed-ipv6.source"),
    ],
)
def test_an_advertisement_that_may_be_forged_is_ignored(router, change, counted):
    guest = router.guest
    with router.loop:
        guest.stack.start_ipv6(0)
    router.say(advertisement(), **change)
    router.loop.run_for(2 * SECOND)
    assert guest.ipv6_addresses == (LINK_LOCAL_A,)
    assert guest.stack.counters[counted] == 1


def test_packets_for_elsewhere_go_to_the_router(router):
    router.advertise_when_asked(advertisement())
    router.guest.slaac()
    away = IPv6Address("2001:db8:9::1")

    def answer(packet):
        if packet.destination == away:
            request = Icmpv6.parse(packet.payload, packet.source, packet.destination)
            reply = Icmpv6.echo_reply(request.identifier, request.sequence, request.payload)
            router.send(IPv6(away, packet.source, NextHeader.ICMPV6, reply.pack(away, packet.source)))

    router.replies.append(answer)
    assert router.guest.ping(away).ok
    assert router.messages(NeighbourSolicitation)[-1][1].source == IPv6Address("::")  # its address was advertised


def test_the_path_mtu_is_learnt(router):
    router.advertise_when_asked(advertisement())
    guest, away = router.guest, IPv6Address("2001:db8:9::1")
    guest.slaac()

    def too_big(packet):
        if packet.destination == away and len(packet.pack()) > 1280:
            error = Icmpv6.packet_too_big(1280, packet.pack())
            router.send(IPv6(ROUTER, packet.source, NextHeader.ICMPV6, error.pack(ROUTER, packet.source)))

    router.replies.append(too_big)
    result = guest.ping(away, size=1400, count=2, timeout=3)
    assert result.errors[0] == PingError(Icmpv6Type.PACKET_TOO_BIG, 0, ROUTER)
    pieces = [packet for _, packet in router.seen if packet.destination == away]
    assert [packet.is_fragment for packet in pieces] == [False, True, True]
    assert guest.stack.ipv6.path_mtus.get(away, 1500, router.loop.now()) == 1280


def test_resolve_asks_for_one_family(cable):
    answer_with(cable.b, [a_record("host.test", IPv6Address(A), 60)])
    assert cable.a.resolve("host.test", server=B, family=6) == [IPv6Address(A)]
    assert cable.a.resolve("host.test", server=B) == []


def answer_with(guest, records):
    """A name server on a guest that has these records."""
    socket = guest.stack.udp.open(53)

    def answer(data, source):
        query = DnsMessage.parse(data)
        kept = tuple(record for record in records if record.type == query.questions[0].type)
        reply = DnsMessage(query.identification, query.questions, kept, response=True, response_code=ResponseCode.NO_ERROR)
        socket.send_to(reply.pack(), source)

    socket.on_datagram = answer


# Neighbour unreachability detection.


def test_a_neighbour_that_leaves_is_noticed(router):
    guest = router.guest
    guest.configure(A, 64)
    peer = IPv6Address(B)

    def answer(packet):
        message = said(packet)
        if isinstance(message, NeighbourSolicitation) and message.target == peer:
            advertised = NeighbourAdvertisement(peer, False, True, True, (TargetLinkLayerAddress(ROUTER_MAC),))
            router.say(advertised, IPv6Address(A), peer)

    router.replies.append(answer)
    with guest.udp() as socket:
        socket.send_to(b"x", B, 9)
        router.loop.run_for(SECOND)
        router.replies.clear()
        router.loop.run_for(60 * SECOND)
        asked = len(router.messages(NeighbourSolicitation))
        socket.send_to(b"x", B, 9)  # STALE, so DELAY, then PROBE
        began = router.loop.now()
        router.loop.run_for(20 * SECOND)
        probes = router.messages(NeighbourSolicitation)[asked:]
        assert [when - began for when, _ in probes] == [5 * SECOND, 6 * SECOND, 7 * SECOND]
        assert {packet.destination for _, packet in probes} == {peer}
        assert guest.stack.ipv6.node.neighbours.state(peer) is None


# DHCPv6.


SERVER_DUID = duid_ll(ROUTER_MAC)
LEASED = IPv6Address("2001:db8:1::15")


def serve_dhcp6(router, *, taken=()) -> list[Dhcpv6]:
    """A server on the router's side, which leases LEASED and then the next ones; the messages that it sees."""
    seen: list[Dhcpv6] = []
    free = iter([LEASED, LEASED + 1])
    current = [next(free)]

    def reply(packet):
        message = said(packet)
        if isinstance(message, NeighbourSolicitation) and message.target in taken:
            answer = NeighbourAdvertisement(message.target, False, False, True, (TargetLinkLayerAddress(ROUTER_MAC),))
            router.say(answer, ALL_NODES, message.target)
        if packet.next_header != NextHeader.UDP:
            return
        assert (packet.destination, packet.source) == (ALL_RELAY_AGENTS_AND_SERVERS, LINK_LOCAL_A)
        query = Dhcpv6.parse(Udp.parse(packet.payload, packet.source, packet.destination).payload)
        seen.append(query)
        if query.message_type == Dhcpv6MessageType.DECLINE:
            current[0] = next(free)
        kind = Dhcpv6MessageType.ADVERTISE if query.message_type == Dhcpv6MessageType.SOLICIT else Dhcpv6MessageType.REPLY
        options = [(Dhcpv6Option.CLIENTID, query.client_id), (Dhcpv6Option.SERVERID, SERVER_DUID)]
        options += [(Dhcpv6Option.DNS_SERVERS, DNS.packed), (Dhcpv6Option.PREFERENCE, b"\xff")]
        if query.ia_nas:
            options.append((Dhcpv6Option.IA_NA, IaNa(1, 50, 80, (IaAddress(current[0], 100, 200),)).pack()))
        payload = Udp(547, 546, Dhcpv6(kind, query.transaction_id, tuple(options)).pack()).pack(ROUTER, packet.source)
        router.send(IPv6(ROUTER, packet.source, NextHeader.UDP, payload))

    router.replies.append(reply)
    return seen


def test_dhcp6(router):
    seen = serve_dhcp6(router)
    lease = router.guest.dhcp6()
    assert (lease.address, lease.dns, lease.server) == (LEASED, (DNS,), SERVER_DUID)
    assert router.guest.ipv6_addresses == (LINK_LOCAL_A, LEASED)
    assert router.loop.now() == 2 * SECOND  # both addresses were looked for
    router.loop.run_for(49 * SECOND)
    kinds = [message.message_type for message in seen]
    assert kinds == [Dhcpv6MessageType.SOLICIT, Dhcpv6MessageType.REQUEST, Dhcpv6MessageType.RENEW]
    router.guest.release6()
    assert seen[-1].message_type == Dhcpv6MessageType.RELEASE
    assert router.guest.ipv6_addresses == (LINK_LOCAL_A,)
    with pytest.raises(LocalError, match=r"call dhcp6\(\) first"):
        router.guest.release6()


def test_dhcp6_for_parameters_alone(router):
    seen = serve_dhcp6(router)
    lease = router.guest.dhcp6(stateless=True)
    assert (lease.address, lease.dns) == (None, (DNS,))
    assert [message.message_type for message in seen] == [Dhcpv6MessageType.INFORMATION_REQUEST]


def test_an_address_that_somebody_has_is_declined(router):
    seen = serve_dhcp6(router, taken={LEASED})
    assert router.guest.dhcp6().address == LEASED + 1
    assert Dhcpv6MessageType.DECLINE in [message.message_type for message in seen]


def test_dhcp6_without_a_server(router):
    with pytest.raises(NetemuTimeoutError, match="a DHCPv6 lease"):
        router.guest.dhcp6(timeout=30)


def test_a_guest_that_is_closed_says_nothing_more(router):
    router.advertise_when_asked(advertisement())
    serve_dhcp6(router)
    router.guest.slaac()
    router.guest.dhcp6()
    router.guest.close()
    count = len(router.seen)
    router.loop.run_for(1000 * SECOND)
    assert len(router.seen) == count
    assert router.guest.ipv6_addresses == ()


def test_a_second_lease_takes_the_place_of_the_first(router):
    serve_dhcp6(router)
    router.guest.dhcp6()
    assert router.guest.dhcp6().address == LEASED
    assert router.guest.dhcp6(stateless=True).address is None
    assert router.guest.ipv6_addresses == (LINK_LOCAL_A,)


def test_no_router_gives_addresses_without_end(router):
    guest = router.guest
    router.advertise_when_asked(advertisement())
    guest.slaac()
    for number in range(4):
        networks = [IPv6Network((int(PREFIX.network_address) + (100 * number + low << 64), 64)) for low in range(1, 41)]
        router.say(advertisement(options=tuple(PrefixInformation(network, 86400, 14400) for network in networks)))
    router.loop.run_for(2 * SECOND)
    assert len(guest.ipv6_addresses) == 32
    assert guest.stack.counters["nd-addresses-full"] == 4 * 40 - 30


# Redirects.


BETTER, BETTER_MAC = IPv6Address("fe80::2"), MacAddress("52:54:00:00:00:02")
AWAY = IPv6Address("2001:db8:9::1")


@pytest.mark.parametrize(
    ("target", "source", "believed"),
    [
        (BETTER, ROUTER, True),
        (AWAY, ROUTER, True),  # it is on the link after all
        (IPv6Address("2001:db8:1::9"), ROUTER, False),
        (BETTER, BETTER, False),  # not the router that was used
    ],
)
def test_redirects(router, target, source, believed):
    router.advertise_when_asked(advertisement())
    guest = router.guest
    guest.slaac()
    router.say(Redirect(target, AWAY, (TargetLinkLayerAddress(BETTER_MAC),)), FROM_PREFIX, source)
    router.loop.run_for(0)
    node = guest.stack.ipv6.node
    assert node.next_hop(AWAY) == (target if believed else ROUTER)
    assert guest.stack.counters["nd-redirect-ignored"] == (not believed)
    assert node.neighbours.lookup(target) == (BETTER_MAC if believed else None)
    assert node.next_hop(AWAY + 1) == ROUTER


def test_a_group_is_nobodys_link_layer_address(router):
    options = (SourceLinkLayerAddress(multicast_mac(ALL_NODES)), PrefixInformation(PREFIX, 86400, 14400))
    router.advertise_when_asked(advertisement(options=options))
    router.guest.slaac()
    assert router.guest.stack.ipv6.node.neighbours.lookup(ROUTER) is None
