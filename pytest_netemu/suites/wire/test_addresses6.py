"""The addresses of a guest: made from prefixes, looked for on the link, and used for as long as the router says (RFC 4862)."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Address, IPv6Network

import pytest

from netemu.wire.icmpv6 import Icmpv6, Icmpv6Type
from netemu.wire.ipv6 import ALL_NODES, IPv6, solicited_node
from netemu.wire.ndisc import NeighbourAdvertisement, NeighbourSolicitation
from netemu.wire.ndisc_options import PrefixInformation
from pytest_netemu.packet import Packet
from pytest_netemu.station6 import ANY6
from pytest_netemu.suites import judges
from pytest_netemu.wire import Wire
from pytest_netemu.wire6 import ELSEWHERE, PREFIX, Wire6

pytestmark = pytest.mark.netemu_requires("slaac")

_SECOND = IPv6Network("2001:db8:2::/64")
_HOUR = 3600
_DAY = 24 * _HOUR


def _with(six: Wire6, *options: PrefixInformation) -> Wire6:
    """The router advertises these, too."""
    six.advertisement = replace(six.advertisement, options=(*six.advertisement.options, *options))
    return six


def _lives(six: Wire6, valid: int, preferred: int | None = None) -> None:
    """The router says how long the guest's address is good for."""
    lifetimes = PrefixInformation(PREFIX, valid, valid if preferred is None else preferred)
    six.advertise(replace(six.advertisement, router_lifetime=9000, options=(lifetimes,)))


def _is_used(six: Wire6, address: IPv6Address, sequence: int = 9) -> None:
    six.echo(destination=address, sequence=sequence, source=six.link_local)
    six.answered(sequence)


def _is_not_used(six: Wire6, address: IPv6Address) -> None:
    six.echo(destination=address, source=six.link_local)
    six.unanswered()


# Duplicates


@judges("rfc4862/5.4/01")
@judges("rfc4862/5.4.2/01")
def test_each_address_is_looked_for_on_the_link(netemu_wire: Wire) -> None:
    six, asked = Wire6(netemu_wire), list[Packet]()
    netemu_wire.answer(NeighbourSolicitation, asked.append)
    six.up()
    probes = [packet for packet in asked if packet[IPv6].source == ANY6]
    assert {packet[NeighbourSolicitation].target for packet in probes} >= {six.opposite, six.guest_address}
    assert all(packet[IPv6].destination == solicited_node(packet[NeighbourSolicitation].target) for packet in probes)


def _duplicated(six: Wire6, answer: str) -> None:
    """Somebody else has the guest's address in the prefix, and says so when it is looked for."""

    def object_to(_: Packet) -> None:
        if answer == "advertisement":
            said = NeighbourAdvertisement(six.guest_address, override=True).icmpv6()
            six.send_icmp(said, ALL_NODES, source=six.link_local, hop_limit=255)
        else:
            six.solicit(six.guest_address, source=ANY6)

    six.wire.answer(NeighbourSolicitation, object_to, target=six.guest_address)
    six.answer_solicitations()
    six.guest.slaac()
    six.barrier()
    _is_not_used(six, six.guest_address)


@judges("rfc4862/5.4.4/01")
@pytest.mark.netemu_requires("virtual-clock")
def test_an_address_that_somebody_has_is_not_used(netemu_wire: Wire) -> None:
    _duplicated(Wire6(netemu_wire), "advertisement")


@judges("rfc4862/5.4.3/03")
@pytest.mark.netemu_requires("virtual-clock")
def test_an_address_that_somebody_else_wants_is_not_used(netemu_wire: Wire) -> None:
    _duplicated(Wire6(netemu_wire), "solicitation")


@judges("rfc4862/5.4.3/02")
@pytest.mark.netemu_requires("virtual-clock")
def test_a_tentative_address_is_not_answered_for(netemu_wire: Wire) -> None:
    six = Wire6(netemu_wire)
    netemu_wire.answer(NeighbourSolicitation, lambda _: six.solicit(six.guest_address), target=six.guest_address)
    answers = list[Packet]()
    netemu_wire.answer(NeighbourAdvertisement, answers.append)
    six.up()
    assert answers == []
    _is_used(six, six.guest_address)


# Prefixes


@judges("rfc4862/5.5.3/03")
@judges("rfc4862/5.5.3/04")
@judges("rfc4862/5.5.3/05")
@judges("rfc4862/5.5.3/06")
@pytest.mark.parametrize(
    "option",
    [
        pytest.param(PrefixInformation(_SECOND, _DAY, _DAY, autonomous=False), id="not autonomous"),
        pytest.param(PrefixInformation(IPv6Network("fe80:0:0:1::/64"), _DAY, _DAY), id="link-local"),
        pytest.param(PrefixInformation(_SECOND, _HOUR, _DAY), id="preferred beyond validity"),
        pytest.param(PrefixInformation(IPv6Network("2001:db8:2::/63"), _DAY, _DAY), id="63 bits"),
        pytest.param(PrefixInformation(IPv6Network("2001:db8:2::/65"), _DAY, _DAY), id="65 bits"),
    ],
)
def test_a_prefix_that_no_address_is_made_from(netemu_wire: Wire, option: PrefixInformation) -> None:
    six = _with(Wire6(netemu_wire), option).up()
    _is_not_used(six, six.address_in(option.prefix))


# Lifetimes


@judges("rfc4862/5.5.4/01")
@pytest.mark.netemu_requires("virtual-clock")
def test_an_address_is_used_for_its_lifetime(netemu_wire: Wire) -> None:
    six = Wire6(netemu_wire)
    six.advertisement = replace(six.advertisement, options=(PrefixInformation(PREFIX, _HOUR, _HOUR),))
    six.up()
    netemu_wire.run_for(_HOUR - 60)
    _is_used(six, six.guest_address)
    netemu_wire.run_for(120)
    _is_not_used(six, six.guest_address)


@judges("rfc4862/5.5.3/09")
@pytest.mark.netemu_requires("virtual-clock")
def test_nobody_shortens_a_lifetime_to_less_than_two_hours(netemu_wire: Wire) -> None:
    six = Wire6(netemu_wire).up()
    _lives(six, 60)
    netemu_wire.run_for(_HOUR)
    _is_used(six, six.guest_address)
    netemu_wire.run_for(_HOUR + 60)
    _is_not_used(six, six.guest_address)


@judges("rfc4862/5.5.3/08")
@pytest.mark.netemu_requires("virtual-clock")
def test_less_than_two_hours_stay_what_they_are(netemu_wire: Wire) -> None:
    six = Wire6(netemu_wire)
    six.advertisement = replace(six.advertisement, options=(PrefixInformation(PREFIX, _HOUR, _HOUR),))
    six.up()
    _lives(six, 60)
    netemu_wire.run_for(_HOUR - 60)
    _is_used(six, six.guest_address)
    netemu_wire.run_for(120)
    _is_not_used(six, six.guest_address)


@judges("rfc4862/5.5.3/07")
@pytest.mark.netemu_requires("virtual-clock")
def test_a_lifetime_is_prolonged(netemu_wire: Wire) -> None:
    six = Wire6(netemu_wire)
    six.advertisement = replace(six.advertisement, options=(PrefixInformation(PREFIX, _HOUR, _HOUR),))
    six.up()
    _lives(six, 3 * _HOUR)
    netemu_wire.run_for(2 * _HOUR)
    _is_used(six, six.guest_address)


@judges("rfc4862/5.5.4/02")
@judges("rfc4862/5.5.4/03")
@pytest.mark.netemu_requires("ping")
def test_a_deprecated_address_answers_and_does_not_ask(netemu_wire: Wire) -> None:
    six = _with(Wire6(netemu_wire), PrefixInformation(_SECOND, _DAY, _DAY)).up()
    _lives(six, _DAY, 0)
    _is_used(six, six.guest_address)
    six.guest.ping(ELSEWHERE, timeout=0.1)
    asked = netemu_wire.expect(Icmpv6, type=Icmpv6Type.ECHO_REQUEST)
    assert asked[IPv6].source == six.address_in(_SECOND)


# Addresses that nobody has


@judges("rfc4291/2.5.3/01")
def test_loopback_is_not_on_the_wire(netemu_wire: Wire) -> None:
    six = Wire6(netemu_wire).up()
    six.echo(destination=IPv6Address("::1"))
    six.unanswered()


@judges("rfc4291/2.7/01")
def test_a_group_does_not_speak(netemu_wire: Wire) -> None:
    six = Wire6(netemu_wire).up()
    six.echo(source=ALL_NODES)
    six.unanswered()
