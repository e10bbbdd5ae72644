"""The split queue: what VIRTIO 1.2 (2.7) says of it, and drivers that lie."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ring_driver import BASE, INDIRECT, LENGTH, NEXT, WRITE, RingDriver

from netemu.errors import LocalError
from netemu.virtio.memory import GuestMemory, MemoryRegion, OutsideMemoryError
from netemu.virtio.split import MAX_CHAIN, SplitQueue


def test_a_chain_is_read_written_and_given_back():
    driver = RingDriver()
    asked, answer = driver.buffer(b"ask"), driver.buffer(room=4)
    driver.descriptor(3, asked, 2, NEXT, 5)
    driver.descriptor(5, asked + 2, 1, NEXT, 0)
    driver.descriptor(0, answer, 3, NEXT | WRITE, 1)
    driver.descriptor(1, answer + 3, 1, WRITE)
    driver.make_available(3)
    chain = driver.queue.pop()
    assert chain.read() == b"ask"
    assert chain.room == 4
    assert chain.write(b"answer") == 4
    assert driver.used() == []
    driver.queue.push(chain, 4)
    assert driver.used() == [(3, 4)]
    assert driver.memory[answer - BASE : answer - BASE + 4] == b"answ"
    assert driver.queue.pop() is None


def test_indexes_wrap():
    driver = RingDriver(size=4)
    for number in range(0x10000 + 10):
        driver.free = 0x4000
        driver.offer(struct.pack("<I", number), head=number % 4)
        chain = driver.queue.pop()
        assert chain.read() == struct.pack("<I", number)
        driver.queue.push(chain)
    assert driver.queue.index == 10
    assert not driver.queue.refused


def test_a_driver_says_whether_it_wants_to_hear():
    driver = RingDriver()
    assert driver.queue.wants_interrupt
    driver.no_interrupt()
    assert not driver.queue.wants_interrupt


def test_a_lone_descriptor_may_be_the_last_of_the_table():
    driver = RingDriver()
    driver.offer(b"x", head=7)
    assert driver.queue.pop().head == 7


LIES = {
    "memory": lambda d: d.descriptor(0, BASE + LENGTH - 3, 4),
    "length": lambda d: d.descriptor(0, BASE, MAX_CHAIN + 1),
    "loop": lambda d: d.descriptor(0, BASE, 1, NEXT, 0),
    "next": lambda d: d.descriptor(0, BASE, 1, NEXT, 8),
    "order": lambda d: (d.descriptor(0, BASE, 1, NEXT | WRITE, 1), d.descriptor(1, BASE, 1)),
    "indirect": lambda d: d.descriptor(0, BASE, 16, INDIRECT),
}


@pytest.mark.parametrize("reason", LIES)
def test_a_lie_is_counted_given_back_and_survived(reason):
    driver = RingDriver()
    LIES[reason](driver)
    driver.make_available(0)
    driver.offer(b"honest", head=2)
    assert driver.queue.pop().read() == b"honest"
    assert driver.queue.refused == {reason: 1}
    assert driver.used() == [(0, 0)]


def test_addresses_that_wrap_are_outside_memory():
    driver = RingDriver()
    driver.descriptor(0, 2**64 - 1, 4)
    driver.make_available(0)
    assert driver.queue.pop() is None
    assert driver.queue.refused == {"memory": 1}


@pytest.mark.parametrize(("reason", "lie"), [("available", lambda d: d.set_index(9)), ("head", lambda d: d.make_available(8))])
def test_after_some_lies_a_queue_is_broken(reason, lie):
    driver = RingDriver()
    lie(driver)
    assert driver.queue.pop() is None
    assert driver.queue.broken
    driver.offer(b"too late")
    assert driver.queue.pop() is None
    assert driver.queue.refused == {reason: 1}


@settings(max_examples=200, deadline=None)
@given(octets=st.binary(max_size=16 * 8 + 4), available=st.binary(max_size=4 + 2 * 8), data=st.data())
def test_no_memory_of_a_driver_raises_or_hangs(octets, available, data):
    driver = RingDriver()
    driver.memory[: len(octets)] = octets
    driver.memory[0x1000 : 0x1000 + len(available)] = available
    popped = 0
    while (chain := driver.queue.pop()) is not None:
        popped += 1
        chain.read()
        driver.queue.push(chain, chain.write(data.draw(st.binary(max_size=40))))
        assert popped <= 0x10000  # what it writes may be the rings themselves, and make more available
        if popped > 8:
            break
    assert set(driver.queue.refused) <= {*LIES, "available", "head"}


@pytest.mark.parametrize("size", [0, 3, 65_536])
def test_sizes_are_powers_of_two(size):
    with pytest.raises(LocalError, match="a power of two up to 32768"):
        RingDriver(size=size)


def test_rings_lie_in_memory_and_are_aligned():
    guest = GuestMemory([MemoryRegion(BASE, memoryview(bytearray(0x1000)))])
    with pytest.raises(LocalError, match="outside the driver's memory"):
        SplitQueue(guest, guest, 8, descriptors=BASE, available=BASE + 0xFF0, used=BASE)
    with pytest.raises(LocalError, match="aligned"):
        SplitQueue(guest, guest, 8, descriptors=BASE + 8, available=BASE, used=BASE)


def test_a_range_over_two_regions_is_refused():
    guest = GuestMemory([MemoryRegion(0, memoryview(bytearray(b"ab"))), MemoryRegion(2, memoryview(bytearray(b"cd")))])
    assert guest.range(2, 2) == b"cd"
    with pytest.raises(OutsideMemoryError):
        guest.range(1, 2)
