"""The network card and the console, driven through their queues."""

import pytest
from ring_driver import RingDriver

from netemu.net.loop import VirtualLoop
from netemu.net.port import Port, connect
from netemu.virtio.console import VirtioConsole
from netemu.virtio.net import VirtioNet
from netemu.wire.address import MacAddress

MAC = MacAddress("52:54:00:12:34:56")
HEADER = bytes(12)
FRAME = bytes(range(60))


class Card:
    def __init__(self):
        self.loop = VirtualLoop()
        self.port, self.far = Port(self.loop, "card"), Port(self.loop, "far")
        self.frames, self.interrupts = [], []
        connect(self.port, self.far)
        self.far.attach(lambda frame, _header: self.frames.append(frame) or True)
        self.device = VirtioNet(self.port, MAC)
        self.device.interrupt = self.interrupts.append
        self.receive, self.transmit = RingDriver(), RingDriver()
        self.device.start(0, self.receive.queue)
        self.device.start(1, self.transmit.queue)

    def run(self):
        self.loop.run_for(1)


@pytest.fixture
def card():
    return Card()


def test_what_a_driver_transmits_leaves_the_port(card):
    card.transmit.offer(HEADER + FRAME)
    card.device.kick(1)
    card.run()
    assert card.frames == [FRAME]
    assert card.transmit.used() == [(0, 0)]
    assert card.interrupts == [1]


def test_what_is_no_frame_is_counted(card):
    card.transmit.offer(HEADER)
    card.transmit.no_interrupt()
    card.device.kick(1)
    card.run()
    assert card.frames == []
    assert card.device.refusals() == {"short": 1}
    assert card.interrupts == []


def test_a_frame_waits_for_a_buffer(card):
    card.far.send(FRAME)
    card.run()
    assert card.interrupts == []
    place = card.receive.lend(100)
    card.device.kick(0)
    card.run()
    assert card.receive.used() == [(0, 72)]
    assert card.receive.memory[place][:72] == bytes(10) + b"\1\0" + FRAME
    assert card.interrupts == [0]


def test_a_buffer_that_is_too_small_costs_the_frame(card):
    card.receive.lend(71)
    card.far.send(FRAME)
    card.run()
    assert card.receive.used() == [(0, 0)]
    assert card.device.refusals() == {"no-room": 1}


def test_frames_stay_in_the_queue_while_the_port_is_busy(card):
    busy = True
    card.far.attach(lambda frame, _header: not busy and (card.frames.append(frame) or True))
    for head in range(3):
        card.transmit.offer(HEADER + FRAME, head)
        card.device.kick(1)
        card.run()
    assert len(card.transmit.used()) == 1
    busy = False
    card.far.flush()
    card.run()
    assert card.frames == [FRAME] * 3
    assert len(card.transmit.used()) == 3


def test_a_stopped_queue_is_left_alone_and_what_it_refused_is_kept(card):
    card.transmit.descriptor(0, 0, 1)
    card.transmit.make_available(0)
    card.device.kick(1)
    card.device.stop(1)
    card.transmit.offer(HEADER + FRAME)
    card.device.kick(1)
    card.run()
    assert card.frames == []
    assert card.device.refusals() == {"memory": 1}


def test_the_configuration_says_who_and_whether_the_link_is_up(card):
    told = []
    card.device.config_changed = lambda: told.append(card.device.config())
    assert card.device.config() == bytes(MAC) + b"\1\0"
    card.port.set_link(False)
    assert told == [bytes(MAC) + b"\0\0"]


def test_a_console_carries_octets_both_ways():
    heard = []
    console = VirtioConsole(heard.append)
    receive, transmit = RingDriver(), RingDriver()
    console.send(b"early ")
    console.start(0, receive.queue)
    console.start(1, transmit.queue)
    transmit.offer(b"hello")
    console.kick(1)
    assert heard == [b"hello"]
    places = [receive.lend(4, head) for head in range(3)]
    console.kick(0)
    console.send(b"bird")
    assert [length for _, length in receive.used()] == [4, 2, 4]
    assert b"".join(bytes(receive.memory[place])[:length] for place, (_, length) in zip(places, receive.used(), strict=True)) == (
        b"early bird"
    )
