"""The DHCPv6 client of a guest (RFC 8415)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import pairwise

import pytest

from netemu.wire.address import MacAddress
from netemu.wire.dhcpv6 import Dhcpv6, Dhcpv6MessageType, Dhcpv6Option, Dhcpv6StatusCode, IaNa, Status, duid_ll
from netemu.wire.ipv6 import ALL_NODES, IPv6
from netemu.wire.ndisc import NeighbourAdvertisement, NeighbourSolicitation
from pytest_netemu.packet import Packet
from pytest_netemu.server6 import Server6, with_option
from pytest_netemu.suites import judges
from pytest_netemu.wire import Wire
from pytest_netemu.wire6 import Wire6

pytestmark = pytest.mark.netemu_requires("dhcp6", "virtual-clock")

_T = Dhcpv6MessageType
_ANOTHER = duid_ll(MacAddress("52:54:00:7e:57:03"))
_WRONG: dict[str, Callable[[Dhcpv6], Dhcpv6]] = {
    "no server": lambda message: with_option(message, Dhcpv6Option.SERVERID, None),
    "no client": lambda message: with_option(message, Dhcpv6Option.CLIENTID, None),
    "another client": lambda message: with_option(message, Dhcpv6Option.CLIENTID, _ANOTHER),
    "another transaction": lambda message: replace(message, transaction_id=message.transaction_id ^ 1),
}


def _server(netemu_wire: Wire, *silent: int) -> Server6:
    server = Server6(Wire6(netemu_wire))
    server.silent = {*silent}
    return server


def _gaps(packets: list[Packet]) -> list[float]:
    return [(later.time - sooner.time) / 1e9 for sooner, later in pairwise(packets)]


def _wrong(server: Server6, kind: int, wrong: str) -> None:
    """Messages of this type are wrong in that way."""
    server.edit = lambda message: [_WRONG[wrong](message) if message.message_type == kind else message]


# Solicit and advertise


@judges("rfc8415/18.2.1/01")
@judges("rfc8415/18.2.1/02")
@judges("rfc8415/18.2.1/06")
def test_a_solicitation_says_who_asks_and_for_what(netemu_wire: Wire) -> None:
    server = _server(netemu_wire)
    server.guest.dhcp6()
    asked = server.questions(_T.SOLICIT)[0][Dhcpv6]
    assert asked.client_id
    assert asked.elapsed_time == 0
    assert Dhcpv6Option.SOL_MAX_RT in asked.requested_options


@judges("rfc8415/18.2.1/03")
@judges("rfc8415/15/01")
@judges("rfc8415/16.1/01")
def test_solicitations_grow_rare(netemu_wire: Wire) -> None:
    server = _server(netemu_wire, _T.SOLICIT)
    server.in_vain(60.0)
    asked = server.questions(_T.SOLICIT)
    gaps = _gaps(asked)
    assert 1.0 < gaps[0] <= 1.1, f"{gaps[0]} s; SOL_TIMEOUT is 1 s, and up to a tenth more"
    assert all(1.9 <= later / sooner <= 2.1 for sooner, later in pairwise(gaps)), f"{gaps} s between messages"
    assert len({packet[Dhcpv6].transaction_id for packet in asked}) == 1


@judges("rfc8415/18.2.1/02")
def test_the_time_that_went_by_is_told(netemu_wire: Wire) -> None:
    server = _server(netemu_wire, _T.SOLICIT)
    server.in_vain(20.0)
    first, *later = server.questions(_T.SOLICIT)
    for packet in later:
        elapsed = packet[Dhcpv6].elapsed_time
        assert elapsed is not None
        assert abs(elapsed - (packet.time - first.time) / 1e7) <= 1


def _two_servers(server: Server6, *preferences: int) -> None:
    """Two servers advertise with these preferences; the second calls itself `_ANOTHER`."""

    def both(message: Dhcpv6) -> Iterable[Dhcpv6]:
        if message.message_type != _T.ADVERTISE:
            return [with_option(message, Dhcpv6Option.SERVERID, server.questions(_T.REQUEST)[-1][Dhcpv6].server_id)]
        names = (server.duid, _ANOTHER)
        return [
            with_option(with_option(message, Dhcpv6Option.SERVERID, name), Dhcpv6Option.PREFERENCE, bytes((preference,)))
            for name, preference in zip(names, preferences, strict=True)
        ]

    server.edit = both


@judges("rfc8415/18.2.1/04")
@judges("rfc8415/18.2.9/01")
def test_advertisements_are_collected_and_the_preferred_one_taken(netemu_wire: Wire) -> None:
    server = _server(netemu_wire)
    _two_servers(server, 1, 5)
    server.guest.dhcp6()
    (gap,) = _gaps([*server.questions(_T.SOLICIT), *server.questions(_T.REQUEST)])
    assert gap > 1.0
    assert server.questions(_T.REQUEST)[0][Dhcpv6].server_id == _ANOTHER


@judges("rfc8415/18.2.1/05")
def test_the_highest_preference_is_taken_at_once(netemu_wire: Wire) -> None:
    server = _server(netemu_wire)
    _two_servers(server, 5, 255)
    server.guest.dhcp6()
    (gap,) = _gaps([*server.questions(_T.SOLICIT), *server.questions(_T.REQUEST)])
    assert gap < 0.1
    assert server.questions(_T.REQUEST)[0][Dhcpv6].server_id == _ANOTHER


@judges("rfc8415/16.3/01")
@pytest.mark.parametrize("wrong", _WRONG)
def test_an_advertisement_that_is_not_for_us_is_discarded(netemu_wire: Wire, wrong: str) -> None:
    server = _server(netemu_wire)
    _wrong(server, _T.ADVERTISE, wrong)
    server.in_vain(10.0)
    assert server.questions(_T.REQUEST) == []


@judges("rfc8415/18.2.9/02")
def test_an_advertisement_without_an_address_is_ignored(netemu_wire: Wire) -> None:
    server = _server(netemu_wire, _T.REQUEST)
    none = IaNa(1, status=Status(Dhcpv6StatusCode.NO_ADDRS_AVAIL)).pack()
    server.edit = lambda message: [with_option(message, Dhcpv6Option.IA_NA, none)]
    server.in_vain(10.0)
    assert server.questions(_T.REQUEST) == []


# Request and reply


@judges("rfc8415/18.2.2/01")
def test_a_request_names_its_server(netemu_wire: Wire) -> None:
    server = _server(netemu_wire)
    server.guest.dhcp6()
    assert server.questions(_T.REQUEST)[0][Dhcpv6].server_id == server.duid


@judges("rfc8415/16.10/01")
@pytest.mark.parametrize("wrong", ["no server", "another transaction"])
def test_a_reply_to_another_question_is_discarded(netemu_wire: Wire, wrong: str) -> None:
    server = _server(netemu_wire)
    _wrong(server, _T.REPLY, wrong)
    server.in_vain(5.0)
    assert len(server.questions(_T.REQUEST)) > 1


@judges("rfc8415/16.10/02")
@pytest.mark.parametrize("wrong", ["no client", "another client"])
def test_a_reply_to_another_client_is_discarded(netemu_wire: Wire, wrong: str) -> None:
    server = _server(netemu_wire)
    _wrong(server, _T.REPLY, wrong)
    server.in_vain(5.0)
    assert len(server.questions(_T.REQUEST)) > 1


# The life of a lease


@judges("rfc8415/18.2.4/01")
@judges("rfc8415/18.2.4/02")
def test_a_lease_is_renewed_at_t1(netemu_wire: Wire) -> None:
    server = _server(netemu_wire)
    server.guest.dhcp6()
    began = netemu_wire.network.loop.now()
    renewal = server.expect(_T.RENEW, within=server.t1 + 10.0)
    assert server.t1 - 10 <= (renewal.time - began) / 1e9 <= server.t1
    assert renewal[Dhcpv6].server_id == server.duid
    assert [each.address for identity in renewal[Dhcpv6].ia_nas for each in identity.addresses] == [server.address]


@judges("rfc8415/18.2.5/01")
def test_any_server_may_prolong_a_lease_after_t2(netemu_wire: Wire) -> None:
    server = _server(netemu_wire, _T.RENEW)
    server.guest.dhcp6()
    began = netemu_wire.network.loop.now()
    rebinding = server.expect(_T.REBIND, within=server.t2 + 10.0)
    assert server.t2 - 10 <= (rebinding.time - began) / 1e9 <= server.t2
    assert rebinding[Dhcpv6].server_id is None


@judges("rfc8415/18.2.5/02")
def test_a_lease_that_ran_out_is_not_used(netemu_wire: Wire) -> None:
    server = _server(netemu_wire, _T.RENEW, _T.REBIND)
    server.guest.dhcp6()
    server.expect(_T.SOLICIT)
    server.silent.add(_T.SOLICIT)
    server.expect(_T.SOLICIT, within=server.valid + 10.0)
    server.six.echo(destination=server.address, source=server.six.link_local)
    server.six.unanswered()


@judges("rfc8415/18.2.8/01")
@judges("rfc8415/18.2.8/02")
def test_an_address_that_somebody_has_is_declined(netemu_wire: Wire) -> None:
    server = _server(netemu_wire)

    def object_to(_: Packet) -> None:
        said = NeighbourAdvertisement(server.address, override=True).icmpv6()
        server.six.send_icmp(said, ALL_NODES, source=server.six.link_local, hop_limit=255)

    netemu_wire.answer(NeighbourSolicitation, object_to, target=server.address)
    server.in_vain(5.0)
    declined = server.expect(_T.DECLINE)
    assert [each.address for identity in declined[Dhcpv6].ia_nas for each in identity.addresses] == [server.address]
    assert declined[IPv6].source == server.six.opposite
    assert all(packet[IPv6].source != server.address for packet in netemu_wire.inbox if IPv6 in packet)


# Parameters alone


@judges("rfc8415/18.2.6/01")
def test_who_wants_parameters_alone_asks_when_to_ask_again(netemu_wire: Wire) -> None:
    server = _server(netemu_wire)
    server.guest.dhcp6(stateless=True)
    wanted = server.questions(_T.INFORMATION_REQUEST)[0][Dhcpv6].requested_options
    assert {Dhcpv6Option.INF_MAX_RT, Dhcpv6Option.INFORMATION_REFRESH_TIME} <= {*wanted}
