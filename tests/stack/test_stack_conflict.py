from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from netemu.net.clock import MILLISECOND, SECOND
from netemu.stack.conflict import QUICK, RFC5227, AddressClaim, ClaimState, ClaimTiming
from netemu.wire.address import ZERO_MAC, MacAddress
from netemu.wire.arp import Arp, ArpOperation

MAC = MacAddress("52:54:00:00:00:01")
PEER_MAC = MacAddress("52:54:00:00:00:02")
ADDRESS = IPv4Address("10.0.0.5")
NOBODY = IPv4Address("0.0.0.0")
PROBE = Arp(ArpOperation.REQUEST, MAC, NOBODY, ZERO_MAC, ADDRESS)
ANNOUNCEMENT = Arp(ArpOperation.REQUEST, MAC, ADDRESS, ZERO_MAC, ADDRESS)
THEIR_PROBE = Arp(ArpOperation.REQUEST, PEER_MAC, NOBODY, ZERO_MAC, ADDRESS)
THEIR_REPLY = Arp(ArpOperation.REPLY, PEER_MAC, ADDRESS, MAC, NOBODY)


def make(timing: ClaimTiming = RFC5227, bits=lambda count: 1 << (count - 1)) -> AddressClaim:
    return AddressClaim(MAC, ADDRESS, bits, 0, timing)


def run(claim: AddressClaim, until: int | None = None) -> list[tuple[int, Arp]]:
    """(moment, packet) of everything sent up to `until`."""
    sent = []
    while (due := claim.deadline()) is not None and (until is None or due <= until):
        claim.expire(due)
        sent += [(due, arp) for arp in claim.transmit()]
    return sent


def test_three_probes_then_two_announcements():
    claim = make()
    claim.expire(0)  # too early
    assert claim.transmit() == []
    assert not claim.usable
    milliseconds = [(moment // MILLISECOND, arp) for moment, arp in run(claim)]
    assert milliseconds == [
        (500, PROBE),
        (2000, PROBE),
        (3500, PROBE),
        (5500, ANNOUNCEMENT),
        (7500, ANNOUNCEMENT),
    ]
    assert claim.state is ClaimState.OWNED


@pytest.mark.parametrize(("bits", "spread"), [(0, 0), (0xFFFFFFFF, 1)])
def test_probes_are_spread(bits, spread):
    sent = [moment for moment, _ in run(make(bits=lambda _: bits))]
    expected = [spread, 1 + 2 * spread, 2 + 3 * spread]
    assert [round(moment / SECOND, 3) for moment in sent[:3]] == expected


def test_the_address_is_usable_from_the_first_announcement_on():
    claim = make()
    run(claim, 5500 * MILLISECOND - 1)
    assert not claim.usable
    run(claim, 5500 * MILLISECOND)
    assert claim.state is ClaimState.ANNOUNCING
    assert claim.usable


def test_quick_takes_a_fifth_of_a_second():
    assert run(make(QUICK)) == [(0, PROBE), (200 * MILLISECOND, ANNOUNCEMENT)]


@pytest.mark.parametrize("objection", [THEIR_PROBE, THEIR_REPLY, Arp(ArpOperation.REQUEST, PEER_MAC, ADDRESS, ZERO_MAC, NOBODY)])
def test_an_objection_to_a_probe_loses(objection):
    claim = make()
    run(claim, 600 * MILLISECOND)
    claim.receive(objection, 700 * MILLISECOND)
    assert claim.state is ClaimState.LOST
    assert run(claim) == []


@pytest.mark.parametrize(
    "other",
    [
        PROBE,  # our own, from a hub that gives it back
        Arp(ArpOperation.REQUEST, PEER_MAC, NOBODY, ZERO_MAC, IPv4Address("10.0.0.6")),
        Arp(ArpOperation.REQUEST, PEER_MAC, IPv4Address("10.0.0.6"), ZERO_MAC, ADDRESS),  # a question, not a claim
        Arp(ArpOperation.REPLY, PEER_MAC, NOBODY, ZERO_MAC, ADDRESS),
    ],
)
def test_what_is_no_objection(other):
    claim = make()
    claim.receive(other, 0)
    run(claim)
    assert claim.state is ClaimState.OWNED


def test_an_owner_defends_once_in_ten_seconds():
    claim = make()
    run(claim)
    claim.receive(THEIR_REPLY, 20 * SECOND)
    assert claim.transmit() == [ANNOUNCEMENT]
    claim.receive(THEIR_REPLY, 30 * SECOND)
    assert claim.transmit() == [ANNOUNCEMENT]
    claim.receive(THEIR_REPLY, 40 * SECOND - 1)
    assert claim.transmit() == []
    assert claim.state is ClaimState.LOST


def test_an_owner_does_not_mind_probes():
    claim = make()
    run(claim)
    claim.receive(THEIR_PROBE, 20 * SECOND)  # the neighbour cache answers it
    assert claim.state is ClaimState.OWNED
