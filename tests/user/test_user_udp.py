"""UDP through the network: mappings, who may answer, errors, timeouts (RFC 4787)."""

import errno
from ipaddress import IPv4Address

import pytest
from user_driver import DNS, GATEWAY, GUEST, SERVER, SMB, Lab, Seen, unreachable

from netemu.io.simsockets import SimDatagram
from netemu.user.options import UserOptions
from netemu.user.udp import MAPPING_TIMEOUT
from netemu.wire.address import Endpoint
from netemu.wire.arp import ArpOperation
from netemu.wire.ipv4 import IPv4, Protocol
from netemu.wire.udp import Udp

OTHER = IPv4Address("198.51.100.8")
FAR = IPv4Address("203.0.113.9")


def is_datagram(seen: Seen, source: IPv4Address, port: int, data: bytes, to_port: int = 5000) -> None:
    assert seen.udp is not None, seen
    assert seen.ip is not None
    assert (seen.ip.source, seen.udp.source_port, seen.udp.payload) == (source, port, data)
    assert (seen.ip.destination, seen.udp.destination_port) == (GUEST, to_port)


def test_there_and_back_with_the_guests_own_port() -> None:
    lab = Lab()
    with lab.host.udp(SERVER, 9) as server:
        lab.udp(SERVER, 9, b"question")
        received = server.recv()
        assert received.data == b"question"
        assert received.source == Endpoint(lab.host.address, 5000)
        server.send_to(b"answer", received.source.address, received.source.port)
        is_datagram(lab.one(), SERVER, 9, b"answer")
    (flow,) = lab.network.flows()
    assert (flow.protocol, flow.guest, flow.remote, flow.sent, flow.received) == ("udp", Endpoint(GUEST, 5000), None, 8, 6)


def test_another_port_where_the_guests_is_taken() -> None:
    lab = Lab()
    with lab.host.udp("0.0.0.0", 5000), lab.host.udp(SERVER, 9) as server:
        lab.udp(SERVER, 9, b"question")
        source = server.recv().source
        assert source.port != 5000
        server.send_to(b"answer", source.address, source.port)
        is_datagram(lab.one(), SERVER, 9, b"answer")


def test_one_mapping_for_all_destinations() -> None:
    """REQ-1: endpoint-independent mapping."""
    lab = Lab()
    lab.host.add_address(OTHER)
    with lab.host.udp(SERVER, 9) as first, lab.host.udp(OTHER, 10) as second:
        lab.udp(SERVER, 9, b"1")
        lab.udp(OTHER, 10, b"2")
        assert first.recv().source == second.recv().source
    assert len(lab.network.flows()) == 1


def test_only_addresses_that_were_sent_to_get_in() -> None:
    """REQ-8: address-dependent filtering; the network is a firewall."""
    lab = Lab()
    lab.host.add_address(OTHER)
    with lab.host.udp(SERVER, 9) as server, lab.host.udp(SERVER, 10) as neighbour, lab.host.udp(OTHER, 9) as stranger:
        lab.udp(SERVER, 9, b"question")
        mapped = server.recv().source
        stranger.send_to(b"unasked", mapped.address, mapped.port)
        assert lab.take() == []
        assert lab.counters["udp-filtered"] == 1
        neighbour.send_to(b"asked", mapped.address, mapped.port)
        is_datagram(lab.one(), SERVER, 10, b"asked")


def test_the_gateway_is_the_hosts_loopback() -> None:
    lab = Lab()
    with lab.host.udp("127.0.0.1", 9) as server:
        lab.udp(GATEWAY, 9, b"question")
        received = server.recv()
        assert str(received.source.address) == "127.0.0.1"
        server.send_to(b"answer", received.source.address, received.source.port)
        is_datagram(lab.one(), GATEWAY, 9, b"answer")


@pytest.mark.parametrize("destination", [GATEWAY, SERVER])
def test_a_closed_port_is_reported_by_the_address_the_guest_used(destination: IPv4Address) -> None:
    lab = Lab()
    packet = lab.udp(destination, 9, b"x" * 100)
    unreachable(lab.one(), 3, packet, destination)
    assert lab.counters["udp-unreachable"] == 1


@pytest.mark.parametrize(("destination", "port"), [(DNS, 54), (SMB, 137)])
def test_closed_ports_of_our_own(destination: IPv4Address, port: int) -> None:
    lab = Lab()
    packet = lab.udp(destination, port, b"x")
    unreachable(lab.one(), 3, packet, destination)
    assert lab.network.flows() == ()


def test_the_error_is_about_the_right_datagram() -> None:
    lab = Lab()
    lab.host.add_address(OTHER)
    with lab.host.udp(SERVER, 9):
        lab.udp(OTHER, 77, b"lost")
        lab.udp(SERVER, 9, b"arrives")
        seen = lab.one()
    assert seen.icmp is not None
    quoted = IPv4.parse(seen.icmp.payload)
    assert (quoted.destination, Udp.parse(quoted.payload).payload) == (OTHER, b"lost")


@pytest.mark.parametrize(("error", "code"), [(errno.ENETUNREACH, 0), (errno.EHOSTUNREACH, 1)])
@pytest.mark.parametrize("reporter", [None, "192.0.2.1"])
def test_unreachable(error: int, code: int, reporter: str | None) -> None:
    lab = Lab()
    lab.host.unreachable("203.0.113.0/24", error, reporter=reporter)
    packet = lab.udp(FAR, 9, b"x")
    unreachable(lab.one(), code, packet, GATEWAY)
    assert [refusal.destination for refusal in lab.user.refusals] == ([FAR] if reporter is None else [])


def test_mappings_end_after_five_minutes_of_silence_and_use_prolongs_them() -> None:
    lab = Lab()
    with lab.host.udp(SERVER, 9) as server:
        lab.udp(SERVER, 9, b"a")
        mapped = server.recv().source
        lab.run(299)
        lab.udp(SERVER, 9, b"b")  # outbound refresh, REQ-6
        lab.run(299)
        server.send_to(b"c", mapped.address, mapped.port)
        lab.run(299)
        assert len(lab.network.flows()) == 1
        lab.run(1)
        assert lab.network.flows() == ()
        assert len(lab.take()) == 1
        server.send_to(b"d", mapped.address, mapped.port)
        assert lab.take() == []
        assert [socket.local.port for socket in lab.host.udp_ports] == [9]


def test_closing_closes_every_socket() -> None:
    lab = Lab()
    lab.host.blackhole("203.0.113.0/24")
    lab.udp(FAR, 9, b"x")
    lab.run()
    assert len(list(lab.host.udp_ports)) == 1
    lab.user.close()
    assert list(lab.host.udp_ports) == []


def test_a_mapping_remembers_the_last_64_remotes() -> None:
    lab = Lab()
    lab.host.blackhole("203.0.113.0/24")
    remotes = [IPv4Address(f"203.0.113.{last}") for last in range(1, 66)]
    for remote in remotes:
        lab.udp(remote, 9, b"x")
    lab.take()
    (socket,) = lab.host.udp_ports
    for remote in remotes:
        socket.arrive(b"y", Endpoint(remote, 9), 64)
    assert [seen.ip.source for seen in lab.take() if seen.ip] == remotes[1:]
    assert lab.counters["udp-filtered"] == 1


def test_what_comes_for_a_mapping_that_has_just_ended_is_dropped() -> None:
    lab = Lab()
    with lab.host.udp(SERVER, 9):
        lab.udp(SERVER, 9, b"x")
        lab.run()
        socket = lab.host.udp_ports.find(Endpoint(lab.host.address, 5000))
        assert isinstance(socket, SimDatagram)
        socket.arrive(b"late", Endpoint(SERVER, 9), 64)
        lab.network.expire(MAPPING_TIMEOUT)
        assert list(lab.network.transmit(MAPPING_TIMEOUT)) == []
        assert lab.counters["udp-late"] == 1


def test_the_longest_idle_mapping_gives_way() -> None:
    lab = Lab()
    with lab.host.udp(SERVER, 9) as server:
        for port in range(1025):
            lab.udp(SERVER, 9, b"x", source_port=1024 + port)
        lab.run()
        assert len(lab.network.flows()) == 1024
        assert lab.counters["udp-evicted"] == 1
        server.send_to(b"late", lab.host.address, 1024)
        server.send_to(b"early", lab.host.address, 1025)
        is_datagram(lab.one(), SERVER, 9, b"early", 1025)


def test_the_ttl_goes_on_less_one() -> None:
    lab = Lab()
    server = lab.host.open_datagram(Endpoint(SERVER, 9))
    server.on_datagram = lambda data, source: None
    lab.udp(SERVER, 9, b"x", ttl=17)
    lab.run()
    assert server.last_ttl == 16


def test_the_host_itself_costs_no_hop() -> None:
    lab = Lab()
    server = lab.host.open_datagram(Endpoint(IPv4Address("127.0.0.1"), 9))
    server.on_datagram = lambda data, source: None
    lab.udp(GATEWAY, 9, b"x", ttl=1)
    lab.run()
    assert server.last_ttl == 1


def test_large_datagrams_both_ways() -> None:
    lab = Lab()
    data = bytes(range(256)) * 200
    with lab.host.udp(SERVER, 9) as server:
        lab.udp(SERVER, 9, data)
        received = server.recv()
        assert received.data == data
        server.send_to(data, received.source.address, received.source.port)
        pieces = [seen.ip for seen in lab.take() if seen.ip]
    assert len(pieces) == 35
    whole = b"".join(piece.payload for piece in pieces)
    assert Udp.parse(whole, SERVER, GUEST).payload == data


def test_empty_datagrams_are_datagrams() -> None:
    lab = Lab()
    with lab.host.udp(SERVER, 9) as server:
        lab.udp(SERVER, 9, b"")
        assert server.recv().data == b""


def test_a_datagram_without_checksum_passes() -> None:
    lab = Lab()
    octets = bytearray(Udp(5000, 9, b"none").pack(GUEST, SERVER))
    octets[6:8] = b"\0\0"
    with lab.host.udp(SERVER, 9) as server:
        lab.ip(lab.packet(SERVER, Protocol.UDP, bytes(octets)))
        assert server.recv().data == b"none"


def test_restricted() -> None:
    lab = Lab(UserOptions(restrict=True))
    with lab.host.udp("127.0.0.1", 9) as local, lab.host.udp(SERVER, 9) as server:
        for destination in (GATEWAY, SERVER, DNS):
            packet = lab.udp(destination, 53 if destination == DNS else 9, b"\0" * 12)
            unreachable(lab.one(), 13, packet, GATEWAY)
        assert not local._received
        assert not server._received
    assert lab.counters["restricted"] == 3
    assert lab.network.flows() == ()


def test_a_host_that_talks_too_much_between_two_turns_loses_datagrams() -> None:
    lab = Lab()
    with lab.host.udp(SERVER, 9) as server:
        lab.arp(ArpOperation.REQUEST, GATEWAY)
        lab.udp(SERVER, 9, b"x")
        server.recv()
        lab.take()
        mapping = next(iter(lab.network._udp._mappings))
        for number in range(2000):
            mapping.socket.on_train(b"%4d" % number, 4, Endpoint(SERVER, 9))
        assert len(lab.take()) == 1024
    assert lab.counters["inbox-full"] == 976
