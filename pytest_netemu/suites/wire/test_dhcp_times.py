"""The guest's DHCP client as time goes by: backoff, T1, T2, expiry, and what it remembers (RFC 2131 3.2, 4.1, 4.4.2, 4.4.5)."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from netemu.errors import NetemuTimeoutError
from netemu.net.clock import SECOND
from netemu.wire.address import ZERO_MAC
from netemu.wire.arp import Arp, ArpOperation
from netemu.wire.dhcpv4 import DhcpMessageType, DhcpOption, Dhcpv4
from netemu.wire.ether import EtherType
from netemu.wire.ipv4 import IPv4
from pytest_netemu.packet import Packet
from pytest_netemu.station import ANY, LIMITED_BROADCAST
from pytest_netemu.suites import judges
from pytest_netemu.wire import Wire
from pytest_netemu.wire_dhcp import DhcpServer

pytestmark = pytest.mark.netemu_requires("dhcp4", "virtual-clock")

_DISCOVER, _REQUEST = DhcpMessageType.DISCOVER, DhcpMessageType.REQUEST
_LEASE = 8000  # seconds: T1 is 4,000 of them, T2 7,000
_INFINITY = 0xFFFFFFFF
_FUZZ = 0.1  # how far T1 and T2 may be from their values (RFC 2131 4.4.5 gives no number)


def _leased(wire: Wire, *, silent: bool = False, lease_time: int = _LEASE) -> DhcpServer:
    """A server that gave the guest its lease; with `silent` it never says a word again."""
    server = DhcpServer(wire)
    server.lease_time = lease_time
    wire.guest.dhcp4()
    if silent:
        server.replies.clear()
    return server


def _later(server: DhcpServer, *, broadcast: bool) -> list[Packet]:
    """The REQUESTs for more time that went to the server alone, or to everybody."""
    extending = [packet for packet in server.heard(_REQUEST) if packet[Dhcpv4].ciaddr != ANY]
    found = [packet for packet in extending if (packet[IPv4].destination == LIMITED_BROADCAST) is broadcast]
    assert found, "nobody was asked for more time"
    return found


def _since(server: DhcpServer, packet: Packet) -> float:
    """Seconds since the lease was asked for."""
    return (packet.time - server.heard(_REQUEST)[0].time) / SECOND


def _gaps(packets: list[Packet]) -> list[float]:
    return [(after.time - before.time) / SECOND for before, after in pairwise(packets)]


def _asks_in_vain(wire: Wire, seconds: float = 300) -> list[float]:
    """The seconds between the DISCOVERs of a client that nobody answers."""
    server = DhcpServer(wire)
    server.replies.clear()
    with pytest.raises(NetemuTimeoutError):
        wire.guest.dhcp4(timeout=seconds)
    gaps = _gaps(server.heard(_DISCOVER))
    assert len(gaps) >= 2, "nobody was asked again"
    return gaps


# Asking again


@judges("rfc2131/4.1/05")
def test_a_client_asks_ever_more_rarely(netemu_wire: Wire) -> None:
    gaps = _asks_in_vain(netemu_wire, 100)
    assert len(gaps) >= 3
    assert all(after > before for before, after in pairwise(gaps)), gaps
    assert any(gap != round(gap) for gap in gaps), f"{gaps} are not randomised"


@judges("rfc2131/4.1/16")
def test_the_first_delay_is_of_four_seconds(netemu_wire: Wire) -> None:
    assert 3 <= _asks_in_vain(netemu_wire)[0] <= 5


@judges("rfc2131/4.1/18")
def test_the_second_delay_is_of_eight_seconds(netemu_wire: Wire) -> None:
    assert 7 <= _asks_in_vain(netemu_wire)[1] <= 9


@judges("rfc2131/4.1/17")
def test_the_delay_doubles_up_to_64_seconds(netemu_wire: Wire) -> None:
    gaps = _asks_in_vain(netemu_wire, 400)
    assert len(gaps) >= 6
    assert all(abs(gap - min(4 << number, 64)) <= 1 for number, gap in enumerate(gaps)), gaps


@judges("rfc2131/3.1/09")
def test_a_request_in_vain_ends_in_a_new_beginning(netemu_wire: Wire) -> None:
    server = DhcpServer(netemu_wire)
    usual = server.replies[_REQUEST]
    server.replies[_REQUEST] = lambda message: usual(message) if len(server.heard(_DISCOVER)) > 1 else ()
    assert netemu_wire.guest.dhcp4(timeout=300).address == netemu_wire.opposite
    assert len(server.heard(_DISCOVER)) == 2


# More time


@judges("rfc2131/4.4.5/03")
def test_a_client_renews_at_t1(netemu_wire: Wire) -> None:
    server = _leased(netemu_wire)
    netemu_wire.run_for(_LEASE * 0.6)
    assert [packet[IPv4].destination for packet in _later(server, broadcast=False)] == [netemu_wire.address]


@judges("rfc2131/4.4.5/09")
def test_t1_is_half_of_the_lease(netemu_wire: Wire) -> None:
    server = _leased(netemu_wire, silent=True)
    netemu_wire.run_for(_LEASE * 0.6)
    assert _since(server, _later(server, broadcast=False)[0]) == pytest.approx(_LEASE / 2, rel=_FUZZ)


@judges("rfc2132/9.11/01")
def test_the_server_says_when_t1_is(netemu_wire: Wire) -> None:
    server = DhcpServer(netemu_wire)
    server.replies[_REQUEST] = lambda message: [server.ack(message, {DhcpOption.RENEWAL_TIME_VALUE: (500).to_bytes(4)})]
    netemu_wire.guest.dhcp4()
    netemu_wire.run_for(800)
    assert _since(server, _later(server, broadcast=False)[0]) == pytest.approx(500, rel=_FUZZ)


@judges("rfc2131/4.4.5/10")
def test_t2_is_seven_eighths_of_the_lease(netemu_wire: Wire) -> None:
    server = _leased(netemu_wire, silent=True)
    netemu_wire.run_for(_LEASE - 1)
    assert _since(server, _later(server, broadcast=True)[0]) == pytest.approx(_LEASE * 7 / 8, rel=_FUZZ)


@judges("rfc2132/9.12/01")
def test_the_server_says_when_t2_is(netemu_wire: Wire) -> None:
    server = DhcpServer(netemu_wire)
    times: dict[int, bytes] = {
        DhcpOption.RENEWAL_TIME_VALUE: (500).to_bytes(4),
        DhcpOption.REBINDING_TIME_VALUE: (1000).to_bytes(4),
    }
    server.replies[_REQUEST] = lambda message: [server.ack(message, times)]
    netemu_wire.guest.dhcp4()
    server.replies.clear()
    netemu_wire.run_for(1500)
    assert _since(server, _later(server, broadcast=True)[0]) == pytest.approx(1000, rel=_FUZZ)


@judges("rfc2131/4.1/11")
def test_a_renewal_goes_to_the_server_identifier(netemu_wire: Wire) -> None:
    """Which is another address of the server than the one its messages come from."""
    wire, other = netemu_wire, netemu_wire.address + 2
    wire.answer(Arp, lambda packet: wire.send(_reply(wire, packet[Arp])), operation=ArpOperation.REQUEST, target_ip=other)
    server = DhcpServer(wire)
    server.identifier = other
    server.lease_time = _LEASE
    wire.guest.dhcp4()
    wire.run_for(_LEASE * 0.6)
    assert {packet[IPv4].destination for packet in _later(server, broadcast=False)} == {other}


def _reply(wire: Wire, asked: Arp) -> bytes:
    answer = Arp(ArpOperation.REPLY, wire.mac, asked.target_ip, asked.sender_mac, asked.sender_ip)
    return wire.ethernet(asked.sender_mac, EtherType.ARP, answer.pack())


@judges("rfc2131/4.4.5/04")
def test_who_asks_for_more_time_names_no_server(netemu_wire: Wire) -> None:
    server = _leased(netemu_wire, silent=True)
    netemu_wire.run_for(_LEASE - 1)
    for broadcast in (False, True):
        assert {packet[Dhcpv4].server_identifier for packet in _later(server, broadcast=broadcast)} == {None}


@judges("rfc2131/4.4.5/07")
def test_who_asks_for_more_time_says_its_address(netemu_wire: Wire) -> None:
    server = _leased(netemu_wire, silent=True)
    netemu_wire.run_for(_LEASE - 1)
    asked = server.heard(_REQUEST)[1:]
    assert asked
    assert {(packet[Dhcpv4].ciaddr, packet[Dhcpv4].requested_address) for packet in asked} == {(netemu_wire.opposite, None)}


@judges("rfc2131/4.4.5/08")
def test_a_client_whose_server_is_silent_asks_everybody(netemu_wire: Wire) -> None:
    server = _leased(netemu_wire, silent=True)
    netemu_wire.run_for(_LEASE - 1)
    request = _later(server, broadcast=True)[0]
    assert _since(server, request) > _since(server, _later(server, broadcast=False)[-1])
    assert request[Dhcpv4].message_type == _REQUEST


@judges("rfc2131/4.4.5/11")
def test_half_of_what_remains_passes_before_it_asks_again(netemu_wire: Wire) -> None:
    server = _leased(netemu_wire, silent=True)
    netemu_wire.run_for(_LEASE - 1)
    for broadcast, end in ((False, _LEASE * 7 / 8), (True, _LEASE)):
        asked = _later(server, broadcast=broadcast)
        assert len(asked) >= 3
        for packet, gap in zip(asked, _gaps(asked), strict=False):
            assert gap == pytest.approx(max(60, (end - _since(server, packet)) / 2), rel=_FUZZ, abs=2)


@judges("rfc2131/4.4.5/12")
def test_a_renewed_lease_goes_on(netemu_wire: Wire) -> None:
    server = _leased(netemu_wire)
    netemu_wire.run_for(_LEASE * 3)
    assert netemu_wire.guest.address == netemu_wire.opposite
    assert len(server.heard(_DISCOVER)) == 1


@judges("rfc2131/4.4.5/06")
def test_a_renewal_of_another_transaction_is_ignored(netemu_wire: Wire) -> None:
    server = _leased(netemu_wire)
    server.replies[_REQUEST] = lambda message: [replace(server.ack(message), xid=message.xid ^ 1)]
    netemu_wire.run_for(_LEASE * 0.8)
    assert len(_later(server, broadcast=False)) > 1


# The end


@judges("rfc2131/4.4.5/05")
def test_a_lease_that_ended_is_not_used(netemu_wire: Wire) -> None:
    server = _leased(netemu_wire, silent=True)
    netemu_wire.run_for(_LEASE + 1)
    assert netemu_wire.guest.address is None
    assert len(server.heard(_DISCOVER)) == 2


@judges("rfc2131/4.4.1/10")
def test_a_lease_begins_when_it_was_asked_for(netemu_wire: Wire) -> None:
    server = _takes_three_seconds(netemu_wire, 100)
    netemu_wire.guest.dhcp4()
    _ends_after(netemu_wire, server, 100)


@judges("rfc2131/4.4.5/13")
def test_a_renewed_lease_begins_when_more_was_asked_for(netemu_wire: Wire) -> None:
    server = _takes_three_seconds(netemu_wire, _LEASE)
    netemu_wire.guest.dhcp4()
    netemu_wire.run_for(_LEASE * 0.6)
    assert len(_later(server, broadcast=False)) == 1
    _ends_after(netemu_wire, server, _LEASE)


def _takes_three_seconds(wire: Wire, lease_time: int) -> DhcpServer:
    """A server that thinks about each REQUEST: a lease that begins with its answer ends later than it should."""
    loop, server = wire.network.loop, DhcpServer(wire)

    def grant(message: Dhcpv4) -> tuple[()]:
        loop.call_at(loop.now() + 3 * SECOND, lambda: server.send(server.ack(message)))
        return ()

    server.lease_time = lease_time
    server.replies[_REQUEST] = grant
    return server


def _ends_after(wire: Wire, server: DhcpServer, seconds: float) -> None:
    """The guest has its address until so many seconds after its last REQUEST, and no longer."""
    server.replies.clear()
    passed = (wire.network.loop.now() - server.heard(_REQUEST)[-1].time) / SECOND
    wire.run_for(seconds - 1 - passed)
    assert wire.guest.address == wire.opposite
    wire.run_for(2)
    assert wire.guest.address is None


@judges("rfc2131/4.4.5/15")
def test_a_new_address_replaces_the_old_one(netemu_wire: Wire) -> None:
    wire, server = netemu_wire, _leased(netemu_wire)
    other = wire.opposite + 1
    server.replies = {
        _DISCOVER: lambda message: [server.offer(message, None, other)],
        _REQUEST: lambda message: _only(server, message),
    }
    wire.run_for(_LEASE + 120)
    assert wire.guest.address == other
    wire.inbox.clear()
    for address in (wire.opposite, other):
        wire.send_arp(ArpOperation.REQUEST, address)
    wire.expect(Arp, operation=ArpOperation.REPLY, sender_ip=other, target_mac=lambda mac: mac != ZERO_MAC)
    wire.silence(Arp, operation=ArpOperation.REPLY, sender_ip=wire.opposite)


def _only(server: DhcpServer, message: Dhcpv4) -> list[Dhcpv4]:
    """Nothing to who asks for more time."""
    return [] if message.ciaddr != ANY else [server.ack(message)]


@judges("rfc2131/3.3/01")
def test_an_infinite_lease_does_not_end(netemu_wire: Wire) -> None:
    server = _leased(netemu_wire, lease_time=_INFINITY)
    netemu_wire.run_for(_INFINITY + 1.0)
    assert netemu_wire.guest.address == netemu_wire.opposite
    assert len(server.heard()) == 2


# What it remembers


@judges("rfc2131/3.2/01")
def test_a_remembered_address_is_not_yet_the_clients(netemu_wire: Wire) -> None:
    assert _again(netemu_wire).ciaddr == ANY


@judges("rfc2131/4.4.2/01")
def test_a_remembered_address_is_asked_for(netemu_wire: Wire) -> None:
    assert _again(netemu_wire).requested_address == netemu_wire.opposite


@judges("rfc2131/4.4.2/02")
def test_who_remembers_names_no_server(netemu_wire: Wire) -> None:
    assert _again(netemu_wire).server_identifier is None


def _again(wire: Wire) -> Dhcpv4:
    """The REQUEST with which a guest that has a lease asks for it once more."""
    server = _leased(wire)
    wire.guest.dhcp4()
    return server.heard(_REQUEST)[1][Dhcpv4]


@judges("rfc2131/3.2/02")
def test_a_refused_address_is_forgotten(netemu_wire: Wire) -> None:
    wire, server = netemu_wire, _leased(netemu_wire)
    other = wire.opposite + 1
    server.replies[_DISCOVER] = lambda message: [server.offer(message, None, other)]
    server.replies[_REQUEST] = lambda message: [
        server.nak(message) if message.requested_address == wire.opposite else server.ack(message)
    ]
    assert wire.guest.dhcp4().address == other
