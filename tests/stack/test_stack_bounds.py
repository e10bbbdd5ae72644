"""What the stack's tables do when there is too much: waiting packets, small fragments, deadlines of what is gone."""

import weakref
from ipaddress import IPv4Address, IPv6Address

from netemu.stack.deadlines import Deadlines
from netemu.stack.fragments6 import MAX_PIECES, Reassembler6
from netemu.stack.parking import MAX_PARKED, MAX_PARKED_IN_ALL, Parking
from netemu.wire.ipv6 import Fragment6, IPv6, NextHeader

FEW, OTHER = IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2")


class Thing:
    """Something with a deadline."""


def neighbour(number: int) -> IPv4Address:
    return IPv4Address(0x0A010000 + number)


def test_the_oldest_packet_of_a_neighbour_gives_way():
    parking: Parking[IPv4Address, int] = Parking()
    assert [parking.put(FEW, number) for number in range(MAX_PARKED)] == [False] * MAX_PARKED
    assert not parking.put(OTHER, 0)
    assert parking.put(FEW, MAX_PARKED)
    assert parking.take(FEW) == tuple(range(1, MAX_PARKED + 1))
    assert parking.take(OTHER) == (0,)
    assert parking.take(FEW) == ()


def test_the_oldest_packet_of_all_gives_way():
    parking: Parking[IPv4Address, int] = Parking()
    assert not any(parking.put(neighbour(number), number) for number in range(MAX_PARKED_IN_ALL))
    assert parking.put(FEW, 1)
    assert parking.put(FEW, 2)
    assert [parking.take(neighbour(number)) for number in range(3)] == [(), (), (2,)]
    assert parking.take(FEW) == (1, 2)
    assert not any(parking.put(OTHER, number) for number in range(3))  # there is room again
    parking.clear()
    assert parking.take(OTHER) == ()


def test_a_deadline_given_up_keeps_nothing():
    """Short-lived things whose deadlines are far away, as connections' are that wait for two hours."""
    deadlines: Deadlines[Thing] = Deadlines()
    staying = Thing()
    deadlines.set(staying, 50)
    gone = []
    for number in range(10_000):
        thing = Thing()
        deadlines.set(thing, 1000 + number)
        deadlines.set(thing, None)
        gone.append(weakref.ref(thing))
    del thing
    assert sum(each() is not None for each in gone) < 100
    assert deadlines.first() == 50
    assert deadlines.due(10**9) == [staying]


def test_deadlines_that_moved_are_kept_when_others_are_cleared_out():
    deadlines: Deadlines[int] = Deadlines()
    for key in range(100):
        deadlines.set(key, 1000 + key)
    deadlines.set(7, 5000)  # later than its place in the heap
    deadlines.set(8, 10)  # earlier, with a second place in it
    for key in range(200, 2000):
        deadlines.set(key, 9000)
        deadlines.set(key, None)
    assert deadlines.first() == 10
    due = deadlines.due(10_000)
    assert (due[0], due[-1], sorted(due)) == (8, 7, list(range(100)))


def test_a_packet_has_so_many_pieces_and_no_more():
    ends = IPv6Address("fec0::1"), IPv6Address("fec0::2")

    def received(pieces: int) -> tuple[int, Reassembler6]:
        reassembler = Reassembler6()
        whole = 0
        for number in range(pieces):
            header = Fragment6(8 * number, number + 1 < pieces, 1).extension()
            packet = IPv6(*ends, NextHeader.NO_NEXT_HEADER, bytes(8), extensions=(header,))
            whole += reassembler.receive(packet, 0) is not None
        return whole, reassembler

    assert received(MAX_PIECES)[0] == 1
    whole, reassembler = received(MAX_PIECES + 1)
    assert (whole, reassembler.counters["fragments-too-many"]) == (0, 1)
