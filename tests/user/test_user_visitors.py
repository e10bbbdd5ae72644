"""As what guests see the peers of forwarded ports, and that they can answer them."""

from ipaddress import IPv4Address, IPv6Address

import pytest
import user_driver6
from test_user_hostfwd import answer_syn
from user_driver import GATEWAY, GUEST, SERVER, Lab

from netemu.user.options import UserOptions
from netemu.wire.address import Endpoint, IPAddress
from netemu.wire.arp import ArpOperation
from netemu.wire.tcp import ACK, PSH, Tcp

NEIGHBOUR = IPv4Address("10.0.2.77")
LOCALHOST = IPv4Address("127.0.0.1")


def visit(lab: Lab, source: IPv4Address) -> IPAddress:
    """Who a UDP datagram from `source` comes from; an answer to that reaches `source`."""
    with lab.host.udp(source, 6000) as client:
        client.send_to(b"q", lab.host.address if source != LOCALHOST else LOCALHOST, 5353)
        seen = lab.one()
        assert seen.ip is not None
        assert seen.udp is not None
        lab.udp(seen.ip.source, seen.udp.source_port, b"a", source_port=53)
        assert client.recv().data == b"a"
        return seen.ip.source


@pytest.mark.parametrize(
    ("mode", "seen"),
    [
        ("auto", {SERVER: SERVER, NEIGHBOUR: GATEWAY, LOCALHOST: GATEWAY}),
        ("gateway", {SERVER: GATEWAY, NEIGHBOUR: GATEWAY, LOCALHOST: GATEWAY}),
        ("peer", {SERVER: SERVER, NEIGHBOUR: NEIGHBOUR, LOCALHOST: LOCALHOST}),
    ],
)
def test_who_is_seen_as_what(mode: str, seen: dict[IPv4Address, IPv4Address]) -> None:
    lab = Lab(UserOptions.from_pairs([("hostfwd-source", mode), ("hostfwd", "udp:0.0.0.0:5353-:53")]))
    lab.host.add_address(NEIGHBOUR)
    assert {source: visit(lab, source) for source in seen} == seen


def test_a_neighbour_that_is_shown_is_found_on_the_link() -> None:
    lab = Lab(UserOptions(hostfwd_source="peer", hostfwd=("tcp:0.0.0.0:2222-:22",)))
    lab.host.add_address(NEIGHBOUR)
    lab.arp(ArpOperation.REQUEST, NEIGHBOUR)
    assert lab.take() == []
    stream = lab.host.open_stream(Endpoint(lab.host.address, 2222), Endpoint(NEIGHBOUR, 0))
    opening = answer_syn(lab)
    lab.take()
    lab.arp(ArpOperation.REQUEST, NEIGHBOUR)
    answer = lab.one().arp
    assert answer is not None
    assert (answer.sender_ip, answer.sender_mac) == (NEIGHBOUR, lab.network.mac)
    (flow,) = lab.network.flows()
    assert flow.remote == stream.local == Endpoint(NEIGHBOUR, opening.source_port)
    lab.tcp(NEIGHBOUR, Tcp(22, opening.source_port, 5001, opening.sequence + 1, ACK | PSH, 65_535, b"banner"))
    lab.run()
    assert stream.available() == 6


@pytest.mark.parametrize("address", ["10.0.2.16", str(GUEST), "10.0.2.60"])
def test_an_address_that_a_guest_may_have_is_not_shown(address: str) -> None:
    lease = [("static-lease", "52:54:00:00:00:60=10.0.2.60")]
    lab = Lab(UserOptions.from_pairs([("hostfwd-source", "peer"), ("hostfwd", "udp:0.0.0.0:5353-:53"), *lease]))
    lab.host.add_address(address)
    assert visit(lab, IPv4Address(address)) == GATEWAY


def test_shown_addresses_are_bounded() -> None:
    lab = Lab(UserOptions(hostfwd_source="peer", hostfwd=("udp:0.0.0.0:5353-:53",)))
    lab.arp(ArpOperation.REQUEST, GATEWAY)
    lab.take()
    socket = lab.host.udp_ports.find(Endpoint(lab.host.address, 5353))
    for number in range(300):
        socket.arrive(b"x", Endpoint(LOCALHOST + 256 + number, 6000), 64)
    sources = [seen.ip.source for seen in lab.take() if seen.ip]
    assert sources[:256] == [LOCALHOST + 256 + number for number in range(256)]
    assert sources[256:] == [GATEWAY] * 44


@pytest.mark.parametrize(("mode", "seen"), [("auto", "fec0::2"), ("peer", "fec0::77"), ("gateway", "fec0::2")])
def test_a_neighbour_in_ipv6(mode: str, seen: str) -> None:
    options = UserOptions.from_pairs([("hostfwd-source", mode), ("hostfwd", "udp:[::]:5353-[fec0::15]:53")])
    lab = user_driver6.Lab6(options)
    lab.host.add_address("fec0::77")
    with lab.host.udp("fec0::77", 6000) as client:
        client.send_to(b"q", lab.host.address6, 5353)
        arrived = lab.one()
        assert arrived.ip.source == IPv6Address(seen)
        lab.udp(arrived.ip.source, 6000, b"a", source_port=53)
        assert client.recv().data == b"a"


def test_a_peer_of_the_other_family_is_the_gateway() -> None:
    lab = user_driver6.Lab6(UserOptions(hostfwd_source="peer", hostfwd=("udp:127.0.0.1:5353-[fec0::15]:53",)))
    with lab.host.udp("127.0.0.1", 6000) as client:
        client.send_to(b"q", "127.0.0.1", 5353)
        assert lab.one().ip.source == user_driver6.GATEWAY
