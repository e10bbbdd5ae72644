from __future__ import annotations

import pytest

from netemu.net import port as port_module
from netemu.net.hub import Hub
from netemu.net.loop import VirtualLoop
from netemu.net.port import Port, connect


class Station:
    def __init__(self, loop, hub, name):
        self.port = Port(loop, name, self.receive)
        self.frames = []
        self.busy = False
        self.hub_port = hub.port()
        connect(self.port, self.hub_port)

    def receive(self, frame, header):
        if self.busy:
            return False
        self.frames.append(frame)
        return True


@pytest.fixture
def loop():
    return VirtualLoop()


@pytest.fixture
def stations(loop):
    hub = Hub(loop, hubid=2)
    return [Station(loop, hub, name) for name in "abcd"]


def test_ports_have_qemus_names(stations):
    assert [station.hub_port.name for station in stations] == ["hub2port0", "hub2port1", "hub2port2", "hub2port3"]


def test_a_frame_goes_to_everyone_but_its_sender(loop, stations):
    stations[1].port.send(b"x")
    loop.run_for(0)
    assert [station.frames for station in stations] == [[b"x"], [], [b"x"], [b"x"]]


def test_a_slow_port_blocks_nobody(loop, stations):
    a, slow, c, d = stations
    slow.busy = True
    for number in range(50):
        assert a.port.send(bytes([number]))
        loop.run_for(0)
    assert c.frames == d.frames == [bytes([number]) for number in range(50)]
    assert not a.port.busy
    slow.busy = False
    slow.port.flush()
    loop.run_for(0)
    assert slow.frames == c.frames


def test_what_a_slow_port_cannot_hold_is_counted_there(loop, stations, monkeypatch):
    monkeypatch.setattr(port_module, "QUEUE_LIMIT", 10)
    a, slow, c, _ = stations
    slow.busy = True
    for number in range(15):
        a.port.send(bytes([number]))
        loop.run_for(0)
    assert slow.port.counters["dropped-full"] == 5
    assert len(c.frames) == 15


def test_a_slow_port_can_still_speak(loop, stations):
    slow = stations[1]
    slow.busy = True
    stations[0].port.send(b"x")
    loop.run_for(0)
    slow.port.send(b"y")
    loop.run_for(0)
    assert stations[0].frames == [b"y"]


def test_a_hub_of_one_port_is_silent(loop):
    lone = Station(loop, Hub(loop), "a")
    lone.port.send(b"x")
    loop.run_for(0)
    assert lone.frames == []
    assert lone.hub_port.name == "hub0port0"


def test_two_hubs_and_a_loop_free_chain(loop):
    left, right = Hub(loop, 0), Hub(loop, 1)
    a, b = Station(loop, left, "a"), Station(loop, right, "b")
    connect(left.port(), right.port())
    a.port.send(b"x")
    loop.run_for(0)
    assert b.frames == [b"x"]
    assert a.frames == []
