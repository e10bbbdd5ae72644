"""Flow control as QEMU's: a busy receiver stops its sender, and nothing is lost in silence."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netemu.errors import LocalError
from netemu.net import port as port_module
from netemu.net.loop import VirtualLoop
from netemu.net.port import MAX_FRAME, Port, connect
from netemu.wire.vnet_hdr import VnetHeader


@pytest.fixture
def loop():
    return VirtualLoop()


class Receiver:
    """Takes frames unless it is told to be busy."""

    def __init__(self, loop, name="b"):
        self.port = Port(loop, name, self.receive)
        self.busy = False
        self.frames = []
        self.refused = 0

    def receive(self, frame, header):
        if self.busy:
            self.refused += 1
            return False
        self.frames.append(frame)
        return True


@pytest.fixture
def pair(loop):
    sender, receiver = Port(loop, "a"), Receiver(loop)
    connect(sender, receiver.port)
    return sender, receiver


def frames(count):
    return [bytes([number % 256, number // 256]) for number in range(count)]


def lost(*ports):
    return sum(count for port in ports for reason, count in port.counters.items() if reason.startswith("dropped"))


def test_delivery_is_the_loops(loop, pair):
    sender, receiver = pair
    assert sender.send(b"x")
    assert (receiver.frames, receiver.port.queued) == ([], 1)
    loop.run_for(0)
    assert (receiver.frames, receiver.port.queued) == ([b"x"], 0)


def test_a_header_travels_with_its_frame(loop):
    seen = []
    a, b = Port(loop, "a"), Port(loop, "b", lambda frame, header: seen.append((frame, header)) or True)
    connect(a, b)
    header = VnetHeader()
    a.send(b"x", header)
    a.send(b"y")
    loop.run_for(0)
    assert seen == [(b"x", header), (b"y", None)]


def test_a_busy_receiver_keeps_its_frames_in_order(loop, pair):
    sender, receiver = pair
    receiver.busy = True
    sender.send(b"0")
    loop.run_for(0)
    assert sender.busy
    assert not sender.send(b"1")
    loop.run_for(10)
    assert receiver.refused == 1  # it is not asked again until it flushes
    receiver.busy = False
    receiver.port.flush()
    loop.run_for(0)
    assert receiver.frames == [b"0", b"1"]
    assert not sender.busy


def test_the_sender_is_woken(loop, pair):
    sender, receiver = pair
    woken = []
    sender.on_writable = lambda: woken.append(sender.busy)
    receiver.busy = True
    sender.send(b"0")
    loop.run_for(0)
    receiver.busy = False
    receiver.port.flush()
    assert woken == []  # never from inside the receiver
    loop.run_for(0)
    assert woken == [False]


def test_a_rude_sender_is_dropped_and_counted(loop, pair, monkeypatch):
    monkeypatch.setattr(port_module, "QUEUE_LIMIT", 10)
    sender, receiver = pair
    receiver.busy = True
    for frame in frames(15):
        sender.send(frame)
    assert receiver.port.counters["dropped-full"] == 5
    receiver.busy = False
    receiver.port.flush()
    loop.run_for(0)
    assert receiver.frames == frames(10)


def test_an_unattached_port_keeps_frames_until_it_is_attached(loop):
    a, b = Port(loop, "a"), Port(loop, "b")
    connect(a, b)
    a.send(b"early")
    loop.run_for(0)
    assert a.busy
    seen = []
    b.attach(lambda frame, header: seen.append(frame) or True)
    loop.run_for(0)
    assert seen == [b"early"]


def test_two_ports_that_answer_each_other_do_not_recurse(loop):
    depths, count = [], 20_000

    def answering(port):
        def receive(frame, header):
            depth, frame_object = 0, sys._getframe()
            while frame_object is not None:
                depth, frame_object = depth + 1, frame_object.f_back
            depths.append(depth)
            if len(depths) < count:
                port.send(frame)
            return True

        return receive

    a, b = Port(loop, "a"), Port(loop, "b")
    connect(a, b)
    a.attach(answering(a))
    b.attach(answering(b))
    a.send(b"ping")
    loop.run_for(0)
    assert len(depths) == count
    assert len(set(depths)) == 1


def test_a_long_queue_gives_others_their_turn(loop, pair):
    sender, receiver = pair
    for frame in frames(1000):
        sender.send(frame)
    seen = []
    loop.call_soon(lambda: seen.append(len(receiver.frames)))
    loop.run_for(0)
    assert seen[0] < 1000
    assert len(receiver.frames) == 1000


def test_without_a_peer_frames_are_counted(loop):
    port = Port(loop, "a")
    assert port.send(b"x")
    assert port.counters == {"dropped-no-peer": 1}


def test_frames_have_a_longest_length(loop, pair):
    sender, receiver = pair
    sender.send(bytes(MAX_FRAME))
    sender.send(bytes(MAX_FRAME + 1))
    loop.run_for(0)
    assert [len(frame) for frame in receiver.frames] == [MAX_FRAME]
    assert sender.counters["dropped-oversize"] == 1


def test_a_link_that_is_down_drops_both_ways_and_both_ports_hear_of_it(loop, pair):
    sender, receiver = pair
    heard = []
    sender.on_link = lambda up: heard.append(("a", up))
    receiver.port.on_link = lambda up: heard.append(("b", up))
    receiver.port.set_link(up=False)
    receiver.port.set_link(up=False)  # once is enough
    sender.send(b"x")
    receiver.port.send(b"y")
    loop.run_for(0)
    assert receiver.frames == []
    assert (sender.counters["dropped-link-down"], receiver.port.counters["dropped-link-down"]) == (1, 1)
    receiver.port.set_link(up=True)
    sender.send(b"z")
    loop.run_for(0)
    assert receiver.frames == [b"z"]
    assert heard == [("b", False), ("a", False), ("b", True), ("a", True)]


def test_a_link_that_goes_down_purges_what_waited_and_frees_the_sender(loop, pair):
    sender, receiver = pair
    receiver.busy = True
    sender.send(b"0")
    sender.send(b"1")
    loop.run_for(0)
    receiver.port.set_link(up=False)
    assert receiver.port.counters["dropped-link-down"] == 2
    assert not sender.busy


def test_what_has_left_a_port_arrives_though_its_link_goes_down(loop, pair):
    sender, receiver = pair
    sender.send(b"0")
    sender.set_link(up=False)
    loop.run_for(0)
    assert receiver.frames == [b"0"]


def test_unplugging_counts_what_was_queued(loop, pair):
    sender, receiver = pair
    sender.send(b"0")
    sender.disconnect()
    loop.run_for(0)
    assert receiver.frames == []
    assert receiver.port.counters["dropped-no-peer"] == 1
    connect(sender, receiver.port)
    sender.send(b"1")
    loop.run_for(0)
    assert receiver.frames == [b"1"]


def test_a_port_that_was_unplugged_while_busy_is_free_again(loop, pair):
    sender, receiver = pair
    receiver.busy = True
    sender.send(b"0")
    loop.run_for(0)
    sender.disconnect()
    receiver.busy = False
    connect(sender, receiver.port)
    assert not sender.busy
    sender.send(b"1")
    loop.run_for(0)
    assert receiver.frames == [b"1"]


def test_only_free_ports_connect(loop, pair):
    sender, _ = pair
    with pytest.raises(LocalError, match="already connected to b; join more than two with a hub"):
        connect(sender, Port(loop, "c"))
    lone = Port(loop, "d")
    with pytest.raises(LocalError, match="cannot be connected to itself"):
        connect(lone, lone)


@given(st.lists(st.sampled_from(["send", "busy", "free", "run", "down", "up"]), max_size=60))
@settings(max_examples=200, deadline=None)
def test_every_frame_is_received_queued_or_counted_as_dropped(steps):
    loop = VirtualLoop()
    sender, receiver = Port(loop, "a"), Receiver(loop)
    connect(sender, receiver.port)
    given_away = []
    for step in steps:
        match step:
            case "send":
                given_away.append(bytes([len(given_away)]))
                sender.send(given_away[-1])
            case "busy":
                receiver.busy = True
            case "free":
                receiver.busy = False
                receiver.port.flush()
            case "run":
                loop.run_for(1)
            case "down" | "up":
                receiver.port.set_link(step == "up")
    assert len(given_away) == len(receiver.frames) + receiver.port.queued + lost(sender, receiver.port)
    assert receiver.frames == sorted(receiver.frames)  # in order, none twice
    assert len(set(receiver.frames)) == len(receiver.frames)
    receiver.busy = False
    receiver.port.flush()
    loop.run_for(0)
    assert receiver.port.queued == 0
