from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from netemu.net.clock import SECOND
from netemu.stack.neighbour import (
    MAX_ENTRIES,
    REACHABLE_TIME,
    Conflict,
    NeighbourCache,
    Resolved,
    SendArp,
    Unresolved,
)
from netemu.stack.parking import MAX_PARKED
from netemu.wire.address import BROADCAST_MAC, ZERO_MAC, MacAddress
from netemu.wire.arp import Arp, ArpOperation

MAC = MacAddress("52:54:00:00:00:01")
PEER_MAC = MacAddress("52:54:00:00:00:02")
OTHER_MAC = MacAddress("52:54:00:00:00:03")
OURS = IPv4Address("10.0.0.1")
PEER = IPv4Address("10.0.0.2")
OTHER = IPv4Address("10.0.0.3")
NOBODY = IPv4Address("0.0.0.0")


def make() -> NeighbourCache[str]:
    return NeighbourCache(MAC, lambda address: address == OURS)


def request(sender_mac, sender, target) -> Arp:
    return Arp(ArpOperation.REQUEST, sender_mac, sender, ZERO_MAC, target)


def reply(sender_mac=PEER_MAC, sender=PEER) -> Arp:
    return Arp(ArpOperation.REPLY, sender_mac, sender, MAC, OURS)


def known(now: int = 0) -> NeighbourCache[str]:
    cache = make()
    cache.receive(request(PEER_MAC, PEER, OURS), now)
    cache.events()
    return cache


def test_packets_wait_for_the_answer_in_order():
    cache = make()
    assert cache.resolve(PEER, OURS, "first", 0) is None
    assert cache.resolve(PEER, OURS, "second", 0) is None
    (ask,) = cache.events()
    assert ask == SendArp(request(MAC, OURS, PEER))
    assert ask.destination == BROADCAST_MAC
    assert cache.lookup(PEER) is None
    cache.receive(reply(), 5)
    assert cache.events() == [Resolved(PEER, PEER_MAC, ("first", "second"))]
    assert cache.resolve(PEER, OURS, "third", 6) == PEER_MAC
    assert cache.lookup(PEER) == PEER_MAC
    assert cache.events() == []
    assert cache.deadline() is None


def test_three_requests_a_second_apart_then_the_packets_come_back():
    cache = make()
    cache.resolve(PEER, OURS, "packet", 100)
    moments = []
    while (due := cache.deadline()) is not None:
        moments.append(due)
        cache.expire(due - 1)
        cache.expire(due)
    assert moments == [100 + SECOND, 100 + 2 * SECOND, 100 + 3 * SECOND]
    ask = SendArp(request(MAC, OURS, PEER))
    assert cache.events() == [ask, ask, ask, Unresolved(PEER, ("packet",))]
    assert len(cache) == 0
    cache.resolve(PEER, OURS, "again", 4 * SECOND)  # and it may be tried again
    assert cache.events() == [ask]


def test_too_many_waiting_packets_push_out_the_oldest():
    cache = make()
    for number in range(MAX_PARKED):
        cache.resolve(PEER, OURS, str(number), 0)
    assert not cache.counters
    for number in range(MAX_PARKED, MAX_PARKED + 2):
        cache.resolve(PEER, OURS, str(number), 0)
    cache.receive(reply(), 0)
    resolved = cache.events()[-1]
    assert resolved.packets == tuple(str(number) for number in range(2, MAX_PARKED + 2))
    assert cache.counters["arp-parked-dropped"] == 2


def test_a_request_for_us_is_answered_and_learnt_from():
    cache = make()
    cache.receive(request(PEER_MAC, PEER, OURS), 0)
    (answer,) = cache.events()
    assert answer == SendArp(Arp(ArpOperation.REPLY, MAC, OURS, PEER_MAC, PEER))
    assert answer.destination == PEER_MAC
    assert cache.lookup(PEER) == PEER_MAC


def test_what_is_not_for_us_updates_but_does_not_create():
    cache = known()
    cache.receive(request(OTHER_MAC, PEER, OTHER), 0)
    assert cache.lookup(PEER) == OTHER_MAC
    cache.receive(request(OTHER_MAC, OTHER, PEER), 0)
    cache.receive(request(OTHER_MAC, OTHER, OTHER), 0)  # gratuitous
    assert cache.lookup(OTHER) is None
    assert cache.events() == []


def test_an_unasked_reply_to_us_is_learnt_but_not_answered():
    cache = make()
    cache.receive(reply(), 0)
    assert cache.lookup(PEER) == PEER_MAC
    assert cache.events() == []


def test_a_probe_is_answered_but_teaches_nothing():
    cache = make()
    cache.receive(request(PEER_MAC, NOBODY, OURS), 0)
    assert cache.events() == [SendArp(Arp(ArpOperation.REPLY, MAC, OURS, PEER_MAC, NOBODY))]
    assert len(cache) == 0


def test_our_own_address_from_elsewhere_is_a_conflict():
    cache = make()
    cache.receive(request(PEER_MAC, OURS, OURS), 0)
    assert cache.events() == [Conflict(OURS, PEER_MAC)]
    assert len(cache) == 0


@pytest.mark.parametrize(
    "arp",
    [
        request(MAC, PEER, OURS),
        request(BROADCAST_MAC, PEER, OURS),
        request(MacAddress("01:00:5e:00:00:01"), PEER, OURS),
        request(PEER_MAC, IPv4Address("224.0.0.1"), OURS),
        request(PEER_MAC, IPv4Address("255.255.255.255"), OURS),
        request(PEER_MAC, IPv4Address("127.0.0.1"), OURS),
        Arp(3, PEER_MAC, PEER, ZERO_MAC, OURS),
    ],
)
def test_impossible_senders_and_operations_are_ignored(arp):
    cache = make()
    cache.receive(arp, 0)
    assert cache.events() == []
    assert len(cache) == 0
    assert cache.counters == {"arp-received": 1, "arp-ignored": 1}


def test_a_minute_is_fresh_and_a_long_datagram_waits_whole():
    assert REACHABLE_TIME == 60 * SECOND
    assert MAX_PARKED >= 119  # fragments of 64 KB at an MTU of 576


def test_an_old_entry_is_polled_by_unicast_and_still_used():
    cache = known()
    assert cache.resolve(PEER, OURS, "a", REACHABLE_TIME - 1) == PEER_MAC
    assert cache.events() == []
    assert cache.resolve(PEER, OURS, "b", REACHABLE_TIME) == PEER_MAC
    assert cache.resolve(PEER, OURS, "c", REACHABLE_TIME) == PEER_MAC
    (poll,) = cache.events()
    assert poll.destination == PEER_MAC
    assert poll.arp == Arp(ArpOperation.REQUEST, MAC, OURS, PEER_MAC, PEER)
    cache.receive(reply(), REACHABLE_TIME + 5)
    assert cache.deadline() is None
    assert cache.resolve(PEER, OURS, "d", REACHABLE_TIME + 6) == PEER_MAC
    assert cache.events() == []


def test_an_old_entry_that_stays_silent_is_forgotten():
    cache = known()
    cache.resolve(PEER, OURS, "a", REACHABLE_TIME)
    while (due := cache.deadline()) is not None:
        cache.expire(due)
    assert len(cache.events()) == 3
    assert cache.resolve(PEER, OURS, "b", REACHABLE_TIME + 4 * SECOND) is None
    assert cache.events()[0].destination == BROADCAST_MAC


def test_the_cache_is_bounded():
    cache = make()
    for number in range(MAX_ENTRIES + 10):
        cache.receive(request(PEER_MAC, IPv4Address(0x0A010000 + number), OURS), 0)
    assert len(cache) == MAX_ENTRIES
    assert cache.counters["arp-evicted"] == 10
    assert cache.lookup(IPv4Address(0x0A010000)) is None
    assert cache.lookup(IPv4Address(0x0A010000 + MAX_ENTRIES + 9)) == PEER_MAC


def test_an_entry_evicted_while_it_is_asked_for_gives_its_packets_back():
    cache = make()
    cache.resolve(PEER, OURS, "packet", 0)
    for number in range(MAX_ENTRIES):
        cache.receive(request(PEER_MAC, IPv4Address(0x0A010000 + number), OURS), 0)
    assert Unresolved(PEER, ("packet",)) in cache.events()
    assert cache.deadline() is None


def test_announce_and_flush():
    cache = known()
    cache.announce(OURS)
    (event,) = cache.events()
    assert event == SendArp(request(MAC, OURS, OURS))
    assert event.destination == BROADCAST_MAC
    cache.resolve(OTHER, OURS, "packet", 0)
    cache.flush()
    assert (len(cache), cache.events(), cache.deadline()) == (0, [], None)
