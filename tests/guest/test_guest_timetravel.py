"""The calendar's side of time travel, with a kernel that is played by the test."""

import struct

import pytest

from netemu.errors import PeerError
from netemu.guest.timetravel import EPOCH, KernelTime, Op, TimeMessage
from netemu.net.clock import SECOND
from netemu.net.loop import VirtualLoop


class Kernel:
    """Sleeps until each moment of `plan`, does what is to be done then, and waits for the next."""

    def __init__(self, loop, plan=(), log=None, name="kernel"):
        self.loop = loop
        self.plan = list(plan)
        self.told, self.turns = [], []
        self.log = [] if log is None else log
        self.name = name
        self.time = KernelTime(loop, self.turn)
        self.booted = False
        self.time.first_turn()

    def turn(self):
        self.log.append((self.loop.now(), self.name))
        self.turns.append(self.loop.now())
        if self.booted:
            self.tell(self.time.begin())
        self.booted = True
        if self.plan:
            self.say(Op.REQUEST, self.plan.pop(0))
        self.say(Op.WAIT)
        self.time.end()

    def tell(self, messages):
        for message in messages:
            self.told.append((message.op, message.time))
            assert not self.time.acknowledged
            assert self.say(Op.ACK, seq=message.seq) is None
            assert self.time.acknowledged

    def say(self, op, time=0, seq=7):
        return self.time.receive(TimeMessage(op, seq, time))


def test_messages_are_sixteen_octets():
    message = TimeMessage(Op.REQUEST, 3, 2**40)
    assert message.pack() == struct.pack("=IIQ", 2, 3, 2**40)
    assert TimeMessage.parse(message.pack()) == message


def test_a_kernel_runs_when_it_asked_to_and_is_free_until_the_next_event():
    loop = VirtualLoop()
    kernel = Kernel(loop, [100, 300])
    loop.call_at(250, lambda: None)
    loop.run_for(1000)
    assert kernel.turns == [0, 100, 300]
    assert kernel.told == [(Op.FREE_UNTIL, 250), (Op.RUN, 100), (Op.FREE_UNTIL, 1000), (Op.RUN, 300)]


def test_at_one_moment_devices_come_first_and_kernels_as_they_were_made():
    loop, log = VirtualLoop(), []
    Kernel(loop, [100], log, "first")
    Kernel(loop, [100], log, "second")
    loop.run_for(10)
    loop.call_at(100, lambda: log.append((100, "device")))
    loop.run_for(200)
    assert log[2:] == [(100, "device"), (100, "first"), (100, "second")]


def test_of_requests_the_last_counts_and_none_is_none():
    loop = VirtualLoop()
    kernel = Kernel(loop)
    loop.run_for(1)
    kernel.say(Op.REQUEST, 500)
    kernel.say(Op.REQUEST, 50)
    kernel.time.end()
    loop.run_for(1000)
    assert kernel.turns == [0, 50]
    kernel.say(Op.REQUEST, 2**63 - 1)
    kernel.time.end()
    loop.run_for(SECOND)
    assert kernel.turns == [0, 50]


def test_a_kernel_moves_the_clock_as_far_as_it_is_free():
    loop = VirtualLoop()
    kernel = Kernel(loop)
    loop.run_for(10)
    loop.call_at(400, lambda: None)
    messages = []

    def turn():
        kernel.tell(kernel.time.begin())
        kernel.say(Op.UPDATE, 300)
        assert loop.now() == 300
        assert kernel.say(Op.GET).time == 300
        loop.call_soon(lambda: messages.append(loop.now()))  # something that it sent
        kernel.tell([kernel.time.shrink()])
        assert kernel.time.shrink() is None
        with pytest.raises(PeerError, match="the kernel ran to 301 ns and was free until 300 ns"):
            kernel.say(Op.UPDATE, 301)
        kernel.say(Op.WAIT)

    loop.call_soon(turn)
    loop.run_for(1000)
    assert kernel.told == [(Op.FREE_UNTIL, 400), (Op.RUN, 10), (Op.FREE_UNTIL, 300)]
    assert messages == [300]


def test_with_pollers_a_kernel_is_never_free():
    loop = VirtualLoop()
    loop.add_poller(lambda: False)
    kernel = Kernel(loop, [100])
    loop.run_for(1000)
    assert kernel.told == [(Op.RUN, 100)]


def test_the_wall_clock_begins_in_the_year_2000():
    kernel = Kernel(VirtualLoop())
    assert kernel.say(Op.GET_TOD).time == EPOCH


@pytest.mark.parametrize("op", [Op.ACK, Op.RUN, Op.FREE_UNTIL, 9, 77])
def test_what_no_kernel_says_is_refused(op):
    with pytest.raises(PeerError, match=f"operation {int(op)} is none that a kernel asks for"):
        Kernel(VirtualLoop()).say(op)


def test_after_cancel_there_are_no_turns():
    loop = VirtualLoop()
    kernel = Kernel(loop, [100])
    loop.run_for(10)
    kernel.time.cancel()
    loop.run_for(1000)
    assert kernel.turns == [0]
