"""The guest's DHCP client on its way to a lease: what it says, what it believes, that it asks again (RFC 2131 3.1, 4.1, 4.4.1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from netemu.net.clock import SECOND
from netemu.wire.address import BROADCAST_MAC, MacAddress
from netemu.wire.arp import Arp, ArpOperation
from netemu.wire.dhcpv4 import BOOTREQUEST, SERVER_PORT, DhcpMessageType, DhcpOption, Dhcpv4
from netemu.wire.ether import Ethernet, EtherType
from netemu.wire.ipv4 import IPv4
from netemu.wire.udp import Udp
from pytest_netemu.packet import Packet
from pytest_netemu.station import ANY, LIMITED_BROADCAST
from pytest_netemu.suites import judges
from pytest_netemu.wire import Wire
from pytest_netemu.wire_dhcp import DhcpServer

pytestmark = pytest.mark.netemu_requires("dhcp4")

_DISCOVER, _REQUEST, _DECLINE = DhcpMessageType.DISCOVER, DhcpMessageType.REQUEST, DhcpMessageType.DECLINE
_COOKIE = slice(236, 240)  # where the magic cookie is in a message
_STRANGER = MacAddress("52:54:00:00:00:66")
_WRONG = IPv4Address("10.0.2.66")  # an address that only a message gives which is to be ignored


def _leased(wire: Wire) -> DhcpServer:
    """A server that gave the guest its lease."""
    server = DhcpServer(wire)
    wire.guest.dhcp4()
    return server


def _discover(server: DhcpServer) -> Packet:
    return server.heard(_DISCOVER)[0]


def _request(server: DhcpServer) -> Packet:
    return server.heard(_REQUEST)[0]


def _twice(server: DhcpServer) -> tuple[Packet, Packet]:
    """The two DISCOVERs of a client that had to begin twice."""
    heard = server.heard(_DISCOVER)
    assert len(heard) == 2
    return heard[0], heard[1]


def _answers_late(server: DhcpServer, kind: DhcpMessageType) -> None:
    """The first message of that kind is not answered."""
    usual = server.replies[kind]
    server.replies[kind] = lambda message: usual(message) if len(server.heard(kind)) > 1 else ()


# What it says


@judges("rfc2131/3/01")
def test_messages_have_the_magic_cookie(netemu_wire: Wire) -> None:
    for packet in _leased(netemu_wire).heard():
        assert packet[Udp].payload[_COOKIE] == bytes((99, 130, 83, 99))


@judges("rfc2131/2/03")
def test_hops_are_the_relays(netemu_wire: Wire) -> None:
    assert {packet[Dhcpv4].hops for packet in _leased(netemu_wire).heard()} == {0}


@judges("rfc2131/2/05")
def test_an_address_not_yet_leased_is_not_the_clients(netemu_wire: Wire) -> None:
    server = _leased(netemu_wire)
    assert {packet[Dhcpv4].ciaddr for packet in server.heard(_DISCOVER, _REQUEST)} == {ANY}


@judges("rfc2131/3.1/01")
def test_a_client_says_which_server_it_chose(netemu_wire: Wire) -> None:
    server = DhcpServer(netemu_wire)
    server.identifier = netemu_wire.address + 1
    netemu_wire.guest.dhcp4()
    assert _request(server)[Dhcpv4].server_identifier == server.identifier


@judges("rfc2131/3.1/02")
def test_a_client_asks_for_what_was_offered(netemu_wire: Wire) -> None:
    assert _request(_leased(netemu_wire))[Dhcpv4].requested_address == netemu_wire.opposite


@judges("rfc2131/3.1/03")
def test_request_and_discover_go_the_same_way(netemu_wire: Wire) -> None:
    server = DhcpServer(netemu_wire)
    _answers_late(server, _DISCOVER)
    netemu_wire.guest.dhcp4()
    discover, request = server.heard(_DISCOVER)[-1], _request(server)
    assert request[Dhcpv4].secs == discover[Dhcpv4].secs
    assert request[IPv4].destination == discover[IPv4].destination


@judges("rfc2131/3.5/01")
def test_a_client_says_how_long_a_message_may_be(netemu_wire: Wire) -> None:
    assert DhcpOption.MAXIMUM_DHCP_MESSAGE_SIZE in _discover(_leased(netemu_wire))[Dhcpv4].options


@judges("rfc2132/9.10/01")
def test_a_message_may_have_576_octets(netemu_wire: Wire) -> None:
    for packet in _leased(netemu_wire).heard():
        size = packet[Dhcpv4].options.get(DhcpOption.MAXIMUM_DHCP_MESSAGE_SIZE)
        assert size is None or int.from_bytes(size) >= 576


@judges("rfc2131/4.1/07")
def test_each_lease_has_a_transaction_of_its_own(netemu_wire: Wire) -> None:
    server = DhcpServer(netemu_wire)
    for _ in range(3):
        netemu_wire.guest.dhcp4()
    assert len({packet[Dhcpv4].xid for packet in server.heard()}) == 3


@judges("rfc2131/4.1/08")
def test_messages_go_to_the_servers_port(netemu_wire: Wire) -> None:
    assert {packet[Udp].destination_port for packet in _leased(netemu_wire).heard()} == {SERVER_PORT}


@judges("rfc2131/4.1/09")
def test_a_client_without_an_address_sends_from_none(netemu_wire: Wire) -> None:
    assert {packet[IPv4].source for packet in _leased(netemu_wire).heard(_DISCOVER, _REQUEST)} == {ANY}


@judges("rfc2131/4.1/10")
def test_the_last_option_is_the_end(netemu_wire: Wire) -> None:
    for packet in _leased(netemu_wire).heard():
        assert packet[Udp].payload.rstrip(b"\0")[-1] == 255


@judges("rfc2131/4.1/12")
def test_a_client_that_can_be_told_alone_asks_for_no_broadcast(netemu_wire: Wire) -> None:
    """That it can is seen from its lease, for the server broadcasts nothing."""
    assert not _discover(_leased(netemu_wire))[Dhcpv4].broadcast


@judges("rfc2131/4.4.1/05")
def test_a_client_says_its_hardware_address(netemu_wire: Wire) -> None:
    assert {packet[Dhcpv4].chaddr for packet in _leased(netemu_wire).heard()} == {netemu_wire.guest.mac}


@judges("rfc2131/4.4.1/06")
def test_what_was_asked_for_is_asked_for_again(netemu_wire: Wire) -> None:
    server = _leased(netemu_wire)
    discover, request = _discover(server)[Dhcpv4].options, _request(server)[Dhcpv4].options
    assert request.get(DhcpOption.PARAMETER_REQUEST_LIST) == discover.get(DhcpOption.PARAMETER_REQUEST_LIST)


@judges("rfc2131/4.4.1/07")
def test_a_request_belongs_to_its_offer(netemu_wire: Wire) -> None:
    server = _leased(netemu_wire)
    assert _request(server)[Dhcpv4].xid == _discover(server)[Dhcpv4].xid


@judges("rfc2131/4.4.1/08")
def test_a_discover_goes_to_everybody(netemu_wire: Wire) -> None:
    discover = _discover(_leased(netemu_wire))
    assert (discover[Ethernet].destination, discover[IPv4].destination) == (BROADCAST_MAC, LIMITED_BROADCAST)


@judges("rfc2132/9.7/02")
def test_one_of_two_offers_is_chosen(netemu_wire: Wire) -> None:
    server = DhcpServer(netemu_wire)
    other: dict[int, bytes] = {DhcpOption.SERVER_IDENTIFIER: (netemu_wire.address + 1).packed}
    server.replies[_DISCOVER] = lambda message: [server.offer(message), server.offer(message, other, _WRONG)]
    netemu_wire.guest.dhcp4()
    request = _request(server)[Dhcpv4]
    offers = {server.identifier: netemu_wire.opposite, netemu_wire.address + 1: _WRONG}
    assert request.server_identifier in offers
    assert request.requested_address == offers[request.server_identifier]


# What it believes


def _ignores(wire: Wire, kind: DhcpMessageType, spoil: Callable[[Dhcpv4], Dhcpv4]) -> None:
    """A reply to messages of `kind` that is spoilt gives another address than the good one behind it."""
    server = DhcpServer(wire)
    said = {_DISCOVER: server.offer, _REQUEST: server.ack}[kind]
    server.replies[kind] = lambda message: [spoil(said(message, None, _WRONG)), said(message)]
    assert wire.guest.dhcp4().address == wire.opposite


@judges("rfc2131/4.4.1/03")
def test_an_offer_of_another_transaction_is_ignored(netemu_wire: Wire) -> None:
    _ignores(netemu_wire, _DISCOVER, lambda offer: replace(offer, xid=offer.xid ^ 1))


@judges("rfc2131/4.1/20")
def test_a_grant_of_another_transaction_is_ignored(netemu_wire: Wire) -> None:
    _ignores(netemu_wire, _REQUEST, lambda ack: replace(ack, xid=ack.xid ^ 1))


@judges("rfc2131/2/02")
def test_what_a_client_says_is_no_reply(netemu_wire: Wire) -> None:
    _ignores(netemu_wire, _DISCOVER, lambda offer: replace(offer, op=BOOTREQUEST))


@judges("rfc2131/2/08")
@pytest.mark.parametrize("kind", [_DISCOVER, _REQUEST], ids=["offer", "ack"])
def test_what_is_said_to_another_is_ignored(netemu_wire: Wire, kind: DhcpMessageType) -> None:
    _ignores(netemu_wire, kind, lambda reply: replace(reply, chaddr=_STRANGER))


@judges("rfc2131/4.4.1/04")
def test_a_grant_of_what_was_not_asked_for_is_ignored(netemu_wire: Wire) -> None:
    server = DhcpServer(netemu_wire)
    server.replies[_DISCOVER] = lambda message: [server.ack(message, None, _WRONG), server.offer(message)]
    assert netemu_wire.guest.dhcp4().address == netemu_wire.opposite


@judges("rfc2131/3/01")
def test_a_reply_without_the_cookie_is_no_offer(netemu_wire: Wire) -> None:
    server = DhcpServer(netemu_wire)

    def wrong_first(message: Dhcpv4) -> list[Dhcpv4 | bytes]:
        octets = bytearray(server.offer(message, None, _WRONG).pack())
        octets[_COOKIE] = b"\x63\x82\x53\x64"
        return [bytes(octets), server.offer(message)]

    server.replies[_DISCOVER] = wrong_first
    assert netemu_wire.guest.dhcp4().address == netemu_wire.opposite


@judges("rfc2131/2/07")
def test_a_client_without_an_address_hears_what_comes_to_it_alone(netemu_wire: Wire) -> None:
    assert _leased(netemu_wire).heard(_REQUEST)
    assert netemu_wire.guest.address == netemu_wire.opposite


# That it asks again


@judges("rfc2131/3.1/06")
def test_a_discover_that_nobody_answers_is_sent_again(netemu_wire: Wire) -> None:
    server = DhcpServer(netemu_wire)
    _answers_late(server, _DISCOVER)
    assert netemu_wire.guest.dhcp4().address == netemu_wire.opposite
    assert len(server.heard(_DISCOVER)) == 2


@judges("rfc2131/2/04")
def test_the_seconds_are_those_since_it_began(netemu_wire: Wire) -> None:
    """RFC 2131 4.4.1, table 5: zero is right too."""
    server = DhcpServer(netemu_wire)
    _answers_late(server, _DISCOVER)
    netemu_wire.guest.dhcp4()
    first, again = _twice(server)
    elapsed = (again.time - first.time) / SECOND
    assert first[Dhcpv4].secs <= 1
    assert again[Dhcpv4].secs == 0 or abs(again[Dhcpv4].secs - elapsed) <= 1


@judges("rfc2131/3.1/07")
def test_a_request_that_nobody_answers_is_sent_again(netemu_wire: Wire) -> None:
    server = DhcpServer(netemu_wire)
    _answers_late(server, _REQUEST)
    assert netemu_wire.guest.dhcp4().address == netemu_wire.opposite
    assert len(server.heard(_REQUEST)) == 2


@judges("rfc2131/3.1/08")
def test_a_refused_client_begins_again(netemu_wire: Wire) -> None:
    server = DhcpServer(netemu_wire)
    usual = server.replies[_REQUEST]
    server.replies[_REQUEST] = lambda message: usual(message) if len(server.heard(_REQUEST)) > 1 else [server.nak(message)]
    assert netemu_wire.guest.dhcp4().address == netemu_wire.opposite
    assert len(server.heard(_DISCOVER)) == 2


# That nobody else has the address


def _disputed(wire: Wire) -> DhcpServer:
    """A server whose first grant is of an address that another host has, and of one of its own the second time."""
    server = DhcpServer(wire)
    wire.answer(Arp, lambda packet: wire.send(_claim(wire, packet)), target_ip=_WRONG)
    server.replies[_DISCOVER] = lambda message: [
        server.offer(message, None, wire.opposite if len(server.heard(_DISCOVER)) > 1 else _WRONG)
    ]
    wire.guest.dhcp4()
    return server


def _claim(wire: Wire, packet: Packet) -> bytes:
    asked = packet[Arp]
    answer = Arp(ArpOperation.REPLY, _STRANGER, _WRONG, asked.sender_mac, asked.sender_ip)
    return wire.ethernet(asked.sender_mac, EtherType.ARP, answer.pack())


@judges("rfc2131/3.1/10")
def test_a_client_looks_whether_somebody_has_its_address(netemu_wire: Wire) -> None:
    _leased(netemu_wire)
    netemu_wire.expect(Arp, within=0, target_ip=netemu_wire.opposite, sender_ip=ANY)


@judges("rfc2131/4.4.1/01")
def test_who_looks_has_no_address(netemu_wire: Wire) -> None:
    """Requests for the address before it is in use; a client that does not look makes none."""
    _leased(netemu_wire)
    looks = [packet[Arp] for packet in netemu_wire.inbox if Arp in packet and packet[Arp].target_ip == netemu_wire.opposite]
    assert {(look.sender_mac, look.sender_ip) for look in looks[:1]} <= {(netemu_wire.guest.mac, ANY)}


@judges("rfc2131/3.1/11")
def test_an_address_that_somebody_has_is_declined(netemu_wire: Wire) -> None:
    server = _disputed(netemu_wire)
    decline = server.heard(_DECLINE)
    assert [packet[Dhcpv4].requested_address for packet in decline] == [_WRONG]
    assert netemu_wire.guest.address == netemu_wire.opposite


@judges("rfc2131/4.4.4/01")
def test_a_decline_goes_to_everybody(netemu_wire: Wire) -> None:
    server = _disputed(netemu_wire)
    assert {packet[IPv4].destination for packet in server.heard(_DECLINE)} == {LIMITED_BROADCAST}


@judges("rfc2131/3.1/12")
def test_a_client_that_declined_waits_ten_seconds(netemu_wire: Wire) -> None:
    server = _disputed(netemu_wire)
    assert server.heard(_DECLINE)
    first, again = _twice(server)
    assert again.time - first.time >= 10 * SECOND


@judges("rfc2131/4.4.1/02")
def test_a_new_address_is_announced(netemu_wire: Wire) -> None:
    """By a reply, as RFC 2131 says, or by a request, as RFC 5227 2.3 does."""
    _leased(netemu_wire)
    netemu_wire.expect(Arp, sender_ip=netemu_wire.opposite, target_ip=netemu_wire.opposite)
