"""The pump: what an engine wants sent is sent, its deadline is kept, and a busy port stops it."""

from __future__ import annotations

import pytest

from netemu.net.engine import Pump
from netemu.net.loop import VirtualLoop
from netemu.net.port import Port, connect


class Echo:
    """Answers each frame, and sends `tick` every 100 ns while `ticks` are left."""

    def __init__(self):
        self.out = []
        self.ticks = 0
        self.next = None
        self.expired = []

    def receive(self, frame, now):
        self.out.append(frame + b"!")

    def transmit(self, now):
        out, self.out = self.out, []
        return out

    def deadline(self):
        return self.next if self.ticks else None

    def expire(self, now):
        self.expired.append(now)
        self.ticks -= 1
        self.next = now + 100
        self.out.append(b"tick")


@pytest.fixture
def loop():
    return VirtualLoop()


class Bench:
    """A tester's port, and an engine behind the other end of the cable."""

    def __init__(self, loop):
        self.engine = Echo()
        self.frames = []
        self.busy = False
        self.loop = loop
        self.port, engine_port = Port(loop, "tester", self.receive), Port(loop, "engine")
        connect(self.port, engine_port)
        self.pump = Pump(engine_port, self.engine)
        loop.run_for(0)

    def receive(self, frame, header):
        if not self.busy:
            self.frames.append((self.loop.now(), frame))
        return not self.busy


@pytest.fixture
def bench(loop):
    return Bench(loop)


def test_frames_go_in_and_answers_come_out(loop, bench):
    bench.port.send(b"a")
    loop.run_for(0)
    assert bench.frames == [(0, b"a!")]


def test_the_deadline_is_kept(loop, bench):
    bench.engine.ticks, bench.engine.next = 3, 50
    bench.pump.kick()
    loop.run_for(1000)
    assert bench.engine.expired == [50, 150, 250]
    assert bench.frames == [(50, b"tick"), (150, b"tick"), (250, b"tick")]


def test_a_deadline_that_moves_is_followed(loop, bench):
    bench.engine.ticks, bench.engine.next = 1, 500
    bench.pump.kick()
    loop.run_for(10)
    bench.engine.next = 40
    bench.pump.kick()
    loop.run_for(1000)
    assert bench.engine.expired == [40]


def test_a_busy_port_stops_the_engine_until_it_is_free(loop, bench):
    bench.busy = True
    bench.port.send(b"a")
    loop.run_for(0)
    bench.engine.out.append(b"later")
    bench.pump.kick()
    loop.run_for(10)
    assert bench.engine.out == [b"later"]  # not pushed into a full queue
    bench.busy = False
    bench.port.flush()
    loop.run_for(0)
    assert [frame for _, frame in bench.frames] == [b"a!", b"later"]


def test_closing_leaves_no_timer(loop, bench):
    bench.engine.ticks, bench.engine.next = 1, 50
    bench.pump.kick()
    loop.run_for(0)
    bench.pump.close()
    loop.run_for(1000)
    assert bench.engine.expired == []
